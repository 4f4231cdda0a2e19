"""What time does to deliveries: they expire, let others pass, or were due too late."""

from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from tests.store.test_store_bulk import steps_of
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, SubscriptionKey
from webhookd.core.storage import NO_STEP, Record, Step
from webhookd.core.times import to_text
from webhookd.store import driver, subscriptions
from webhookd.store.transaction import BULK_ROWS

ONE = SubscriptionKey(1)
DAY = 86_400_000


def expire(box: Box, before: int, key: SubscriptionKey = ONE) -> Step:
    box.store.begin()
    step = box.store.expire(key, before, box.now)
    box.store.commit()
    return step


def let_pass(box: Box) -> Step:
    box.store.begin()
    step = box.store.let_pass(box.now)
    box.store.commit()
    return step


def bring_forward(box: Box, latest: int) -> Step:
    box.store.begin()
    step = box.store.bring_forward(ONE, latest)
    box.store.commit()
    return step


def line(box: Box, count: int = 3, name: str = "one", **policy: Any) -> SubscriptionKey:
    """Deliveries of one aggregate, a second apart: 2, 4, 6 ..."""
    key = box.subscribe(name, policy=policy).key
    for _ in range(count):
        box.put(aggregate_id="S-1")
        box.ingest()
        box.now += 1_000
    return key


def states(box: Box) -> list[tuple[int, str, str | None, int]]:
    return box.rows(
        "SELECT id, state, nullif(reason, ''), due_at IS NOT NULL FROM webhookd_deliveries"
        " ORDER BY id"
    )


def insert(box: Box, count: int) -> None:
    """So many events of one aggregate, at once."""
    box.store._writer.execute("PRAGMA synchronous = OFF")
    box.host.execute(
        "INSERT INTO outbox (event_type, aggregate_id) WITH RECURSIVE n (i) AS"
        f" (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT 'a', 'hot' FROM n"
    )
    box.ingest_all()


def each_step_of(connection: driver.Connection) -> list[int]:
    """Counts SQLite's own steps one by one."""
    count = [0]

    def tick() -> int:
        count[0] += 1
        return 0

    connection.set_progress_handler(tick, 1)
    return count


# max_age


def test_the_oldest_expire_and_the_next_in_line_steps_up(box: Box) -> None:
    line(box)
    assert not box.store.has_expired(ONE, NOW - 1)
    assert box.store.has_expired(ONE, NOW)
    assert expire(box, NOW - 1) == NO_STEP
    assert expire(box, NOW + 1_000) == Step(2, frozenset({ONE}))
    assert states(box) == [
        (2, "failed", "expired", 0), (4, "failed", "expired", 0), (6, "pending", None, 1),
    ]  # fmt: skip
    row = box.results()[0]
    assert (row["finished_at"], row["attempts"], row["next_attempt_at"]) == (
        to_text(box.now), 0, None,
    )  # fmt: skip
    assert box.rows("SELECT pending, failed FROM webhookd_counters") == [(1, 2)]
    assert box.due(ONE) == [6]
    assert not box.store.has_expired(ONE, NOW + 1_999)


def test_what_was_attempted_expires_too(box: Box) -> None:
    line(box)
    box.retry(2, after=DAY)
    expire(box, NOW)
    assert box.results()[0]["last_status"] == 500
    assert states(box)[0] == (2, "failed", "expired", 0)
    assert box.due(ONE) == [4]


def test_only_the_one_subscriptions(box: Box) -> None:
    for name in ("one", "two"):
        box.subscribe(name)
    box.put()
    box.ingest()
    assert expire(box, NOW, SubscriptionKey(2)).rows == 1
    assert [row["state"] for row in box.results()] == ["pending", "failed"]
    assert not box.store.has_expired(SubscriptionKey(9), NOW)


def test_paused_and_disabled_ones_expire_as_well(box: Box) -> None:
    line(box)
    box.host.execute("UPDATE webhookd_subscriptions SET state = 'paused'")
    assert expire(box, NOW + DAY).rows == 3


def test_a_reopened_one_counts_from_its_reopening(box: Box) -> None:
    line(box)
    box.fail(2)
    box.now = NOW + DAY
    box.reopen_delivery(2)
    assert box.due(ONE) == [2]
    # The head was made first and is owed for the shortest time: those behind it end before it.
    assert expire(box, NOW + DAY - 1) == Step(2)
    assert states(box) == [
        (2, "pending", None, 1), (4, "failed", "expired", 0), (6, "failed", "expired", 0),
    ]  # fmt: skip
    assert not box.store.has_expired(ONE, NOW + DAY - 1)
    assert box.store.has_expired(ONE, NOW + DAY)
    assert expire(box, NOW + DAY) == Step(1)


def test_in_batches_the_oldest_first(box: Box) -> None:
    box.subscribe()
    insert(box, 2 * BULK_ROWS + 50)
    found = []
    while not found or found[-1].more:
        found.append(expire(box, NOW))
        left = box.rows("SELECT id FROM webhookd_deliveries WHERE state = 'pending' ORDER BY id")
        gone = box.rows("SELECT max(id) FROM webhookd_deliveries WHERE state = 'failed'")
        assert not left or gone < left[:1], "none before an older one"
        assert box.due(ONE) == [left[0][0]] if left else box.due(ONE) == []
    assert [(step.rows, step.more) for step in found] == [
        (BULK_ROWS, True), (BULK_ROWS, True), (50, False),
    ]  # fmt: skip


