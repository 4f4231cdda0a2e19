"""The write-ahead log is brought into the file behind the daemon's commits, not by them."""

import itertools

import pytest
import trio
import trio.testing

from webhookd.core.storage import Checkpointed
from webhookd.daemon import janitor, storage
from webhookd.daemon.storage import AsyncStore
from webhookd.errors import StoreBusy, StoreUnwritable
from webhookd.store import driver

tells = pytest.mark.skipif(
    not driver.tells_of_wal(), reason="this SQLite does not tell how long its write-ahead log is"
)


class Log:
    """A store with nothing in it but the length of its log: each commit adds to that."""

    def __init__(self) -> None:
        self.pages = 0
        self.a_commit = storage.CHECKPOINT_PAGES // 3
        self.kept = 0
        """What a reader keeps from being brought into the file."""
        self.trouble: Exception | None = None
        self.checkpoints: list[int] = []
        self.is_open = False

    def check_file(self) -> None: ...

    def begin(self) -> None:
        self.is_open = True

    def seal(self) -> None: ...

    def commit(self) -> None:
        self.is_open = False
        self.pages += self.a_commit

    def rollback(self) -> None:
        self.is_open = False

    def wal_bytes(self) -> int:
        return 0

    def wal_pages(self) -> int:
        return self.pages

    def checkpoint(self, *, truncate: bool) -> Checkpointed:
        assert not self.is_open
        assert not truncate
        self.checkpoints.append(self.pages)
        if self.trouble is not None:
            raise self.trouble
        self.pages = min(self.pages, self.kept)
        return Checkpointed(0, self.pages, is_whole=not self.pages)


@pytest.fixture
def log() -> Log:
    return Log()


def keeper(store: AsyncStore, world) -> janitor.Janitor:
    return janitor.Janitor(
        store, world.clock, None, kept=world.settings.retention, is_busy=lambda: True
    )


async def commits(store: AsyncStore, count: int) -> None:
    for _ in range(count):
        await store.write(lambda: None)
        await trio.testing.wait_all_tasks_blocked()


async def test_it_comes_once_there_is_enough_of_it(world, log, nursery, autojump_clock):
    store = AsyncStore(log, commit=storage.inline)
    nursery.start_soon(keeper(store, world).keep_wal_small)
    await commits(store, 2)
    assert log.checkpoints == []
    await commits(store, 7)
    assert log.checkpoints == [storage.CHECKPOINT_PAGES] * 3
    assert log.pages == 0


async def test_what_readers_keep_is_not_tried_again_at_each_commit(
    world, log, nursery, autojump_clock
):
    store = AsyncStore(log, commit=storage.inline)
    nursery.start_soon(keeper(store, world).keep_wal_small)
    log.kept = 1_000_000
    await commits(store, 12)
    apart = [later - one for one, later in itertools.pairwise(log.checkpoints)]
    assert len(log.checkpoints) == 4
    assert apart == [storage.CHECKPOINT_PAGES] * 3
    log.kept = 0
    await commits(store, 3)
    assert log.pages == 0, "the readers are gone"
    before = len(log.checkpoints)
    await commits(store, 6)
    assert len(log.checkpoints) == before + 2, "what was kept is forgotten"


@pytest.mark.parametrize("trouble", [StoreBusy("another's"), StoreUnwritable("full")])
async def test_one_that_fails_ends_nothing_and_does_not_spin(
    world, log, nursery, autojump_clock, trouble
):
    store = AsyncStore(log, commit=storage.inline)
    nursery.start_soon(keeper(store, world).keep_wal_small)
    log.trouble = trouble
    await commits(store, 3)
    assert len(log.checkpoints) == 1
    log.trouble = None
    await commits(store, 3)
    assert log.pages == 0


async def test_a_length_that_cannot_be_told_undoes_no_commit(log):
    def wal_pages() -> int:
        raise StoreBusy("just then")

    log.wal_pages = wal_pages
    store = AsyncStore(log, commit=storage.inline)
    made: list[int] = []
    assert await store.write(lambda: made.append(1)) is None
    assert made == [1], "nor is it made twice"


async def test_writes_wait_for_it_and_it_is_no_commit_under_way(log, nursery, autojump_clock):
    goes_on = trio.Event()
    told: list[tuple[str, bool, bool]] = []

    async def slow(work) -> None:
        told.append((work.__name__, store.is_committing, store.is_held_up))
        if work.__name__ == "work":
            await goes_on.wait()
        work()

    store = AsyncStore(log, commit=slow)
    nursery.start_soon(lambda: store.checkpoint(truncate=False, alone=True))
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(store.write, lambda: None)
    await trio.sleep(storage.LONGEST_COMMIT - 1)
    assert told == [("work", False, True)]
    await trio.sleep(2)
    assert not store.is_held_up, "that is not the disk's slowness any more"
    goes_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert told[1:] == [("commit", True, True)]
    assert log.pages == log.a_commit


@tells
async def test_the_daemons_commits_leave_it_to_the_janitor(world, autojump_clock, monkeypatch):
    monkeypatch.setattr(storage, "CHECKPOINT_PAGES", 60)
    world.host.execute("PRAGMA wal_autocheckpoint = 0")
    world.subscribe("a")
    longest = 0
    async with world.running() as daemon:
        for _ in range(100):
            world.insert("x", payload='"' + "x" * 2_000 + '"')
            await trio.sleep(0.05)
            longest = max(longest, daemon.store.store.wal_pages())
        await trio.sleep(1)
        assert len(world.sender.seen) == 100
    assert 60 <= longest < 180


async def test_readers_that_stay_are_waited_for_less_and_less_often(
    world, log, nursery, autojump_clock, monkeypatch
):
    """Each try keeps the host from writing for a moment."""
    tries: list[float] = []

    def checkpoint(*, truncate):
        if truncate:
            tries.append(trio.current_time())
        return Checkpointed(janitor.TRUNCATE_FROM, 0, is_whole=False)

    log.wal_bytes = lambda: janitor.TRUNCATE_FROM
    log.checkpoint = checkpoint
    nursery.start_soon(keeper(AsyncStore(log, commit=storage.inline), world).keep_wal_small)
    await trio.sleep(1_000)
    apart = [round(later - one) for one, later in itertools.pairwise(tries)]
    assert apart == [5, 10, 20, 40, 80, 160, 300, 300]
