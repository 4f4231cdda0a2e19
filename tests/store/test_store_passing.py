"""`max_block`: those behind a head that keeps failing pass it."""

from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from tests.store.test_store_upkeep import ONE, each_step_of, expire, insert, line, states
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, SubscriptionKey
from webhookd.core.storage import NO_STEP, Record, Step
from webhookd.core.times import to_text
from webhookd.store import subscriptions
from webhookd.store.transaction import BULK_ROWS

BLOCK = 60_000
YEAR = 365 * 86_400_000


def let_pass(box: Box) -> Step:
    box.store.begin()
    step = box.store.let_pass(box.now)
    box.store.commit()
    return step


def blocked(box: Box, count: int = 3, **policy: Any) -> SubscriptionKey:
    """A line whose head has failed at NOW for the first time."""
    key = line(box, count, max_block=BLOCK, **policy)
    box.now = NOW
    box.retry(2, after=5_000)
    return key


def test_those_behind_a_head_that_keeps_failing_pass(box: Box) -> None:
    blocked(box)
    assert box.store.next_pass() == NOW + BLOCK
    box.now = NOW + 30_000
    box.retry(2, after=5_000)
    assert box.store.next_pass() == NOW + BLOCK, "counted from the first failure"
    box.now = NOW + BLOCK - 1
    assert let_pass(box) == NO_STEP
    box.now = NOW + BLOCK
    assert let_pass(box) == Step(1, frozenset({ONE}), whose=((ONE, 1),))
    assert box.store.next_pass() is None
    assert box.due(ONE) == [4, 2]
    assert box.rows("SELECT order_key, passed_at FROM webhookd_deliveries WHERE id = 2") == [
        (0, to_text(box.now))
    ]
    assert states(box) == [
        (2, "pending", None, 1),
        (4, "pending", None, 1),
        (6, "pending", None, 0),
    ]


def test_the_pass_does_not_move_the_feed(box: Box) -> None:
    blocked(box)
    box.now += BLOCK
    before = box.results()
    let_pass(box)
    assert box.results() == before


def test_who_was_passed_goes_on_alone(box: Box) -> None:
    blocked(box)
    box.now += BLOCK
    let_pass(box)
    box.retry(2, after=5_000)
    assert box.store.next_pass() is None, "it holds up nobody any more"
    box.succeed(4)
    assert box.due(ONE, box.now + 9_000) == [6, 2]
    box.succeed(2)
    assert box.due(ONE) == [6], "its end makes nobody step up"
    box.succeed(6)
    assert box.rows("SELECT pending, delivered FROM webhookd_counters") == [(0, 3)]


def test_who_was_passed_goes_back_to_its_line_when_it_is_reopened(box: Box) -> None:
    blocked(box)
    box.now += BLOCK
    let_pass(box)
    box.fail(2)
    box.reopen_delivery(2)
    assert box.due(ONE) == [2]
    assert box.one("SELECT passed_at FROM webhookd_deliveries WHERE id = 2") is None


def test_the_next_head_has_its_own_time(box: Box) -> None:
    blocked(box)
    box.now += BLOCK
    let_pass(box)
    box.retry(4)
    assert box.store.next_pass() == NOW + 2 * BLOCK
    box.now += BLOCK
    let_pass(box)
    assert box.due(ONE) == [6, 2, 4]


@pytest.mark.parametrize("attempted", [True, False])
def test_E4_a_time_that_a_clock_set_which_was_ahead_is_put_right(box: Box, attempted: bool) -> None:
    """At the next try; else those behind it would wait for a year."""
    blocked(box)
    box.host.execute(
        "UPDATE webhookd_deliveries SET failing_since = ?, pass_at = ? WHERE id = 2",
        (to_text(NOW + YEAR), to_text(NOW + YEAR + BLOCK)),
    )
    if attempted:
        box.retry(2, after=0)
    else:
        local = Move(Happening.RETRY, box.now, error="local", retry_at=box.now)
        box.record(Record(DeliveryId(2), local, None))
    assert box.one("SELECT failing_since FROM webhookd_deliveries WHERE id = 2") == to_text(NOW)
    box.now += BLOCK
    assert let_pass(box).rows == 1
    assert box.due(ONE) == [4, 2]


@pytest.mark.parametrize("ending", ["succeed", "fail", "cancel", "expire"])
def test_an_ending_takes_the_time_away(box: Box, ending: str) -> None:
    blocked(box)
    if ending == "expire":
        expire(box, NOW)
    else:
        getattr(box, ending)(2)
    assert box.store.next_pass() is None
    assert box.one("SELECT failing_since FROM webhookd_deliveries WHERE id = 2") is None


