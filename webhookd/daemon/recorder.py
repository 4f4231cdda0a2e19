"""Where outcomes of all lanes become one commit.

While one commit is under way the next outcomes gather: the busier the daemon, the more of them
share an fsync. An outcome waits here, in memory, until the file has it; it is never dropped, and a
lane keeps a delivery's line closed until then. At `max_unrecorded` outcomes no more is sent.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from webhookd.core.model import DeliveryId, SubscriptionKey
from webhookd.core.storage import Notice, Record, Recorded
from webhookd.daemon.clock import Clock
from webhookd.daemon.storage import AsyncStore
from webhookd.logs.actions import Action, log

GATHER: Final = 0.004
"""Seconds that outcomes gather while more attempts are under way: about the time of a commit."""

BATCH: Final = 100
"""Outcomes a transaction: about 2 ms of the write lock."""


class Outcome(NamedTuple):
    """An outcome and whom to tell once it is in the file."""

    record: Record
    recorded: Callable[[DeliveryId], None]


class Recorder:
    """Takes outcomes from lanes and gives them to the file, many at a time."""

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock,
        *,
        max_unrecorded: int,
        on_ready: Callable[[frozenset[SubscriptionKey]], None],
        on_notices: Callable[[tuple[Notice, ...]], None],
    ) -> None:
        """Args:
        store: the file.
        clock: for the time of recording.
        max_unrecorded: attempts and unrecorded outcomes at once, over all lanes.
        on_ready: told of subscriptions in which another delivery has come to its line's head.
        on_notices: told of changes in the health of subscriptions, before their lines open again.
        """
        self._store = store
        self._clock = clock
        self._on_ready = on_ready
        self._on_notices = on_notices
        self._outcomes: list[Outcome] = []
        self._arrived = trio.Event()
        self._max_unrecorded = self._room = max_unrecorded
        self._waiting = trio.lowlevel.ParkingLot()
        """Attempts that wait for room; who is woken has it already."""
        self._attempts = 0
        self._closing = False
        self.recorded = 0
        """Outcomes that the file has got so far."""

    @property
    def unrecorded(self) -> int:
        """Outcomes that the file does not have yet."""
        return len(self._outcomes)

    @property
    def has_room(self) -> bool:
        """Whether there is room for one more attempt: `place` returns at once."""
        return self._room > 0

    def place_now(self) -> None:
        """Take room for one attempt, where `has_room` says so; as `place` in all else."""
        self._room -= 1
        self._attempts += 1

    async def place(self) -> None:
        """Wait for room for one more attempt; its `put` (or `leave`) gives the room back."""
        if self._room > 0:
            self.place_now()
            return
        await self._waiting.park()
        self._attempts += 1

    def leave(self) -> None:
        """Give a place back: the attempt was not made after all, or cut off by the shutdown."""
        self._attempts -= 1
        self._make_room()

    def put(self, outcome: Outcome) -> None:
        """Hand over the outcome of an attempt that took its `place` before."""
        self._attempts -= 1
        self._outcomes.append(outcome)
        self._arrived.set()

    def resize(self, max_unrecorded: int) -> None:
        """Have room for so many from now on; what took a place before keeps it."""
        self._room += max_unrecorded - self._max_unrecorded
        self._max_unrecorded = max_unrecorded
        while self._room > 0 and self._waiting:
            self._room -= 1
            self._waiting.unpark()

    def _make_room(self) -> None:
        if self._room >= 0 and self._waiting:
            self._waiting.unpark()
        else:
            self._room += 1

    async def run(self) -> None:
        """Record until `close`; then record what is left and return.

        Raises:
            DatabaseError: the file is no longer usable.
        """
        while True:
            await self._arrived.wait()
            if self._closing and not self._outcomes:
                return
            if self._attempts and len(self._outcomes) < BATCH and not self._closing:
                await trio.sleep(GATHER)
            await self._record(self._outcomes[:BATCH])
            if not self._outcomes and not self._closing:
                self._arrived = trio.Event()

    def close(self) -> None:
        """No more outcomes come: `run` returns once it has recorded what there is."""
        self._closing = True
        self._arrived.set()

    async def _record(self, batch: list[Outcome]) -> None:
        records = [outcome.record for outcome in batch]
        store = self._store.store
        done: Recorded = await self._store.write_after(
            lambda: store.examine(records),
            lambda ahead: store.record(records, self._clock.now(), ahead),
        )
        del self._outcomes[: len(batch)]
        self.recorded += len(batch)
        for one in done.body_changed:
            log(
                Action.BODY_CHANGED,
                logging.WARNING,
                subscription=one.subscription,
                delivery=one.delivery,
                event=one.event,
            )
        if done.notices:
            self._on_notices(done.notices)
        for outcome in batch:
            self._make_room()
            outcome.recorded(outcome.record.delivery)
        if done.ready:
            self._on_ready(done.ready)
