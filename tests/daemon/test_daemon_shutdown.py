"""Stopping in two phases, draining, and what is left of a run: nothing that still runs."""

import logging

import pytest
import trio

from webhookd.daemon.daemon import LAST_WORDS
from webhookd.logs.actions import Action
from webhookd.store import sqlite


async def _stopped(daemon) -> float:
    """Ask the daemon, which runs elsewhere, to stop."""
    daemon.stop()
    return trio.current_time()


async def test_E1_attempts_finish_within_the_grace_and_nothing_new_begins(world, autojump_clock):
    world.subscribe("a", concurrency=2)
    world.sender.script = lambda _: world.after(10, world.ok)
    for n in range(6):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(1)
        asked = trio.current_time()
        daemon.stop()
        assert daemon.stop_asked
    assert 8.9 < trio.current_time() - asked < 9.2
    assert len(world.sender.seen) == 2
    assert world.states() == ["delivered"] * 2 + ["pending"] * 4


async def test_E1_a_failure_within_the_grace_is_recorded_too(world, autojump_clock):
    world.subscribe("a")
    world.sender.script = lambda _: world.after(10, world.down)
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(1)
        daemon.stop()
    (row,) = world.deliveries()
    assert (row["state"], row["attempts"], row["last_status"]) == ("pending", 1, 503)
    assert len(world.attempts()) == 1


async def test_E1_beyond_the_grace_it_is_cut_off_and_due_again(world, autojump_clock):
    world.set(shutdown_grace=3_000)
    world.subscribe("a", timeout=60_000)
    world.sender.script = lambda seen: world.hang if seen.aggregate == "x" else world.ok
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(1)
        asked = trio.current_time()
        daemon.stop()
    assert 2.9 < trio.current_time() - asked < 3.2
    assert world.states() == ["pending"]
    assert world.attempts() == []
    world.sender.script = lambda _: world.ok
    async with world.running():
        await trio.sleep(1)
    assert [(one.n, one.attempt) for one in world.sender.seen] == [(1, 1), (1, 1)]
    assert world.states() == ["delivered"]


async def test_E1_the_second_signal_cuts_off_at_once(world, autojump_clock):
    world.subscribe("a", timeout=60_000)
    world.subscribe("b", timeout=60_000)
    world.sender.script = lambda _: world.hang
    for n in range(20):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(1)
        daemon.stop()
        await trio.sleep(1)
        cut = trio.current_time()
        daemon.cut_off()
    assert trio.current_time() == cut
    assert set(world.states()) == {"pending"}


async def test_cut_off_alone_stops_too(world, autojump_clock):
    world.subscribe("a", timeout=60_000)
    world.sender.script = lambda _: world.hang
    world.insert("x")
    daemon = world.daemon()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        await trio.sleep(1)
        daemon.cut_off()
    assert trio.current_time() == 1
    assert world.states() == ["pending"]


async def test_stopping_while_the_lock_is_held_waits_for_it_and_records(
    world, autojump_clock, expected_logs
):
    world.set(shutdown_grace=2_000)
    world.subscribe("a")
    world.sender.script = lambda _: world.after(1, world.ok)
    world.insert("x")
    daemon = world.daemon()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        await trio.sleep(0.5)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(2)
        daemon.stop()
        await trio.sleep(2 + LAST_WORDS - 2)
        world.host.execute("COMMIT")
    assert world.states() == ["delivered"]


async def test_stopping_while_the_lock_is_held_for_ever_ends_and_says_what_is_lost(
    world, autojump_clock, expected_logs
):
    world.set(shutdown_grace=2_000)
    world.subscribe("a")
    world.sender.script = lambda _: world.after(1, world.ok)
    world.insert("x")
    daemon = world.daemon()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        await trio.sleep(0.5)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(2)
        asked = trio.current_time()
        daemon.stop()
    assert trio.current_time() - asked == pytest.approx(2 + LAST_WORDS, abs=0.01)
    world.host.execute("COMMIT")
    assert world.states() == ["pending"]
    (lost,) = [r for r in expected_logs if r.levelno == logging.ERROR]
    assert (lost.action, lost.fields) == (Action.OUTCOMES_LOST, {"outcomes": 1})
    assert Action.STORE_FREE not in [r.action for r in expected_logs]
    async with world.running():
        await trio.sleep(2)
    assert [one.attempt for one in world.sender.seen] == [1, 1]
    assert world.states() == ["delivered"]


