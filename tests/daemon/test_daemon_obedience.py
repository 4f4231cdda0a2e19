"""An operator's change counts from the next attempt on, whatever the daemon is busy with."""

from functools import partial

import trio

from webhookd.core.model import SubscriptionState


async def test_E12_a_pause_counts_while_a_write_waits_for_the_file(
    world, autojump_clock, expected_logs
):
    key = world.subscribe("a", concurrency=1)
    for n in range(40):
        world.insert(f"x{n}")
    async with world.running():
        world.sender.script = lambda _: world.after(1, world.ok)
        await trio.sleep(0.5)
        world.insert("y")
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(3)  # the tailer and the recorder wait, and sending goes on
        world.host.execute("COMMIT")
        world.state(key, SubscriptionState.PAUSED)
        world.host.execute("BEGIN IMMEDIATE")  # before anybody else had a chance
        await trio.sleep(0.5)
        sent = len(world.sender.seen)
        await trio.sleep(20)
        assert len(world.sender.seen) == sent < 8
        world.host.execute("COMMIT")
        await trio.sleep(5)
        assert len(world.sender.seen) == sent


async def test_E12_a_pause_counts_while_draining(world, autojump_clock):
    key = world.subscribe("a", concurrency=1)
    for n in range(40):
        world.insert(f"x{n}")
    world.sender.script = lambda _: world.after(1, world.ok)
    daemon = world.daemon(linger=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(daemon.run, drain=True), name="daemon")
        await trio.sleep(5.5)
        world.state(key, SubscriptionState.PAUSED)
    assert len(world.sender.seen) == 6
