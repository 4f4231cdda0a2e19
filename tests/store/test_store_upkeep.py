"""What time does to deliveries: they expire, or were due too late."""

from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening
from webhookd.core.model import SubscriptionKey
from webhookd.core.storage import NO_STEP, Step
from webhookd.core.times import to_text
from webhookd.store import driver
from webhookd.store.transaction import BULK_ROWS

ONE = SubscriptionKey(1)
DAY = 86_400_000


def has_expired(box: Box, key: SubscriptionKey, before: int) -> bool:
    """Whether the subscription is owed anything since `before` or longer."""
    since = box.store.owed_since(key)
    return since is not None and since <= before


def expire(box: Box, before: int, key: SubscriptionKey = ONE) -> Step:
    box.store.begin()
    step = box.store.expire(key, before, box.now)
    box.store.commit()
    return step


def bring_forward(box: Box, latest: int, *, begun: int | None = None) -> Step:
    now = box.now if begun is None else begun
    box.store.begin()
    step = box.store.bring_forward(ONE, now, latest, box.now - now)
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
    assert not has_expired(box, ONE, NOW - 1)
    assert has_expired(box, ONE, NOW)
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
    assert not has_expired(box, ONE, NOW + 1_999)


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
    assert not has_expired(box, SubscriptionKey(9), NOW)


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
    assert not has_expired(box, ONE, NOW + DAY - 1)
    assert has_expired(box, ONE, NOW + DAY)
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


def test_what_a_clock_that_was_ahead_took_in_hides_nothing_behind_it(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    for ahead in (0, 365 * DAY, 0):
        box.now = NOW + ahead
        box.put()
        box.ingest()
    assert expire(box, NOW) == Step(2)
    assert states(box)[1] == (4, "pending", None, 1)
    assert not has_expired(box, ONE, NOW + DAY)


def test_many_that_were_reopened_are_looked_past(box: Box) -> None:
    key = box.subscribe(policy={"ordering": "none"}).key
    insert(box, 2 * BULK_ROWS + 10)
    last = box.due(key, limit=1_000)[-1]
    box.host.execute(
        "UPDATE webhookd_deliveries SET since = ? WHERE id <> ?", (to_text(NOW + DAY), last)
    )
    count = each_step_of(box.store._reader)
    assert has_expired(box, key, NOW)
    assert count[0] < 100, "they cost nothing"
    assert expire(box, NOW) == Step(1)
    assert box.one("SELECT id FROM webhookd_deliveries WHERE state = 'failed'") == last
    assert not has_expired(box, key, NOW)


@pytest.mark.parametrize("ordering", ["aggregate", "subscription", "none"])
def test_to_expire_is_as_cheap_with_many_behind(box: Box, ordering: str) -> None:
    key = box.subscribe(policy={"ordering": ordering}).key
    box.put("a", aggregate_id="hot")
    box.ingest()
    box.now += 1_000
    counted = []
    for count in (2 * BULK_ROWS, 20_000):
        insert(box, count)
        reader, writer = (each_step_of(one) for one in (box.store._reader, box.store._writer))
        assert has_expired(box, key, NOW)
        assert not has_expired(box, key, NOW - 1)
        assert expire(box, NOW) == Step(1, frozenset({key} if ordering != "none" else ()))
        counted.append((reader[0], writer[0]))
        box.reopen_delivery(2)
        box.host.execute("UPDATE webhookd_deliveries SET since = created_at WHERE id = 2")
    few, many = counted
    assert many[0] <= few[0] + 100
    assert many[1] <= few[1] + 200


def test_to_ask_whether_anything_expired_reads_two_rows(box: Box) -> None:
    """It is asked every few seconds for each subscription that has a max_age."""
    key = box.subscribe().key
    insert(box, BULK_ROWS)
    count = each_step_of(box.store._reader)
    for _ in range(10):
        assert not has_expired(box, key, NOW - 1)
    assert count[0] <= 500


def test_E12_one_in_flight_that_expired_and_then_came_through(box: Box) -> None:
    line(box)
    made = box.outcome(2, Happening.SUCCEEDED, status=200)
    expire(box, NOW)
    box.record(made)
    assert states(box)[0] == (2, "delivered", None, 0)
    assert box.rows("SELECT pending, delivered, failed FROM webhookd_counters") == [(2, 1, 0)]


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
    assert box.store.latest_due(key, True) == NOW + 3_650 * DAY + 5_000
    assert box.store.latest_due(key, False) == NOW + 3_650 * DAY
    before = box.results()
    latest = NOW + DAY
    assert bring_forward(box, latest) == Step(2, frozenset({key}))
    assert box.store.latest_due(key, True) == latest
    assert box.store.latest_due(key, False) == NOW, "a first attempt waits for nothing"
    assert box.results() == before, "no field of the feed has changed"
    assert box.rows("SELECT id, retry_at FROM webhookd_deliveries WHERE retry_at IS NOT NULL") == [
        (2, to_text(latest)), (4, to_text(NOW + 5_000)),
    ]  # fmt: skip
    assert box.due(key) == [6, 8, 11]
    assert box.due(key, latest) == [6, 4, 8, 2, 11]
    assert bring_forward(box, latest) == NO_STEP


def test_E4_in_batches_of_both_kinds_and_in_their_order(box: Box) -> None:
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
    due = box.store.due(key, NOW, 1_000, ())
    assert len(due) == 2 * BULK_ROWS
    for kind in (False, True):
        mine = [one.id for one in due if (one.tries > 0) is kind]
        assert mine == sorted(mine)


def test_E4_what_comes_in_while_others_are_brought_forward_is_let_be(box: Box) -> None:
    """Else a host that writes without a pause would keep it at work for ever."""
    key = box.subscribe(policy={"ordering": "none"}).key
    box.now = NOW + DAY
    insert(box, BULK_ROWS)
    box.now = NOW
    assert bring_forward(box, NOW + 5_000) == Step(BULK_ROWS, frozenset({key}), more=True)
    box.now = NOW + 2_000
    for _ in range(2):
        box.put()
    box.ingest()
    last = box.due(key, limit=1_000)[-1]
    box.retry(last, after=5_000)
    before = box.rows("SELECT id, due_at, retry_at FROM webhookd_deliveries")
    assert bring_forward(box, NOW + 5_000, begun=NOW) == NO_STEP
    assert box.rows("SELECT id, due_at, retry_at FROM webhookd_deliveries") == before


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