def test_many_that_were_reopened_are_looked_past(box: Box) -> None:
    key = box.subscribe(policy={"ordering": "none"}).key
    insert(box, 2 * BULK_ROWS + 10)
    last = box.due(key, limit=1_000)[-1]
    box.host.execute(
        "UPDATE webhookd_deliveries SET opened_at = ? WHERE id <> ?", (to_text(NOW + DAY), last)
    )
    assert box.store.has_expired(key, NOW)
    assert expire(box, NOW) == Step(1)
    assert box.one("SELECT id FROM webhookd_deliveries WHERE state = 'failed'") == last
    assert not box.store.has_expired(key, NOW)


@pytest.mark.parametrize("ordering", ["aggregate", "subscription", "none"])
def test_to_expire_is_as_cheap_with_many_behind(box: Box, ordering: str) -> None:
    key = box.subscribe(policy={"ordering": ordering}).key
    box.put("a", aggregate_id="hot")
    box.ingest()
    box.now += 1_000
    counted = []
    for count in (2 * BULK_ROWS, 20_000):
        insert(box, count)
        reader, writer = (steps_of(box, one) for one in (box.store._reader, box.store._writer))
        assert box.store.has_expired(key, NOW)
        assert not box.store.has_expired(key, NOW - 1)
        assert expire(box, NOW) == Step(1, frozenset({key} if ordering != "none" else ()))
        counted.append((reader[0], writer[0]))
        box.reopen_delivery(2)
        box.host.execute("UPDATE webhookd_deliveries SET opened_at = NULL WHERE id = 2")
    few, many = counted
    assert many[0] <= few[0] + 1
    assert many[1] <= few[1] + 2


def test_to_ask_whether_anything_expired_reads_one_row(box: Box) -> None:
    """It is asked every few seconds for each subscription that has a max_age."""
    key = box.subscribe().key
    insert(box, BULK_ROWS)
    count = each_step_of(box.store._reader)
    for _ in range(10):
        assert not box.store.has_expired(key, NOW - 1)
    assert count[0] <= 300


def test_E12_one_in_flight_that_expired_and_then_came_through(box: Box) -> None:
    line(box)
    made = box.outcome(2, Happening.SUCCEEDED, status=200)
    expire(box, NOW)
    box.record(made)
    assert states(box)[0] == (2, "delivered", None, 0)
    assert box.rows("SELECT pending, delivered, failed FROM webhookd_counters") == [(2, 1, 0)]


# max_block

BLOCK = 60_000


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
    assert let_pass(box) == Step(1, frozenset({ONE}))
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
    assert let_pass(box) == Step(1)
    assert box.due(ONE) == [2]
    assert box.store.next_pass() is None
    box.retry(2)
    assert box.store.next_pass() is None


def test_the_rule_was_softened_meanwhile(box: Box) -> None:
    blocked(box)
    set_policy(box, max_block=3 * BLOCK)
    box.now += BLOCK
    assert let_pass(box) == Step(1)
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


# A clock that jumped


def test_E4_what_a_clock_that_was_ahead_put_off_is_brought_forward(box: Box) -> None:
    key = box.subscribe(policy={"ordering": "none"}).key
    for _ in range(4):
        box.put()
    box.ingest()
    box.now = NOW + 3_650 * DAY
    box.retry(2, after=5_000)
    box.put()
    box.ingest()
    box.now = NOW
    box.retry(4, after=5_000)
    assert box.store.latest_due(key) == NOW + 3_650 * DAY + 5_000
    before = box.results()
    latest = NOW + DAY
    assert bring_forward(box, latest) == Step(2, frozenset({key}))
    assert box.store.latest_due(key) == latest
    assert box.results() == before, "no field of the feed has changed"
    assert box.rows("SELECT id, retry_at FROM webhookd_deliveries WHERE retry_at IS NOT NULL") == [
        (2, to_text(latest)), (4, to_text(NOW + 5_000)),
    ]  # fmt: skip
    assert box.due(key) == [6, 8]
    assert box.due(key, latest) == [6, 4, 8, 2, 11]
    assert bring_forward(box, latest) == NO_STEP


def test_E4_in_batches_of_both_kinds(box: Box) -> None:
    key = box.subscribe(policy={"ordering": "none"}).key
    box.now = NOW + DAY
    insert(box, 2 * BULK_ROWS)
    for number in box.due(key, limit=150):
        box.record(box.outcome(number, Happening.RETRY, retry_at=box.now))
    box.now = NOW
    found = [bring_forward(box, NOW) for _ in range(3)]
    assert [(step.rows, step.more) for step in found] == [
        (BULK_ROWS, True), (BULK_ROWS, True), (0, False),
    ]  # fmt: skip
    assert len(box.due(key, NOW, limit=1_000)) == 2 * BULK_ROWS


def test_E4_one_that_waits_in_line_is_brought_forward_once_it_is_the_head(box: Box) -> None:
    line(box)
    box.now = NOW
    box.fail(2)
    box.retry(4, after=DAY)
    box.reopen_delivery(2)
    assert bring_forward(box, NOW + 5_000) == NO_STEP
    box.succeed(2)
    assert box.store.next_due(ONE) == NOW + DAY
    assert bring_forward(box, NOW + 5_000).rows == 1
    assert box.store.next_due(ONE) == NOW + 5_000