def test_what_is_no_attempt_starts_no_time(box: Box) -> None:
    line(box, max_block=BLOCK)
    local = Move(Happening.RETRY, box.now, error="local", retry_at=box.now)
    box.record(Record(DeliveryId(2), local, None))
    assert box.store.next_pass() is None


def test_who_is_in_no_line_blocks_nobody(box: Box) -> None:
    blocked(box, ordering="none")
    assert box.store.next_pass() is None


def test_without_the_rule_there_is_no_time(box: Box) -> None:
    line(box)
    box.retry(2)
    assert box.store.next_pass() is None


def set_policy(box: Box, **policy: Any) -> None:
    box.command(lambda t: subscriptions.update(t, ONE, {"policy": policy}))


def test_the_rule_was_withdrawn_meanwhile(box: Box) -> None:
    blocked(box)
    set_policy(box)
    box.now += BLOCK
    assert let_pass(box) == NO_STEP, "nobody was let pass"
    assert box.due(ONE) == [2]
    assert box.store.next_pass() is None
    box.retry(2)
    assert box.store.next_pass() is None


def test_the_rule_was_softened_meanwhile(box: Box) -> None:
    blocked(box)
    set_policy(box, max_block=3 * BLOCK)
    box.now += BLOCK
    assert let_pass(box) == NO_STEP, "nobody was let pass"
    assert box.due(ONE) == [2]
    assert box.store.next_pass() == NOW + 3 * BLOCK


def test_a_removed_subscription_lets_nobody_pass(box: Box) -> None:
    blocked(box)
    box.command(lambda t: subscriptions.remove(t, ONE, NOW))
    box.now += BLOCK
    let_pass(box)
    assert box.store.next_pass() is None
    assert box.one("SELECT order_key <> 0 FROM webhookd_deliveries WHERE id = 2") == 1


def test_one_that_is_no_head_any_more_stays_in_its_line(box: Box) -> None:
    """An older one was re-opened and put before it: left alone, it would never be due again."""
    line(box, max_block=BLOCK)
    box.now = NOW
    box.fail(2)
    box.retry(4, after=5_000)
    box.reopen_delivery(2)
    assert states(box)[1] == (4, "pending", None, 0)
    box.now += BLOCK
    let_pass(box)
    assert box.store.next_pass() is None
    assert states(box)[1] == (4, "pending", None, 0)
    box.succeed(2)
    assert box.due(ONE) == [4]
    box.retry(4, after=5_000)
    assert box.store.next_pass() == NOW + BLOCK, "it has been failing since then"
    let_pass(box)
    assert box.due(ONE) == [6]


def test_one_in_flight_that_another_was_put_before(box: Box) -> None:
    line(box, max_block=BLOCK)
    box.now = NOW
    box.fail(2)
    box.reopen_delivery(2)
    box.retry(4, after=5_000)
    box.now += BLOCK
    let_pass(box)
    box.succeed(2)
    assert box.due(ONE) == [4], "it waited in its line, and is next"


@pytest.mark.parametrize("ordering", ["aggregate", "subscription"])
def test_to_let_pass_is_as_cheap_with_many_behind(box: Box, ordering: str) -> None:
    box.subscribe(policy={"ordering": ordering, "max_block": BLOCK})
    box.put("a", aggregate_id="hot")
    box.ingest()
    counted = []
    for count in (10, 20_000):
        insert(box, count)
        box.retry(2)
        ticks = each_step_of(box.store._writer)
        box.now += BLOCK
        assert let_pass(box).rows == 1
        counted.append(ticks[0])
        box.fail(2)
        box.reopen_delivery(2)
    assert counted[1] < counted[0] + 50


def test_many_heads_in_batches(box: Box) -> None:
    box.subscribe(policy={"max_block": BLOCK})
    box.store._writer.execute("PRAGMA synchronous = OFF")
    count = BULK_ROWS + 7
    for _ in range(2):
        box.host.execute(
            "INSERT INTO outbox (event_type, aggregate_id) WITH RECURSIVE n (i) AS (SELECT 1"
            f" UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT 'a', 'S-' || i FROM n"
        )
    box.ingest_all()
    box.record(
        *(
            box.outcome(number, Happening.RETRY, retry_at=NOW)
            for number in box.due(ONE, limit=1_000)
        )
    )
    box.now += BLOCK
    assert [(step.rows, step.more) for step in (let_pass(box), let_pass(box))] == [
        (BULK_ROWS, True), (7, False),
    ]  # fmt: skip
    assert len(box.due(ONE, limit=1_000)) == 2 * count
