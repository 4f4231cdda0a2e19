"""Much of everything: rows at once, deliveries owed, endpoints beyond the limit of descriptors.

Times are printed (`pytest -rP`), and held against ceilings that only a scan would break.
"""

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from webhookd.core.model import SubscriptionId
from webhookd.store.subscriptions import NewSecret, NewSubscription, add
from webhookd.store.transaction import open_session

MOST_MEMORY = 150
"""MiB of the daemon, whatever the file holds: an empty one takes some 45."""
MOST_GROWTH = 30
"""MiB that a backlog may add to a daemon with none: its windows, batches and caches."""

NOW = "2026-01-31T12:00:00.000Z"

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


@pytest.mark.parametrize(
    "rows", [pytest.param(20_000), pytest.param(100_000, marks=pytest.mark.long)]
)
def test_A28_rows_at_once_leave_memory_flat_and_the_host_at_ease(
    site: Any, receiver: Any, rows: int
) -> None:
    receiver.answer(stuck={"delay": 600})
    site.configure('[delivery]\nshutdown_grace = "100ms"\n')
    site.prepare()
    site.subscribe("stuck", receiver.url("/stuck"), "--timeout", "120s")
    site.subscribe("up", receiver.url("/up"), "--events", "rare.*")
    site.execute("CREATE TABLE business (n INTEGER PRIMARY KEY)")
    daemon = site.daemon()
    empty = daemon.memory("VmRSS")

    begun = time.monotonic()
    site.insert(rows, aggregates=rows // 10)
    site.insert(1, kind="rare.event")
    waits = [
        commit_time(site)
        for _ in iter(lambda: site.value("SELECT cursor FROM webhookd_file"), rows + 1)
    ]
    taken_in = time.monotonic()
    site.until_delivered_by("up", 1)
    assert receiver.count("/stuck") == 8
    most = daemon.memory("VmHWM")
    print(
        f"{rows} rows taken in within {taken_in - begun:.1f} s; MiB: {empty} empty, {most} at"
        f" most; {len(waits)} commits of a host meanwhile, median"
        f" {statistics.median(waits) * 1000:.0f} ms, longest {max(waits) * 1000:.0f} ms"
    )
    assert most < empty + MOST_GROWTH
    assert len(waits) > 10
    assert statistics.median(waits) < 0.1
    assert max(waits) < 2
    assert daemon.stop() == 0


def commit_time(site: Any) -> float:
    """How long a host's own small transaction takes, in seconds, with the wait before it."""
    time.sleep(0.02)
    begun = time.monotonic()
    site.execute("INSERT INTO business DEFAULT VALUES")
    return time.monotonic() - begun


def test_C28_start_with_a_million_owed(site: Any, receiver: Any) -> None:
    deliveries = 1_000_000
    site.configure('[delivery]\nshutdown_grace = "100ms"\n')
    site.prepare()
    site.subscribe("lines", receiver.url("/lines"), "--ordering", "aggregate")
    site.subscribe("free", receiver.url("/free"), "--ordering", "none")
    fill(site, deliveries // 2, 100)

    begun = time.monotonic()
    status = site.command("status", "--json", code=6)
    looked = time.monotonic()
    assert json.loads(status.stdout)["deliveries"]["pending"] == deliveries
    assert looked - begun < 5

    started = time.monotonic()
    daemon = site.daemon(ready=False)
    receiver.until_count(1)
    first = time.monotonic()
    receiver.until_count(500, "/lines")
    receiver.until_count(500, "/free")
    assert daemon.code is None
    working = time.monotonic()
    status = site.command("status", "--json", code=None)
    answered = time.monotonic()
    assert json.loads(status.stdout)["daemon"]["pid"] == daemon.pid
    most = daemon.memory("VmHWM")
    print(
        f"{deliveries} owed: first request after {first - started:.1f} s, status in"
        f" {looked - begun:.1f} s without a daemon and {answered - working:.1f} s with one;"
        f" {most} MiB at most"
    )
    assert first - started < 5
    assert answered - working < 5
    assert most < MOST_MEMORY
    assert daemon.stop() == 0
    assert daemon.complaints() == []
    check_order(receiver)
    site.database.unlink()  # it is large, and pytest would keep it


def check_order(receiver: Any) -> None:
    """In each aggregate the first ones came first, none of them twice."""
    last: dict[int, int] = {}
    for request in receiver.requests("/lines"):
        data = json.loads(request["body"])["data"]
        assert data["n"] == last.get(data["a"], data["a"] - data["of"]) + data["of"]
        last[data["a"]] = data["n"]
    assert max(last.values()) > 300


def fill(site: Any, events: int, aggregates: int) -> None:
    """A file that owes `events` deliveries to each of two subscriptions, as if taken in already.

    `events` is a multiple of `aggregates`, to which they belong in turn.

    Event k has sequence 3k - 2, its deliveries 3k - 1 (in the line of its aggregate) and 3k.
    """
    statements = f"""
        PRAGMA synchronous = OFF;
        BEGIN IMMEDIATE;
        CREATE TEMP TABLE k AS WITH RECURSIVE k(k) AS
            (SELECT 1 UNION ALL SELECT k + 1 FROM k WHERE k < {events}) SELECT k FROM k;
        INSERT INTO webhookd_aggregates (key, tenant, aggregate_type, aggregate_id, sequence,
            event_type, event_id, occurred_at)
            SELECT k, '', 'order', 'A' || k, 3 * ({events - aggregates} + k) - 2, 'order.changed',
            'evt_' || ({events - aggregates} + k), '{NOW}' FROM k WHERE k <= {aggregates};
        INSERT INTO webhookd_events (sequence, outbox_id, event_id, aggregate, event_type,
            aggregate_type, aggregate_id, tenant, payload, occurred_at, time_guessed, ingested_at)
            SELECT 3 * k - 2, k, 'evt_' || k, (k - 1) % {aggregates} + 1, 'order.changed', 'order',
            'A' || ((k - 1) % {aggregates} + 1), '', CAST('{{"n": ' || k || ', "a": ' ||
            ((k - 1) % {aggregates} + 1) || ', "of": {aggregates}}}' AS BLOB), '{NOW}', 0, '{NOW}'
            FROM k;
        INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name,
            number, order_key, state, reason, attempts, tries, last_error, due_at,
            next_attempt_at, created_at)
            SELECT 3 * k - 1, 3 * k - 1, 3 * k - 2, 1, 'lines', k, (k - 1) % {aggregates} + 1,
            'pending', '', 0, 0, '', iif(k <= {aggregates}, '{NOW}', NULL),
            iif(k <= {aggregates}, '{NOW}', NULL), '{NOW}' FROM k;
        INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name,
            number, order_key, state, reason, attempts, tries, last_error, due_at,
            next_attempt_at, created_at)
            SELECT 3 * k, 3 * k, 3 * k - 2, 2, 'free', k, 0, 'pending', '', 0, 0, '', '{NOW}',
            '{NOW}', '{NOW}' FROM k;
        UPDATE webhookd_counters SET numbers = {events}, pending = {events};
        INSERT INTO webhookd_ranges (first, last) VALUES (1, {events});
        INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', {events});
        UPDATE webhookd_file SET sequence = {3 * events}, cursor = {events};
        COMMIT;
        PRAGMA wal_checkpoint(TRUNCATE)"""
    site.execute(*statements.split(";"))


@pytest.fixture
def endpoints(site: Any, receiver: Any) -> Iterator[list[str]]:
    """30 subscriptions, each of a tenant of its own."""
    names = [f"endpoint-{number}" for number in range(30)]
    site.prepare()
    with open_session(site.database, write=True) as session, session.write() as transaction:
        for name in names:
            new = NewSubscription(
                id=SubscriptionId(f"wh_{name}"),
                name=name,
                url=receiver.url(f"/{name}"),
                events=("*",),
                tenant=name,
                profile="standard",
                mode="",
                method="POST",
                headers=(),
                policy={"retry_delays": [200] * 50, "jitter": 0.5},
                managed_by="cli",
            )
            add(transaction, new, [NewSecret(SECRET, is_reference=False)], now=0)
    return names


def test_E18_B32_out_of_descriptors_loses_nothing(
    site: Any, receiver: Any, endpoints: list[str]
) -> None:
    receiver.answer(**{name: {"delay": 0.2} for name in endpoints})
    daemon = site.daemon(before=("sh", "-c", 'ulimit -n 64; exec "$@"', "sh"))
    for name in endpoints:
        site.execute(
            "INSERT INTO outbox (event_type, aggregate_id, tenant) WITH RECURSIVE n(n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10)"
            f" SELECT 'order.changed', 'A' || n, '{name}' FROM n"
        )
    site.until_delivered(300)
    # It did run out, that is no fault of the receivers', and it shows.
    faults = {one["fault"].partition(": ")[2] for one in daemon.log("machine.fault")}
    assert faults == {"Too many open files"}
    assert {one.get("fault") for one in daemon.log("attempt")} == {None}
    assert receiver.count() == 300
    assert daemon.stop() == 0
    assert daemon.complaints() == []
    assert site.intact()
