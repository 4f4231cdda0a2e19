"""What webhookd keeps in the file: every table, every column, what it means and what always holds.

This module is the specification of the schema. All names begin with `webhookd_` (tables, indexes)
or `webhook_` (the views that hosts poll); the outbox alone has a name of its own. Everything is
plain SQL that SQLite 3.8.3 understands, because the host's own, possibly old, library opens this
file too: no STRICT, no generated columns, no triggers, and no index on a table of the host's.

Changes are migrations, additive, each applied whole with its record in one transaction. A file
whose `schema_version` is higher than `SCHEMA_VERSION` belongs to a newer program and is refused.
"""

import re
from typing import TYPE_CHECKING, Final

from webhookd.store import recent
from webhookd.store.additions import RETENTION
from webhookd.store.driver import Connection
from webhookd.store.schema_mapped import MAPPED

if TYPE_CHECKING:
    from sqlite_utils import Database

MIGRATIONS_TABLE: Final = "webhookd_migrations"

OUTBOX: Final = """
-- The host inserts; webhookd reads. Only event_type is needed. There is no constraint beside the
-- key, so that a host's transaction never fails because of what a row says.
CREATE TABLE {table} (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of insertion; never used twice
    event_type     TEXT,  -- supplier.created, COMMITTED, order_state_changed, name@v3
    aggregate_type TEXT,  -- supplier; absent: the part of event_type before its last dot
    aggregate_id   TEXT,  -- the ID that a receiver asks the host's API for
    tenant         TEXT,  -- whose event it is; absent: the configured default
    payload        TEXT,  -- a JSON value, or NULL for an ID-only event
    occurred_at    TEXT,  -- ISO 8601; absent: the time of ingest
    event_id       TEXT   -- the host's own idempotency key; absent: webhookd makes one
)
"""

_RESULTS: Final = """\
CREATE VIEW webhook_results AS
SELECT d.sequence AS sequence, d.id AS delivery_id,{outbox_id} AS outbox_id,
    e.event_id AS event_id, s.id AS subscription_id, d.subscription_name AS subscription_name,
    nullif(e.tenant, '') AS tenant, e.event_type AS event_type,
    nullif(e.aggregate_type, '') AS aggregate_type, nullif(e.aggregate_id, '') AS aggregate_id,
    d.state AS state, nullif(d.reason, '') AS reason, d.attempts AS attempts,
    d.last_status AS last_status, nullif(d.last_error, '') AS last_error,
    d.next_attempt_at AS next_attempt_at, d.created_at AS created_at,
    d.first_attempt_at AS first_attempt_at, d.finished_at AS finished_at
FROM webhookd_deliveries AS d
CROSS JOIN webhookd_events AS e ON e.sequence = d.event
CROSS JOIN webhookd_subscriptions AS s ON s.key = d.subscription;"""
"""The view has been made twice: what it takes for `outbox_id` is filled in."""
_UNLESS_OURS: Final = (
    "\n    CASE WHEN substr(e.event_type, 1, 9) <> 'webhookd.' THEN e.outbox_id END"
)

