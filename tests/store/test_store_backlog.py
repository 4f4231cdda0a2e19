"""After a partner was down: what is skipped, kept and opened again of what it was owed."""

from collections.abc import Callable

import pytest

from tests.store.bulk_changes import (
    OLDER,
    ORDERINGS,
    PENDING,
    SKIPPED,
    check,
    command_step,
    counts,
    daemon_step,
    enable,
    fail,
    fill,
    finish,
    newest_only,
    skip,
    small_steps,
    states,
)
from tests.store.conftest import Box
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Reason, SubscriptionState
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Record
from webhookd.store import erase, instructions
from webhookd.store.instructions import Kind

Give = Callable[[Box], int]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_skip_cancels_what_was_pending_then(box: Box, ordering: str) -> None:
    box.subscribe(policy={"ordering": ordering})
    box.subscribe("other")
    fill(box, "A", "B", None, "A")
    key = skip(box)
    fill(box, "A", "C")
    with small_steps():
        assert finish(box) > 2
    assert states(box) == [SKIPPED] * 4 + [PENDING] * 2
    assert states(box, 2) == [PENDING] * 6
    assert counts(box, key) == {"cancelled": 4}
    check(box)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_newest_only_keeps_the_newest_of_each_aggregate(box: Box, ordering: str) -> None:
    box.subscribe(policy={"ordering": ordering})
    fill(box, "A", "B", None, "A", "A", "B", None, "C")
    key = newest_only(box)
    fill(box, "A")  # of what was pending then: this one counts for nothing
    with small_steps():
        assert finish(box) > 2
    kept = [OLDER, OLDER, PENDING, OLDER, PENDING, PENDING, PENDING, PENDING]
    assert states(box) == [*kept, PENDING]
    assert counts(box, key) == {"cancelled": 3, "kept": 5}
    check(box)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_newest_only_looks_at_what_is_owed_alone(box: Box, ordering: str) -> None:
    """The newest event may be one that was not for it, or is finished."""
    box.subscribe(policy={"ordering": ordering}, events=("supplier.created",))
    *_, third = fill(box, "A", "A", "A")
    box.put("supplier.other", aggregate_id="A")
    box.ingest_all()
    box.cancel(third)
    key = newest_only(box)
    finish(box)
    assert states(box) == [OLDER, PENDING, "cancelled operator"]
    assert counts(box, key) == {"cancelled": 1, "kept": 1}
    check(box)


def newest_wanted(box: Box) -> int:
    found = box.one("SELECT max(sequence) FROM webhookd_events WHERE event_type = 'wanted'")
    assert isinstance(found, int)
    return found


def test_newest_only_with_many_events_that_were_not_for_it(box: Box) -> None:
    """A walk through them is broken off and gone on with, by another worker too."""
    box.subscribe(events=("wanted",))
    box.host.execute(
        "INSERT INTO outbox (event_type, aggregate_id) WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
        " SELECT CASE WHEN i % 300 = 1 THEN 'wanted' ELSE 'other' END, 'hot' FROM n"
    )
    box.ingest_all()
    key = newest_only(box)
    with small_steps(100):
        broken_off = command_step(box, key)
        assert broken_off is not None
        assert (broken_off.position, broken_off.done) == (broken_off.last + 1, 0)
        aggregate, down_to = broken_off.options["newest"]["walk"]
        box.reopen()
        daemon_step(box)
        gone_on = box.command(lambda t: instructions.find(t.connection, key))
        assert gone_on.options["newest"]["walk"] is None
        assert gone_on.options["newest"]["kept"] == {str(aggregate): newest_wanted(box)}
        assert newest_wanted(box) < down_to
        finish(box)
    assert states(box) == [OLDER, OLDER, PENDING]
    check(box)


@pytest.mark.parametrize(("give", "after"), [(skip, SKIPPED), (newest_only, PENDING)])
def test_what_was_opened_again_since_is_left_alone(box: Box, give: Give, after: str) -> None:
    box.subscribe()
    first, *_ = fill(box, "A", "A", "B")
    box.cancel(first)
    box.now += 10
    give(box)
    box.now += 10
    box.reopen_delivery(first)
    finish(box)
    assert states(box) == [PENDING, after, after]
    check(box)


def late(box: Box, delivery: int, happening: Happening) -> Record:
    """The outcome of what is in flight now."""
    if happening is Happening.RETRY:
        return box.outcome(delivery, happening, retry_at=box.now + 5_000)
    if happening is Happening.FAILED:
        return box.outcome(delivery, happening, reason=Reason.EXHAUSTED)
    return box.outcome(delivery, happening, status=200)


