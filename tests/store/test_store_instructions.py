"""Bulk changes: what each kind does, whoever carries it out, and whoever dies on the way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.bulk_changes import (
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
    held,
    is_done,
    newest_only,
    order_replay,
    reorder,
    skip,
    small_steps,
    states,
)
from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening
from webhookd.core.model import SubscriptionKey
from webhookd.core.storage import NO_STEP
from webhookd.store import acceptance, bulk, instructions, lockfile, subscriptions
from webhookd.store.instructions import KEPT, Kind
from webhookd.store.transaction import BULK_ROWS, Session

Give = Callable[[Box], int]


def test_nothing_owed_needs_no_instruction(box: Box) -> None:
    one = box.subscribe()
    assert enable(box, backlog=Kind.SKIP_BACKLOG, retry_failed=True).given == []
    assert reorder(box, one, ordering="none") is None
    assert not held(box)


def test_a_subscription_is_held_until_all_is_done(box: Box) -> None:
    box.subscribe()
    box.subscribe("other")
    fill(box, "A", "B")
    before = box.store.outlook()
    skip(box)
    key = order_replay(box)
    given = box.store.outlook()
    assert given.roll > before.roll
    assert given.control > before.control
    assert held(box)
    assert not held(box, 2)
    with small_steps(11):
        while not is_done(box, key):
            assert held(box)
            daemon_step(box)
    assert not held(box)
    assert box.store.outlook().roll > given.roll
    check(box)


KINDS = {
    "skip": skip,
    "newest": newest_only,
    "retry": lambda box: enable(box, retry_failed=True).given[0],
    "replay": lambda box: order_replay(box, include_stale=True),
    "realign": lambda box: reorder(box, box.store.subscriptions()[0], ordering="subscription"),
}


def prepared(box: Box) -> None:
    """Some of each state, in several lines."""
    box.subscribe()
    ids = fill(box, *("A", "B", None, "A", "A", "B", "C", "A", None, "C") * 3)
    box.succeed(ids[0])
    for delivery in ids[1:6]:
        fail(box, delivery)
    box.cancel(ids[7])
    box.retry(ids[6], after=60_000)


def outcome(box: Box) -> tuple[list[str], list[tuple[object, ...]]]:
    rows = box.rows(
        "SELECT event, order_key, due_at IS NOT NULL, retry_at FROM webhookd_deliveries"
        " WHERE state = 'pending' ORDER BY event"
    )
    return states(box), rows


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_matter_who_dies_when(box: Box, kind: str) -> None:
    """A worker that dies within a step has done nothing; the next goes on from the row."""
    prepared(box)
    key = KINDS[kind](box)
    assert key is not None
    with small_steps(12):
        turn = 0
        while not is_done(box, key):
            turn += 1
            if turn % 3 == 0:  # the command dies in the middle of its step
                with pytest.raises(ZeroDivisionError):
                    dying(box, key)
            elif turn % 3 == 1:
                command_step(box, key)
            else:  # and so does the daemon
                box.store.begin()
                box.store.carry_out(box.now)
                box.store.rollback()
                box.reopen()
                daemon_step(box)
            check(box)
            assert turn < 1_000
    assert turn > 2
    assert not held(box)
    by_turns = outcome(box)
    assert outcome_in_one_go(box, kind) == by_turns


def dying(box: Box, key: int) -> None:
    with Session(box.path, write=True) as session, session.write() as transaction:
        one = instructions.find(transaction.connection, key)
        assert one is not None
        bulk._carry_out_of(transaction, one.subscription, box.now)
        raise ZeroDivisionError


def outcome_in_one_go(box: Box, kind: str) -> tuple[list[str], list[tuple[object, ...]]]:
    """The same for a second subscription's worth of the same history, by the daemon alone."""
    box.host.execute("DELETE FROM webhookd_deliveries")
    box.host.execute("DELETE FROM webhookd_events")
    box.host.execute("DELETE FROM webhookd_subscriptions")
    box.host.execute("DELETE FROM webhookd_counters")
    box.host.execute("DELETE FROM webhookd_attempts")
    first = box.one("SELECT sequence FROM webhookd_file")
    box.host.execute("UPDATE webhookd_file SET roll = roll + 1")
    prepared(box)
    KINDS[kind](box)
    finish(box)
    found, rows = outcome(box)
    return found, [(event - first, *rest) for event, *rest in rows]


