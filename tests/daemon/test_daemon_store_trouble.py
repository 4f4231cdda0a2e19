"""The file is locked, full, read-only, replaced or not as agreed: nothing is lost, none doubled."""

import logging
import os
import shutil
from collections import Counter

import pytest
import trio

from webhookd.core.model import SubscriptionState
from webhookd.daemon.run import _ended_badly
from webhookd.daemon.tailer import OUTBOX_RETRY
from webhookd.errors import EXIT_BUG, DatabaseError, StoreUnwritable
from webhookd.logs.actions import Action
from webhookd.store.driver import sqlite3


def _once_each(world) -> None:
    """Nothing was attempted twice with the same number."""
    counts = Counter((one.who, one.n, one.attempt) for one in world.sender.seen)
    assert set(counts.values()) == {1}


def _actions(records) -> list[Action]:
    return [r.action for r in records if r.action.value.startswith("store.")]


async def test_B1_the_host_holds_the_lock_for_a_minute(world, autojump_clock, expected_logs):
    world.subscribe("a", concurrency=4)
    for n in range(30):
        world.insert(f"x{n}")
        world.insert(f"x{n}")
    async with world.running() as daemon:
        world.sender.script = lambda _: world.after(1, world.ok)
        await trio.sleep(0.5)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(50)
        assert len(world.sender.seen) == 30  # each aggregate's first; none goes on unrecorded
        assert daemon.recorder.unrecorded == 30
        assert 45 < daemon.store.wait_seconds < 51
        await trio.sleep(10)
        world.host.execute("COMMIT")
        await trio.sleep(30)
        assert daemon.store.wait_seconds == 0
    assert world.states() == ["delivered"] * 60
    _once_each(world)
    assert len(world.attempts()) == 60
    assert _actions(expected_logs) == [Action.STORE_BUSY, Action.STORE_FREE]


async def test_B1_no_more_is_sent_than_can_be_kept(world, autojump_clock, expected_logs):
    world.set(max_unrecorded=12)
    world.subscribe("a", concurrency=4)
    world.subscribe("b", concurrency=4)
    for n in range(30):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        world.sender.script = lambda _: world.after(1, world.ok)
        await trio.sleep(0.5)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(60)
        assert len(world.sender.seen) == 12
        assert daemon.recorder.unrecorded == 12
        world.host.execute("COMMIT")
        await trio.sleep(60)
    assert world.states() == ["delivered"] * 60
    _once_each(world)


async def test_B1_the_attempts_under_way_when_the_lock_goes_are_retried_on_schedule(
    world, autojump_clock, expected_logs
):
    world.subscribe("a", retry_delays=[10_000])
    world.sender.script = lambda seen: world.after(2, world.down) if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(30)
        world.host.execute("COMMIT")
        await trio.sleep(3)
    assert [one.attempt for one in world.sender.seen] == [1, 2]
    assert world.states() == ["delivered"]


async def test_B2_a_host_that_hardly_lets_go(world, autojump_clock, expected_logs):
    world.subscribe("a")
    for n in range(20):
        world.insert(f"x{n}")
    async with world.running():
        for _ in range(300):
            world.host.execute("BEGIN IMMEDIATE")
            await trio.sleep(0.1)
            world.host.execute("COMMIT")
            await trio.sleep(0.001)
        await trio.sleep(5)
    assert world.states() == ["delivered"] * 20
    _once_each(world)


async def test_B13_B14_a_full_disk(world, autojump_clock, expected_logs):
    world.set(max_unrecorded=20)
    world.subscribe("a", concurrency=8)
    world.sender.script = lambda _: world.after(0.1, world.ok)
    for n in range(200):
        world.insert(f"x{n}")
    store = world.store()
    async with world.running(store=store) as daemon:
        await trio.sleep(0.05)
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        await trio.sleep(120)
        full = len(world.sender.seen)
        # SQLite finds some room in pages that are there already; then no more is sent.
        assert daemon.recorder.unrecorded == 20
        assert full == world.states().count("delivered") + 20
        assert full < 200
        assert daemon.store.unwritable
        assert any("cannot be written" in problem for problem in daemon.problems)
        await trio.sleep(120)
        assert len(world.sender.seen) == full
        store._writer.execute("PRAGMA max_page_count = 1000000")
        await trio.sleep(30)
        assert not daemon.store.unwritable
        assert daemon.problems == []
    assert world.states() == ["delivered"] * 200
    _once_each(world)
    assert _actions(expected_logs) == [Action.STORE_UNWRITABLE, Action.STORE_WRITABLE]


