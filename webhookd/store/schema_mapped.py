"""The part of the schema for tables that the host made: outboxes with keys of their own, captures.

One migration of `webhookd.store.schema`, in a file of its own; what is said there holds here.
"""

from typing import Final

MAPPED: Final = """
-- One row: by what rows of the outbox are told from one another. Fixed by init.
CREATE TABLE webhookd_source (
    -- One row and no more.
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    -- 'integer': an outbox id is the row's own INTEGER PRIMARY KEY.
    -- 'ledger': it is the number that webhookd_ledger gives the row's key.
    kind         TEXT NOT NULL CHECK (kind IN ('integer', 'ledger')),
    key_column   TEXT NOT NULL,  -- the host's column that is that key
    order_column TEXT NOT NULL,  -- the host's column that the ledger goes by; '' for none
    -- How far the ledger has come in the table, in the host's own types: the value of the order
    -- column (NULL where there is none), and the row number or key of the row that had it.
    position,
    place                        -- NULL before the first row, like position
);
INSERT INTO webhookd_source (id, kind, key_column, order_column)
    VALUES (1, 'integer', 'id', '');

-- Keys of outbox rows that are no growing integers, in the order in which they were found.
CREATE TABLE webhookd_ledger (
    number INTEGER PRIMARY KEY,  -- what counts as the row's outbox id everywhere else
    key    NOT NULL              -- the row's key, in the host's own type
);
CREATE UNIQUE INDEX webhookd_ledger_key ON webhookd_ledger (key);

-- Tables of the host's that triggers watch, because an operator asked for it.
CREATE TABLE webhookd_captures (
    key           INTEGER PRIMARY KEY,  -- part of its triggers' names; 1 and up
    table_name    TEXT NOT NULL,        -- as the host writes it
    event_prefix  TEXT NOT NULL,        -- supplier: for supplier.created, .updated and .deleted
    id_column     TEXT NOT NULL,        -- whose value is the aggregate_id
    tenant_column TEXT NOT NULL,        -- whose value is the tenant; '' for none
    columns       TEXT NOT NULL,        -- JSON list: whose change is an update; [] for all
    actions       TEXT NOT NULL,        -- JSON list of insert, update and delete
    created_at    TEXT NOT NULL         -- when it was added
);
CREATE UNIQUE INDEX webhookd_captures_table ON webhookd_captures (table_name COLLATE NOCASE);
"""
