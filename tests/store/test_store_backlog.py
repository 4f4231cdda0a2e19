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
from webhookd.core.model import Reason, SubscriptionState
from webhookd.core.storage import Record
from webhookd.store import instructions
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
    return Record(delivery, Move(Happening.FAILED, box.now, Reason.EXPIRED), None)  # type: ignore[arg-type]


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
