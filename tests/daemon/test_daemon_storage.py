"""The async face of the store, in both ways of committing; and the recorder that writes by it."""

import logging
import random
import threading

import pytest
import trio
import trio.testing

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import SubscriptionKey
from webhookd.core.storage import BodyChanged, Notice, Record, Recorded
from webhookd.core.store import Stale
from webhookd.daemon import storage
from webhookd.daemon.recorder import BATCH, GATHER, Outcome, Recorder
from webhookd.daemon.storage import SAID_AFTER, AsyncStore
from webhookd.errors import OutboxUnreadable, StoreBusy, StoreUnwritable
from webhookd.logs.actions import Action
from webhookd.store import driver


@pytest.fixture(params=["inline", "in_thread"])
def face(request, world):
    """An AsyncStore on a real file; in real time, because threads work in it."""
    commits: list[int] = []
    made = AsyncStore(
        world.store(),
        commit=getattr(storage, request.param),
        on_commit=lambda: commits.append(1),
        dice=random.Random(1),
    )
    made.commits = commits
    return made


def _bump(face) -> None:
    face.store._transaction.bump()


def _control(world) -> int:
    return world.table("SELECT control FROM webhookd_file")[0]["control"]


async def test_a_write_is_durable_and_returns_its_result(world, face):
    def work() -> str:
        _bump(face)
        return "done"

    assert await face.write(work) == "done"
    assert _control(world) == 1
    assert len(face.commits) == 1
    assert not face.store._writer.in_transaction
    assert face.wait_seconds == 0


async def test_writes_take_turns(world, face):
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(face.write, lambda: _bump(face))
    assert _control(world) == 20


async def test_an_exception_undoes_the_work_and_lets_the_next_one_in(world, face):
    def work() -> None:
        _bump(face)
        raise OutboxUnreadable("gone")

    with pytest.raises(OutboxUnreadable):
        await face.write(work)
    assert not face.store._writer.in_transaction
    await face.write(lambda: _bump(face))
    assert _control(world) == 1
    assert len(face.commits) == 1