async def test_stopping_while_the_commit_itself_is_kept_waiting_ends(
    world, autojump_clock, expected_logs, monkeypatch
):
    """Outside WAL mode a reader of the host's keeps a commit waiting, the lock already held."""
    monkeypatch.setattr(sqlite, "LONGEST_COMMIT_WAIT", 50)  # it is waited for in real time
    world.host.execute("PRAGMA journal_mode = DELETE")
    world.set(shutdown_grace=2_000)
    world.subscribe("a")
    world.insert("x")
    daemon = world.daemon()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        await trio.sleep(1)
        world.host.execute("BEGIN")
        world.host.execute("SELECT * FROM outbox").fetchone()
        world.sender.script = lambda _: world.ok
        daemon.store.store._reader.execute("PRAGMA busy_timeout = 0")
        with trio.fail_after(5):

            async def write() -> None:
                await daemon.store.write(
                    lambda: daemon.store.store._writer.execute("UPDATE outbox SET tenant = 't'")
                )

            nursery.start_soon(write)
            await trio.sleep(1)
        assert daemon.store.wait_seconds > 0.5
        nursery.cancel_scope.cancel()
    world.host.execute("COMMIT")
    assert world.table("SELECT tenant FROM outbox") == [{"tenant": None}]


async def test_stopping_with_the_budget_full_and_the_store_shut(
    world, autojump_clock, expected_logs
):
    world.set(max_unrecorded=3, shutdown_grace=2_000)
    world.subscribe("a")
    for n in range(10):
        world.insert(f"x{n}")
    daemon = world.daemon()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        world.sender.script = lambda _: world.after(1, world.ok)
        await trio.sleep(0.5)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(5)
        assert len(world.sender.seen) == 3
        daemon.stop()
        await trio.sleep(4)
        world.host.execute("COMMIT")
    assert sorted(world.states()) == ["delivered"] * 3 + ["pending"] * 7


async def test_stop_before_anything_is_due_ends_at_once(world, autojump_clock):
    daemon = world.daemon()
    daemon.stop()
    await daemon.run()
    assert trio.current_time() == 0


async def test_drain_delivers_what_is_due_and_leaves_retries(world, autojump_clock):
    world.subscribe("a", concurrency=2)
    world.sender.script = lambda seen: world.after(
        0.5, world.down if seen.aggregate == "bad" else world.ok
    )
    for n in range(300):
        world.insert(f"x{n % 20}")
    world.insert("bad")
    world.insert("x", id=-5)  # for the sweep: the cursor stands at the highest
    daemon = world.daemon(linger=0.0)
    await daemon.run(drain=True)
    states = world.states()
    assert states.count("delivered") == 301
    assert states.count("pending") == 1
    assert 302 <= len(world.sender.seen) < 310
    assert all(channel.closed for channel in world.sender.channels)


async def test_drain_takes_in_what_is_inserted_meanwhile(world, autojump_clock):
    world.subscribe("a")
    world.sender.script = lambda _: world.after(2, world.ok)
    world.insert("x")
    daemon = world.daemon(linger=0.0)

    async def insert() -> None:
        await trio.sleep(1)
        world.insert("y")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(insert)
        await daemon.run(drain=True)
    assert world.states() == ["delivered"] * 2


async def test_drain_of_nothing_ends_at_once(world, autojump_clock):
    await world.daemon(linger=0.0).run(drain=True)
    assert trio.current_time() == 0


async def test_drain_is_stopped_by_a_signal(world, autojump_clock):
    world.subscribe("a", timeout=60_000)
    world.sender.script = lambda _: world.after(10, world.ok)
    for _ in range(5):
        world.insert("x")
    daemon = world.daemon(linger=0.0)
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await daemon.run(drain=True)

        nursery.start_soon(drain)
        await trio.sleep(1)
        daemon.stop()
    assert trio.current_time() == pytest.approx(10, abs=0.1)
    assert world.states() == ["delivered"] + ["pending"] * 4


async def test_no_task_outlives_the_daemon(world, autojump_clock):
    world.subscribe("a")
    for n in range(5):
        world.insert(f"x{n}")
    before = trio.lowlevel.current_statistics().tasks_living
    async with world.running() as daemon:
        await trio.sleep(1)
        assert trio.lowlevel.current_statistics().tasks_living > before
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert not daemon._supervisor.is_busy
    assert daemon.recorder.unrecorded == 0
    assert world.sender.under_way.total() == 0
