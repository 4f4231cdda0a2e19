"""Follows the outbox: from a hint that something was written to events and deliveries in the file.

A hint is never trusted and never needed. Whatever comes (inotify, or the slow poll when nothing
does), the tailer looks at the database, and the cursor in it is the truth.
"""

import contextlib
import logging
from typing import Any, Final, Protocol

import trio

from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.status import STOPPED
from webhookd.core.storage import Ingested, Outlook
from webhookd.daemon.clock import Clock, next_tick
from webhookd.daemon.rounds import BEFORE_THE_FIRST
from webhookd.daemon.storage import AsyncStore
from webhookd.daemon.supervisor import Supervisor
from webhookd.errors import OutboxUnreadable, StoreBusy
from webhookd.logs.actions import Action, log

POLL: Final = 0.250
"""Seconds between two looks when no hint comes."""

AT_ONCE: Final = 32
"""Turns of the loop, half a millisecond, in each of which it is looked after a hint: inotify fires
before the row is visible, by what a sync of the disk takes, and no sleep here is below 1 ms."""

LEAST_PAUSE: Final = 0.001
LONGER_PAUSE: Final = 0.005
"""Seconds between looks once several were in vain: a host that writes much, and commits late, gives
hints without end."""
RE_READ: Final = (0.0, 0.001, 0.003)
"""Seconds before the looks after these; all but the first millisecond end with another hint."""

LONGEST_BREATH: Final = 0.050
"""Seconds: the most that passes between two batches. It is as long as the batch before it took,
because SQLite's lock is not fair: a host that waits for it sleeps longer and longer between its
tries, and would find it taken again each time, until its own patience ended."""

OUTBOX_RETRY: Final = 5.0
"""Seconds after which an outbox that could not be read is tried again."""

A_LOAD: Final = 10
LONGEST_REST: Final = 1.0
"""All subscriptions are read again after `A_LOAD` times as long as the last time took, but no more
than so many seconds: changes may come in a stream, and with 10,000 it is a third of a second."""

SWEEP_EVERY: Final = 600.0
"""Seconds between two rounds through the gaps below the cursor."""

REJECTED_LINES: Final = 5
"""Rejected rows of one batch that get a line of their own in the log; the rest is counted."""

NAMED: Final = 20
"""Deliveries that a line about what operators did names."""

DOUBTED_LINES: Final = 5
"""The same for rows whose payload is not made as their type's catalogue says."""


class Hints(Protocol):
    """Something that notices writes to the database from outside."""

    async def wait(self) -> None:
        """Return when there may have been one."""


