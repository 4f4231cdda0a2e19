"""What holds up whom, straight from the heads that are to be tried again."""

import pytest

from tests.store.conftest import Box
from tests.store.test_store_plans import faults
from webhookd.core.model import SubscriptionKey
from webhookd.store import blocking as module
from webhookd.store.blocking import blocking
from webhookd.store.queue import WAITING_AGAIN


def put(box: Box, *aggregates: str | None) -> None:
    for name in aggregates:
        box.put(aggregate_id=name)
    box.ingest_all()


def heads(box: Box, key: int | None = None, limit: int = 100) -> list[int]:
    found = blocking(box.host, None if key is None else SubscriptionKey(key), limit)
    return [row["delivery_id"] for row in found]


def test_a_head_that_fails_with_others_behind_it(box: Box) -> None:
    one = box.subscribe()
    put(box, "A", "A", "A", "B", "C", "C", None)
    first, *_, fourth, fifth, _, loose = [row["delivery_id"] for row in box.results()]
    since = box.now
    box.retry(first, after=7_000)
    box.retry(fourth)  # nobody waits behind it
    box.retry(loose)  # nor can anybody behind this one
    assert heads(box) == [first]
    box.now += 8_000
    box.retry(first, after=9_000)
    box.retry(fifth)
    found, other = blocking(box.host, None, 100)
    assert other["delivery_id"] == fifth
    event_id = box.results()[0]["event_id"]
    assert found == {
        "delivery_id": first,
        "subscription_id": one.id,
        "subscription_name": "one",
        "tenant": None,
        "aggregate_type": "supplier",
        "aggregate_id": "A",
        "event_id": event_id,
        "event_type": "supplier.created",
        "failing_since": "2026-01-31T12:00:00.000Z",
        "attempts": 2,
        "last_status": 500,
        "last_error": "http 500",
        "next_attempt_at": "2026-01-31T12:00:17.000Z",
        "waiting": 2,
        "more_waiting": False,
    }
    assert since < box.now
    assert heads(box, limit=1) == [first]
    box.succeed(first)
    assert heads(box) == [fifth]


def test_of_one_subscription_or_of_all(box: Box) -> None:
    box.subscribe("one")
    box.subscribe("two", policy={"ordering": "subscription"})
    put(box, "A", "A", "B")
    for key in (1, 2):
        box.retry(box.due(key)[0])
    assert len(heads(box)) == 2
    assert len(heads(box, 1)) == len(heads(box, 2)) == 1
    waiting = [row["waiting"] for row in blocking(box.host, None, 10)]
    assert waiting == [1, 2]


def test_one_that_was_passed_holds_up_nobody(box: Box) -> None:
    box.subscribe(policy={"max_block": 1_000})
    put(box, "A", "A")
    box.retry(box.due(1)[0], after=60_000)
    assert heads(box)
    box.now += 2_000
    box.store.begin()
    box.store.let_pass(box.now)
    box.store.commit()
    assert heads(box) == []


@pytest.mark.parametrize("pages", [1, 2, 1_000])
def test_it_goes_through_page_by_page(
    box: Box, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setattr(module, "PAGE", pages)
    box.subscribe()
    put(box, *"ABCABCABDE")
    for number in box.due(1):
        box.retry(number)  # all at the same moment
    assert len(heads(box)) == 3


def test_the_counting_ends_somewhere(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 2)
    box.subscribe()
    for count in (3, 4):
        put(box, *["A"] * count)
        if count == 3:
            box.retry(box.due(1)[0])
        (row,) = blocking(box.host, None, 10)
        assert (row["waiting"], row["more_waiting"]) == (2, count == 4)


def test_no_scan(box: Box) -> None:
    for sql in (module.HEADS, module.BEHIND, module.SHOWN, WAITING_AGAIN):
        assert faults(box, sql) == []