FIRST: Final = f"""
-- One row: what webhookd knows of the file as a whole. Read at the start of every writing
-- transaction, written at its end.
CREATE TABLE webhookd_file (
    -- One row and no more.
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    uuid           TEXT NOT NULL,     -- 32 hex digits; made by init, copied with the file
    epoch          INTEGER NOT NULL,  -- of all feeds; grows when a restored backup is accepted
    schema_version INTEGER NOT NULL,  -- the newest schema that this file has had
    sequence       INTEGER NOT NULL,  -- THE counter: the highest sequence ever given out
    cursor         INTEGER NOT NULL,  -- highest outbox id taken in order; -2^63 before the first
    control        INTEGER NOT NULL,  -- moves with every change by an operator that lanes obey
    rejected       INTEGER NOT NULL,  -- rows in webhookd_rejected
    outbox_table   TEXT NOT NULL,     -- the outbox's name
    outbox_ours    INTEGER NOT NULL,  -- 1: init made that table; 0: the host had it
    machine        TEXT NOT NULL,     -- hash of the machine's id; '' where it has none
    path           TEXT NOT NULL,     -- real path of the file when init or --accept-move saw it
    created_at     TEXT NOT NULL      -- when init made it
);

-- The outbox ids that have been ingested or rejected, as inclusive ranges that neither touch nor
-- overlap. What lies between them is looked at again from time to time: a host may use an id
-- that is lower than the cursor.
CREATE TABLE webhookd_ranges (
    first INTEGER PRIMARY KEY,                    -- lowest outbox id of the range
    last  INTEGER NOT NULL CHECK (last >= first)  -- highest outbox id of it
);

-- Outbox rows that could not become events, and why.
CREATE TABLE webhookd_rejected (
    outbox_id   INTEGER PRIMARY KEY,  -- the row's id in the outbox
    reason      TEXT NOT NULL,        -- one word of a closed list
    detail      TEXT NOT NULL,        -- one printable line
    event_type  TEXT NOT NULL,        -- as the row had it, escaped and cut; '' for none
    rejected_at TEXT NOT NULL         -- when ingest judged it
);

-- One row an aggregate (tenant, type, id): the ID-only change feed, and the key by which
-- deliveries stand in line. Written at each of its events; never taken away by default.
CREATE TABLE webhookd_aggregates (
    key            INTEGER PRIMARY KEY,  -- 1 and up
    tenant         TEXT NOT NULL,        -- '' for none
    aggregate_type TEXT NOT NULL,        -- '' for none
    aggregate_id   TEXT NOT NULL,        -- never '': such an event has no aggregate
    sequence       INTEGER NOT NULL,     -- of its newest event
    event_type     TEXT NOT NULL,        -- of its newest event, like the next two
    event_id       TEXT NOT NULL,        -- of its newest event
    occurred_at    TEXT NOT NULL         -- of its newest event
);
CREATE UNIQUE INDEX webhookd_aggregates_identity
    ON webhookd_aggregates (tenant, aggregate_type, aggregate_id);
CREATE UNIQUE INDEX webhookd_aggregates_sequence ON webhookd_aggregates (sequence);

-- One row an event: webhookd's own copy of an outbox row, never changed again, but that its payload
-- may be erased.
CREATE TABLE webhookd_events (
    sequence       INTEGER PRIMARY KEY,  -- its place in the feed of events
    outbox_id      INTEGER NOT NULL,     -- the row's id; free for the host to use again
    event_id       TEXT NOT NULL,        -- the webhook-id that receivers see
    aggregate      INTEGER NOT NULL,     -- webhookd_aggregates.key; 0 without an aggregate_id
    event_type     TEXT NOT NULL,        -- visible ASCII; never ''
    aggregate_type TEXT NOT NULL,        -- '' for none, like the next two
    aggregate_id   TEXT NOT NULL,        -- '' for none
    tenant         TEXT NOT NULL,        -- '' for none
    payload        BLOB,                 -- the host's JSON byte for byte; NULL for an ID-only
                                         -- event, no bytes at all for one that was erased
    occurred_at    TEXT NOT NULL,        -- when it happened, as receivers are told
    time_guessed   INTEGER NOT NULL,     -- 1: the row's occurred_at could not be read
    ingested_at    TEXT NOT NULL         -- when it was taken in
);
CREATE UNIQUE INDEX webhookd_events_event_id ON webhookd_events (event_id);

-- One row a subscription. A removed one stays, because deliveries refer to it.
CREATE TABLE webhookd_subscriptions (
    key          INTEGER PRIMARY KEY,   -- 1 and up
    id           TEXT NOT NULL UNIQUE,  -- wh_ and 22 url-safe characters
    name         TEXT NOT NULL,         -- unique among those that are not removed
    url          TEXT NOT NULL,         -- whole; its query may hold a secret
    events       TEXT NOT NULL,         -- JSON list of patterns
    tenant       TEXT NOT NULL,         -- '' for every tenant's
    profile      TEXT NOT NULL,         -- fixed at creation, like mode and tenant
    mode         TEXT NOT NULL,         -- a profile's variant; '' for its ordinary one
    method       TEXT NOT NULL,         -- of its requests: POST ...
    headers      TEXT NOT NULL,         -- JSON list of [name, value]
    policy       TEXT NOT NULL,         -- JSON object: what differs from the profile's preset
    -- Whether deliveries are sent or only accrue.
    state        TEXT NOT NULL CHECK (state IN ('enabled', 'paused', 'disabled')),
    state_reason TEXT NOT NULL,         -- '' while enabled
    managed_by   TEXT NOT NULL,         -- 'cli' or 'config'
    created_at   TEXT NOT NULL,         -- when it was added
    removed_at   TEXT                   -- NULL while it is there
);
CREATE UNIQUE INDEX webhookd_subscriptions_name
    ON webhookd_subscriptions (name) WHERE removed_at IS NULL;

-- The signing secrets of a subscription, newest last.
CREATE TABLE webhookd_secrets (
    key          INTEGER PRIMARY KEY,  -- a newer secret has a higher one
    subscription INTEGER NOT NULL,     -- webhookd_subscriptions.key
    value        TEXT NOT NULL,        -- the secret, or the reference to it
    is_reference INTEGER NOT NULL,     -- 1: value is `env:NAME` or `file:PATH`
    created_at   TEXT NOT NULL,        -- when it was added
    expires_at   TEXT                  -- NULL for the newest; the others sign until then
);
CREATE INDEX webhookd_secrets_subscription ON webhookd_secrets (subscription, key);

-- One row a subscription: figures kept while writing, so that `status` never has to count.
CREATE TABLE webhookd_counters (
    subscription    INTEGER PRIMARY KEY,  -- webhookd_subscriptions.key
    numbers         INTEGER NOT NULL,     -- the highest delivery number given out
    pending         INTEGER NOT NULL,     -- deliveries by state, as they stand
    delivered       INTEGER NOT NULL,     -- like the next three: deliveries in that state
    failed          INTEGER NOT NULL,     -- ended without success
    cancelled       INTEGER NOT NULL,     -- taken back
    superseded      INTEGER NOT NULL,     -- made needless by newer ones
    last_status     INTEGER,              -- of its latest attempt; NULL where no answer came
    last_error      TEXT NOT NULL,        -- of its latest attempt; '' after a success
    last_attempt_at TEXT,                 -- when its latest attempt began
    last_success_at TEXT                  -- when its latest success ended
);

-- One row a delivery: what is owed, and what became of it. See webhookd.core.delivery.
-- Always: due_at is set exactly when state is 'pending' and nothing stands before it in line.
CREATE TABLE webhookd_deliveries (
    id                INTEGER PRIMARY KEY,  -- the sequence it was created at: never used twice
    sequence          INTEGER NOT NULL,     -- of its newest visible change: its place in the feed
    event             INTEGER NOT NULL,     -- webhookd_events.sequence
    subscription      INTEGER NOT NULL,     -- webhookd_subscriptions.key
    subscription_name TEXT NOT NULL,        -- as at creation
    number            INTEGER NOT NULL,     -- consecutive within the subscription, from 1
    order_key         INTEGER NOT NULL,     -- its line: webhookd_aggregates.key; -1: the whole
                                            -- subscription; 0: none, it waits for nothing
    -- Where it stands; what can follow is in webhookd.core.delivery.
    state             TEXT NOT NULL CHECK
        (state IN ('pending', 'delivered', 'failed', 'cancelled', 'superseded')),
    reason            TEXT NOT NULL,        -- why it ended; '' while pending or delivered
    attempts          INTEGER NOT NULL,     -- ever made
    tries             INTEGER NOT NULL,     -- made since it was last opened
    last_status       INTEGER,              -- of its latest attempt; NULL where no answer came
    last_error        TEXT NOT NULL,        -- one printable line; '' for none
    due_at            TEXT,                 -- when to attempt it; NULL: finished, or waiting
    next_attempt_at   TEXT,                 -- due_at as of `sequence`: what the feed shows
    retry_at          TEXT,                 -- pending after a failed attempt: the earliest time
                                            -- of the next one, also while it waits in line
    created_at        TEXT NOT NULL,        -- when its event was taken in
    first_attempt_at  TEXT,                 -- NULL before it
    finished_at       TEXT,                 -- NULL exactly while pending
    body_hash         BLOB,                 -- SHA-256 of its first built body; NULL before it
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    CHECK (due_at IS NULL OR state = 'pending')
);
CREATE UNIQUE INDEX webhookd_deliveries_sequence ON webhookd_deliveries (sequence);
CREATE UNIQUE INDEX webhookd_deliveries_event ON webhookd_deliveries (event, subscription);
-- The queue: what a lane reads.
CREATE INDEX webhookd_deliveries_due
    ON webhookd_deliveries (subscription, due_at, id) WHERE due_at IS NOT NULL;
-- The lines: who comes next when one is finished.
CREATE INDEX webhookd_deliveries_line
    ON webhookd_deliveries (subscription, order_key, id)
    WHERE state = 'pending' AND order_key <> 0;
-- What is owed: the oldest, and all of it in order.
CREATE INDEX webhookd_deliveries_owed
    ON webhookd_deliveries (subscription, id) WHERE state = 'pending';

-- One row an HTTP request.
CREATE TABLE webhookd_attempts (
    delivery     INTEGER NOT NULL,  -- webhookd_deliveries.id
    number       INTEGER NOT NULL,  -- 1 and up: the webhookd-attempt that the receiver saw
    started_at   TEXT NOT NULL,     -- when it began
    duration_ms  INTEGER NOT NULL,  -- until its outcome was known
    status       INTEGER,           -- NULL where no answer came
    error_class  TEXT NOT NULL,     -- '' for a success, else one word: timeout, http_5xx ...
    error        TEXT NOT NULL,     -- one printable line
    note         TEXT NOT NULL,     -- what was odd though it counted; '' for nothing
    excerpt      BLOB NOT NULL,     -- the first bytes of the answer's body
    PRIMARY KEY (delivery, number)
) WITHOUT ROWID;

-- One row a feed: what retention has taken from it.
CREATE TABLE webhookd_feeds (
    feed           TEXT PRIMARY KEY,  -- results, changes, events
    minimum_cursor INTEGER NOT NULL   -- the highest sequence ever pruned; 0 for none
);
INSERT INTO webhookd_feeds (feed, minimum_cursor) VALUES ('results', 0), ('changes', 0),
    ('events', 0);

{_RESULTS.format(outbox_id=" e.outbox_id")}

CREATE VIEW webhook_changes AS
SELECT sequence, nullif(tenant, '') AS tenant, nullif(aggregate_type, '') AS aggregate_type,
    aggregate_id, event_type, event_id, occurred_at
FROM webhookd_aggregates;

CREATE VIEW webhook_events AS
SELECT sequence, outbox_id, event_id, nullif(tenant, '') AS tenant, event_type,
    nullif(aggregate_type, '') AS aggregate_type, nullif(aggregate_id, '') AS aggregate_id,
    occurred_at, ingested_at
FROM webhookd_events;

CREATE VIEW webhook_feeds AS
SELECT f.feed AS feed, (SELECT epoch FROM webhookd_file) AS epoch,
    max(f.minimum_cursor, coalesce(CASE f.feed
        WHEN 'results' THEN (SELECT max(sequence) FROM webhookd_deliveries)
        WHEN 'changes' THEN (SELECT max(sequence) FROM webhookd_aggregates)
        ELSE (SELECT max(sequence) FROM webhookd_events) END, 0)) AS maximum_sequence,
    f.minimum_cursor AS minimum_cursor
FROM webhookd_feeds AS f;
"""

