"""The async face of the store: one writer at a time, patience with the host, commits in a thread.

Statements run inline, microseconds each; only the commit, which waits for the disk, goes to a
thread, so that deliveries go on meanwhile. The host's lock is waited for here and nowhere else:
without limit, because nothing may be lost, and with jitter, because SQLite's lock is not fair and
two programs that retry in step would starve each other.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import trio
import trio.to_thread

from webhookd.core.storage import Checkpointed
from webhookd.core.store import Stale, Store
from webhookd.daemon.clock import next_tick
from webhookd.errors import StoreBusy, StoreUnwritable
from webhookd.logs.actions import Action, log

FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.050
"""Seconds between two tries for a busy lock: a pause of 1 ms of the host's is enough to get in."""

HOST_EVERY: Final = 1.0
HOST_SHARE: Final = 0.5
HOST_GAP: Final = 0.110
"""Seconds: once in `HOST_EVERY`, if the lock was held for more than `HOST_SHARE` of it, it is left
alone for `HOST_GAP`. A host that waits for it sleeps up to 100 ms between its tries, and could
find it taken at each of them until its patience ends."""

UNWRITABLE_PAUSE: Final = 1.0
"""Seconds between two tries on a full disk or a read-only file."""

SAID_AFTER: Final = 5.0
"""Seconds of waiting after which the log says so, once a wait."""

CHECKPOINT_PAGES: Final = 600
"""Pages of write-ahead log that are worth a checkpoint. SQLite's own habit is 1,000, and a commit
adds up to some 400: so it is seldom a commit of the host's that has to do it."""

THREAD_EVERY: Final = 5.0
"""Seconds between two calls of a thread that do nothing."""

LONGEST_COMMIT: Final = 300.0
"""Seconds after which a commit that has not come back is no longer the disk's slowness."""

A = TypeVar("A")
T = TypeVar("T")
Commit = Callable[[Callable[[], None]], Awaitable[None]]


async def in_thread(commit: Callable[[], None]) -> None:
    """Run a commit in a worker thread; never abandoned, so the outcome is always known.

    Where the machine gives no thread any more (TasksMax, ulimit -u) it is run on the spot.
    """
    begun = False

    def work() -> None:
        nonlocal begun
        begun = True
        commit()

    try:
        await trio.to_thread.run_sync(work)
    except RuntimeError:  # "can't start new thread"
        if begun:
            raise
        await inline(commit)


async def keep_thread() -> None:
    """Have a worker thread at hand, until cancelled.

    Trio ends one that was idle for ten seconds, and to start another one takes longer than a
    commit: the first event after a silence would wait for that.
    """
    while True:
        await in_thread(lambda: None)
        await trio.sleep_until(next_tick(THREAD_EVERY))


async def inline(commit: Callable[[], None]) -> None:
    """Run a commit on the spot: for virtual time, whose clock would jump while a thread works."""
    commit()
    await trio.lowlevel.checkpoint()


