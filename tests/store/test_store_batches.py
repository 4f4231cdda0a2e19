"""Ingest as transactions: whole or nothing, bounded, and the sweep that looks behind it."""

import json
from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.rows import RejectionReason
from webhookd.store import ingest, outbox, subscriptions

GOOD = '{"price": 1.10}'


def test_A10_ids_below_the_cursor_are_found_by_the_sweep_once(box: Box) -> None:
    box.subscribe()
    for _ in range(5):
        box.put()
    box.ingest_all()
    box.host.execute("DELETE FROM outbox WHERE id = 3")
    for number in (-(2**63), -7, 0):
        box.put("late", id=number)
    assert box.ingest().events == 0
    assert sum(done.events for done in box.sweep_all()) == 3
    found = box.rows("SELECT outbox_id FROM webhookd_events WHERE event_type = 'late' ORDER BY 1")
    assert found == [(-(2**63),), (-7,), (0,)]
    assert len(box.due(1)) == 8
    assert sum(done.events for done in box.sweep_all()) == 0
    box.put("history", id=3)
    assert sum(done.events for done in box.sweep_all()) == 0, "an id that is done with"
    assert box.rows("SELECT first, last FROM webhookd_ranges ORDER BY 1") == [
        (-(2**63), -(2**63)), (-7, -7), (0, 5),
    ]  # fmt: skip


def test_A10_negative_ids_that_were_there_first_are_taken_in_order(box: Box) -> None:
    for number in (3, -5, -(2**63), 0):
        box.put(id=number)
    box.ingest_all()
    taken = box.rows("SELECT outbox_id FROM webhookd_events ORDER BY sequence")
    assert taken == [(-5,), (0,), (3,)]
    assert sum(done.events for done in box.sweep_all()) == 1, "the one that no cursor can precede"


def test_A11_the_highest_id(box: Box) -> None:
    box.put(id=1)
    box.put(id=2**63 - 1)
    assert box.ingest().events == 2
    assert box.ingest().events == 0
    assert box.store.outlook().cursor == 2**63 - 1
    assert [done.events for done in box.sweep_all()] == [0]
    box.put(id=2**63 - 2)
    assert sum(done.events for done in box.sweep_all()) == 1
    box.reopen()
    assert sum(done.events for done in box.sweep_all()) == 0
    assert box.rows("SELECT first, last FROM webhookd_ranges ORDER BY 1") == [
        (1, 1), (2**63 - 2, 2**63 - 1),
    ]  # fmt: skip


def test_events_deliveries_and_cursor_are_one_transaction(box: Box) -> None:
    box.subscribe()
    box.put(aggregate_id="S-1", payload=GOOD)
    box.put("bad type")
    tables = (
        "events", "deliveries", "aggregates", "ranges", "rejected", "counters", "file",
    )  # fmt: skip
    before = {name: box.rows(f"SELECT * FROM webhookd_{name}") for name in tables}
    box.store.begin()
    assert box.store.ingest(NOW).events == 1
    assert {name: box.rows(f"SELECT * FROM webhookd_{name}") for name in tables} == before
    box.store.rollback()
    assert {name: box.rows(f"SELECT * FROM webhookd_{name}") for name in tables} == before
    box.store.begin()
    box.store.ingest(NOW)
    box.store._writer.close()  # a crash before the commit
    box.store._reader.close()
    assert {name: box.rows(f"SELECT * FROM webhookd_{name}") for name in tables} == before
    box.reopen()
    done = box.ingest()
    assert (done.events, done.deliveries, len(done.rejected)) == (1, 1, 1)
    assert box.one("SELECT pending FROM webhookd_counters") == 1
    assert box.ingest() == ingest.Ingested(0, 0, (), (), frozenset(), more=False)


def test_a_batch_has_a_bounded_number_of_rows(box: Box) -> None:
    for _ in range(outbox.BATCH_ROWS + 1):
        box.put()
    assert [(done.events, done.more) for done in box.ingest_all()] == [
        (outbox.BATCH_ROWS, True), (1, False),
    ]  # fmt: skip