@pytest.mark.parametrize("clock", [1_000, 0, -3_600_000])
@pytest.mark.parametrize(
    ("happening", "newest"),
    [
        (Happening.RETRY, "cancelled operator"),
        (Happening.FAILED, "cancelled operator"),
        (Happening.SUCCEEDED, "delivered"),
    ],
)
def test_newest_only_is_not_misled_by_a_late_outcome(
    box: Box, happening: Happening, newest: str, clock: int
) -> None:
    """It moves the row, which had ended before: the newest that was pending is an older one."""
    box.subscribe(policy={"ordering": "none"})
    _, _, third = fill(box, "A", "A", "A")
    in_flight = late(box, third, happening)
    box.now += clock
    box.cancel(third)
    box.now += clock
    key = newest_only(box)
    box.now += clock
    box.record(in_flight)
    finish(box)
    assert states(box) == [OLDER, PENDING, newest]
    assert counts(box, key) == {"cancelled": 1, "kept": 1}
    check(box)


def test_newest_only_is_not_misled_by_one_that_was_reopened_and_cancelled_since(box: Box) -> None:
    box.subscribe()
    _, second = fill(box, "A", "A")
    box.cancel(second)
    newest_only(box)
    box.reopen_delivery(second)
    box.cancel(second)
    finish(box)
    assert states(box) == [PENDING, "cancelled operator"]
    check(box)


def test_the_newest_that_ended_since_still_counts(box: Box) -> None:
    """It was pending when that was wanted, and was sent or taken back since."""
    box.subscribe(policy={"ordering": "none"})
    _, second, _, fourth = fill(box, "A", "A", "B", "B")
    newest_only(box)
    box.succeed(second)
    box.cancel(fourth)
    finish(box)
    assert states(box) == [OLDER, "delivered", OLDER, "cancelled operator"]


@pytest.mark.parametrize("clock", [0, -3_600_000])
@pytest.mark.parametrize("give", [skip, newest_only])
def test_one_that_was_reopened_before_counts_like_any_other(
    box: Box, give: Give, clock: int
) -> None:
    """Also where its attempt failed since, and the clock was set back."""
    box.subscribe(policy={"ordering": "none"})
    first, _ = fill(box, "A", "A")
    box.cancel(first)
    box.reopen_delivery(first)
    box.now += clock
    give(box)
    box.retry(first)
    finish(box)
    assert states(box)[0] == (SKIPPED if give is skip else OLDER)


@pytest.mark.parametrize("clock", [0, -3_600_000])
@pytest.mark.parametrize("give", [skip, newest_only])
def test_one_that_was_reopened_since_stays_though_the_clock_was_set_back(
    box: Box, give: Give, clock: int
) -> None:
    box.subscribe(policy={"ordering": "none"})
    first, _ = fill(box, "A", "A")
    box.cancel(first)
    give(box)
    box.now += clock
    box.reopen_delivery(first)
    finish(box)
    assert states(box)[0] == PENDING


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_retry_failed_opens_the_streak(box: Box, ordering: str) -> None:
    box.subscribe(policy={"ordering": ordering, "disable_after_failures": 3})
    ids = fill(box, "A", "B", "A", "A", "C", "A")
    box.succeed(ids[0])
    fail(box, ids[1])
    box.now += 1_000
    box.record(expired(box, ids[2]))
    fail(box, ids[3])
    box.now += 1_000
    done = fail(box, ids[4], Reason.PERMANENT_STATUS, 404)
    assert done.notices[-1].rule == "disable_after_failures"
    box.now += 1_000
    given = enable(box, retry_failed=True)
    assert given.owed == 1
    with small_steps():
        finish(box)
    assert states(box) == [
        "delivered", PENDING, "failed expired", PENDING, PENDING, PENDING
    ]  # fmt: skip
    assert counts(box, given.given[0]) == {"reopened": 3}
    check(box)
    first = [ids[1], ids[3], ids[4]]
    assert box.due(1) == {
        "aggregate": first, "subscription": [ids[1]], "none": [ids[5], *first]
    }[ordering]  # fmt: skip


def expired(box: Box, delivery: int) -> Record:
    return Record(DeliveryId(delivery), Move(Happening.FAILED, box.now, Reason.EXPIRED), None)


