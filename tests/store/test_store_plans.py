"""No hot statement scans a table that grows, or sorts what an index could give in order.

The statements are found in two ways, so that a new one is not forgotten: as constants of the
store's modules, and by listening to the store at work.
"""

import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import webhookd.store
from tests.store.conftest import NOW, Box, secret
from webhookd.core.delivery import Happening
from webhookd.core.model import Reason, SubscriptionKey, SubscriptionState
from webhookd.core.outcomes import Signs
from webhookd.store import deliveries, feeds, outbox, status, subscriptions
from webhookd.store.queue import Both
from webhookd.store.transaction import Session

SMALL = {
    "webhookd_file", "webhookd_feeds", "webhookd_subscriptions", "webhookd_secrets",
    "webhookd_counters", "webhookd_migrations", "sqlite_master", "sqlite_schema",
    "sqlite_sequence", "webhookd_instructions", "webhookd_retention",
    "webhookd_source", "webhookd_captures", "webhookd_recent",
}  # fmt: skip
"""Tables that have a row (or a few) a file, a table or a subscription: to read one whole is no
scan."""

STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
TEMPLATE = re.compile(r"\{\w+\}")
"""A place in a text that `format` fills in."""
SHELL = Path("/usr/bin/sqlite3")


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(webhookd.store.__path__):
        yield importlib.import_module(f"webhookd.store.{found.name}")


def texts() -> Iterator[tuple[ModuleType, str, str]]:
    """All texts that stand in the store's modules, with their names; those for both queues too."""
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, str):
                yield module, name, value
            elif isinstance(value, Both):
                yield from ((module, f"{name}.{one}", sql) for one, sql in value._asdict().items())


def constants() -> dict[str, str]:
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module, name, value in texts()
        if STATEMENT.match(value) and not TEMPLATE.search(value)
    }


def templates() -> dict[str, tuple[str, list[str]]]:
    """The texts with places to fill in, each with the constants of its module made from it."""
    found = {}
    for module in modules():
        texts = {name: value for name, value in vars(module).items() if isinstance(value, str)}
        for name, value in texts.items():
            if STATEMENT.match(value) and TEMPLATE.search(value):
                parts = (re.escape(part) for part in TEMPLATE.split(value))
                made = re.compile(".+".join(parts))
                ready = [
                    other
                    for other, text in texts.items()
                    if not TEMPLATE.search(text) and made.fullmatch(text)
                ]
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = name, ready
    return found


def faults(box: Box, sql: str) -> list[str]:
    """What is bad about the plan of `sql`; empty for a good one."""
    numbered = re.findall(r"\?\d+", sql)
    count = len(set(numbered)) if numbered else sql.count("?")
    steps = [
        row[3] for row in box.host.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * count).fetchall()
    ]
    aliases = {alias: table for table, alias in re.findall(r"(\w+)\"? AS (\w+)", sql)}
    aliases |= {"d": "webhookd_deliveries", "e": "webhookd_events", "s": "webhookd_subscriptions",
                "f": "webhookd_feeds"} if "webhook_" in sql else {}  # fmt: skip
    bad, large = [], False
    for step in steps:
        found = re.match(r"(SCAN|SEARCH) (\w+)", step)
        if found is None:
            continue
        table = aliases.get(found[2], found[2])
        if table in SMALL or found[2] == "CONSTANT":
            continue
        large = True
        if found[1] == "SCAN":
            bad.append(step)
    if large:
        bad += [step for step in steps if "TEMP B-TREE" in step]
    return bad


def test_the_judge_of_plans_sees_scans_and_sorts(box: Box) -> None:
    assert faults(box, "SELECT * FROM webhookd_deliveries WHERE state = 'pending'")
    assert faults(box, "SELECT * FROM webhookd_events WHERE sequence > ? ORDER BY event_type")
    assert faults(box, "SELECT * FROM webhook_results WHERE state = 'failed'")
    assert faults(box, "SELECT * FROM outbox AS t WHERE t.event_type = ?1 OR t.tenant = ?1")
    assert faults(box, "SELECT count(*) FROM webhookd_ranges")
    assert not faults(box, "SELECT * FROM webhookd_subscriptions")


@pytest.mark.parametrize("name", sorted(constants()))
def test_a_statement_of_a_module(box: Box, name: str) -> None:
    assert faults(box, constants()[name]) == []


def test_the_constants_of_the_hot_modules_are_found() -> None:
    found = constants()
    for name in ("fanout.IN_LINE", "queue.DUE.first", "queue.DUE.again", "queue.EARLIEST.again",
                 "queue.LATEST.first", "queue.WAITING.again", "queue.NEXT_PASSED",
                 "book.HEAD_OF_LINE", "health.SELECT", "coalesce.UNSENT", "upkeep.EXPIRED",
                 "upkeep.OVERDUE_HEADS", "upkeep.TOO_LATE.again",
                 "status.SUBSCRIPTIONS"):  # fmt: skip
        assert name in found
    assert len(found) > 50


def test_a_text_with_places_to_fill_in_is_private_and_filled_in_nearby() -> None:
    """So that what is tried is what is said: a template alone is no statement."""
    found = templates()
    assert "newest._WALK" in found
    for where, (name, ready) in found.items():
        assert name.startswith("_"), where
        assert ready, where


