"""The worker thread that is kept at hand for the next commit, and what is told of that commit."""

import itertools
from collections.abc import Callable

import trio
from trio._core._thread_cache import IDLE_TIMEOUT

from webhookd.daemon import storage


async def test_a_thread_is_called_more_often_than_trio_ends_idle_ones(autojump_clock, monkeypatch):
    called: list[float] = []

    async def in_thread(_work: object) -> None:
        called.append(trio.current_time())

    monkeypatch.setattr(storage, "in_thread", in_thread)
    with trio.move_on_after(60):
        await storage.keep_thread()
    assert len(called) > 6
    assert max(later - one for one, later in itertools.pairwise(called)) < IDLE_TIMEOUT


async def test_it_ends_when_it_is_cancelled():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.keep_thread)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_it_is_told_while_a_commit_is_under_way(world):
    told: list[bool] = []

    async def commit(work: Callable[[], None]) -> None:
        told.append(store.is_committing)
        await storage.inline(work)

    store = storage.AsyncStore(world.store(), commit=commit)
    await store.write(lambda: told.append(store.is_committing))
    assert told == [False, True]
    assert not store.is_committing