ENGINE: Final = f"""
-- Moves with every change to a subscription and with every instruction; `control` moves with these
-- and with changes to single deliveries, so that a retry makes nobody read all subscriptions again.
ALTER TABLE webhookd_file ADD COLUMN roll INTEGER NOT NULL DEFAULT 0;
-- Rows rejected since the last summary of them as an event.
ALTER TABLE webhookd_file ADD COLUMN unannounced INTEGER NOT NULL DEFAULT 0;

-- 1: the row had no aggregate_type, so that it was made of event_type; 0: it had one. NULL: the
-- event is older than this column, and counts as 1 where it has what would have been made.
ALTER TABLE webhookd_events ADD COLUMN aggregate_type_made INTEGER;

-- When a rule (or a 410) disabled it; NULL in any other state.
ALTER TABLE webhookd_subscriptions ADD COLUMN disabled_at TEXT;

-- A subscription's health: see webhookd.core.health.
-- Attempts in a row that spoke of ill health.
ALTER TABLE webhookd_counters ADD COLUMN ill INTEGER NOT NULL DEFAULT 0;
-- When it began to fail; NULL while it does not.
ALTER TABLE webhookd_counters ADD COLUMN failing_since TEXT;
-- Deliveries in a row that ended failed.
ALTER TABLE webhookd_counters ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
-- When the first of them ended; NULL for none.
ALTER TABLE webhookd_counters ADD COLUMN failures_since TEXT;
-- The sequence at which the first of them ended; 0 for none. What failed in the streak is found by
-- it, whatever a clock said meanwhile.
ALTER TABLE webhookd_counters ADD COLUMN failures_from INTEGER NOT NULL DEFAULT 0;
-- The end of the first failed attempt after the last success; NULL for none.
ALTER TABLE webhookd_counters ADD COLUMN no_success_since TEXT;
-- Until when its receiver asked to be left alone; NULL where it did not.
ALTER TABLE webhookd_counters ADD COLUMN held_until TEXT;

-- When it was opened: taken in, or re-opened since then. max_age counts from there. NULL only where
-- it was finished before there was this column, and never re-opened since.
ALTER TABLE webhookd_deliveries ADD COLUMN since TEXT;
UPDATE webhookd_deliveries SET since = created_at WHERE state = 'pending';
-- The sequence at which it was re-opened last; 0 where it never was.
ALTER TABLE webhookd_deliveries ADD COLUMN opened_sequence INTEGER NOT NULL DEFAULT 0;
-- The sequence at which it last ceased to be pending; 0 before it. `sequence` goes on from there:
-- late outcomes are noted.
ALTER TABLE webhookd_deliveries ADD COLUMN ended_sequence INTEGER NOT NULL DEFAULT 0;
-- The end of its first failed attempt since it was opened; NULL before it and once it is finished.
ALTER TABLE webhookd_deliveries ADD COLUMN failing_since TEXT;
-- When those behind it may pass; NULL unless it is a failing head and max_block is set.
ALTER TABLE webhookd_deliveries ADD COLUMN pass_at TEXT;
-- When those behind it passed: it left its line (order_key is 0) and goes on alone; NULL otherwise.
ALTER TABLE webhookd_deliveries ADD COLUMN passed_at TEXT;
-- webhookd_aggregates.key where a newer ID-only delivery may take its place; 0 where none may.
ALTER TABLE webhookd_deliveries ADD COLUMN coalesce_key INTEGER NOT NULL DEFAULT 0;

-- The queue, in two: first attempts, and all further ones.
DROP INDEX webhookd_deliveries_due;
CREATE INDEX webhookd_deliveries_first
    ON webhookd_deliveries (subscription, due_at, id) WHERE due_at IS NOT NULL AND tries = 0;
CREATE INDEX webhookd_deliveries_again
    ON webhookd_deliveries (subscription, due_at, id) WHERE due_at IS NOT NULL AND tries > 0;
-- The lines, in the order of their events: one that is made later, by a replay, has a higher id
-- than those behind it.
DROP INDEX webhookd_deliveries_line;
CREATE INDEX webhookd_deliveries_in_line
    ON webhookd_deliveries (subscription, order_key, event)
    WHERE state = 'pending' AND order_key <> 0;
-- Heads that are to be passed.
CREATE INDEX webhookd_deliveries_pass ON webhookd_deliveries (pass_at) WHERE pass_at IS NOT NULL;
-- What is owed, by how long it has been.
CREATE INDEX webhookd_deliveries_since
    ON webhookd_deliveries (subscription, since, id) WHERE state = 'pending';
-- What a newer one may take the place of.
CREATE INDEX webhookd_deliveries_unsent ON webhookd_deliveries (subscription, coalesce_key, event)
    WHERE coalesce_key <> 0 AND state = 'pending' AND attempts = 0;
-- What failed, to be opened again.
CREATE INDEX webhookd_deliveries_failed
    ON webhookd_deliveries (subscription, ended_sequence) WHERE state = 'failed';
-- The events of an aggregate.
CREATE INDEX webhookd_events_aggregate
    ON webhookd_events (aggregate, sequence) WHERE aggregate <> 0;

-- Bulk changes of what a subscription is owed, under way: one small row at once, and then the
-- deliveries in short batches by whoever comes first, the command that gave it or the daemon.
CREATE TABLE webhookd_instructions (
    key          INTEGER PRIMARY KEY,  -- the sequence it was given at: never used twice
    kind         TEXT NOT NULL,        -- skip_backlog, newest_only, retry_failed, replay, realign
    subscription INTEGER NOT NULL,     -- webhookd_subscriptions.key
    position     INTEGER NOT NULL,     -- how far it has come: the id or event looked at last
    last         INTEGER NOT NULL,     -- the highest id or event that it concerns
    options      TEXT NOT NULL,        -- JSON object: what else the kind needs to know
    done         INTEGER NOT NULL,     -- deliveries changed so far
    given_at     TEXT NOT NULL,        -- when it was given; '' where nobody knew
    done_at      TEXT                  -- NULL while it is under way; done, it stays a while, so
                                       -- that the command that gave it can say what came of it
);
-- Those under way: whose turn it is, and what comes first for each.
CREATE INDEX webhookd_instructions_under_way
    ON webhookd_instructions (subscription, key) WHERE done_at IS NULL;

-- As before, but webhookd's own events have no outbox row.
DROP VIEW webhook_results;
{_RESULTS.format(outbox_id=_UNLESS_OURS)}
DROP VIEW webhook_events;
CREATE VIEW webhook_events AS
SELECT sequence,
    CASE WHEN substr(event_type, 1, 9) <> 'webhookd.' THEN outbox_id END AS outbox_id,
    event_id, nullif(tenant, '') AS tenant, event_type,
    nullif(aggregate_type, '') AS aggregate_type, nullif(aggregate_id, '') AS aggregate_id,
    occurred_at, ingested_at
FROM webhookd_events;
"""