@pytest.mark.parametrize("column", ["payload", "aggregate_id", "event_type"])
def test_a_batch_has_a_bounded_number_of_bytes(
    box: Box, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    monkeypatch.setattr(outbox, "BATCH_BYTES", 10_000)
    for _ in range(6):
        box.put(**{column: json.dumps("x" * 4_000)})
    done = box.ingest_all()
    assert [one.events + len(one.rejected) for one in done] == [3, 3, 0]
    assert box.rows("SELECT first, last FROM webhookd_ranges") == [(1, 6)]


def test_a_batch_ends_with_the_event_that_owes_enough(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "DELIVERIES_A_BATCH", 5)
    for name in ("one", "two", "three"):
        box.subscribe(name)
    for _ in range(5):
        box.put()
    done = box.ingest_all()
    assert [(one.events, one.deliveries, one.more) for one in done] == [
        (2, 6, True), (2, 6, True), (1, 3, False),
    ]  # fmt: skip
    assert box.store.outlook().cursor == 5
    assert [row["sequence"] for row in box.results()] == [
        2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20,
    ]  # fmt: skip


def test_a_subscription_counts_from_the_moment_that_it_was_added(box: Box) -> None:
    box.put()
    assert box.ingest().deliveries == 0
    box.subscribe()
    box.put()
    assert box.ingest().deliveries == 1
    box.subscribe("two", tenant="acme")
    box.put(tenant="acme")
    box.put(tenant="other")
    assert box.ingest().deliveries == 3


def test_a_rule_that_was_never_committed_is_forgotten(box: Box) -> None:
    """Matching rules are kept by `control`; a number that was rolled back comes again."""
    one = box.subscribe()
    box.command(lambda t: subscriptions.remove(t, one.key, NOW))
    box.put()
    box.store.begin()
    box.store._begun().bump()
    assert box.store.ingest(NOW).deliveries == 0
    box.store.rollback()
    box.subscribe("two")
    assert box.ingest().deliveries == 1


def test_a_sweep_that_is_rolled_back_looks_again(box: Box) -> None:
    box.put(id=10)
    box.ingest()
    box.put(id=5)
    box.store.begin()
    assert box.store.sweep(NOW).events == 1
    box.store.rollback()
    box.store.begin()
    assert box.store.sweep(NOW).events == 1
    box.store.commit()


def test_a_sweep_looks_into_so_many_gaps_a_pass(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhookd.store.intake.GAPS_A_SWEEP", 3)
    for number in range(2, 22, 2):
        box.put(id=number)
    box.ingest()
    assert [done.more for done in box.sweep_all()] == [True, True, True, False]
    for number in range(1, 22, 2):
        box.put(id=number)
    assert box.ingest().events == 1
    done = box.sweep_all()
    assert sum(one.events for one in done) == 10
    assert box.rows("SELECT first, last FROM webhookd_ranges") == [(1, 21)]


def test_a_swept_stretch_may_be_longer_than_a_batch(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH_ROWS", 4)
    box.put(id=100)
    box.ingest()
    for number in range(1, 11):
        box.put(id=number)
    assert [done.events for done in box.sweep_all() if done.events] == [4, 4, 2]


def test_the_default_tenant_and_the_type_before_the_dot(path: Path) -> None:
    box = Box(path, default_tenant="acme")
    box.put("supplier.created", aggregate_id="1")
    box.put("COMMITTED", aggregate_id="2", tenant="other", aggregate_type="SALESORDER")
    box.put("COMMITTED", aggregate_id="3")
    box.ingest()
    wanted = "SELECT tenant, aggregate_type, aggregate_id FROM webhook_changes ORDER BY sequence"
    assert box.rows(wanted) == [
        ("acme", "supplier", "1"), ("other", "SALESORDER", "2"), ("acme", None, "3"),
    ]  # fmt: skip
    box.close()


def test_the_reasons_of_rejection_are_the_ones_that_are_written(box: Box) -> None:
    box.put(event_id="no good")
    box.put(aggregate_type="x" * 513)
    box.put(aggregate_id="x" * 513)
    box.put(tenant="x" * 513)
    reasons = [row.reason for row in box.ingest().rejected]
    assert reasons == ["bad_event_id", "bad_aggregate_type", "bad_aggregate_id", "bad_tenant"]
    assert set(reasons) <= {reason.value for reason in RejectionReason}


def test_no_work_outside_a_transaction(box: Box) -> None:
    with pytest.raises(RuntimeError, match="no transaction has begun"):
        box.store.ingest(NOW)
    with pytest.raises(RuntimeError, match="no transaction has begun"):
        box.store.commit()
    box.store.rollback()
