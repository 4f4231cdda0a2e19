"""Bulk changes while the daemon runs: obeyed at once, and carried out without the command."""

import pytest
import trio

from webhookd.core.model import SubscriptionState
from webhookd.store import enabling, instructions, replay
from webhookd.store.instructions import Kind

PAUSED = SubscriptionState.PAUSED


def enable(world, key, **wanted):
    """What `subscriptions enable` does, if it dies right after its first commit."""
    given = {"backlog": None, "retry_failed": False} | wanted
    with world.command() as transaction:
        return enabling.enable(transaction, key, now=world.clock.now(), **given)


def order_replay(world, key, **options):
    with world.command() as transaction:
        span = replay.span(transaction.connection, 0, None, **options)
        return replay.order(transaction, key, span, world.clock.now())


def under_way(world):
    return world.table("SELECT key FROM webhookd_instructions WHERE done_at IS NULL")


@pytest.mark.parametrize(
    ("backlog", "sent"), [(Kind.SKIP_BACKLOG, ["z"]), (Kind.NEWEST_ONLY, ["x", "y", "z"])]
)
async def test_enabled_with_a_wish_nothing_else_is_sent(world, autojump_clock, backlog, sent):
    key = world.subscribe("a")
    world.state(key, PAUSED)
    for name in ("x", "y") * 250:
        world.insert(name)
    async with world.running():
        await trio.sleep(30)
        assert world.sender.seen == []
        enable(world, key, backlog=backlog)
        world.insert("z")
        await trio.sleep(30)
        assert sorted(one.aggregate for one in world.sender.seen) == sent
        assert under_way(world) == []
    assert world.states().count("cancelled") == 501 - len(sent)


async def test_a_replay_goes_out_in_order_with_a_request_under_way(world, autojump_clock):
    """The one under way is awaited; what it was is pending, so it is left alone."""
    key = world.subscribe("a", concurrency=4)
    for _ in range(3):
        world.insert("x")
    async with world.running():
        await trio.sleep(5)
        world.sender.script = lambda _: world.after(5, world.ok)
        world.insert("x")
        await trio.sleep(1)
        order_replay(world, key, include_stale=True)
        world.insert("x")
        await trio.sleep(2)
        assert len(world.sender.seen) == 4
        await trio.sleep(120)
        assert under_way(world) == []
    assert [one.n for one in world.sender.seen] == [1, 2, 3, 4, 1, 2, 3, 5]
    assert world.states() == ["delivered"] * 5


async def test_another_ordering_counts_for_what_is_owed(world, autojump_clock):
    key = world.subscribe("a", ordering="none", concurrency=4)
    world.state(key, PAUSED)
    for name in ("x", "y", "x", "y", "x"):
        world.insert(name)
    world.sender.script = lambda _: world.after(1, world.ok)
    async with world.running():
        await trio.sleep(1)
        world.update(key, policy={"ordering": "subscription", "concurrency": 4})
        enable(world, key)
        await trio.sleep(30)
    starts = [one.n for one in world.sender.seen]
    assert starts == [1, 2, 3, 4, 5]
    assert world.sender.most["a"] == 1


async def test_an_instruction_that_waits_at_the_start_is_carried_out_first(world, autojump_clock):
    key = world.subscribe("a")
    for _ in range(3):
        world.insert("x")
    async with world.running():
        await trio.sleep(5)
        world.state(key, PAUSED)
        for _ in range(3):
            world.insert("x")
        await trio.sleep(5)
    given = enable(world, key, backlog=Kind.NEWEST_ONLY).given[0]
    world.sender.seen.clear()
    async with world.running():
        await trio.sleep(5)
        assert [one.n for one in world.sender.seen] == [6]
        with world.command() as transaction:
            one = instructions.find(transaction.connection, given)
        assert one is not None
        assert one.counts == {"cancelled": 2, "kept": 1}


async def test_one_that_is_held_holds_nobody_else(world, autojump_clock):
    key = world.subscribe("a")
    world.subscribe("b")
    world.sender.script = lambda seen: world.hang if "a.example" in seen.url else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        order_replay(world, key)
        world.insert("y")
        await trio.sleep(5)
        assert len(world.sender.of("b")) == 2
        world.sender.script = lambda _: world.ok
        await trio.sleep(120)
    assert world.states() == ["delivered"] * 4
