"""A file as after long use: events by the thousand or million, all of them delivered.

Written with SQL alone, table by table, from one table of numbers: no event is ingested and nothing
is sent. The indexes are there from the start, as in a file that grew.
"""

import time
from pathlib import Path
from typing import Final

from bench import fixture
from bench.report import BenchFailed
from webhookd.store.driver import connect
from webhookd.store.transaction import Session

STEPS: Final = 3
"""Sequences that event k takes: itself, its delivery, and that this is delivered."""

CACHE: Final = "PRAGMA cache_size = -400000"
"""KiB while it is filled, so that no page of an index is written twice."""

NUMBERS: Final = """
INSERT INTO k (k, at)
WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < ?1)
SELECT k, strftime('%Y-%m-%dT%H:%M:%S.000Z', ?2 - ?1 + k, 'unixepoch') FROM n
"""
FILL: Final = (
    """
INSERT INTO outbox (id, event_type, aggregate_id, tenant, payload)
SELECT k, 'supplier.created', printf('V%06d', k - 1), 'tenant-00', printf(?1, k - 1) FROM k
""",
    """
INSERT INTO webhookd_aggregates (key, tenant, aggregate_type, aggregate_id, sequence, event_type,
    event_id, occurred_at, changed_at)
SELECT k, 'tenant-00', 'supplier', printf('V%06d', k - 1), 3 * k - 2, 'supplier.created',
    printf('01939f3a-7c00-7000-8000-%012x', k), at, at FROM k
""",
    """
INSERT INTO webhookd_events (sequence, outbox_id, event_id, aggregate, event_type, aggregate_type,
    aggregate_id, tenant, payload, occurred_at, time_guessed, ingested_at, aggregate_type_made)
SELECT 3 * k - 2, k, printf('01939f3a-7c00-7000-8000-%012x', k), k, 'supplier.created', 'supplier',
    printf('V%06d', k - 1), 'tenant-00', CAST(printf(?1, k - 1) AS BLOB), at, 0, at, 1 FROM k
""",
    """
INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name, number,
    order_key, state, reason, attempts, tries, last_status, last_error, created_at,
    first_attempt_at, finished_at, body_hash, since, ended_sequence)
SELECT 3 * k - 1, 3 * k, 3 * k - 2, 1, 'endpoint 0', k, k, 'delivered', '', 1, 1, 200, '', at, at,
    at, randomblob(32), at, 3 * k FROM k
""",
    """
INSERT INTO webhookd_attempts (delivery, number, started_at, duration_ms, status, error_class,
    error, note, excerpt)
SELECT 3 * k - 1, 1, at, 3, 200, '', '', '', x'' FROM k
""",
    "INSERT INTO webhookd_ranges (first, last) SELECT 1, max(k) FROM k",
    """
UPDATE webhookd_counters SET last_status = 200,
    (numbers, delivered, last_attempt_at, last_success_at) =
    (SELECT max(k), max(k), max(at), max(at) FROM k)
""",
    "UPDATE webhookd_file SET (sequence, cursor) = (SELECT 3 * max(k), max(k) FROM k)",
)
"""In their order; the rows are as `fixture.insert` has them. `?1` is the payload's pattern."""


def finished(folder: Path, events: int) -> fixture.Workload:
    """Make a file in `folder` with that many events, an aggregate each, delivered to one endpoint.

    Raises:
        BenchFailed: it is not what webhookd itself would have made of them.
    """
    workload = fixture.prepare(folder, port=9, endpoints=1, events=0)
    connection = connect(workload.database, mode="rw")
    try:
        # Nobody else is there, and what is half made is thrown away.
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(CACHE)
        connection.execute("CREATE TEMP TABLE k (k INTEGER PRIMARY KEY, at TEXT NOT NULL)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(NUMBERS, (events, int(time.time())))
        for statement in FILL:
            connection.execute(statement, (fixture.PAYLOAD,) if "?1" in statement else ())
        connection.execute("COMMIT")
        connection.execute("DROP TABLE temp.k")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    _check(workload, events)
    return workload


def _check(workload: fixture.Workload, events: int) -> None:
    with Session(workload.database, write=False) as session, session.read() as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        shown = connection.execute("SELECT count(*), max(sequence) FROM webhook_results").fetchone()
    if (mode, *shown) != ("wal", events, STEPS * events):
        raise BenchFailed(f"filled with {events}, but the file has {shown} in mode {mode}")