def test_two_at_once_change_nothing_twice(box: Box) -> None:
    prepared(box)
    key = newest_only(box)
    with small_steps(30):
        while not is_done(box, key):
            command_step(box, key)
            daemon_step(box)
    sums = counts(box, key)
    assert sums["cancelled"] + sums["kept"] == 23
    assert (
        box.one("SELECT count(*) FROM webhookd_deliveries WHERE reason = 'newest_only'")
        == (sums["cancelled"])
    )


@pytest.mark.parametrize("give", [skip, newest_only])
def test_a_success_meets_a_row_that_was_cancelled_meanwhile(box: Box, give: Give) -> None:
    box.subscribe()
    first, _ = fill(box, "A", "A")
    in_flight = box.outcome(first, Happening.SUCCEEDED, status=200)
    give(box)
    finish(box)
    box.record(in_flight)
    assert states(box)[0] == "delivered"
    check(box)


def test_a_failure_that_meets_a_cancelled_row_adds_its_attempt(box: Box) -> None:
    box.subscribe()
    (first,) = fill(box, "A")
    in_flight = box.outcome(first, Happening.RETRY, retry_at=box.now + 1)
    skip(box)
    finish(box)
    box.record(in_flight)
    assert states(box) == [SKIPPED]
    assert box.attempts(first) == 1
    check(box)


def test_an_outcome_meets_a_row_that_was_opened_again(box: Box) -> None:
    box.subscribe()
    first, _ = fill(box, "A", "A")
    in_flight = box.outcome(first, Happening.RETRY, retry_at=box.now + 5_000)
    box.cancel(first)
    order_replay(box)
    finish(box)
    assert states(box) == [PENDING, PENDING]
    assert box.due(1) == [first]
    box.record(in_flight)
    assert box.due(1) == []
    check(box)


def test_a_removed_subscription_ends_its_instructions(box: Box) -> None:
    one = box.subscribe()
    fill(box, "A")
    key = skip(box)
    box.command(lambda t: subscriptions.remove(t, one.key, box.now))
    with Session(box.path, write=True) as session:
        assert bulk.complete(session, key, lambda: box.now) is None
    finish(box)
    assert states(box) == ["cancelled subscription_removed"]


def test_what_removed_subscriptions_were_owed_comes_last(box: Box) -> None:
    box.subscribe()
    gone = box.subscribe("gone")
    fill(box, "A", "B")
    skip(box)
    box.command(lambda t: subscriptions.remove(t, gone.key, box.now))
    done = daemon_step(box)
    assert (done.rows, done.more) == (4, True)
    assert states(box, 2) == ["cancelled subscription_removed"] * 2
    assert daemon_step(box) == NO_STEP
    check(box)


def test_a_command_completes_what_came_before_it_too(box: Box) -> None:
    box.subscribe()
    fill(box, "A", "B")
    before = skip(box)
    key = order_replay(box)
    told = []
    with Session(box.path, write=True) as session, small_steps():
        done = bulk.complete(session, key, lambda: box.now, told.append)
    assert done is not None
    assert done.counts == {"reopened": 2, "superseded": 0}
    assert [one.key for one in told] == [key] * len(told)
    assert len(told) == 4
    assert counts(box, before) == {"cancelled": 2}
    assert box.command(lambda t: instructions.find(t.connection, key)) is None
    assert not held(box)


def test_one_that_is_done_is_forgotten_in_time(box: Box) -> None:
    box.subscribe()
    fill(box, "A")
    key = skip(box)
    finish(box)
    assert counts(box, key) == {"cancelled": 1}
    box.now += KEPT
    fill(box, "A")
    other = skip(box)
    assert box.rows("SELECT key FROM webhookd_instructions") == [(other,)]
    assert other > key


