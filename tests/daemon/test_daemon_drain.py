"""`run --drain`: what is due goes out, whatever holds it up for a moment; retries lie ahead."""

import pytest
import trio

from webhookd.core.model import Answer
from webhookd.errors import StoreBusy
from webhookd.logs.actions import Action


@pytest.mark.parametrize(("rate", "seconds"), [(1.0, 8), (0.1, 80)])
async def test_drain_waits_for_a_rate_limit(world, autojump_clock, rate, seconds):
    world.subscribe("a", rate_limit=rate)
    for n in range(10):
        world.insert(f"x{n}")
    await world.daemon(linger=0.2).run(drain=True)
    assert world.states() == ["delivered"] * 10
    assert seconds <= trio.current_time() <= seconds + 13


@pytest.mark.parametrize("name", ["health", "next_due", "due", "waiting"])
async def test_drain_outlasts_a_moment_without_reading(world, autojump_clock, name):
    world.subscribe("a")
    for n in range(3):
        world.insert(f"x{n}")
    store = world.store()
    real, refusals = getattr(store, name), 2

    def refuse(*args):
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StoreBusy("being written")
        return real(*args)

    setattr(store, name, refuse)
    await world.daemon(store=store, linger=0.2).run(drain=True)
    assert refusals == 0
    assert world.states() == ["delivered"] * 3


async def test_drain_leaves_what_its_receiver_does_not_want_yet(world, autojump_clock):
    """A Retry-After is a retry that lies ahead, for all that is owed to that receiver."""
    world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: Answer(429, retry_after="3600")
    for n in range(3):
        world.insert(f"x{n}")
    await world.daemon(linger=0.2).run(drain=True)
    assert len(world.sender.seen) == 1
    assert world.states() == ["pending"] * 3
    assert trio.current_time() < 10


async def test_drain_leaves_a_lane_that_crashes(world, autojump_clock, warnings):
    world.subscribe("a")
    world.subscribe("b")
    world.insert("x")
    store = world.store()
    real = store.due

    def due(key, *args):
        if key == 1:
            raise ZeroDivisionError
        return real(key, *args)

    store.due = due
    with trio.fail_after(60):
        await world.daemon(store=store, linger=0.2).run(drain=True)
    assert world.states() == ["pending", "delivered"]
    assert warnings()[Action.LANE_CRASHED] >= 1


async def test_drain_goes_round_many(world, autojump_clock):
    """More subscriptions than are looked at in one breath."""
    for n in range(230):
        world.subscribe(f"s{n}")
    world.insert("x")
    await world.daemon(linger=0.2).run(drain=True)
    assert world.states() == ["delivered"] * 230
