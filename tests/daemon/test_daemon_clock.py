"""E4: a wall clock that jumps makes no storm, and nobody waits longer than their policy says."""

import itertools

import pytest
import trio

from webhookd.daemon.clock import LONGEST_WAIT
from webhookd.daemon.upkeep import EVERY
from webhookd.errors import StoreBusy
from webhookd.logs.actions import Action

HOUR = 3_600_000
YEARS = 10 * 365 * 24 * HOUR


@pytest.mark.parametrize("jump", [YEARS, 8 * HOUR])
async def test_E4_ahead_by_ten_years_or_after_a_sleep(world, autojump_clock, warnings, jump):
    """What waited is due at once, each once; what follows keeps to its delays."""
    world.subscribe("a", retry_delays=[2 * HOUR, 60_000, 60_000], failing_after=1_000)
    world.sender.script = lambda seen: world.down if seen.attempt < 4 else world.ok
    for n in range(30):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(100)
        assert len(world.sender.seen) == 30
        world.clock.offset += jump
        await trio.sleep(EVERY + 2)
        assert len(world.sender.seen) == 60
        world.insert("y")
        await trio.sleep(1)
        assert world.sender.seen[-1].aggregate == "y"
        await trio.sleep(190)
    for n in range(1, 31):
        mine = [one.at for one in world.sender.seen if one.n == n]
        gaps = [later - one for one, later in itertools.pairwise(mine)]
        assert gaps[0] <= 100 + LONGEST_WAIT
        assert all(60 <= gap < 66 for gap in gaps[1:])
    assert world.states()[:30] == ["delivered"] * 30
    assert warnings() == {Action.CLOCK_JUMPED: 1}


@pytest.mark.parametrize("back", [HOUR, 24 * HOUR, YEARS])
@pytest.mark.parametrize("stopped", [False, True])
async def test_E4_set_back_nobody_waits_longer_than_the_longest_delay(
    world, autojump_clock, warnings, back, stopped
):
    world.subscribe("a", retry_delays=[40_000] * 4, retry_after_max=90_000, failing_after=1_000)
    world.sender.script = lambda seen: world.down if seen.attempt < 3 else world.ok
    for n in range(20):
        world.insert(f"x{n}")
    if stopped:
        async with world.running():
            await trio.sleep(10)
        world.clock.offset -= back
    async with world.running():
        if not stopped:
            await trio.sleep(10)
            world.clock.offset -= back
        jumped = trio.current_time()
        world.insert("y")
        await trio.sleep(1)
        assert len(world.sender.seen) == 21  # what is new is not held up
        await trio.sleep(90 + EVERY + 5)
        again = [one.at for one in world.sender.seen if one.attempt == 2 and one.n <= 20]
        assert len(again) == 20
        assert all(at - jumped <= 90 + EVERY + 2 for at in again)
        await trio.sleep(200)
    assert world.states() == ["delivered"] * 21
    assert len(world.sender.seen) == 63
    assert warnings() == ({} if stopped else {Action.CLOCK_JUMPED: 1})


async def test_E4_a_day_ahead_and_back_again(world, autojump_clock, warnings):
    world.subscribe("a", retry_delays=[30_000] * 9, retry_after_max=60_000, failing_after=1_000)
    world.sender.script = lambda seen: world.ok if seen.at > 250 else world.down
    world.insert("x")
    async with world.running():
        await trio.sleep(50)
        world.clock.offset += 24 * HOUR
        world.insert("y")
        await trio.sleep(50)
        world.clock.offset -= 24 * HOUR
        await trio.sleep(260)
    assert world.states() == ["delivered"] * 2
    for n in (1, 2):
        mine = [one.at for one in world.sender.seen if one.n == n]
        gaps = [later - one for one, later in itertools.pairwise(mine)]
        assert max(gaps) <= 60 + EVERY + 31
        assert sum(gap < 29 for gap in gaps) <= 1  # the jump ahead made it due at once
    assert warnings() == {Action.CLOCK_JUMPED: 2}


async def test_E4_a_jump_at_a_moment_when_the_file_cannot_be_read(world, autojump_clock, warnings):
    """Outside WAL mode a writer keeps readers out: what could not be seen to is, the next time."""
    world.subscribe("a", retry_delays=[40_000], retry_after_max=60_000)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    store = world.store()
    real, refusals = store.waiting, 0

    def waiting(*page):
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StoreBusy("being written")
        return real(*page)

    store.waiting = waiting
    async with world.running(store=store):
        await trio.sleep(12)
        refusals = 3
        world.clock.offset -= 24 * HOUR
        await trio.sleep(90)
    assert refusals == 0
    assert world.states() == ["delivered"]
    assert warnings() == {Action.CLOCK_JUMPED: 1}


async def test_E4_a_clock_that_is_set_right_by_little_says_nothing(world, autojump_clock, warnings):
    world.subscribe("a")
    async with world.running():
        for _ in range(20):
            world.clock.offset -= 400
            await trio.sleep(EVERY)
    assert not warnings()