def test_a_new_realign_takes_the_place_of_the_old(box: Box) -> None:
    one = box.subscribe()
    fill(box, "A", "A", "B")
    old = reorder(box, one, ordering="none")
    new = reorder(box, one, ordering="subscription")
    assert new is not None
    assert box.rows("SELECT key FROM webhookd_instructions") == [(new,)]
    with Session(box.path, write=True) as session:
        assert old is not None
        assert bulk.complete(session, old, lambda: box.now) is None
    finish(box)
    check(box)
    assert {row[0] for row in box.rows("SELECT order_key FROM webhookd_deliveries")} == {-1}


def test_steps_are_short(box: Box) -> None:
    box.subscribe()
    fill(box, *([None] * 450))
    key = skip(box)
    changed = []
    while not is_done(box, key):
        changed.append(daemon_step(box).rows)
    assert changed == [BULK_ROWS] * 4 + [50]


def test_many_small_ones_come_to_an_end_of_the_transaction(box: Box) -> None:
    for number in range(100):
        box.subscribe(f"s{number}")
    fill(box, "A")
    for key in range(1, 101):
        skip(box, key)
    changed = [daemon_step(box)]
    while changed[-1].more:
        changed.append(daemon_step(box))
    assert sum(one.rows for one in changed) == 100
    # A change, and two steps that cost three each: the second finds that nothing is left.
    assert max(one.rows for one in changed) == BULK_ROWS // 7 + 1
    check(box)


def test_a_large_change_does_not_hold_up_a_small_one_of_another(box: Box) -> None:
    box.subscribe("large", events=("supplier.created",))
    for name in ("small", "smaller"):
        box.subscribe(name, events=("small",))
    for _ in range(BULK_ROWS * 5):
        box.put()
    box.put("small")
    box.ingest_all()
    large = skip(box)
    small = [skip(box, 3), skip(box, 2), order_replay(box, 2)]
    for _ in range(2):  # the large one has its turn, and then each small one has
        daemon_step(box)
    assert all(is_done(box, key) for key in small)
    assert not is_done(box, large)
    assert not held(box, 2)
    assert states(box, 2) == [PENDING], "in the order of giving, for each"
    finish(box)
    assert is_done(box, large)
    check(box)


def test_one_that_is_under_way_is_found_among_many_that_are_done(box: Box) -> None:
    box.subscribe()
    fill(box, "A", "B")
    for _ in range(3):
        skip(box)
    finish(box)
    box.host.execute(
        "INSERT INTO webhookd_instructions WITH RECURSIVE n (i) AS"
        " (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " SELECT i, 'skip_backlog', 1, 0, 0, '{}', 0, '', '' FROM n"
    )
    box.put(aggregate_id="C")
    box.ingest()
    given = skip(box)
    steps = 0

    def tick() -> int:
        nonlocal steps
        steps += 1
        return 0

    box.host.set_progress_handler(tick, 1)
    found = instructions.first(box.host), instructions.first(box.host, SubscriptionKey(1))
    box.host.set_progress_handler(None, 1)
    assert [one.key for one in found if one is not None] == [given, given]
    assert steps < 200


def test_the_feed_goes_forward(box: Box) -> None:
    """An instruction's number is no delivery's."""
    box.subscribe()
    fill(box, "A")
    key = skip(box)
    fill(box, "A")
    finish(box)
    taken = [row[0] for row in box.rows("SELECT sequence FROM webhookd_deliveries")]
    taken += [row[0] for row in box.rows("SELECT sequence FROM webhookd_events")]
    assert key not in taken
    assert len(set(taken)) == len(taken)
    assert box.now == NOW


def test_E25_a_clone_carries_out_nothing_of_the_originals(box: Box, tmp_path: Path) -> None:
    box.subscribe()
    (first,) = fill(box, "A")
    box.cancel(first)
    order_replay(box)
    copy = tmp_path / "clone.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    acceptance.accept_clone(copy, default_tenant="", max_payload=1_000, now=NOW)
    clone = Box(copy, known_mark=lockfile.read(copy))
    finish(clone)
    assert states(clone) == ["cancelled operator"]
    assert not held(clone)
    clone.close()
    finish(box)
    assert states(box) == [PENDING]