@pytest.mark.parametrize("profile", ["standard", "floriday"])
def test_retry_failed_passes_over_what_was_erased(box: Box, profile: str) -> None:
    tenant = "o-1" if profile == "floriday" else ""
    box.subscribe(profile=profile, tenant=tenant)
    for name in "ABC":
        box.put(aggregate_id=name, tenant=tenant)
    box.ingest_all()
    ids = [row["delivery_id"] for row in box.results()]
    for one in ids:
        fail(box, one)
    second = "SELECT event FROM webhookd_deliveries WHERE id = ?"
    box.host.execute(erase.BLANK, (box.one(second, ids[1]),))
    box.host.commit()
    key = enable(box, retry_failed=True).given[0]
    with small_steps():
        finish(box)
    if tenant:  # it sends IDs alone: nothing of them was erased
        assert (states(box), counts(box, key)) == ([PENDING] * 3, {"reopened": 3})
    else:
        assert states(box) == [PENDING, "failed exhausted", PENDING]
        assert counts(box, key) == {"reopened": 2, "erased": 1}
    check(box)


def test_a_failure_from_before_the_streak_stays(box: Box) -> None:
    box.subscribe()
    ids = fill(box, None, None, None)
    fail(box, ids[0])
    box.now += 1
    box.succeed(ids[1])
    assert enable(box, retry_failed=True).given == []
    box.now += 1
    fail(box, ids[2])
    key = enable(box, retry_failed=True).given[0]
    finish(box)
    assert states(box) == ["failed exhausted", "delivered", PENDING]
    assert counts(box, key) == {"reopened": 1}


@pytest.mark.parametrize("clock", [-1_000, -86_400_000, 86_400_000])
def test_E4_a_streak_is_all_that_failed_in_it_whatever_the_clock_says(box: Box, clock: int) -> None:
    box.subscribe(policy={"disable_after_failures": 3})
    ids = fill(box, "A", "B", "C", "D", "E")
    fail(box, ids[0])
    box.succeed(ids[1])
    fail(box, ids[2])
    box.now += clock
    box.store.begin()
    box.store.shift_health(clock, box.now)
    box.store.commit()
    fail(box, ids[3])
    fail(box, ids[4])
    assert box.store.subscriptions()[0].state is SubscriptionState.DISABLED
    key = enable(box, retry_failed=True).given[0]
    with small_steps():
        finish(box)
    assert states(box) == ["failed exhausted", "delivered", PENDING, PENDING, PENDING]
    assert counts(box, key) == {"reopened": 3}


def test_a_late_outcome_neither_puts_one_into_the_streak_nor_takes_it_out(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    first, second, third = fill(box, "A", "B", "C")
    before = [box.outcome(one, Happening.NOTED, number=2) for one in (first, third)]
    fail(box, first)
    box.succeed(second)
    fail(box, third)
    box.record(before[0])  # it failed before the streak, and moves only now
    key = enable(box, retry_failed=True).given[0]
    box.record(before[1])  # and this one once that is wanted
    finish(box)
    assert states(box) == ["failed exhausted", "delivered", PENDING]
    assert counts(box, key) == {"reopened": 1}


def test_what_failed_since_is_not_of_the_streak(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    first, second = fill(box, "A", "B")
    fail(box, first)
    in_flight = late(box, second, Happening.FAILED)
    enable(box, retry_failed=True)
    box.record(in_flight)
    finish(box)
    assert states(box) == [PENDING, "failed exhausted"]


def test_a_streak_in_one_batch_begins_with_its_first_failure(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    first, second, third, fourth = fill(box, "A", "B", "C", "D")
    failed_ = [
        late(box, one, Happening.FAILED)._replace(signs=Signs(ill=True))
        for one in (first, third, fourth)
    ]
    box.record(failed_[0], late(box, second, Happening.SUCCEEDED), *failed_[1:])
    enable(box, retry_failed=True)
    finish(box)
    assert states(box) == ["failed exhausted", "delivered", PENDING, PENDING]
    assert enable(box, retry_failed=True).given == [], "enabling ends the streak"
    # One that begins with a batch and ends in it leaves nothing to go by.
    again = late(box, third, Happening.FAILED)._replace(signs=Signs(ill=True))
    box.record(again, late(box, fourth, Happening.SUCCEEDED))
    assert enable(box, retry_failed=True).given == []


def test_skip_and_retry_together(box: Box) -> None:
    """In the order of giving: what failed is not skipped with the rest."""
    box.subscribe()
    ids = fill(box, "A", "A", "B")
    fail(box, ids[0])
    enable(box, backlog=Kind.SKIP_BACKLOG, retry_failed=True)
    assert box.store.subscriptions()[0].state is SubscriptionState.ENABLED
    with small_steps():
        finish(box)
    assert states(box) == [PENDING, SKIPPED, SKIPPED]
    check(box)