def upkeep_and_health(box: Box) -> None:
    """What time and endpoints in ill health make the store do."""
    policy = {"coalesce": True, "max_block": 1, "failing_after": 1, "disable_after_failures": 1}
    three = box.subscribe("three", policy=policy)
    box.subscribe("ops", events=("webhookd.*",))
    for _ in range(3):
        box.put(aggregate_id="S-3")
        box.ingest()
    store, key = box.store, three.key
    for happening in (Happening.RETRY, Happening.SUCCEEDED):
        again = box.now if happening is Happening.RETRY else None
        made = box.outcome(box.due(key)[0], happening, retry_at=again)
        box.record(made._replace(signs=Signs(ill=True)))
        box.now += 1_000
        store.begin()
        store.let_pass(box.now)
        store.bring_forward(key, box.now, box.now, 0)
        store.announce_rejected(box.now)
        store.commit()
    box.put(aggregate_id="S-3")
    box.ingest()
    made = box.outcome(box.due(key)[0], Happening.FAILED, reason=Reason.EXHAUSTED)
    box.record(made._replace(signs=Signs(ill=True, held_until=NOW)))
    box.put(aggregate_id="S-3")
    box.ingest()
    store.next_due(key, box.now)
    store.owed_since(key)
    for again in (False, True):
        store.latest_due(key, again)
    store.health(key)
    store.next_pass()
    store.waiting(SubscriptionKey(0), 9)
    store.begin()
    assert store.expire(key, box.now, box.now).rows
    store.commit()


def busy(box: Box) -> list[str]:
    """Everything that the store says to SQLite while it does all that it does often."""
    heard: list[str] = []
    for connection in (box.store._writer, box.store._reader):
        connection.set_trace_callback(heard.append)
    one = box.subscribe()
    box.subscribe("two", tenant="acme")
    for number in range(4):
        box.put(aggregate_id="S-1", tenant="acme", event_id=f"E-{number}")
    box.put("bad type")
    box.put(aggregate_id="S-1", id=-5)
    box.ingest_all()
    box.put(id=-9)
    box.sweep_all()
    box.store.outlook()
    box.store.changed()
    box.store.subscriptions()
    assert box.store.next_due(one.key) is not None
    for number in box.due(one.key):
        box.retry(number, after=-1)
        box.fail(number)
    for number in box.due(one.key):
        box.succeed(number)

    upkeep_and_health(box)
    with Session(box.path, write=True) as session:
        session.connection.set_trace_callback(heard.append)
        first = box.results()[0]["delivery_id"]
        with session.write() as transaction:
            deliveries.retry(transaction, first, NOW)
        with session.write() as transaction:
            deliveries.retry(transaction, first, NOW)
        with session.write() as transaction:
            deliveries.cancel(transaction, first, NOW)
            subscriptions.set_state(transaction, one.key, SubscriptionState.PAUSED, "operator")
            subscriptions.rotate(transaction, one.key, secret("x"), 1_000, NOW)
            subscriptions.remove(transaction, one.key, NOW)
        box.store.begin()
        assert box.store.carry_out(NOW).rows
        box.store.commit()
        with session.write() as transaction:
            deliveries.cancel_all(transaction, NOW)
        deliveries.show_delivery(session.connection, first)
        deliveries.show_event(session.connection, "E-1")
        deliveries.show_event(session.connection, "1")
        deliveries.list_deliveries(session.connection, deliveries.Filter())
        deliveries.list_events(session.connection, deliveries.Filter())
        status.facts(session.connection, session.file, box.path, now=NOW)
        for feed in feeds.VIEWS:
            feeds.page(session.connection, feed, 3, 100)
    return heard


def test_the_store_at_work_never_scans(box: Box) -> None:
    heard = {sql for sql in busy(box) if STATEMENT.match(sql)}
    assert len(heard) > 60
    for table in ("ranges", "rejected", "aggregates", "events", "deliveries", "attempts"):
        assert any(f"webhookd_{table}" in sql for sql in heard), table
    found = {sql: bad for sql in heard if (bad := faults(box, sql))}
    # A listing of the newest walks a key backwards, and stops at the limit.
    newest = "ORDER BY (delivery_id|sequence|outbox_id) DESC LIMIT"
    # What one event came to is sorted: as many rows as there are subscriptions.
    fan_out = r"WHERE d.event = \d+ ORDER BY d.id"
    found = {
        sql: bad
        for sql, bad in found.items()
        if not (re.search(newest, sql) and len(bad) == 1 and "TEMP" not in bad[0])
        and not (re.search(fan_out, sql) and bad == ["USE TEMP B-TREE FOR ORDER BY"])
    }
    assert not found, "\n".join(f"{sql}: {bad}" for sql, bad in found.items())


POLLS = [
    f"SELECT * FROM {view} WHERE sequence > 3 ORDER BY sequence LIMIT 1000"
    for view in ("webhook_results", "webhook_changes", "webhook_events")
] + ["SELECT * FROM webhook_feeds", "SELECT * FROM webhook_feeds WHERE feed = 'results'"]


@pytest.mark.parametrize("poll", POLLS)
def test_the_polls_of_the_contract(box: Box, poll: str) -> None:
    assert faults(box, poll) == []


@pytest.mark.parametrize("poll", POLLS)
@pytest.mark.skipif(not SHELL.exists(), reason="no sqlite3 shell on this machine")
def test_the_polls_of_a_host_with_another_sqlite(box: Box, poll: str) -> None:
    done = subprocess.run(
        [SHELL, "-batch", box.path, f"EXPLAIN QUERY PLAN {poll}"],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert "TEMP B-TREE" not in done.stdout
    scans = set(re.findall(r"SCAN (\w+)", done.stdout))
    assert scans <= {"f", "webhookd_file"}, done.stdout


def test_a_mapped_outbox_needs_no_index_of_ours(box: Box) -> None:
    select = outbox.Outbox(box.path, "outbox", 100)._rows.select
    assert faults(box, select) == []
