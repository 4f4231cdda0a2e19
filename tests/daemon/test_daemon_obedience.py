"""An operator's change counts from the next attempt on, whatever the daemon is busy with."""

from collections import Counter
from functools import partial

import trio

from webhookd.core.model import Answer, SubscriptionState
from webhookd.core.storage import NO_STEP
from webhookd.daemon.upkeep import EVERY
from webhookd.store import instructions


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


async def test_E12_a_change_of_one_delivery_makes_lanes_read_again(world, autojump_clock):
    """What a lane has read, and not sent yet, is what the file said before."""
    world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: world.after(1, world.ok)
    for n in range(8):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        reads = Counter()
        real = daemon.store.store.subscriptions
        await trio.sleep(2.5)

        def count():
            reads["subscriptions"] += 1
            return real()

        daemon.store.store.subscriptions = count
        world.cancel(world.deliveries()[5]["delivery_id"])
        await trio.sleep(1)
        world.retry(world.deliveries()[0]["delivery_id"])
        await trio.sleep(10)
    assert [one.n for one in world.sender.seen if one.attempt == 1] == [1, 2, 3, 4, 5, 7, 8]
    assert [one.n for one in world.sender.seen if one.attempt == 2] == [1]
    assert world.states().count("cancelled") == 1
    assert not reads, "single deliveries are no business of subscriptions"


async def test_E11_ten_thousand_quiet_ones_are_not_read_for_the_sake_of_one(
    world, autojump_clock, warnings
):
    with world.command() as transaction:
        transaction.connection.execute(
            "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 10000)"
            " INSERT INTO webhookd_subscriptions (id, name, url, events, tenant, profile, mode,"
            " method, headers, policy, state, state_reason, managed_by, created_at)"
            " SELECT 'wh_' || i, 's' || i, 'https://s' || i || '.example/', '[\"never\"]', '',"
            " 'standard', '', 'POST', '[]', '{}', 'paused', 'operator', 'cli',"
            " '2026-09-21T00:00:00.000Z' FROM k"
        )
        transaction.connection.execute(
            "INSERT INTO webhookd_counters (subscription, numbers, pending, delivered, failed,"
            " cancelled, superseded, last_error) SELECT key, 0, 0, 0, 0, 0, 0, ''"
            " FROM webhookd_subscriptions"
        )
        transaction.connection.execute(
            "INSERT INTO webhookd_secrets (subscription, value, is_reference, created_at)"
            " SELECT key, ?, 0, '2026-09-21T00:00:00.000Z' FROM webhookd_subscriptions",
            (world.secret,),
        )
    world.subscribe("a", retry_delays=[])
    world.sender.script = lambda seen: Answer(400) if seen.attempt < 3 else world.ok
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(2)
        store, calls = daemon.store.store, Counter()

        def counted(name):
            real = getattr(store, name)

            def count(*args):
                calls[name] += 1
                return real(*args)

            return count

        for name in ("subscriptions", "next_due", "health", "waiting", "latest_due", "owed_since"):
            setattr(store, name, counted(name))
        for _ in range(2):
            world.retry(world.deliveries()[0]["delivery_id"])
            await trio.sleep(EVERY + 1)
    assert [one.attempt for one in world.sender.seen] == [1, 2, 3]
    assert world.states() == ["delivered"]
    assert calls["subscriptions"] == 0
    assert 0 < calls.total() < 40, calls


async def test_nothing_is_sent_while_an_instruction_stands(world, autojump_clock):
    """Its row alone says so, whoever has put it there, and whoever takes it away."""
    key = world.subscribe("a", concurrency=1)
    world.subscribe("b")
    world.sender.script = lambda _: world.after(1, world.ok)
    for n in range(6):
        world.insert(f"x{n}")
    daemon = world.daemon()
    async with world.running(daemon):
        await trio.sleep(1.5)
        daemon.tailer._work_is_left = False
        daemon.store.store.carry_out = lambda _now: NO_STEP
        with world.command() as transaction:
            instructions.give(
                transaction, instructions.Kind.SKIP_BACKLOG, key, position=0, last=0, now=None
            )
        await trio.sleep(30)
        assert len(world.sender.of("a")) <= 3
        assert len(world.sender.of("b")) == 6
        sent = len(world.sender.of("a"))
        world.insert("x9")
        await trio.sleep(30)
        assert len(world.sender.of("a")) == sent
        with world.command() as transaction:
            instructions.drop(transaction, key)
        await trio.sleep(30)
    assert [one.n for one in world.sender.of("a")] == list(range(1, 8))
    assert world.states("a") == ["delivered"] * 7
