"""`max_age`, `max_block` and `coalesce`: what is no longer worth waiting for."""

import itertools

import pytest
import trio

from webhookd.core.model import Answer, SubscriptionState
from webhookd.logs.actions import Action

PAUSED, ENABLED = SubscriptionState.PAUSED, SubscriptionState.ENABLED


def _said(world, who: str = "") -> list[tuple[str, str | None]]:
    return [(row["state"], row["reason"]) for row in world.deliveries(who)]


async def test_max_age_ends_it_and_the_next_in_line_goes_on(world, autojump_clock, warnings):
    world.subscribe("a", max_age=60_000, retry_delays=[7_000] * 50)
    world.sender.script = lambda seen: Answer(400) if seen.n == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(30)
        world.insert("x")
        await trio.sleep(50)
    assert _said(world) == [("failed", "expired"), ("delivered", None)]
    mine = [one.at for one in world.sender.seen if one.n == 1]
    assert mine[-1] <= 60 < mine[-1] + 7.5
    after = next(one.at for one in world.sender.seen if one.n == 2)
    assert 60 <= after < 66
    assert world.deliveries()[0]["attempts"] == len(mine)
    assert warnings().keys() <= {Action.DELIVERIES_EXPIRED, Action.DELIVERY_FAILED}


@pytest.mark.parametrize(("delay", "attempts"), [(59_000, 2), (60_000, 1)])
async def test_max_age_is_exact_at_the_attempt(world, autojump_clock, warnings, delay, attempts):
    """Whenever it was looked at last: nothing that is too old goes out."""
    world.subscribe("a", max_age=60_000, retry_delays=[delay] * 9)
    world.sender.script = lambda _: Answer(400)

    async def elsewhere(_work) -> None:
        await trio.lowlevel.checkpoint()

    async with world.running() as daemon:
        daemon._upkeep._look = elsewhere
        world.insert("x")
        await trio.sleep(180)
    assert len(world.sender.seen) == attempts
    assert _said(world) == [("failed", "expired")]
    assert warnings() == {Action.DELIVERY_FAILED: 1}


async def test_max_age_counts_what_waits_behind_a_line(world, autojump_clock, warnings):
    world.subscribe("a", max_age=60_000, concurrency=1, timeout=100_000)
    world.sender.script = lambda seen: world.after(90, world.ok) if seen.n == 1 else world.ok
    for _ in range(250):
        world.insert("x")
    async with world.running():
        await trio.sleep(80)
        assert _said(world)[1:] == [("failed", "expired")] * 249
        world.insert("x")
        await trio.sleep(30)
    # The one that was under way was given up meanwhile; its success counts all the same.
    assert _said(world) == [
        ("delivered", None),
        *[("failed", "expired")] * 249,
        ("delivered", None),
    ]
    assert [one.n for one in world.sender.seen] == [1, 251]
    assert warnings() == {Action.DELIVERIES_EXPIRED: 1}


@pytest.mark.parametrize("state", [PAUSED, SubscriptionState.DISABLED])
async def test_max_age_goes_on_while_nothing_is_sent(world, autojump_clock, warnings, state):
    key = world.subscribe("a", max_age=60_000)
    world.subscribe("b")
    world.state(key, state)
    world.insert("x")
    world.insert("y")
    async with world.running():
        await trio.sleep(40)
        world.insert("x")
        await trio.sleep(30)
        assert _said(world, "a") == [("failed", "expired")] * 2 + [("pending", None)]
        world.state(key, ENABLED)
        await trio.sleep(1)
    assert _said(world, "a")[2] == ("delivered", None)
    assert [one.n for one in world.sender.of("a")] == [3]
    assert _said(world, "b") == [("delivered", None)] * 3
    assert warnings() == {Action.DELIVERIES_EXPIRED: 1}


async def test_max_age_that_was_taken_back_ends_nothing_more(world, autojump_clock, warnings):
    """However long the steps take that end what is too old."""

    async def slow(commit):
        commit()
        await trio.sleep(2)

    key = world.subscribe("a", max_age=60_000)
    world.state(key, PAUSED)
    for _ in range(450):
        world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(30)
        daemon.store._commit = slow
        await trio.sleep(37)
        world.update(key, policy={"max_age": 0})
        await trio.sleep(60)
    ended = sum(state == "failed" for state, _ in _said(world))
    assert 0 < ended <= 300
    assert warnings() == {Action.DELIVERIES_EXPIRED: 1}