@pytest.mark.parametrize("step", ["begin", "record", "ingest", "commit"])
async def test_B13_read_only_for_a_while_wherever_it_is_met(
    world, autojump_clock, expected_logs, step
):
    world.subscribe("a")
    store = world.store()
    real, broken = getattr(store, step), False

    def fail(*args):
        if broken:
            raise StoreUnwritable(f"{world.path}: cannot be written")
        return real(*args)

    setattr(store, step, fail)
    async with world.running(store=store):
        world.insert("x")
        await trio.sleep(1)
        broken = True
        world.insert("y")
        world.insert("z")
        await trio.sleep(60)
        broken = False
        await trio.sleep(5)
    assert world.states() == ["delivered"] * 3
    _once_each(world)
    assert _actions(expected_logs) == [Action.STORE_UNWRITABLE, Action.STORE_WRITABLE]


@pytest.mark.parametrize(
    ("breaking", "mending", "said"),
    [
        (
            "ALTER TABLE outbox RENAME COLUMN payload TO body",
            "ALTER TABLE outbox RENAME COLUMN body TO payload",
            "outbox.payload missing",
        ),
        ("ALTER TABLE outbox RENAME TO gone", "ALTER TABLE gone RENAME TO outbox", "outbox"),
    ],
    ids=["A22", "A23"],
)
async def test_A22_A23_the_outbox_changes_and_comes_back(
    world, autojump_clock, expected_logs, breaking, mending, said
):
    key = world.subscribe("a", retry_delays=[5_000] * 20)
    ready = False
    world.sender.script = lambda _: world.ok if ready else world.down
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(2)
        world.host.execute(breaking)
        if "RENAME TO" not in breaking:
            world.host.execute("INSERT INTO outbox (event_type, aggregate_id) VALUES ('e', 'y')")
        await trio.sleep(12)
        assert said in daemon.problems[0]
        before = len(world.sender.seen)
        assert before > 2  # what is owed goes on
        world.state(key, SubscriptionState.PAUSED)  # and operators are obeyed
        await trio.sleep(OUTBOX_RETRY + 0.5)
        paused = len(world.sender.seen)
        await trio.sleep(30)
        assert len(world.sender.seen) == paused
        world.state(key, SubscriptionState.ENABLED)
        ready = True
        await trio.sleep(OUTBOX_RETRY + 0.5)
        assert world.states()[0] == "delivered"
        world.host.execute(mending)
        world.insert("z")
        await trio.sleep(OUTBOX_RETRY + 1)
        assert daemon.problems == []
    assert set(world.states()) == {"delivered"}
    said_so = [r.action for r in expected_logs if r.action.value.startswith("ingest.s")]
    assert said_so == [Action.INGEST_STOPPED]
    assert [r.action for r in expected_logs].count(Action.INGEST_RESUMED) == 1


async def test_A22_found_by_the_sweep_it_stays_so_until_a_row_can_be_read(
    world, autojump_clock, expected_logs
):
    world.insert("x", id=9)
    async with world.running() as daemon:
        await trio.sleep(599)
        world.host.execute("ALTER TABLE outbox RENAME COLUMN payload TO body")
        await trio.sleep(60)
        assert "outbox.payload missing" in daemon.problems[0]
        world.host.execute("ALTER TABLE outbox RENAME COLUMN body TO payload")
        await trio.sleep(10)
        assert daemon.problems == []
    said = [r.action for r in expected_logs if r.levelno >= logging.WARNING]
    assert said == [Action.INGEST_STOPPED]


async def _fails(daemon) -> BaseExceptionGroup:
    with pytest.raises(BaseExceptionGroup) as caught:
        await daemon.run()
    return caught.value


def _leaf(error: BaseException) -> BaseException:
    """What the daemon ended for; whoever met it beside the first has met the same."""
    while isinstance(error, BaseExceptionGroup):
        leaves = [_leaf(one) for one in error.exceptions]
        assert len({str(leaf) for leaf in leaves}) == 1
        error = leaves[0]
    return error


@pytest.mark.parametrize("how", ["replaced", "deleted"])
async def test_B7_B8_the_file_is_replaced_or_deleted(world, autojump_clock, expected_logs, how):
    world.subscribe("a", timeout=60_000)
    world.sender.script = lambda _: world.after(20, world.ok)
    world.insert("x")
    daemon = world.daemon()

    async def meddle() -> None:
        await trio.sleep(1)
        world.insert("y")
        if how == "replaced":
            shutil.copy(world.path, world.path.with_name("copy.db"))
            os.replace(world.path.with_name("copy.db"), world.path)  # noqa: PTH105
        else:
            world.path.unlink()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meddle)
        group = await _fails(daemon)
    assert trio.current_time() < 1.6
    error = _leaf(group)
    assert isinstance(error, DatabaseError)
    assert how in str(error)
    assert "\n" not in str(error)
    with pytest.raises(DatabaseError):
        _ended_badly(group)
    assert len(world.sender.seen) <= 2
    assert expected_logs[-1].action is Action.DAEMON_FAILED