MIGRATIONS: Final = (
    ("0001_first", FIRST),
    ("0002_engine", ENGINE),
    ("0003_retention", RETENTION),
    ("0004_mapped", MAPPED),
    ("0005_recent", recent.SCHEMA),
)

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The file remembers the highest that it has seen."""


_CREATED: Final = re.compile(r"^CREATE (?:TABLE|VIEW|(?:UNIQUE )?INDEX) (\w+)", re.MULTILINE)
_DROPPED: Final = re.compile(r"^DROP (?:TABLE|VIEW|INDEX) (\w+)", re.MULTILINE)


def statements(script: str) -> list[str]:
    """The statements of a migration, one by one, without their comments.

    `executescript` would commit the transaction that the migration must be part of.
    """
    lines = (line.partition("--")[0].rstrip() for line in script.splitlines())
    text = "\n".join(line for line in lines if line)
    return [part.strip() for part in text.split(";") if part.strip()]


def missing(connection: Connection) -> list[str]:
    """Tables, indexes and views of the schema that the file does not have, in their order."""
    have = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    made: dict[str, None] = {}
    for _, script in MIGRATIONS:
        for name in _DROPPED.findall(script):
            del made[name]
        made.update(dict.fromkeys(_CREATED.findall(script)))
    return [name for name in made if name not in have]


def apply(db: "Database") -> list[str]:
    """Apply what is missing, inside the caller's transaction; returns the names applied.

    sqlite-utils keeps the record. Its table is made here beforehand, because the index that it
    would add has a name outside webhookd's own.
    """
    from sqlite_utils.migrations import Migrations

    class OurMigrations(Migrations):
        migrations_table = MIGRATIONS_TABLE

    migrations = OurMigrations("webhookd")
    for name, script in MIGRATIONS:

        def run(db: "Database", script: str = script) -> None:
            for statement in statements(script):
                db.conn.execute(statement)

        migrations(name=name)(run)
    db.conn.execute(
        f"CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (id INTEGER PRIMARY KEY,"
        " migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    pending = [migration.name for migration in migrations.pending(db)]
    migrations.apply(db)
    return pending