class Tailer:
    """Brings rows from the outbox to the lanes, and operators' changes too."""

    def __init__(
        self,
        store: AsyncStore,
        supervisor: Supervisor,
        clock: Clock,
        hints: Hints | None,
    ) -> None:
        """Without `hints` there is the slow poll alone."""
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._hints = hints
        self._obeyed: Outlook | None = None
        """What was seen at the last time that operators were obeyed."""
        self._obeyed_at: Millis = 0
        """When it was seen last that this is still so."""
        self._obeying = trio.Lock()
        self._load_from = self._read_from = float("-inf")
        """The times from which on subscriptions, and a broken outbox, are read again."""
        self._is_behind = False
        """What operators changed is not obeyed yet: subscriptions were read a moment ago."""
        self._broken: str = ""
        self._is_settled = False
        """The last look found nothing to do: the next one would not, unless the file changes."""
        self._work_is_left = False
        """A removed subscription may still be owed something, which is to be cancelled."""
        self.turns = 0
        """Grows with every look, and with every batch of one, or of a sweep."""
        self.is_kept_out = False
        """A writer outside WAL mode kept the last look out of the file."""
        self.read = trio.Event()
        """The outbox was looked at for the first time."""
        self.caught_up_at: Millis | None = None
        """The latest moment at which nothing was waiting in the outbox."""
        self.has_more = False
        """The last batch was full: more waits in the outbox."""

    @property
    def problems(self) -> list[str]:
        """Why nothing is ingested; empty while all is well."""
        return [f"{STOPPED}{self._broken}"] if self._broken else []

    async def run(self) -> None:
        """Follow the outbox until cancelled.

        Raises:
            DatabaseError: the file is no longer usable, or another one.
        """
        while True:
            await self._wait_for_change()
            await self.look()

    async def look(self) -> bool:
        """Look, and take in all that is there; what operators changed is obeyed between batches.

        An outbox that cannot be read holds up nothing else.

        Returns:
            Whether it saw all: a writer outside WAL mode keeps readers out, and what operators
            changed may have to wait for a moment. If not, look again soon.
        """
        self.turns += 1
        try:
            # Only what comes after this is news to the next hint.
            settled = not self._has_changed() and self._is_settled and self._store.store.rests()
            if not settled or self._supervisor.is_stale:
                self._is_settled = False
                begun = trio.current_time()
                while await self._step():
                    begun = await _breathe(begun)
            else:
                self._store.store.check_file()
                self.caught_up_at = self._obeyed_at = self._clock.now()
        except StoreBusy:
            self.is_kept_out = True
            return False
        self.is_kept_out = False
        return not self._is_behind

    async def _step(self) -> bool:
        """Obey what operators changed, then take in one batch; returns whether there is more."""
        store = self._store.store
        self.turns += 1
        store.check_file()
        outlook = await self._obey()
        self.read.set()
        more = await self._take_in(outlook)
        if self._work_is_left:
            # A command may have died half-way; the lanes that it concerns have stopped already.
            step = await self._store.write(lambda: store.carry_out(self._clock.now()))
            self._work_is_left = step.more
            self._supervisor.wake(step.ready)
        return more or self._work_is_left

    async def _take_in(self, outlook: Outlook) -> bool:
        """Take in one batch, if there is one and the outbox can be read; whether there is more."""
        store, more = self._store.store, False
        if self._broken and trio.current_time() < self._read_from:
            return False
        if outlook.unreadable:
            self._is_broken(outlook.unreadable)
            return False
        end = outlook.outbox_end
        try:
            # What the sweep found broken is whole only once a whole row could be asked for.
            waits = self._broken or (end is not None and end > outlook.cursor)
            self._is_settled = not (waits or self._is_behind)
            if waits:
                done = await self._store.write_after(
                    lambda: store.fresh(self._clock.now()),
                    lambda ahead: store.ingest(self._clock.now(), ahead),
                )
                self._tell(done)
                more = done.more
        except OutboxUnreadable as error:
            self._is_broken(str(error))
            return False
        self._is_whole()
        self.has_more = more
        if not more:
            self.caught_up_at = self._clock.now()
        return more

    async def _obey(self) -> Outlook:
        """Let the lanes know what operators changed, if they did."""
        async with self._obeying:
            seen_at = self._clock.now()
            outlook, before = self._store.store.outlook(), self._obeyed
            if before is None or outlook.roll != before.roll or self._supervisor.is_stale:
                begun = trio.current_time()
                self._is_behind = begun < self._load_from
                if self._is_behind:
                    return outlook  # it is still news at the next look
                await self._supervisor.load()
                now = trio.current_time()
                self._load_from = now + min(A_LOAD * (now - begun), LONGEST_REST)
                self._work_is_left = True
            elif outlook.control != before.control:
                self._supervisor.reread()
            await self._tell_acts(outlook)
            self._obeyed, self._obeyed_at = outlook, seen_at
        return outlook

    async def _tell_acts(self, outlook: Outlook) -> None:
        """Name the single deliveries that operators have changed since they were obeyed last."""
        before = self._obeyed
        if before is None:
            return
        # Every act moves `control`; those on subscriptions move `roll` too.
        acts = outlook.control - before.control - (outlook.roll - before.roll)
        if acts > 0:
            now, store = self._clock.now(), self._store.store
            changed = store.acted_on(before.sequence, NAMED)
            place: SubscriptionKey | None = BEFORE_THE_FIRST
            while place is not None and len(changed) < NAMED:
                found, place = store.hastened(place, self._obeyed_at, now, NAMED - len(changed))
                changed += found
                await trio.lowlevel.checkpoint()  # with thousands that wait, others get their turn
            log(Action.DELIVERIES_CHANGED, logging.INFO, acts=acts, deliveries=[*map(int, changed)])

    async def obey_forever(self) -> None:
        """Obey operators while a write waits for the file: reading needs no lock, nor does a pause.

        Raises:
            DatabaseError: as `run`.
        """
        while True:
            await self._store.waits()
            await trio.sleep(POLL)
            if self._store.wait_seconds:
                with contextlib.suppress(StoreBusy):
                    await self._obey()

    async def sweep(self) -> None:
        """Look into the gaps below the cursor, once round.

        Raises:
            DatabaseError: as `run`.
        """
        store = self._store.store
        more = True
        begun = trio.current_time()
        while more:
            try:
                done = await self._store.write(lambda: store.sweep(self._clock.now()))
            except OutboxUnreadable as error:
                self._is_broken(str(error))
                return
            if done.events:
                log(Action.SWEEP_FOUND, logging.WARNING, events=done.events)
            self._tell(done)
            self.turns += 1  # a drain begins with this, however many gaps there are
            more = done.more
            if more:
                begun = await _breathe(begun)

    async def go_round(self) -> None:
        """Look until all of the outbox was seen: where keys do not grow that takes several looks.

        Raises:
            DatabaseError: as `run`.
        """
        begun = trio.current_time()
        while not self._store.store.went_round() and not self._broken:
            if not await self.look():
                await trio.sleep(POLL)
            begun = await _breathe(begun)

    async def sweep_forever(self) -> None:
        """Go through the gaps now and every ten minutes."""
        while True:
            await self.sweep()
            await trio.sleep(SWEEP_EVERY)

    async def _wait_for_change(self) -> None:
        """Return when the file has changed, or when it is time to look anyway."""
        if self._broken:
            await trio.sleep(POLL)  # operators are obeyed as ever
            return
        with trio.move_on_at(next_tick(POLL)):
            if self._hints is None:
                await trio.sleep_forever()
            else:
                await self._hints.wait()
            turns, pauses = AT_ONCE, [*RE_READ]
            while not await self._is_visible(turns) and pauses:
                turns = max(turns // 2, 1)
                await trio.sleep(LEAST_PAUSE if turns > 1 else LONGER_PAUSE)
                with trio.move_on_after(pauses.pop(0)):
                    await self._hints.wait()
                    pauses = [*RE_READ]

    async def _is_visible(self, turns: int) -> bool:
        """Whether anything was committed, looked for in so many turns of the loop."""
        if self._store.is_committing:
            turns = 1  # while we do nobody else can
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
            # A writer outside WAL mode does not let us see yet.
            with contextlib.suppress(StoreBusy):
                if self._has_changed():
                    return True
        return False

    def _has_changed(self) -> bool:
        """Whether something was committed, which is to be looked at then."""
        changed = self._store.store.changed()
        if changed:
            self._is_settled = False
        return changed

    def _tell(self, done: Ingested) -> None:
        if done.events:
            log(
                Action.INGEST_BATCH,
                logging.DEBUG,
                events=done.events,
                deliveries=done.deliveries,
            )
        for row in done.rejected[:REJECTED_LINES]:
            log(
                Action.INGEST_REJECTED,
                logging.WARNING,
                **self._named(row.outbox_id),
                reason=row.reason,
                detail=row.detail,
            )
        if len(done.rejected) > REJECTED_LINES:
            log(
                Action.INGEST_REJECTED,
                logging.WARNING,
                more=len(done.rejected) - REJECTED_LINES,
                see="webhookd events list --rejected",
            )
        if done.guessed_times:
            log(
                Action.INGEST_TIME_GUESSED,
                logging.WARNING,
                rows=len(done.guessed_times),
                first_outbox_id=done.guessed_times[0],
            )
        for doubted in done.doubted[:DOUBTED_LINES]:
            log(
                Action.INGEST_DOUBTED,
                logging.WARNING,
                **self._named(doubted.outbox_id),
                detail=doubted.detail,
            )
        if len(done.doubted) > DOUBTED_LINES:
            log(
                Action.INGEST_DOUBTED,
                logging.WARNING,
                more=len(done.doubted) - DOUBTED_LINES,
                see="webhookd events show",
            )
        if done.ready:
            self._supervisor.wake(done.ready)

    def _named(self, number: int) -> dict[str, Any]:
        """A row by its outbox id, and by the host's own key where that is another."""
        key = None
        with contextlib.suppress(StoreBusy):
            key = self._store.store.outbox_key(number)
        return {"outbox_id": number} | ({} if key is None else {"outbox_key": key})

    def _is_broken(self, why: str) -> None:
        self._read_from = trio.current_time() + OUTBOX_RETRY
        self._is_settled = False
        if self._broken != why:
            self._broken = why
            log(Action.INGEST_STOPPED, logging.ERROR, detail=why)

    def _is_whole(self) -> None:
        if self._broken:
            self._broken = ""
            log(Action.INGEST_RESUMED, logging.INFO)


async def _breathe(begun: float) -> float:
    """Leave the write lock alone for as long as the work since `begun` took; returns the time."""
    await trio.sleep(min(trio.current_time() - begun, LONGEST_BREATH))
    return trio.current_time()
