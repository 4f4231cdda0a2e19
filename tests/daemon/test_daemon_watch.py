"""Hints from the kernel: real inotify on a real file, and life without it."""

import ctypes
import errno
import os
import struct

import pytest
import trio
import trio.testing

from webhookd.daemon.inotify import IN_MODIFY, IN_Q_OVERFLOW, Watch
from webhookd.daemon.tailer import POLL
from webhookd.daemon.upkeep import EVERY
from webhookd.store.outbox import Outbox


@pytest.fixture
def watch(world):
    made = Watch.open(world.path)
    assert made is not None
    yield made
    made.close()


async def test_a_commit_of_the_hosts_is_noticed(world, watch):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.wait)
        await trio.testing.wait_all_tasks_blocked()
        world.insert("x")
        with trio.fail_after(5):
            await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(5):
        while True:  # what is left of the same commit
            with trio.move_on_after(0.01) as scope:
                await watch.wait()
            if scope.cancelled_caught:
                break


async def test_other_files_of_the_directory_are_none_of_ours(world, watch):
    (world.path.parent / "another.db").write_text("x")
    (world.path.parent / "erp.db-webhookd.lock").write_text("x")
    with trio.move_on_after(0.02) as scope:
        await watch.wait()
    assert scope.cancelled_caught


async def test_lost_hints_are_a_hint(monkeypatch):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    watch = Watch(reader, frozenset({b"erp.db"}))

    def event(mask: int, name: bytes) -> bytes:
        padded = name + b"\0" * (16 - len(name))
        return struct.pack("iIII", 1, mask, 0, len(padded)) + padded

    os.write(writer, event(IN_MODIFY, b"other") + struct.pack("iIII", -1, IN_Q_OVERFLOW, 0, 0))
    with trio.fail_after(5):
        await watch.wait()
    real, first = os.read, True

    def read(*args):
        nonlocal first
        if first:
            first = False
            raise BlockingIOError
        return real(*args)

    monkeypatch.setattr("webhookd.daemon.inotify.os.read", read)
    os.write(writer, event(IN_MODIFY, b"other") + event(IN_MODIFY, b"erp.db"))
    with trio.fail_after(5):
        await watch.wait()
    assert not first
    watch.close()
    os.close(writer)


class Libc:
    """An inotify of which one call fails."""

    def __init__(self, init: int, add: int) -> None:
        self.inotify_init1 = lambda _flags: init if init < 0 else os.open("/dev/null", os.O_RDONLY)
        self.inotify_add_watch = lambda *_: add


@pytest.mark.parametrize(
    "libc",
    [Libc(-1, 0), Libc(0, -errno.ENOSPC), object(), OSError("no libc")],
    ids=["no instance", "no watch", "no inotify", "no libc"],
)
def test_B23_where_there_is_none_there_is_none(world, monkeypatch, libc) -> None:
    def load(*_args, **_options):
        if isinstance(libc, OSError):
            raise libc
        return libc

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert Watch.open(world.path) is None
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


async def test_B23_without_hints_rows_are_found_within_a_poll(world, autojump_clock):
    world.subscribe("a")
    async with world.running(hints=None):
        for n in range(10):
            await trio.sleep(0.37)
            world.insert(f"x{n}")
            asked = trio.current_time()
            await trio.sleep(POLL + 0.01)
            assert len(world.sender.seen) == n + 1
            assert world.sender.seen[-1].at - asked <= POLL


class Hints:
    """Hints when the test says so."""

    def __init__(self) -> None:
        self.lot = trio.lowlevel.ParkingLot()

    async def wait(self) -> None:
        await self.lot.park()


async def test_a_hint_brings_a_row_at_once(world, autojump_clock):
    hints = Hints()
    world.subscribe("a")
    async with world.running(hints=hints):
        await trio.sleep(1.1)
        world.insert("x")
        asked = trio.current_time()
        hints.lot.unpark_all()
        await trio.sleep(0.001)
        assert [one.at - asked < 0.0005 for one in world.sender.seen] == [True]


@pytest.mark.parametrize("rests", [True, False], ids=["read to its end", "a round under way"])
async def test_a_hint_before_the_row_is_visible_is_looked_after(
    world, autojump_clock, monkeypatch, rests
):
    monkeypatch.setattr(Outbox, "rests", lambda *_: rests)
    hints = Hints()
    world.subscribe("a")
    async with world.running(hints=hints):
        await trio.sleep(1.1)
        hints.lot.unpark_all()
        asked = trio.current_time()
        await trio.sleep(0.002)
        world.insert("x")
        await trio.sleep(0.01)
        assert [one.at - asked < 0.008 for one in world.sender.seen] == [True]


async def test_hints_without_end_before_anything_is_visible_keep_nobody_busy(
    world, autojump_clock, monkeypatch
):
    """As of a host that spills a large transaction into the `-wal` long before it commits."""
    hints, looks = Hints(), 0
    world.subscribe("a")
    async with world.running(hints=hints) as daemon:
        store = daemon.store.store
        right = store.changed

        def changed():
            nonlocal looks
            looks += 1
            return right()

        await trio.sleep(1.1)
        monkeypatch.setattr(store, "changed", changed)
        for _ in range(2_000):
            hints.lot.unpark_all()
            await trio.sleep(0.0005)
        assert 100 < looks < 800


async def test_another_hint_ends_the_pause_between_two_looks(world, autojump_clock):
    hints = Hints()
    world.subscribe("a")
    async with world.running(hints=hints):
        await trio.sleep(1.1)
        hints.lot.unpark_all()
        await trio.sleep(0.0025)
        world.insert("x")
        asked = trio.current_time()
        hints.lot.unpark_all()
        await trio.sleep(0.01)
        assert [one.at - asked < 0.0005 for one in world.sender.seen] == [True]


async def test_while_the_file_stays_as_it_is_a_poll_reads_nothing_more(
    world, autojump_clock, monkeypatch
):
    world.subscribe("a")
    async with world.running(hints=None) as daemon:
        await trio.sleep(5.1)
        looks: list[float] = []
        store, turns = daemon.store.store, daemon.tailer.turns
        real = store.outlook

        def outlook():
            looks.append(trio.current_time())
            return real()

        monkeypatch.setattr(store, "outlook", outlook)
        await trio.sleep(60)
        assert len(looks) == 60 / EVERY  # upkeep's own
        looks.clear()
        assert daemon.tailer.turns - turns >= 60 / POLL - 1
        assert daemon.clock.now() - daemon.tailer.caught_up_at <= POLL * 1000
        world.insert("x")
        asked = trio.current_time()
        await trio.sleep(1)
        assert looks[0] - asked <= POLL


async def test_B23_hints_that_lie_or_stay_away_change_nothing(world, autojump_clock):
    hints = Hints()
    world.subscribe("a")
    async with world.running(hints=hints):
        for n in range(5):
            hints.lot.unpark_all()
            await trio.sleep(0.1)
            world.insert(f"x{n}")
            await trio.sleep(POLL + 0.01)
            assert len(world.sender.seen) == n + 1