async def test_B7_replaced_while_it_waits_for_the_lock_nothing_is_written(
    world, autojump_clock, expected_logs
):
    world.subscribe("a")
    daemon = world.daemon()

    async def meddle() -> None:
        await trio.sleep(1)
        world.insert("x")
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(2)
        world.path.unlink()
        await trio.sleep(1)
        world.host.execute("COMMIT")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meddle)
        group = await _fails(daemon)
        assert trio.current_time() < 3.2
    assert "was deleted" in str(_leaf(group))
    assert world.table("SELECT count(*) AS n FROM webhookd_events") == [{"n": 0}]


async def test_B9_the_identity_changes_in_place(world, autojump_clock, expected_logs):
    world.subscribe("a")
    daemon = world.daemon()

    async def meddle() -> None:
        await trio.sleep(1)
        world.host.execute("UPDATE webhookd_file SET uuid = 'other'")
        world.insert("x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meddle)
        group = await _fails(daemon)
    assert "another database" in str(_leaf(group))
    assert world.sender.seen == []


async def test_B9_the_file_goes_back_in_place(world, autojump_clock, expected_logs):
    world.subscribe("a")
    daemon = world.daemon()

    async def meddle() -> None:
        world.insert("x")
        await trio.sleep(1)
        world.host.execute("UPDATE webhookd_file SET sequence = 1")
        world.insert("x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meddle)
        group = await _fails(daemon)
    assert "restored backup" in str(_leaf(group))
    assert len(world.sender.seen) == 1


async def test_A25_our_tables_are_dropped(world, autojump_clock, expected_logs):
    world.subscribe("a")
    daemon = world.daemon()

    async def meddle() -> None:
        await trio.sleep(1)
        world.host.execute("DROP VIEW webhook_results")
        world.host.execute("DROP TABLE webhookd_deliveries")
        world.insert("x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meddle)
        group = await _fails(daemon)
    assert "webhookd init" in str(_leaf(group))


async def test_B19_a_host_outside_wal_mode(world, autojump_clock, expected_logs):
    assert world.host.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    world.subscribe("a", retry_delays=[1_000] * 5)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    store = world.store()
    store._reader.execute("PRAGMA busy_timeout = 0")  # virtual time does not pass in SQLite
    async with world.running(store=store):
        for n in range(30):
            try:
                world.host.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                await trio.sleep(0.05)
                continue
            world.insert(f"x{n % 4}")
            await trio.sleep(0.3)
            world.host.execute("COMMIT")
            await trio.sleep(0.02)
        await trio.sleep(20)
    assert set(world.states()) == {"delivered"}
    assert len(world.states()) > 20
    _once_each(world)


async def test_B19_a_drain_outside_wal_mode_waits_for_the_lock(
    world, autojump_clock, expected_logs
):
    world.host.execute("PRAGMA journal_mode = DELETE")
    world.subscribe("a")
    world.insert("x")
    store = world.store()
    store._reader.execute("PRAGMA busy_timeout = 0")  # virtual time does not pass in SQLite
    daemon = world.daemon(store=store, linger=0.0)

    async def hold() -> None:
        world.host.execute("BEGIN EXCLUSIVE")
        await trio.sleep(3)
        world.host.execute("COMMIT")
        await trio.sleep(0.06)
        world.host.execute("BEGIN EXCLUSIVE")
        await trio.sleep(3)
        world.host.execute("COMMIT")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await trio.sleep(0.001)
        await daemon.run(drain=True)
    assert world.states() == ["delivered"]


async def test_a_bug_in_ingest_ends_the_daemon(world, autojump_clock, expected_logs):
    world.subscribe("a")
    store = world.store()

    def ingest(*_):
        raise RuntimeError("bug")

    store.ingest = ingest
    daemon = world.daemon(store=store)
    world.insert("x")
    group = await _fails(daemon)
    assert _ended_badly(group) == EXIT_BUG
    (critical,) = [r for r in expected_logs if r.levelno == logging.CRITICAL]
    assert critical.action is Action.DAEMON_FAILED
    assert critical.exc_info is not None


async def test_B16_a_failed_fsync_is_no_commit_and_the_next_daemon_looks_itself(
    world, autojump_clock, expected_logs
):
    world.subscribe("a")
    world.insert("x")
    store, commit = world.store(), None

    def broken():
        if world.sender.seen:
            raise DatabaseError(f"{world.path}: input/output error (fsync); check the disk")
        commit()

    commit, store.commit = store.commit, broken
    error = _leaf(await _fails(world.daemon(store=store)))
    assert isinstance(error, DatabaseError)
    assert "input/output error" in str(error)
    assert world.states() == ["pending"]
    async with world.running():
        await trio.sleep(30)
    assert world.states() == ["delivered"]
    assert len(world.sender.seen) == 2, "the one that may not have been recorded came again"
