"""Waits: retries within and after a lane's life, alarms, and a wall clock that jumps."""

import itertools
import time

import trio

from webhookd.core.model import SubscriptionKey
from webhookd.daemon.alarms import SPARE, Alarms
from webhookd.daemon.clock import LONGEST_WAIT, SystemClock
from webhookd.logs.actions import Action

KEY = SubscriptionKey(1)


async def test_a_retry_within_the_linger_uses_the_lane_that_is_there(world, autojump_clock):
    world.subscribe("a", retry_delays=[2_000])
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(5)
    one, two = world.sender.seen
    assert 2 <= two.at - one.at < 2.1
    assert len(world.sender.channels) == 1


async def test_a_retry_after_the_linger_starts_the_lane_anew(world, autojump_clock):
    world.subscribe("a", retry_delays=[30_000])
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(40)
    one, two = world.sender.seen
    assert 30 <= two.at - one.at < 30.1
    assert len(world.sender.channels) == 2


async def test_a_retry_at_the_very_moment_the_lane_goes_home_is_not_lost(world, autojump_clock):
    delays = [4_000, 4_001, 3_999, 4_004, 3_996]
    world.subscribe("a", retry_delays=delays, concurrency=2, failing_after=100)
    world.sender.script = lambda seen: (
        world.hang
        if seen.aggregate == "long"
        else world.ok
        if seen.attempt == len(delays) + 1
        else world.down
    )
    async with world.running():
        world.insert("x")
        world.insert("long")
        await trio.sleep(40)
        mine = [one for one in world.sender.seen if one.aggregate == "x"]
    gaps = [b.at - a.at for a, b in itertools.pairwise(mine)]
    assert len(gaps) == 5, gaps
    assert all(-0.001 < gap - delay / 1000 < 0.3 for delay, gap in zip(delays, gaps, strict=True))


async def test_one_long_attempt_does_not_keep_anothers_retry(world, autojump_clock):
    world.subscribe("a", concurrency=2, timeout=60_000, retry_delays=[10_000])
    world.sender.script = lambda seen: (
        world.after(50, world.ok)
        if seen.aggregate == "slow"
        else (world.down if seen.attempt == 1 else world.ok)
    )
    world.insert("slow")
    world.insert("x")
    async with world.running():
        await trio.sleep(60)
    mine = [one for one in world.sender.seen if one.aggregate == "x"]
    assert 10 <= mine[1].at - mine[0].at < 10.1


async def test_a_retry_waits_for_a_place_where_concurrency_is_one(world, autojump_clock):
    world.subscribe("a", concurrency=1, timeout=60_000, retry_delays=[5_000])
    world.sender.script = lambda seen: (
        world.after(20, world.ok)
        if seen.aggregate == "slow"
        else (world.down if seen.attempt == 1 else world.ok)
    )
    world.insert("x")
    world.insert("slow")
    async with world.running():
        await trio.sleep(40)
    assert [(one.aggregate, one.attempt) for one in world.sender.seen] == [
        ("x", 1),
        ("slow", 1),
        ("x", 2),
    ]
    assert 20 <= world.sender.seen[2].at < 20.2


async def test_E4_the_wall_clock_jumps_forward(world, autojump_clock, warnings):
    world.subscribe("a", retry_delays=[3_600_000])
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(10)
        world.clock.offset += 2 * 3_600_000
        jumped = trio.current_time()
        await trio.sleep(LONGEST_WAIT + 2)
    _one, two = world.sender.seen
    assert jumped <= two.at <= jumped + LONGEST_WAIT + 1
    assert world.states() == ["delivered"]
    assert warnings() == {Action.CLOCK_JUMPED: 1}


async def test_E4_the_wall_clock_jumps_back_without_a_storm(world, autojump_clock, warnings):
    world.subscribe("a", retry_delays=[5_000] * 5)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.clock.offset -= 600_000
        world.insert("y")
        await trio.sleep(60)
        assert len(world.sender.seen) == 3
        await trio.sleep(600)
    assert [(one.n, one.attempt) for one in world.sender.seen] == [(1, 1), (2, 1), (2, 2), (1, 2)]
    assert warnings() == {Action.CLOCK_JUMPED: 1}
    assert world.states() == ["delivered"] * 2


async def test_alarms_name_each_key_once_and_the_sooner_time_wins(autojump_clock):
    now = 0
    alarms = Alarms(lambda: now)
    alarms.set(KEY, 500)
    alarms.set(KEY, 100)
    alarms.set(KEY, 300)
    alarms.set(SubscriptionKey(2), 100)
    assert alarms.due() == []
    now = 100
    assert sorted(alarms.due()) == [1, 2]
    now = 10_000
    assert alarms.due() == []
    alarms.set(KEY, 20_000)
    alarms.set(KEY, 20_000)
    now = 20_000
    assert alarms.due() == [KEY]


async def test_alarms_wake_at_the_time_or_at_a_sooner_one(autojump_clock):
    alarms = Alarms(lambda: round(trio.current_time() * 1000))
    await alarms.wait()
    assert trio.current_time() == LONGEST_WAIT
    alarms.set(KEY, 40_000)
    async with trio.open_nursery() as nursery:

        async def sooner() -> None:
            await trio.sleep(2)
            alarms.set(SubscriptionKey(2), 33_000)

        nursery.start_soon(sooner)
        await alarms.wait()
        assert trio.current_time() == 32
        await alarms.wait()
        assert trio.current_time() == 33
    assert alarms.due() == [2]
    alarms.set(SubscriptionKey(3), 0)
    await alarms.wait()
    assert trio.current_time() == 33


async def test_G7_alarms_do_not_pile_up(autojump_clock):
    now = 0
    alarms = Alarms(lambda: now)
    for now in range(5_000):
        alarms.set(KEY, 86_400_000)
        alarms.set(KEY, now)
        assert alarms.due() == [KEY]
    assert len(alarms._heap) <= SPARE + 3
    alarms.set(KEY, 86_400_000)
    now = 86_400_000
    assert alarms.due() == [KEY]


def test_the_system_clock_is_the_machines() -> None:
    assert abs(SystemClock().now() - time.time() * 1000) < 5_000
