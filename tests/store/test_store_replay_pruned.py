"""A replay after retention: what is gone is not forgotten to have been."""

from typing import Any

import pytest

from tests.store.bulk_changes import finish, order_replay
from tests.store.conftest import Box
from tests.store.test_store_replay import PENDING, delivery, foreseen, put, states, told
from webhookd.core.retention import DAY, Retention, Work


def prune(box: Box, **kept: Any) -> None:
    for work in Work:
        more = True
        while more:
            box.store.begin()
            more = box.store.prune(work, Retention(**kept), box.now).more
            box.store.commit()


def replayed(box: Box, **options: bool) -> dict[str, int]:
    before = foreseen(box, **options)
    key = order_replay(box, **options)
    finish(box)
    assert before == told(box, key)
    return before


@pytest.fixture
def old(box: Box) -> Box:
    """What failed is there; the newer one of its aggregate was delivered, and that is pruned."""
    box.subscribe()
    failed, newer = put(box, "A", "A")
    box.fail(delivery(box, failed))
    box.succeed(delivery(box, newer))
    return box


@pytest.mark.parametrize("events", [30 * DAY, DAY])
def test_what_failed_is_stale_once_the_newer_ones_delivery_is_pruned(old: Box, events: int) -> None:
    """With its event, or while that is kept."""
    old.now += 10 * DAY
    prune(old, events=events, outbox=DAY)
    assert old.one("SELECT count(*) FROM webhookd_events") == (2 if events > DAY else 1)
    assert replayed(old, failed_only=True) == {"stale": 1} | (
        {"not_matching": 1} if events > DAY else {}
    )
    assert states(old) == ["failed exhausted"]
    replayed(old, failed_only=True, include_stale=True)
    assert states(old) == [PENDING]


def test_what_the_subscription_does_not_want_makes_nothing_stale(box: Box) -> None:
    box.subscribe(events=("supplier.created",))
    (failed,) = put(box, "A")
    put(box, "A", event_type="supplier.seen")
    box.fail(delivery(box, failed))
    (other,) = put(box, "B")
    box.succeed(delivery(box, other))
    box.now += 10 * DAY
    prune(box)
    assert replayed(box, failed_only=True)["reopened"] == 1


def test_a_newer_one_that_is_owed_makes_nothing_stale(box: Box) -> None:
    box.subscribe()
    failed, _, other = put(box, "A", "A", "B")
    box.fail(delivery(box, failed))
    box.succeed(delivery(box, other))
    box.now += 10 * DAY
    prune(box)
    assert replayed(box, failed_only=True)["reopened"] == 1


def test_a_new_subscription_gets_every_event_that_is_kept(old: Box) -> None:
    new = old.subscribe("two")
    old.now += 10 * DAY
    prune(old)
    key = order_replay(old, key=new.key)
    finish(old)
    assert told(old, key) == {"made": 2}