async def test_it_waits_for_the_lock_without_blocking(world, face):
    world.host.execute("BEGIN IMMEDIATE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(face.write, lambda: _bump(face))
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert face.wait_seconds > 0
        world.host.execute("COMMIT")
    assert _control(world) == 1
    assert face.wait_seconds == 0


async def test_cancelled_at_any_moment_no_transaction_stays_open(world, face):
    for at in range(12):

        async def commit(act, at=at):
            for _ in range(at % 4):
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            act()

        if at >= 6:
            face._commit = commit
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(face.write, lambda: _bump(face))
                for _ in range(at % 6):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert not face.store._writer.in_transaction
        assert not face._turn.locked()
        assert face.store._transaction is None
    assert _control(world) == len(face.commits)  # each commit that was begun was finished


async def test_cancelled_while_it_waits_for_the_lock(world, face):
    world.host.execute("BEGIN IMMEDIATE")
    with trio.move_on_after(0.02) as scope:
        await face.write(lambda: _bump(face))
    assert scope.cancelled_caught
    assert face.wait_seconds == 0
    world.host.execute("COMMIT")
    await face.write(lambda: _bump(face))
    assert _control(world) == 1


@pytest.fixture
def outside_wal(world) -> None:
    world.host.execute("PRAGMA journal_mode = DELETE")


async def test_B19_a_commit_that_meets_a_reader_lets_the_next_readers_in(outside_wal, world, face):
    """A commit that waits with its transaction open would lock the host out of its own file."""
    worked = 0

    def work() -> None:
        nonlocal worked
        worked += 1
        _bump(face)

    world.host.execute("BEGIN")
    world.host.execute("SELECT * FROM webhookd_file").fetchone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(face.write, work)
        while not face.wait_seconds:
            await trio.lowlevel.checkpoint()
        another = driver.connect(world.path, mode="rw")
        assert another.execute("SELECT count(*) FROM webhookd_file").fetchone() == (1,)
        another.close()
        world.host.execute("COMMIT")
    assert worked > 1
    assert _control(world) == 1


@pytest.mark.parametrize("error", [StoreUnwritable, StoreBusy])
@pytest.mark.parametrize("step", ["work", "commit"])
async def test_B14_what_failed_is_done_again_from_the_start(
    world, autojump_clock, expected_logs, error, step
):
    face = AsyncStore(world.store(), commit=storage.inline)
    real, failures, worked = face.store.commit, 3, 0

    def fail() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise error("not now")

    def commit() -> None:
        if step == "commit":
            fail()
        real()

    def work() -> int:
        nonlocal worked
        worked += 1
        _bump(face)
        if step == "work":
            fail()
        return worked

    face.store.commit = commit
    tries = await face.write(work)
    assert tries == 4
    assert _control(world) == 1
    assert face.unwritable is False
    said = [r.action for r in expected_logs]
    assert said == (
        [Action.STORE_UNWRITABLE, Action.STORE_WRITABLE] if error is StoreUnwritable else []
    )


async def test_a_long_wait_is_said_once_and_its_end_only_if_it_came(
    world, autojump_clock, expected_logs
):
    face = AsyncStore(world.store(), commit=storage.inline)
    world.host.execute("BEGIN IMMEDIATE")
    with trio.move_on_after(SAID_AFTER * 3):
        await face.write(lambda: None)
    assert [r.action for r in expected_logs] == [Action.STORE_BUSY]
    expected_logs.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(face.write, lambda: None)
        await trio.sleep(SAID_AFTER * 3)
        world.host.execute("COMMIT")
    assert [r.action for r in expected_logs] == [Action.STORE_BUSY, Action.STORE_FREE]


async def test_unwritable_stays_said_until_a_write_has_succeeded(
    world, autojump_clock, expected_logs
):
    face = AsyncStore(world.store(), commit=storage.inline)
    real = face.store.commit

    def commit() -> None:
        raise StoreUnwritable("full")

    face.store.commit = commit
    with trio.move_on_after(3):
        await face.write(lambda: None)
    assert face.unwritable
    face.store.commit = real
    await face.write(lambda: None)
    assert not face.unwritable
    assert [r.action for r in expected_logs] == [Action.STORE_UNWRITABLE, Action.STORE_WRITABLE]


class FakeStore:
    """Records nothing but the sizes of batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open = False
        self.odd = -1

    def check_file(self) -> None: ...

    def wal_pages(self) -> int:
        return 0

    def begin(self) -> None:
        assert not self.open
        self.open = True

    def commit(self) -> None:
        assert self.open
        self.open = False

    def rollback(self) -> None:
        self.open = False

    def seal(self) -> None:
        assert self.open

    def examine(self, records) -> object:
        assert not self.open
        return len(records)

    def record(self, records, _now, ahead) -> Recorded:
        assert ahead == len(records)
        self.batches.append(len(records))
        changed = tuple(
            BodyChanged(r.delivery, "acme", "evt_1") for r in records if r.delivery == self.odd
        )
        return Recorded({}, frozenset({SubscriptionKey(1)}), changed)


class Desk:
    """A recorder on a fake store, whose commits take 10 ms of virtual time."""

    def __init__(self, world, max_unrecorded: int = 1_000) -> None:
        self.store = FakeStore()
        self.ready: list[frozenset[int]] = []
        self.notices: list[tuple[Notice, ...]] = []
        self.told: list[int] = []

        async def slow(commit) -> None:
            await trio.sleep(0.010)
            commit()

        self.recorder = Recorder(
            AsyncStore(self.store, commit=slow),
            world.clock,
            max_unrecorded=max_unrecorded,
            on_ready=self.ready.append,
            on_notices=self.notices.append,
        )

    async def outcome(self, delivery: int, seconds: float = 0.0) -> None:
        await self.recorder.place()
        await trio.sleep(seconds)
        move = Move(Happening.SUCCEEDED, 1, attempted_at=1)
        self.recorder.put(Outcome(Record(delivery, move, None), self.told.append))


async def test_outcomes_gather_while_a_commit_is_under_way(world, autojump_clock):
    desk = Desk(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.recorder.run)
        for n in range(60):
            nursery.start_soon(desk.outcome, n, n / 1000)
        await trio.sleep(1)
        desk.recorder.close()
    assert sum(desk.store.batches) == 60
    assert len(desk.store.batches) < 9
    assert sorted(desk.told) == list(range(60))
    assert desk.ready == [frozenset({1})] * len(desk.store.batches)


async def test_one_outcome_alone_does_not_wait_for_others(world, autojump_clock):
    desk = Desk(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.recorder.run)
        await desk.outcome(1)
        await trio.sleep(0.010 + GATHER / 2)  # the commit takes 10 ms
        assert desk.told == [1]
        nursery.cancel_scope.cancel()


async def test_a_transaction_has_a_bound(world, autojump_clock):
    desk = Desk(world)
    async with trio.open_nursery() as nursery:
        for n in range(2 * BATCH + 7):
            nursery.start_soon(desk.outcome, n)
        await trio.sleep(1)
        assert desk.recorder.unrecorded == 2 * BATCH + 7
        nursery.start_soon(desk.recorder.run)
        await trio.sleep(1)
        desk.recorder.close()
    assert desk.store.batches == [BATCH, BATCH, 7]


async def test_no_more_places_than_agreed(world, autojump_clock):
    desk = Desk(world, max_unrecorded=5)
    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(desk.outcome, n)
        await trio.sleep(1)
        assert desk.recorder.unrecorded == 5
        nursery.start_soon(desk.recorder.run)
        await trio.sleep(1)
        assert desk.recorder.unrecorded == 0
        for _ in range(5):
            await desk.recorder.place()
        with trio.move_on_after(1) as scope:
            await desk.recorder.place()
        assert scope.cancelled_caught
        desk.recorder.leave()
        await desk.recorder.place()
        desk.recorder.close()
    assert sorted(desk.told) == list(range(8))


async def test_close_records_what_there_is(world, autojump_clock, expected_logs):
    desk = Desk(world)
    desk.store.odd = 13
    for n in range(BATCH + 20):
        await desk.outcome(n)
    desk.recorder.close()
    await desk.recorder.run()
    assert desk.store.batches == [BATCH, 20]
    warnings = [r for r in expected_logs if r.levelno >= logging.WARNING]
    said = {"subscription": "acme", "delivery": 13, "event": "evt_1"}
    assert [(r.action, r.fields) for r in warnings] == [(Action.BODY_CHANGED, said)]


async def test_closed_with_nothing_to_record_it_ends(world, autojump_clock):
    desk = Desk(world)
    desk.recorder.close()
    await desk.recorder.run()
    assert desk.store.batches == []


async def test_E18_without_a_thread_a_commit_is_made_on_the_spot(monkeypatch):
    async def refuse(_work):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(storage.trio.to_thread, "run_sync", refuse)
    made = []
    await storage.in_thread(lambda: made.append(threading.current_thread()))
    assert made == [threading.current_thread()]


async def test_E18_a_commit_that_was_begun_is_not_made_twice():
    made = []

    def commit():
        made.append(1)
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        await storage.in_thread(commit)
    assert made == [1]


async def test_it_is_looked_once_and_where_the_lock_is_waited_for_things_are_read_under_it(
    autojump_clock,
):
    """A look may take long, and the host's lock be free for a moment only."""
    store, tries, looks = FakeStore(), [], []

    def begin() -> None:
        tries.append(len(looks))
        if len(tries) < 50:
            raise StoreBusy("the host commits")
        store.open = True

    store.begin = begin
    face = AsyncStore(store, commit=storage.inline)
    assert await face.write_after(lambda: looks.append(store.open), lambda found: (found,)) == (
        None,
    )
    assert looks == [False]
    assert len(tries) == 50


@pytest.mark.parametrize("error", [Stale, StoreBusy, StoreUnwritable])
async def test_what_was_found_ahead_is_used_for_one_try(autojump_clock, expected_logs, error):
    store, undone, given = FakeStore(), [], []
    store.rollback = lambda: (undone.append(store.open), setattr(store, "open", False))

    def work(found: str | None) -> str:
        assert store.open
        given.append(found)
        if found is not None:
            raise error("it is not so any more")
        return "read under the lock"

    face = AsyncStore(store, commit=storage.inline)
    begun = trio.current_time()
    assert await face.write_after(lambda: "ahead", work) == "read under the lock"
    assert (given, undone) == (["ahead", None], [True])
    assert (trio.current_time() == begun) is (error is Stale), "nobody has to be waited for"