async def test_max_block_successors_pass_and_the_head_goes_on_alone(
    world, autojump_clock, warnings
):
    world.sender.one_line_at_a_time = False
    world.subscribe("a", max_block=60_000, retry_delays=[20_000] * 12)
    world.sender.script = lambda seen: Answer(400) if seen.n == 1 and seen.at < 150 else world.ok
    for _ in range(3):
        world.insert("x")
    world.insert("y")
    async with world.running():
        await trio.sleep(50)
        assert [one.n for one in world.sender.seen] == [1, 4, 1, 1]
        await trio.sleep(20)
        passed = [one for one in world.sender.seen if one.n in (2, 3)]
        assert [one.n for one in passed] == [2, 3]
        assert all(60 <= one.at < 66 for one in passed)
        await trio.sleep(120)
    mine = [one.at for one in world.sender.seen if one.n == 1]
    assert all(20 <= later - one < 21 for one, later in itertools.pairwise(mine))
    assert mine[-1] > 150
    assert world.states() == ["delivered"] * 4
    (row,) = world.table("SELECT passed_at FROM webhookd_deliveries WHERE event = 1")
    assert row["passed_at"] is not None
    assert warnings() == {Action.LINES_PASSED: 1}


async def test_the_log_says_whose_lines_were_passed(world, autojump_clock, warnings, expected_logs):
    for name in ("a", "b", "c"):
        world.subscribe(name, max_block=60_000, retry_delays=[20_000] * 12)
    world.sender.script = lambda seen: Answer(400) if seen.who != "c" else world.ok
    for _ in range(2):
        world.insert("x")
    world.insert("y")
    async with world.running():
        await trio.sleep(75)
    assert warnings() == {Action.LINES_PASSED: 2}
    said = [one for one in expected_logs if one.action is Action.LINES_PASSED]
    assert [(one.fields["subscription"], one.fields["deliveries"]) for one in said] == [
        ("a", 2),
        ("b", 2),
    ]


async def test_max_block_waits_for_the_request_that_is_under_way(world, autojump_clock, warnings):
    world.subscribe("a", max_block=10_000, retry_delays=[8_000] * 12, timeout=30_000)
    world.sender.script = lambda seen: (
        (Answer(400) if seen.attempt == 1 else world.after(20, Answer(400)))
        if seen.n == 1
        else world.ok
    )
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(27)
        assert [one.n for one in world.sender.seen] == [1, 1]
        await trio.sleep(5)
        assert [one.n for one in world.sender.seen] == [1, 1, 2]
        world.cancel(world.deliveries()[0]["delivery_id"])
    assert warnings() == {Action.LINES_PASSED: 1}


@pytest.mark.parametrize("ends_well", [True, False])
async def test_coalesce_while_a_request_is_under_way(world, autojump_clock, ends_well):
    world.subscribe("a", coalesce=True, retry_delays=[60_000])
    world.sender.script = lambda seen: (
        world.after(10, world.ok if ends_well else world.down)
        if len(world.sender.seen) == 1
        else world.ok
    )
    # ID-only: the receiver's data says which aggregate to ask for.
    world.insert("x", payload=None)
    async with world.running():
        await trio.sleep(1)
        for _ in range(5):
            world.insert("x", payload=None)
            await trio.sleep(1)
        assert len(world.sender.seen) == 1  # the aggregate stays closed
        await trio.sleep(20)
    first = ("delivered", None) if ends_well else ("superseded", "coalesced")
    assert _said(world) == [first, *[("superseded", "coalesced")] * 4, ("delivered", None)]
    assert len(world.sender.seen) == 2
    assert world.sender.seen[1].sequence == 6
    assert [row["attempts"] for row in world.deliveries()] == [1, 0, 0, 0, 0, 1]


async def test_coalesce_what_gave_way_is_not_sent_though_it_had_been_read(world, autojump_clock):
    world.subscribe("a", coalesce=True, concurrency=1)
    world.sender.script = lambda _: world.after(2, world.ok)
    for n in range(5):
        world.insert(f"x{n}", payload=None)
    async with world.running():
        await trio.sleep(1)
        world.insert("x4", payload=None)
        world.insert("x3", payload=None)
        await trio.sleep(30)
    assert [one.sequence for one in world.sender.seen] == [1, 2, 3, 6, 7]
    assert world.states() == ["delivered"] * 3 + ["superseded"] * 2 + ["delivered"] * 2
