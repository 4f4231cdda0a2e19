"""Rate limits, the places of a host, and a crowd of retries: who has to wait, and for how long."""

import itertools

import pytest
import trio

from webhookd.core.model import Answer
from webhookd.daemon.places import HostPlaces
from webhookd.logs.actions import Action


async def test_rate_limit_lets_out_one_seconds_burst_and_then_goes_evenly(world, autojump_clock):
    world.subscribe("a", rate_limit=5.0)
    async with world.running():
        world.insert("first")
        await trio.sleep(10)
        for n in range(30):
            world.insert(f"x{n}")
        await trio.sleep(20)
    at = [one.at for one in world.sender.seen[1:]]
    assert len(at) == 30
    assert at[4] - at[0] < 0.01
    gaps = [later - one for one, later in itertools.pairwise(at[4:])]
    assert all(0.19 <= gap <= 0.25 for gap in gaps), gaps
    assert at[-1] - at[4] == pytest.approx(5.0, abs=0.1)


async def test_rate_limit_gives_no_second_burst_at_a_start(world, autojump_clock):
    world.subscribe("a", rate_limit=2.0)
    for n in range(8):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(20)
    at = [one.at for one in world.sender.seen]
    assert all(later - one >= 0.499 for one, later in itertools.pairwise(at))


async def test_rate_limit_outlives_the_lane(world, autojump_clock):
    world.subscribe("a", rate_limit=0.05)  # one each 20 s
    async with world.running(linger=0.0) as daemon:
        for n in range(4):
            world.insert(f"x{n}")
            await trio.sleep(7)
            assert not daemon._supervisor.is_busy
        await trio.sleep(60)
    at = [one.at for one in world.sender.seen]
    assert len(at) == 4
    assert all(20 <= later - one < 20.3 for one, later in itertools.pairwise(at))


async def test_rate_limit_counts_what_is_sent_not_who_waits_for_a_place(world, autojump_clock):
    """Those that wait together for the machine's places do not all go at once afterwards."""
    world.set(max_in_flight=4)
    world.subscribe("a", rate_limit=1.0, events=["a.*"])
    world.subscribe("b", events=["b.*"], timeout=60_000)
    world.sender.script = lambda seen: (
        world.after(20, world.ok) if seen.who == "b" else world.after(0.2, world.ok)
    )
    for n in range(4):
        world.insert(f"y{n}", "b.c")
    async with world.running():
        await trio.sleep(1)
        for n in range(12):
            world.insert(f"x{n}", "a.b")
        await trio.sleep(60)
    at = [one.at for one in world.sender.of("a")]
    assert len(at) == 12
    assert all(later - one >= 0.99 for one, later in zip(at, at[2:], strict=False)), at


async def test_rate_limit_is_not_used_up_by_what_has_expired(world, autojump_clock, warnings):
    """Else a stale backlog would make what can still be sent grow too old as well."""
    world.subscribe("a", rate_limit=0.5, max_age=4_000, concurrency=2)
    for n in range(20):
        world.insert(f"old{n}")
    async with world.running():
        await trio.sleep(3.5)
        sent = len(world.sender.seen)
        await trio.sleep(1)
        world.insert("young")
        await trio.sleep(2.1)
        assert len(world.sender.seen) == sent + 1
    assert world.states()[-1] == "delivered"
    assert warnings()[Action.DELIVERY_FAILED] == 20 - sent


async def test_rate_limit_does_not_hold_up_the_end(world, autojump_clock):
    world.subscribe("a", rate_limit=0.01)
    for n in range(5):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(3)
        asked = trio.current_time()
        daemon.stop()
    assert trio.current_time() - asked < 0.1
    assert world.states() == ["delivered"] + ["pending"] * 4


async def test_a_host_has_so_many_at_once_and_its_subscriptions_share_them(world, autojump_clock):
    world.set(max_per_host=6)
    for n in range(3):
        key = world.subscribe(f"s{n}", events=[f"s{n}.*"], concurrency=32)
        world.update(key, url=f"https://same.example/s{n}")
    world.subscribe("other")
    world.sender.one_line_at_a_time = False
    world.sender.script = lambda _: world.after(1, world.ok)
    for n in range(120):
        world.insert(f"x{n}", "s0.a")
    for n in range(12):
        world.insert(f"y{n}", "s1.a")
        world.insert(f"z{n}", "s2.a")
    async with world.running():
        await trio.sleep(40)
    assert world.sender.most["same"] == 6
    assert world.sender.most["other"] == 6
    small = [one.at for one in world.sender.of("same") if not one.url.endswith("s0")]
    assert len(small) == 24
    assert max(small) < 12  # two thirds of six places: 4 a second, if they have their share
    assert set(world.states()) == {"delivered"}


async def test_the_places_of_a_host_grow_and_shrink() -> None:
    places, got = HostPlaces(1), []

    async def ask(host: str, key: int) -> None:
        await places.take(host, key)
        got.append((host, key))

    async with trio.open_nursery() as nursery:
        for host, key in (("a", 1), ("a", 2), ("b", 1)):
            nursery.start_soon(ask, host, key)
            await trio.testing.wait_all_tasks_blocked()
        assert got == [("a", 1), ("b", 1)]
        places.resize(2)
        await trio.testing.wait_all_tasks_blocked()
        assert got[2:] == [("a", 2)]
        places.resize(1)
        nursery.start_soon(ask, "a", 3)
        places.give_back("a", 1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(got) == 3
        nursery.cancel_scope.cancel()
    places.give_back("a", 2)
    places.give_back("b", 1)
    assert not places._hosts  # what is idle is forgotten, who gave up waiting with it


async def test_first_attempts_are_not_starved_by_a_crowd_of_retries(world, autojump_clock):
    world.subscribe("a", concurrency=2, retry_delays=[1_000] * 50)
    world.sender.script = lambda seen: world.after(
        0.5, world.ok if seen.aggregate.startswith("new") else Answer(400)
    )
    for n in range(200):
        world.insert(f"bad{n}")
    asked: dict[int, float] = {}
    async with world.running():
        await trio.sleep(110)
        for n in range(20):
            asked[world.insert(f"new{n}")] = trio.current_time()
            await trio.sleep(3)
        await trio.sleep(30)
    waits = [one.at - asked[one.n] for one in world.sender.seen if one.n in asked]
    assert len(waits) == 20
    # At most a window that was read before, and then every second one.
    assert max(waits) < 100 * 0.5 / 2 + 1
