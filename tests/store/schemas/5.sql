PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE webhookd_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT);
INSERT INTO webhookd_migrations VALUES(1,'webhookd','0001_first','2026-01-31 12:00:00.000000+00:00');
INSERT INTO webhookd_migrations VALUES(2,'webhookd','0002_engine','2026-01-31 12:00:00.000000+00:00');
INSERT INTO webhookd_migrations VALUES(3,'webhookd','0003_retention','2026-01-31 12:00:00.000000+00:00');
INSERT INTO webhookd_migrations VALUES(4,'webhookd','0004_mapped','2026-01-31 12:00:00.000000+00:00');
INSERT INTO webhookd_migrations VALUES(5,'webhookd','0005_recent','2026-01-31 12:00:00.000000+00:00');
CREATE TABLE webhookd_file (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    uuid           TEXT NOT NULL,
    epoch          INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    sequence       INTEGER NOT NULL,
    cursor         INTEGER NOT NULL,
    control        INTEGER NOT NULL,
    rejected       INTEGER NOT NULL,
    outbox_table   TEXT NOT NULL,
    outbox_ours    INTEGER NOT NULL,
    machine        TEXT NOT NULL,
    path           TEXT NOT NULL,
    created_at     TEXT NOT NULL
, roll INTEGER NOT NULL DEFAULT 0, unannounced INTEGER NOT NULL DEFAULT 0);
INSERT INTO webhookd_file VALUES(1,'0123456789abcdef0123456789abcdef',1,5,6,3,1,1,'outbox',1,'','/home/of/the/file.db','2026-01-31T12:00:00.000Z',1,1);
CREATE TABLE webhookd_ranges (
    first INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL CHECK (last >= first)
);
INSERT INTO webhookd_ranges VALUES(1,3);
CREATE TABLE webhookd_rejected (
    outbox_id   INTEGER PRIMARY KEY,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    event_type  TEXT NOT NULL,
    rejected_at TEXT NOT NULL
);
INSERT INTO webhookd_rejected VALUES(3,'bad_event_type','event_type has characters that are not visible ASCII: bad type','bad type','2026-01-31T12:00:00.000Z');
CREATE TABLE webhookd_aggregates (
    key            INTEGER PRIMARY KEY,
    tenant         TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id   TEXT NOT NULL,
    sequence       INTEGER NOT NULL,
    event_type     TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    occurred_at    TEXT NOT NULL
, changed_at TEXT);
INSERT INTO webhookd_aggregates VALUES(1,'acme','supplier','S-1',1,'supplier.created','00000000-0001-767a-9329-052479aa3826','2026-01-31T12:00:00.000Z','2026-01-31T12:00:00.000Z');
INSERT INTO webhookd_aggregates VALUES(2,'','supplier','S-1',3,'supplier.updated','00000000-0002-776d-bb87-b938176e1e1c','2026-01-31T12:00:00.000Z','2026-01-31T12:00:00.000Z');
CREATE TABLE webhookd_events (
    sequence       INTEGER PRIMARY KEY,
    outbox_id      INTEGER NOT NULL,
    event_id       TEXT NOT NULL,
    aggregate      INTEGER NOT NULL,
    event_type     TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id   TEXT NOT NULL,
    tenant         TEXT NOT NULL,
    payload        BLOB,
    occurred_at    TEXT NOT NULL,
    time_guessed   INTEGER NOT NULL,
    ingested_at    TEXT NOT NULL
, aggregate_type_made INTEGER);
INSERT INTO webhookd_events VALUES(1,1,'00000000-0001-767a-9329-052479aa3826',1,'supplier.created','supplier','S-1','acme',X'7b2261223a20317d','2026-01-31T12:00:00.000Z',0,'2026-01-31T12:00:00.000Z',1);
INSERT INTO webhookd_events VALUES(3,2,'00000000-0002-776d-bb87-b938176e1e1c',2,'supplier.updated','supplier','S-1','',NULL,'2026-01-31T12:00:00.000Z',0,'2026-01-31T12:00:00.000Z',1);
CREATE TABLE webhookd_subscriptions (
    key          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    url          TEXT NOT NULL,
    events       TEXT NOT NULL,
    tenant       TEXT NOT NULL,
    profile      TEXT NOT NULL,
    mode         TEXT NOT NULL,
    method       TEXT NOT NULL,
    headers      TEXT NOT NULL,
    policy       TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('enabled', 'paused', 'disabled')),
    state_reason TEXT NOT NULL,
    managed_by   TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    removed_at   TEXT
