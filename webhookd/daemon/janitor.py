"""Making room: what is kept no longer goes, free pages too, and the write-ahead log stays small.

All of it can wait, and nothing waits for it. A batch takes its turn among the other writes and
holds the file's lock for some milliseconds; the pause behind it is a multiple of what it took,
longer while there is much to take in or to record. Nothing is taken away by a clock in doubt.
"""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from webhookd.core import wal
from webhookd.core.model import Millis
from webhookd.core.retention import Retention, Work
from webhookd.core.storage import NO_STEP, NOTHING_PRUNED, Checkpointed, Pruned, Step
from webhookd.daemon.clock import Clock, Steadiness
from webhookd.daemon.storage import AsyncStore
from webhookd.errors import OutboxMissing, OutboxUnreadable, StoreBusy, StoreUnwritable
from webhookd.logs.actions import Action, log

EVERY: Final = 10.0
"""Seconds between two rounds."""
WAL_EVERY: Final = 5.0
"""Seconds between two looks at the write-ahead log."""

LEAST_PAUSE: Final = 0.020
"""Seconds between two batches, so that a host that waits for the lock gets it."""
PAUSE: Final = 3.0
BUSY_PAUSE: Final = 9.0
"""The pause as a multiple of the batch before it: a quarter of the time, or a tenth, is ours."""

CHECKPOINT_FROM: Final = 1024 * 1024
"""Bytes of write-ahead log from which on it is brought into the file."""
TRUNCATE_FROM: Final = 8 * 1024 * 1024
"""Bytes from which on it is cut off too: about twice what SQLite's own habit leaves."""
TRUNCATE_EVERY: Final = 10.0
"""Seconds from one of those to the next: nobody can write for a moment."""
TRUNCATE_LEAST_OFTEN: Final = 300.0
"""Where readers were in the way it is tried again at the next look, and then less and less often:
at last so many seconds apart."""
LEFT: Final = 500
"""Pages that it may still have to bring in, in a few ms: where readers overlap some always are."""
READ_LOOKS: Final = 3
"""Looks in a row at which readers kept the log from being emptied before people are told: short
ones that overlap do that too, once."""


