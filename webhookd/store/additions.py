"""What later versions have added to the schema: migrations of `webhookd.store.schema`."""

from typing import Final

RETENTION: Final = """
-- How far retention has come with what it goes through in the order of sequences, a row each. All
-- up to there is gone, or was held by something: with that it goes, or the position goes back.
CREATE TABLE webhookd_retention (
    what     TEXT PRIMARY KEY,  -- outbox, events or changes
    position INTEGER NOT NULL   -- the sequence looked at last: an event's, or an aggregate's
);
INSERT INTO webhookd_retention (what, position) VALUES ('outbox', 0), ('events', 0),
    ('changes', 0);

-- When its newest event was taken in.
ALTER TABLE webhookd_aggregates ADD COLUMN changed_at TEXT;
UPDATE webhookd_aggregates SET changed_at = (SELECT e.ingested_at FROM webhookd_events AS e
    WHERE e.sequence = webhookd_aggregates.sequence);

-- What may go, the longest done with first.
CREATE INDEX webhookd_deliveries_finished
    ON webhookd_deliveries (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX webhookd_attempts_started ON webhookd_attempts (started_at);
CREATE INDEX webhookd_rejected_at ON webhookd_rejected (rejected_at);
"""
