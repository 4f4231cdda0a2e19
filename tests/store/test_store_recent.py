"""What each subscription did in the last hour, as the file keeps it."""

from tests.store.conftest import Box
from webhookd.core.delivery import Happening
from webhookd.core.model import Reason, SubscriptionKey
from webhookd.core.recent import IDLE, SLOTS, SPAN, Recent, class_of
from webhookd.core.storage import Record
from webhookd.store import recent, subscriptions

HOUR = 3_600_000


def of(box: Box, key: int = 1) -> Recent:
    return recent.read(box.host, box.now).get(SubscriptionKey(key), IDLE)


def took(box: Box, delivery: int, happening: Happening, duration: int, **changes: object) -> Record:
    made = box.outcome(delivery, happening, **changes)  # type: ignore[arg-type]
    assert made.attempt is not None
    return made._replace(attempt=made.attempt._replace(duration=duration))


def test_what_ended_and_how_long_it_took(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    box.subscribe("two", events=("none",))
    for _ in range(3):
        box.put()
    box.ingest()
    box.record(
        took(box, 2, Happening.SUCCEEDED, 5, status=200),
        took(box, 4, Happening.RETRY, 300, retry_at=box.now + 9_000),
        took(box, 6, Happening.FAILED, 15_000, reason=Reason.EXHAUSTED),
    )
    found = of(box)
    assert (found.delivered, found.failed, found.attempts) == (1, 1, 3)
    wanted = {class_of(ms): 1 for ms in (5, 300, 15_000)}
    assert {at: count for at, count in enumerate(found.durations) if count} == wanted
    box.record(took(box, 4, Happening.SUCCEEDED, 5, status=200))
    assert (of(box).delivered, of(box).attempts) == (2, 4)
    assert of(box, 2) == IDLE
    assert box.one("SELECT count(*) FROM webhookd_recent") == 1


def test_one_that_is_opened_again_has_still_failed(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.fail(2)
    box.reopen_delivery(2)
    assert (of(box).delivered, of(box).failed) == (0, 1)
    box.succeed(2)
    assert (of(box).delivered, of(box).failed) == (1, 1)


def test_what_is_taken_back_counts_as_neither(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.cancel(2)
    assert box.rows("SELECT * FROM webhookd_recent") == []


def test_after_an_hour_it_is_over_and_its_place_is_taken(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    for _ in range(3 * SLOTS):
        box.put()
    box.ingest()
    begun = box.now
    for number in range(3 * SLOTS):
        box.now = begun + number * SPAN
        box.succeed(2 + 2 * number)
        assert of(box).delivered == min(number + 1, SLOTS)
    assert box.one("SELECT count(*) FROM webhookd_recent") == SLOTS
    box.now += HOUR
    assert of(box).delivered == 1
    box.now += SPAN
    assert of(box) == IDLE


def test_E4_what_a_clock_ahead_has_written_is_not_counted_and_gives_way(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    for _ in range(2):
        box.put()
    box.ingest()
    right = box.now
    box.now = right + SLOTS * SPAN  # the very same slot
    box.succeed(2)
    box.now = right
    assert of(box) == IDLE
    box.succeed(4)
    assert of(box).delivered == 1
    assert box.one("SELECT count(*) FROM webhookd_recent") == 1


def test_a_removed_ones_are_taken_away(box: Box) -> None:
    one = box.subscribe()
    box.subscribe("two")
    box.put()
    box.ingest()
    box.succeed(2)
    box.succeed(3)
    box.command(lambda t: subscriptions.remove(t, one.key, box.now))
    assert box.rows("SELECT subscription FROM webhookd_recent") == [(2,)]
