"""A file as after long use: events by the thousand or million, all of them delivered or all owed.

Written with SQL alone, table by table, from one table of numbers: no event is ingested and nothing
is sent. The indexes are there from the start, as in a file that grew.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import fixture
from bench.report import BenchFailed
from webhookd.store.driver import connect
from webhookd.store.transaction import Session

STEPS: Final = 3
"""Sequences that a finished event takes: itself, its delivery, and that this is delivered."""
STEPS_OWED: Final = 2
"""Those of one that is owed: itself and its delivery."""

CACHE: Final = "PRAGMA cache_size = -400000"
"""KiB while it is filled, so that no page of an index is written twice."""

NUMBERS: Final = """
INSERT INTO k (k, endpoint, at)
WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < :events)
SELECT k, (k - 1) % :endpoints,
    strftime('%Y-%m-%dT%H:%M:%S.000Z', :now - :events + k, 'unixepoch') FROM n
"""
FILL: Final = (
    """
INSERT INTO outbox (id, event_type, aggregate_id, tenant, payload)
SELECT k, 'supplier.created', printf('V%06d', k - 1), printf('tenant-%02d', endpoint),
    printf(:payload, k - 1) FROM k
""",
    """
INSERT INTO webhookd_aggregates (key, tenant, aggregate_type, aggregate_id, sequence, event_type,
    event_id, occurred_at, changed_at)
SELECT k, printf('tenant-%02d', endpoint), 'supplier', printf('V%06d', k - 1), :steps * (k - 1) + 1,
    'supplier.created', printf('01939f3a-7c00-7000-8000-%012x', k), at, at FROM k
""",
    """
INSERT INTO webhookd_events (sequence, outbox_id, event_id, aggregate, event_type, aggregate_type,
    aggregate_id, tenant, payload, occurred_at, time_guessed, ingested_at, aggregate_type_made)
SELECT :steps * (k - 1) + 1, k, printf('01939f3a-7c00-7000-8000-%012x', k), k, 'supplier.created',
    'supplier', printf('V%06d', k - 1), printf('tenant-%02d', endpoint),
    CAST(printf(:payload, k - 1) AS BLOB), at, 0, at, 1 FROM k
""",
    "INSERT INTO webhookd_ranges (first, last) SELECT 1, max(k) FROM k",
    "UPDATE webhookd_file SET (sequence, cursor) = (SELECT :steps * max(k), max(k) FROM k)",
)
"""In their order; the rows are as `fixture.insert` has them."""
FILL_FINISHED: Final = (
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
    """
UPDATE webhookd_counters SET last_status = 200,
    (numbers, delivered, last_attempt_at, last_success_at) =
    (SELECT max(k), max(k), max(at), max(at) FROM k)
""",
)
FILL_OWED: Final = (
    """
INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name, number,
    order_key, state, reason, attempts, tries, last_error, due_at, next_attempt_at, created_at,
    since)
SELECT 2 * k, 2 * k, 2 * k - 1, endpoint + 1, 'endpoint ' || endpoint, 1 + (k - 1) / :endpoints, k,
    'pending', '', 0, 0, '', at, at, at, at FROM k
""",
    """
UPDATE webhookd_counters SET (numbers, pending) =
    (SELECT count(*), count(*) FROM k WHERE endpoint = subscription - 1)
""",
)


def finished(folder: Path, events: int, *, port: int = 9) -> fixture.Workload:
    """Make a file in `folder` with that many events, an aggregate each, delivered to one endpoint.

    Raises:
        BenchFailed: it is not what webhookd itself would have made of them.
    """
    workload = fixture.prepare(folder, port=port, endpoints=1, events=0)
    return _fill(workload, events, 1, STEPS, FILL_FINISHED)


def owed(folder: Path, events: int, *, port: int, endpoints: int = 1) -> fixture.Workload:
    """Make one with that many events, spread evenly, none of which was attempted.

    Raises:
        BenchFailed: as above.
    """
    workload = fixture.prepare(folder, port=port, endpoints=endpoints, events=0)
    return _fill(workload, events, endpoints, STEPS_OWED, FILL_OWED)


def _fill(
    workload: fixture.Workload, events: int, endpoints: int, steps: int, deliveries: tuple[str, ...]
) -> fixture.Workload:
    values = {
        "events": events,
        "endpoints": endpoints,
        "steps": steps,
        "payload": fixture.PAYLOAD,
        "now": int(time.time()),
    }
    connection = connect(workload.database, mode="rw")
    try:
        # Nobody else is there, and what is half made is thrown away.
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(CACHE)
        connection.execute(
            "CREATE TEMP TABLE k (k INTEGER PRIMARY KEY, endpoint INTEGER NOT NULL,"
            " at TEXT NOT NULL)"
        )
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(NUMBERS, values)
        connection.execute("CREATE INDEX temp.k_endpoint ON k (endpoint)")
        for statement in (*FILL, *deliveries):
            connection.execute(statement, values)
        connection.execute("COMMIT")
        connection.execute("DROP TABLE temp.k")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    _check(workload, events, steps)
    return replace(workload, events=events)


def _check(workload: fixture.Workload, events: int, steps: int) -> None:
    with Session(workload.database, write=False) as session, session.read() as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        shown = connection.execute("SELECT count(*), max(sequence) FROM webhook_results").fetchone()
    if (mode, *shown) != ("wal", events, steps * events):
        raise BenchFailed(f"filled with {events}, but the file has {shown} in mode {mode}")