class Janitor:
    """Keeps the file as small as what is kept allows."""

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock,
        steadiness: Steadiness,
        *,
        kept: Retention,
        is_busy: Callable[[], bool],
    ) -> None:
        """Args:
        store: the file.
        clock: for ages.
        steadiness: whether that clock can be trusted.
        kept: how long.
        is_busy: whether there is much to take in or to record just then.
        """
        self._store = store
        self._clock = clock
        self._steadiness = steadiness
        self.kept = kept
        """How long each kind is kept, from the next batch on."""
        self._is_busy = is_busy
        self._refused: dict[Work, str] = {}
        """What keeps rows of the outbox where they are, in words."""
        self._wal_is_large: wal.Why | None = None
        self._kept_by_readers = 0
        """Looks in a row at which they kept the log from being emptied."""
        self._truncate_from = float("-inf")
        self._truncate_pause = WAL_EVERY
        """Seconds to the next try, should one be in vain."""

    @property
    def problems(self) -> list[str]:
        """What a person should look at, one line each."""
        found = list(dict.fromkeys(self._refused.values()))
        if self._wal_is_large is not None:
            found.append(self._wal_is_large.value)
        return found

    async def run(self) -> None:
        """Take away what is kept no longer, until cancelled.

        Raises:
            DatabaseError: the file is no longer usable, or another one.
        """
        while True:
            await trio.sleep(EVERY)
            # Outside WAL mode a writer may keep us from looking until the next time.
            with suppress(StoreBusy):
                await self._round()

    async def keep_wal_small(self) -> None:
        """Bring the write-ahead log into the file now and then, until cancelled.

        Raises:
            DatabaseError: as `run`.
        """
        while True:
            with trio.move_on_after(WAL_EVERY):
                await self._follow_commits()
            size = self._store.store.wal_bytes()
            if size < CHECKPOINT_FROM:
                self._tell_of_wal(size, None)
                continue
            # Who is in the way, or fills the disk, is out of it another time.
            with suppress(StoreBusy, StoreUnwritable):
                done = await self._store.checkpoint(truncate=False)
                if done is not None and self._may_truncate(done):
                    done = await self._store.checkpoint(truncate=True)
                    self._note_truncated(done)
                if done is None:
                    self._tell_of_wal(size, wal.Why.LIBRARY)
                else:
                    why = None if done.is_whole else wal.Why.READ
                    self._tell_of_wal(done.wal_bytes, why)

    async def _follow_commits(self) -> None:
        """Do after the daemon's commits, for ever, what would hold them up if they did it."""
        while True:
            await self._store.log_is_long()
            with suppress(StoreBusy, StoreUnwritable):
                await self._store.checkpoint(truncate=False, alone=True)

    def _may_truncate(self, done: Checkpointed) -> bool:
        """Only where little is left to do for it while nobody can write."""
        lately = trio.current_time() < self._truncate_from
        return done.left <= LEFT and done.wal_bytes >= TRUNCATE_FROM and not lately

    def _note_truncated(self, done: Checkpointed | None) -> None:
        """Each try that readers are in the way of keeps the host from writing: try less often."""
        if done is not None and done.wal_bytes < TRUNCATE_FROM:
            self._truncate_from = trio.current_time() + TRUNCATE_EVERY
            self._truncate_pause = WAL_EVERY
        else:
            self._truncate_from = trio.current_time() + self._truncate_pause
            self._truncate_pause = min(2 * self._truncate_pause, TRUNCATE_LEAST_OFTEN)

    def _tell_of_wal(self, size: int, why: wal.Why | None) -> None:
        """`why` it cannot be emptied; None where it can."""
        self._kept_by_readers = self._kept_by_readers + 1 if why is wal.Why.READ else 0
        if 0 < self._kept_by_readers < READ_LOOKS:
            why = None
        is_large = why is not None and size > wal.LARGE
        if is_large and self._wal_is_large is None and why is not None:
            log(Action.STORE_WAL_LARGE, logging.WARNING, bytes=size, detail=why.value)
        self._wal_is_large = why if is_large else None

    async def _round(self) -> None:
        """Everything once. Its moment is fixed: an event is never older than its row was."""
        if not self._steadiness.is_trusted:
            return
        now = self._clock.now()
        gone: Counter[str] = Counter()
        is_missing = False
        for work in Work:
            if work is Work.EVENTS and (is_missing or Work.OUTBOX in self._refused):
                continue  # by them the rows are found again once that is mended
            try:
                await self._prune(work, now, gone)
            except OutboxMissing:  # ingest tells of it, and of its return
                is_missing = True
                self._refused.pop(work, None)
            except OutboxUnreadable as error:
                fault = str(error)
                if fault not in self._refused.values():
                    log(Action.RETENTION_STOPPED, logging.WARNING, detail=fault)
                self._refused[work] = fault
        await self._forget_keys(gone)
        if gone:
            log(Action.RETENTION_PRUNED, logging.INFO, rows=dict(sorted(gone.items())))
        await self._give_back()

    async def _prune(self, work: Work, now: Millis, gone: Counter[str]) -> None:
        store = self._store.store

        def step() -> Pruned:
            if not self._steadiness.is_trusted:  # it may have been waited for
                return NOTHING_PRUNED
            return store.prune(work, self.kept, now)

        more = store.may_prune(work, self.kept, now)
        while more:
            begun = trio.current_time()
            done = await self._store.write(step)
            self._refused.pop(work, None)  # at once: what is owed may take hours
            gone.update(done.rows)
            more = done.more
            await self._pause(begun)
        self._refused.pop(work, None)

    async def _forget_keys(self, gone: Counter[str]) -> None:
        store = self._store.store
        while store.may_forget_keys():
            begun = trio.current_time()
            done = await self._store.write(store.forget_keys)
            gone["keys"] += done.rows
            await self._pause(begun)

    async def _give_back(self) -> None:
        store = self._store.store
        more = store.can_give_back()
        while more:
            begun = trio.current_time()
            done: Step = NO_STEP if self._is_busy() else await self._store.write(store.give_back)
            more = done.more
            await self._pause(begun)

    async def _pause(self, begun: float) -> None:
        """Leave the file to others for longer than it was held."""
        factor = BUSY_PAUSE if self._is_busy() else PAUSE
        await trio.sleep(max(LEAST_PAUSE, factor * (trio.current_time() - begun)))