class AsyncStore:
    """Writes to a store, one transaction at a time, in the order of asking."""

    def __init__(
        self,
        store: Store,
        *,
        commit: Commit = in_thread,
        on_commit: Callable[[], None] = lambda: None,
        dice: random.Random | None = None,
    ) -> None:
        """Args:
        store: reading methods may be called on it at any time.
        commit: how the blocking commit is run.
        on_commit: called after each commit, before anything else happens.
        dice: for the jitter of waits.
        """
        self.store = store
        self._commit = commit
        self._on_commit = on_commit
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._turn = trio.Lock()
        self._begun = 0.0
        self._held = 0.0
        self._counting_since = -HOST_EVERY
        self._waiting_since: float | None = None
        self._waits = trio.Event()
        self._in_thread_since: float | None = None
        self._is_committing = False
        self._checkpoint_at = CHECKPOINT_PAGES
        self._log_is_long = trio.Event()
        self._said = False
        self._in_doubt = False
        self.on_doubt: Callable[[], None] = lambda: None
        """Called after a commit that followed one which failed, and yet may have been made: what
        its work returned is lost, so all that is due must be looked for again."""
        self.unwritable = False
        """The last try met a full disk or a read-only file."""

    @property
    def wait_seconds(self) -> float:
        """How long the write that is waiting for the file has waited; 0 when none does."""
        since = self._waiting_since
        return 0.0 if since is None else trio.current_time() - since

    async def waits(self) -> None:
        """Return once a write waits for the file; at once if one does."""
        await self._waits.wait()

    @property
    def is_held_up(self) -> bool:
        """Whether writes wait for the host, for room or rights, or for the disk."""
        since = self._in_thread_since
        works = since is not None and trio.current_time() - since < LONGEST_COMMIT
        return works or self._waiting_since is not None

    @property
    def is_committing(self) -> bool:
        """Whether a commit is under way: until it has ended nobody else's can be."""
        return self._is_committing

    async def log_is_long(self) -> None:
        """Return once a commit has left so much in the write-ahead log that `checkpoint` is due."""
        await self._log_is_long.wait()

    async def write(self, work: Callable[[], T]) -> T:
        """Run `work` in a transaction of its own and make it durable.

        `work` is called again from the start when the disk fills up at the commit, so it must
        keep nothing from an earlier call. When this is cancelled nothing has been written, but
        for a commit that is under way: that one is always finished.

        Raises:
            DatabaseError: the file is no longer usable, or another one.
            OutboxUnreadable: `work` met an outbox that is not as agreed.
        """
        return await self.write_after(lambda: None, lambda _: work())

    async def write_after(self, look: Callable[[], A], work: Callable[[A | None], T]) -> T:
        """The same, with what `look` finds right before the lock is taken.

        What can be read and worked out there keeps the host waiting for nothing. It is looked but
        once: where the lock has to be waited for, and where what was found is not so any more,
        `work` is called with None and reads under the lock.
        """
        ahead: Callable[[], A] | None = look
        async with self._turn:
            await self._let_the_host_in()
            try:
                while True:
                    once, ahead = ahead, None
                    try:
                        result = work(await self._begin(once))
                        # Here, because a thread waits for its turn with each statement.
                        self.store.seal()
                        await self._make_durable()
                    except Stale:
                        self.store.rollback()
                        continue
                    except StoreBusy as error:
                        # At the commit, outside WAL mode: somebody reads. To wait for them with
                        # the transaction open would keep every new reader out meanwhile.
                        self.store.rollback()
                        await self._pause(LONGEST_PAUSE * (0.5 + self._dice.random()), error)
                        continue
                    except StoreUnwritable as error:
                        self.store.rollback()
                        self._in_doubt = True
                        await self._pause(UNWRITABLE_PAUSE, error)
                        continue
                    except BaseException:
                        self.store.rollback()
                        raise
                    self._held += trio.current_time() - self._begun
                    self._on_commit()
                    self._is_over()
                    self._look_at_log()
                    if self._in_doubt:
                        self._in_doubt = False
                        self.on_doubt()
                    return result
            finally:
                if self._waits.is_set():
                    self._waits = trio.Event()
                self._waiting_since = None
                self._said = False

    async def checkpoint(self, *, truncate: bool, alone: bool = False) -> Checkpointed | None:
        """Bring the write-ahead log into the file, in a thread: see `Store.checkpoint`.

        With `truncate` it takes its turn among the writes, for it would be in their way; with
        `alone` because they would be in its own: while they go on, the log never begins again.

        Raises:
            StoreBusy: somebody is in the way; it is not waited for.
            StoreUnwritable: the disk is full or the file read-only.
            DatabaseError: the file is no longer usable, or another one.
        """
        done: Checkpointed | None = None

        def work() -> None:
            nonlocal done
            done = self.store.checkpoint(truncate=truncate)

        if truncate or alone:
            async with self._turn:
                self._log_is_long = trio.Event()
                try:
                    await self._run_in_turn(work)
                finally:
                    # What readers keep from being done is tried again once there is more of it.
                    self._checkpoint_at = self.store.wal_pages() + CHECKPOINT_PAGES
        else:
            await self._run(work)
        return done

    async def _begin(self, look: Callable[[], A] | None) -> A | None:
        """Take the lock, once the host lets us; returns what `look` found if it did at once."""
        pause = FIRST_PAUSE
        while True:
            try:
                # However long it was waited for, nothing is written to a file that was replaced.
                self.store.check_file()
                found = None if look is None else look()
                self.store.begin()
            except StoreBusy as error:
                # A look may take long, and the host's lock be free for a moment only.
                look = None
                await self._pause(pause * (0.5 + self._dice.random()), error)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._begun = trio.current_time()
                return found

    async def _let_the_host_in(self) -> None:
        now = trio.current_time()
        if now - self._counting_since < HOST_EVERY:
            return
        share = self._held / (now - self._counting_since)
        self._held = 0.0
        if share > HOST_SHARE:
            await trio.sleep(HOST_GAP)
        self._counting_since = trio.current_time()

    async def _make_durable(self) -> None:
        self._is_committing = True
        try:
            await self._run_in_turn(self.store.commit)
        finally:
            self._is_committing = False

    async def _run_in_turn(self, blocking: Callable[[], None]) -> None:
        self._in_thread_since = trio.current_time()
        try:
            await self._run(blocking)
        finally:
            self._in_thread_since = None

    async def _run(self, blocking: Callable[[], None]) -> None:
        with trio.CancelScope(shield=True):
            await self._commit(blocking)

    def _look_at_log(self) -> None:
        """After a commit, which must not wait for a checkpoint: say so when one is due."""
        pages = 0
        with suppress(StoreBusy, StoreUnwritable):  # it is committed, whatever comes now
            pages = self.store.wal_pages()
        self._checkpoint_at = min(self._checkpoint_at, pages + CHECKPOINT_PAGES)
        if pages >= self._checkpoint_at:
            self._log_is_long.set()

    async def _pause(self, seconds: float, error: StoreBusy | StoreUnwritable) -> None:
        now = trio.current_time()
        if self._waiting_since is None:
            self._waiting_since = now
            self._waits.set()
        if isinstance(error, StoreUnwritable) and not self.unwritable:
            self.unwritable = True
            log(Action.STORE_UNWRITABLE, logging.ERROR, detail=str(error))
        waited = now - self._waiting_since
        if isinstance(error, StoreBusy) and waited >= SAID_AFTER and not self._said:
            self._said = True
            log(Action.STORE_BUSY, logging.WARNING, detail=str(error), waited_s=round(waited, 1))
        await trio.sleep(seconds)

    def _is_over(self) -> None:
        """A write has succeeded: what it waited for is over."""
        waited = self.wait_seconds
        if self.unwritable:
            self.unwritable = False
            log(Action.STORE_WRITABLE, logging.INFO, waited_s=round(waited, 1))
        elif self._said:
            log(Action.STORE_FREE, logging.INFO, waited_s=round(waited, 1))