, disabled_at TEXT);
INSERT INTO webhookd_subscriptions VALUES(1,'wh_one___________________','one','https://one.example.com/hook?token=hidden','["*"]','','standard','','POST','[]','{}','enabled','','cli','2026-01-31T12:00:00.000Z',NULL,NULL);
CREATE TABLE webhookd_secrets (
    key          INTEGER PRIMARY KEY,
    subscription INTEGER NOT NULL,
    value        TEXT NOT NULL,
    is_reference INTEGER NOT NULL,
    created_at   TEXT NOT NULL,
    expires_at   TEXT
);
INSERT INTO webhookd_secrets VALUES(1,1,'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',0,'2026-01-31T12:00:00.000Z',NULL);
CREATE TABLE webhookd_counters (
    subscription    INTEGER PRIMARY KEY,
    numbers         INTEGER NOT NULL,
    pending         INTEGER NOT NULL,
    delivered       INTEGER NOT NULL,
    failed          INTEGER NOT NULL,
    cancelled       INTEGER NOT NULL,
    superseded      INTEGER NOT NULL,
    last_status     INTEGER,
    last_error      TEXT NOT NULL,
    last_attempt_at TEXT,
    last_success_at TEXT
, ill INTEGER NOT NULL DEFAULT 0, failing_since TEXT, failures INTEGER NOT NULL DEFAULT 0, failures_since TEXT, failures_from INTEGER NOT NULL DEFAULT 0, no_success_since TEXT, held_until TEXT);
INSERT INTO webhookd_counters VALUES(1,2,1,1,0,0,0,500,'http 500','2026-01-31T11:59:59.980Z','2026-01-31T11:59:59.995Z',0,NULL,0,NULL,0,NULL,NULL);
CREATE TABLE webhookd_deliveries (
    id                INTEGER PRIMARY KEY,
    sequence          INTEGER NOT NULL,
    event             INTEGER NOT NULL,
    subscription      INTEGER NOT NULL,
    subscription_name TEXT NOT NULL,
    number            INTEGER NOT NULL,
    order_key         INTEGER NOT NULL,
    state             TEXT NOT NULL CHECK
        (state IN ('pending', 'delivered', 'failed', 'cancelled', 'superseded')),
    reason            TEXT NOT NULL,
    attempts          INTEGER NOT NULL,
    tries             INTEGER NOT NULL,
    last_status       INTEGER,
    last_error        TEXT NOT NULL,
    due_at            TEXT,
    next_attempt_at   TEXT,
    retry_at          TEXT,
    created_at        TEXT NOT NULL,
    first_attempt_at  TEXT,
    finished_at       TEXT,
    body_hash         BLOB, since TEXT, opened_sequence INTEGER NOT NULL DEFAULT 0, ended_sequence INTEGER NOT NULL DEFAULT 0, failing_since TEXT, pass_at TEXT, passed_at TEXT, coalesce_key INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    CHECK (due_at IS NULL OR state = 'pending')
);
INSERT INTO webhookd_deliveries VALUES(2,5,1,1,'one',1,1,'delivered','',1,1,200,'',NULL,NULL,NULL,'2026-01-31T12:00:00.000Z','2026-01-31T11:59:59.980Z','2026-01-31T12:00:00.000Z',X'6868686868686868686868686868686868686868686868686868686868686868','2026-01-31T12:00:00.000Z',0,5,NULL,NULL,NULL,0);
INSERT INTO webhookd_deliveries VALUES(4,6,3,1,'one',2,2,'pending','',1,1,500,'http 500','2026-01-31T12:00:05.000Z','2026-01-31T12:00:05.000Z','2026-01-31T12:00:05.000Z','2026-01-31T12:00:00.000Z','2026-01-31T11:59:59.980Z',NULL,X'6868686868686868686868686868686868686868686868686868686868686868','2026-01-31T12:00:00.000Z',0,0,'2026-01-31T12:00:00.000Z',NULL,NULL,0);
CREATE TABLE webhookd_attempts (
    delivery     INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    started_at   TEXT NOT NULL,
    duration_ms  INTEGER NOT NULL,
    status       INTEGER,
    error_class  TEXT NOT NULL,
    error        TEXT NOT NULL,
    note         TEXT NOT NULL,
    excerpt      BLOB NOT NULL,
    PRIMARY KEY (delivery, number)
) WITHOUT ROWID;
INSERT INTO webhookd_attempts VALUES(2,1,'2026-01-31T11:59:59.980Z',15,200,'','','',X'6f6b');
INSERT INTO webhookd_attempts VALUES(4,1,'2026-01-31T11:59:59.980Z',15,500,'http_5xx','http 500','',X'736f727279');
CREATE TABLE webhookd_feeds (
    feed           TEXT PRIMARY KEY,
    minimum_cursor INTEGER NOT NULL
);
INSERT INTO webhookd_feeds VALUES('results',0);
INSERT INTO webhookd_feeds VALUES('changes',0);
INSERT INTO webhookd_feeds VALUES('events',0);
CREATE TABLE webhookd_instructions (
    key          INTEGER PRIMARY KEY,
    kind         TEXT NOT NULL,
    subscription INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    options      TEXT NOT NULL,
    done         INTEGER NOT NULL,
    given_at     TEXT NOT NULL,
    done_at      TEXT
);
CREATE TABLE webhookd_retention (
    what     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
);
INSERT INTO webhookd_retention VALUES('outbox',0);
INSERT INTO webhookd_retention VALUES('events',0);
INSERT INTO webhookd_retention VALUES('changes',0);
CREATE TABLE webhookd_source (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    kind         TEXT NOT NULL CHECK (kind IN ('integer', 'ledger')),
    key_column   TEXT NOT NULL,
    order_column TEXT NOT NULL,
    position,
    place
);
INSERT INTO webhookd_source VALUES(1,'integer','id','',NULL,NULL);
CREATE TABLE webhookd_ledger (
    number INTEGER PRIMARY KEY,
    key    NOT NULL
);
CREATE TABLE webhookd_captures (
    key           INTEGER PRIMARY KEY,
    table_name    TEXT NOT NULL,
    event_prefix  TEXT NOT NULL,
    id_column     TEXT NOT NULL,
    tenant_column TEXT NOT NULL,
    columns       TEXT NOT NULL,
    actions       TEXT NOT NULL,
    created_at    TEXT NOT NULL
);
CREATE TABLE webhookd_recent (
    slot         INTEGER NOT NULL,
    subscription INTEGER NOT NULL,
    period       INTEGER NOT NULL,
    delivered    INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    under_8      INTEGER NOT NULL,
    under_16     INTEGER NOT NULL,
    under_32     INTEGER NOT NULL,
    under_64     INTEGER NOT NULL,
    under_128    INTEGER NOT NULL,
    under_256    INTEGER NOT NULL,
    under_512    INTEGER NOT NULL,
    under_1024   INTEGER NOT NULL,
    under_2048   INTEGER NOT NULL,
    under_4096   INTEGER NOT NULL,
    under_8192   INTEGER NOT NULL,
    under_16384  INTEGER NOT NULL,
    under_32768  INTEGER NOT NULL,
    under_65536  INTEGER NOT NULL,
    under_131072 INTEGER NOT NULL,
    longer       INTEGER NOT NULL,
    PRIMARY KEY (slot, subscription)
) WITHOUT ROWID;
INSERT INTO webhookd_recent VALUES(6,1,5899536,1,0,0,2,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
CREATE TABLE IF NOT EXISTS "outbox" (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of insertion; never used twice
    event_type     TEXT,  -- supplier.created, COMMITTED, order_state_changed, name@v3
    aggregate_type TEXT,  -- supplier; absent: the part of event_type before its last dot
    aggregate_id   TEXT,  -- the ID that a receiver asks the host's API for
    tenant         TEXT,  -- whose event it is; absent: the configured default
    payload        TEXT,  -- a JSON value, or NULL for an ID-only event
    occurred_at    TEXT,  -- ISO 8601; absent: the time of ingest
    event_id       TEXT   -- the host's own idempotency key; absent: webhookd makes one
);
INSERT INTO outbox VALUES(1,'supplier.created',NULL,'S-1','acme','{"a": 1}',NULL,NULL);
INSERT INTO outbox VALUES(2,'supplier.updated',NULL,'S-1',NULL,NULL,NULL,NULL);
INSERT INTO outbox VALUES(3,'bad type',NULL,NULL,NULL,NULL,NULL,NULL);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('outbox',3);
CREATE UNIQUE INDEX webhookd_aggregates_identity
    ON webhookd_aggregates (tenant, aggregate_type, aggregate_id);
CREATE UNIQUE INDEX webhookd_aggregates_sequence ON webhookd_aggregates (sequence);
CREATE UNIQUE INDEX webhookd_events_event_id ON webhookd_events (event_id);
CREATE UNIQUE INDEX webhookd_subscriptions_name
    ON webhookd_subscriptions (name) WHERE removed_at IS NULL;
CREATE INDEX webhookd_secrets_subscription ON webhookd_secrets (subscription, key);
CREATE UNIQUE INDEX webhookd_deliveries_sequence ON webhookd_deliveries (sequence);
CREATE UNIQUE INDEX webhookd_deliveries_event ON webhookd_deliveries (event, subscription);
CREATE INDEX webhookd_deliveries_owed
    ON webhookd_deliveries (subscription, id) WHERE state = 'pending';
CREATE VIEW webhook_changes AS
SELECT sequence, nullif(tenant, '') AS tenant, nullif(aggregate_type, '') AS aggregate_type,
    aggregate_id, event_type, event_id, occurred_at
FROM webhookd_aggregates;
CREATE VIEW webhook_feeds AS
SELECT f.feed AS feed, (SELECT epoch FROM webhookd_file) AS epoch,
    max(f.minimum_cursor, coalesce(CASE f.feed
        WHEN 'results' THEN (SELECT max(sequence) FROM webhookd_deliveries)
        WHEN 'changes' THEN (SELECT max(sequence) FROM webhookd_aggregates)
        ELSE (SELECT max(sequence) FROM webhookd_events) END, 0)) AS maximum_sequence,
    f.minimum_cursor AS minimum_cursor
FROM webhookd_feeds AS f;
CREATE INDEX webhookd_deliveries_first
    ON webhookd_deliveries (subscription, due_at, id) WHERE due_at IS NOT NULL AND tries = 0;
CREATE INDEX webhookd_deliveries_again
    ON webhookd_deliveries (subscription, due_at, id) WHERE due_at IS NOT NULL AND tries > 0;
CREATE INDEX webhookd_deliveries_in_line
    ON webhookd_deliveries (subscription, order_key, event)
    WHERE state = 'pending' AND order_key <> 0;
CREATE INDEX webhookd_deliveries_pass ON webhookd_deliveries (pass_at) WHERE pass_at IS NOT NULL;
CREATE INDEX webhookd_deliveries_since
    ON webhookd_deliveries (subscription, since, id) WHERE state = 'pending';
CREATE INDEX webhookd_deliveries_unsent ON webhookd_deliveries (subscription, coalesce_key, event)
    WHERE coalesce_key <> 0 AND state = 'pending' AND attempts = 0;
CREATE INDEX webhookd_deliveries_failed
    ON webhookd_deliveries (subscription, ended_sequence) WHERE state = 'failed';
CREATE INDEX webhookd_events_aggregate
    ON webhookd_events (aggregate, sequence) WHERE aggregate <> 0;
CREATE INDEX webhookd_instructions_under_way
    ON webhookd_instructions (subscription, key) WHERE done_at IS NULL;
CREATE VIEW webhook_results AS
SELECT d.sequence AS sequence, d.id AS delivery_id,
    CASE WHEN substr(e.event_type, 1, 9) <> 'webhookd.' THEN e.outbox_id END AS outbox_id,
    e.event_id AS event_id, s.id AS subscription_id, d.subscription_name AS subscription_name,
    nullif(e.tenant, '') AS tenant, e.event_type AS event_type,
    nullif(e.aggregate_type, '') AS aggregate_type, nullif(e.aggregate_id, '') AS aggregate_id,
    d.state AS state, nullif(d.reason, '') AS reason, d.attempts AS attempts,
    d.last_status AS last_status, nullif(d.last_error, '') AS last_error,
    d.next_attempt_at AS next_attempt_at, d.created_at AS created_at,
    d.first_attempt_at AS first_attempt_at, d.finished_at AS finished_at
FROM webhookd_deliveries AS d
CROSS JOIN webhookd_events AS e ON e.sequence = d.event
CROSS JOIN webhookd_subscriptions AS s ON s.key = d.subscription;
CREATE VIEW webhook_events AS
SELECT sequence,
    CASE WHEN substr(event_type, 1, 9) <> 'webhookd.' THEN outbox_id END AS outbox_id,
    event_id, nullif(tenant, '') AS tenant, event_type,
    nullif(aggregate_type, '') AS aggregate_type, nullif(aggregate_id, '') AS aggregate_id,
    occurred_at, ingested_at
FROM webhookd_events;
CREATE INDEX webhookd_deliveries_finished
    ON webhookd_deliveries (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX webhookd_attempts_started ON webhookd_attempts (started_at);
CREATE INDEX webhookd_rejected_at ON webhookd_rejected (rejected_at);
CREATE UNIQUE INDEX webhookd_ledger_key ON webhookd_ledger (key);
CREATE UNIQUE INDEX webhookd_captures_table ON webhookd_captures (table_name COLLATE NOCASE);
COMMIT;
