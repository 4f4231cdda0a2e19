"""What a lane reads: what is due, first attempts and further ones in turn, and who waits at all."""

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Sequence, SubscriptionKey, SubscriptionState
from webhookd.core.storage import Record
from webhookd.core.times import to_text
from webhookd.store import subscriptions


def loose(box: Box, count: int, name: str = "one") -> int:
    """A subscription without order, owed `count`: deliveries 2, 4, 6 ... if it is the only one."""
    key = box.subscribe(name, policy={"ordering": "none"}).key
    for number in range(count):
        box.put(aggregate_id=str(number), payload=f'"{number}"')
    box.ingest()
    return key


def test_first_attempts_and_further_ones_come_in_turn(box: Box) -> None:
    key = loose(box, 7)
    for number, ago in ((2, 1_000), (4, 3_000), (6, 2_000)):
        box.retry(number, after=-ago)
    assert box.due(key) == [8, 4, 10, 6, 12, 2, 14]
    assert box.due(key, limit=3) == [8, 4, 10]
    without = {DeliveryId(8), DeliveryId(6)}
    assert [one.id for one in box.store.due(key, NOW, 4, without)] == [10, 4, 12, 2]
    assert box.store.due(key, NOW, 0, {DeliveryId(99)}) == []


def test_a_crowd_of_one_kind_does_not_keep_the_other_waiting(box: Box) -> None:
    key = loose(box, 20)
    for number in range(2, 36, 2):
        box.retry(number, after=-1)
    assert box.due(key, limit=4) == [36, 2, 38, 4], "17 are due again, three are new"
    for number in (36, 38, 40):
        box.succeed(number)
    assert box.due(key, limit=4) == [2, 4, 6, 8], "a place that one kind leaves the other takes"


def test_each_kind_comes_oldest_first(box: Box) -> None:
    key = box.subscribe(policy={"ordering": "none"}).key
    for _ in range(2):
        box.put()
        box.ingest()
        box.now -= 1_000
    box.now = NOW
    assert box.due(key) == [4, 2]
    assert box.due(key, NOW - 1_000) == [4]
    assert box.due(key, NOW - 1_001) == []


def test_what_is_due_with_all_that_a_lane_needs(box: Box) -> None:
    key = loose(box, 2)
    box.retry(2, after=-1_000)
    _, again = box.store.due(key, NOW, 2, ())
    assert (again.number, again.attempts, again.tries, again.order_key) == (1, 1, 1, 0)
    assert (again.event, again.since) == (1, to_text(NOW))
    event = box.store.event(again.event)
    assert event is not None
    assert (event.sequence, event.payload) == (1, b'"0"')
    assert box.store.event(Sequence(99)) is None


def test_a_reopened_one_is_a_first_attempt_and_owed_since_then(box: Box) -> None:
    key = loose(box, 1)
    box.retry(2)
    box.fail(2)
    box.now += 5_000
    box.reopen_delivery(2)
    (one,) = box.store.due(key, box.now, 1, ())
    assert (one.attempts, one.tries, one.since) == (2, 0, to_text(NOW + 5_000))


def test_the_next_due_time_is_of_both_kinds_and_the_latest_of_each(box: Box) -> None:
    key = loose(box, 3)
    store = box.store

    def found() -> tuple[int | None, int | None, int | None]:
        return store.next_due(key), store.latest_due(key, False), store.latest_due(key, True)

    assert found() == (NOW, NOW, None)
    box.retry(2, after=9_000)
    assert found() == (NOW, NOW, NOW + 9_000)
    assert box.store.next_due(key, NOW) == NOW + 9_000
    assert box.store.next_due(key, NOW + 9_000) is None
    box.retry(2, after=-9_000)
    assert found() == (NOW - 9_000, NOW, NOW - 9_000)
    for number in (2, 4, 6):
        box.succeed(number)
    assert found() == (None, None, None)


def waiting(box: Box) -> list[SubscriptionKey]:
    return box.store.waiting(SubscriptionKey(0), 100)


def test_who_waits_for_anything_now_or_later(box: Box) -> None:
    assert waiting(box) == []
    for name in ("one", "two", "three", "four"):
        box.subscribe(name, events=(f"{name}.*",))
    for kind in ("one.a", "three.a", "three.b", "four.a"):
        box.put(kind, aggregate_id=kind)
    box.ingest()
    assert waiting(box) == [1, 3, 4]
    box.retry(2, after=3_600_000)
    assert box.store.waiting(SubscriptionKey(0), 2) == [1, 3]
    assert box.store.waiting(SubscriptionKey(3), 2) == [4]
    assert waiting(box) == [1, 3, 4], "whether due now or later, or in which index"
    box.succeed(8)
    assert waiting(box) == [1, 3]
    box.command(
        lambda t: subscriptions.set_state(t, box_key(box, "one"), SubscriptionState.PAUSED, "")
    )
    assert waiting(box) == [1, 3], "what may be sent is for the lanes to know"


def box_key(box: Box, name: str) -> int:
    key: int = box.one("SELECT key FROM webhookd_subscriptions WHERE name = ?", name)
    return key


def test_to_know_who_waits_takes_a_step_for_each_and_no_more(box: Box) -> None:
    loose(box, 2_000, "one")
    box.ingest_all()
    loose(box, 10, "two")
    for number in box.due(1, limit=500):
        later = Move(Happening.RETRY, NOW, attempted_at=NOW, retry_at=NOW + 1, status=500)
        box.record(Record(DeliveryId(number), later, None))
    count = [0]

    def tick() -> int:
        count[0] += 1
        return 0

    box.store._reader.set_progress_handler(tick, 10)
    assert waiting(box) == [1, 2]
    assert count[0] <= 20
