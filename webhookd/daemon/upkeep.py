"""What time does without anyone's asking: deliveries expire, lines pass, clocks jump.

One task that looks every few seconds, by indexes and on the connection that reads; only what is
found is written. The limits themselves are exact where they matter: a lane sends nothing that has
expired, whenever it was looked at last.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from webhookd.core.model import Millis
from webhookd.core.retry import longest_wait
from webhookd.core.storage import Step
from webhookd.daemon.clock import Clock
from webhookd.daemon.roster import Member
from webhookd.daemon.storage import AsyncStore
from webhookd.daemon.supervisor import A_BREATH, Supervisor
from webhookd.errors import OutboxUnreadable, StoreBusy
from webhookd.logs.actions import Action, log

EVERY: Final = 5.0
"""Seconds between two looks."""

LOOKS_AT_THE_CLOCK: Final = 5
"""In that time: until a jump is noticed, a failed attempt is judged by the new clock."""

ANNOUNCE_EVERY: Final = 60.0
"""Seconds between two summaries of rejected rows."""

JUMP: Final = 2_000
"""Milliseconds by which the wall clock may stray from Trio's between two looks: more was a jump."""


class Upkeep:
    """Looks after what is owed while nothing happens."""

    def __init__(self, store: AsyncStore, supervisor: Supervisor, clock: Clock) -> None:
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._announced = -ANNOUNCE_EVERY
        self._drift: Millis | None = None

    async def run(self) -> None:
        """Look at the clock every second, at the rest every few seconds, until cancelled.

        Raises:
            DatabaseError: the file is no longer usable, or another one.
        """
        while True:
            for _ in range(LOOKS_AT_THE_CLOCK):
                await trio.sleep(EVERY / LOOKS_AT_THE_CLOCK)
                await self._look(self._notice_jump)
            await self._look(self._expire)
            await self._look(self._let_pass)
            await self._look(self._announce)

    async def _look(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do one thing; outside WAL mode a writer may keep us from looking until the next time."""
        with suppress(StoreBusy):
            await work()

    async def _notice_jump(self) -> None:
        drift = self._clock.now() - round(trio.current_time() * 1000)
        before = self._drift
        if before is None:  # it may have jumped while nobody looked
            await self._bring_forward()
        elif abs(drift - before) >= JUMP:
            await self._bring_forward()
            by, store = drift - before, self._store.store
            await self._do(lambda: store.shift_health(by, self._clock.now()))
            log(Action.CLOCK_JUMPED, logging.WARNING, by_ms=by)
            self._supervisor.clock_jumped()
        self._drift = drift  # not before all is done: what could not be read is looked at again

    async def _bring_forward(self) -> None:
        """Make due in time what a clock that was ahead has put off for longer than any delay."""
        for count, key in enumerate(self._store.store.waiting(), 1):
            member = self._supervisor.member(key)
            if member is not None:
                await self._bring_one_forward(member)
            if count % A_BREATH == 0:
                await trio.lowlevel.checkpoint()

    async def _bring_one_forward(self, member: Member) -> None:
        store, key = self._store.store, member.subscription.key
        latest = self._clock.now() + longest_wait(member.subscription.policy)
        last = store.latest_due(key)
        if last is not None and last > latest:
            await self._do(lambda: store.bring_forward(key, latest))

    async def _expire(self) -> None:
        ageing = [one for one in self._supervisor.members if _max_age(one)]
        for count, member in enumerate(ageing, 1):
            if count % A_BREATH == 0:
                await trio.lowlevel.checkpoint()
            key, age = member.subscription.key, _max_age(member)
            if self._store.store.has_expired(key, self._clock.now() - age):
                await self._expire_one(member)

    async def _expire_one(self, member: Member) -> None:
        store, key, age = self._store.store, member.subscription.key, _max_age(member)

        def step() -> Step:
            now = self._clock.now()
            return store.expire(key, now - age, now)

        ended = await self._do(step)
        name = member.subscription.name
        log(Action.DELIVERIES_EXPIRED, logging.WARNING, subscription=name, deliveries=ended)

    async def _let_pass(self) -> None:
        store = self._store.store
        at = store.next_pass()
        if at is not None and at <= self._clock.now():
            passed = await self._do(lambda: store.let_pass(self._clock.now()))
            log(Action.LINES_PASSED, logging.WARNING, deliveries=passed)

    async def _announce(self) -> None:
        store = self._store.store
        if trio.current_time() - self._announced < ANNOUNCE_EVERY:
            return
        with suppress(OutboxUnreadable):  # the tailer tells of that
            if store.outlook().unannounced:
                self._announced = trio.current_time()
                await self._do(lambda: store.announce_rejected(self._clock.now()))

    async def _do(self, step: Callable[[], Step]) -> int:
        """Take steps until there is no more to do; returns the rows that they changed."""
        rows, more = 0, True
        while more:
            done = await self._store.write(step)
            rows, more = rows + done.rows, done.more
            self._supervisor.wake(done.ready)
        return rows


def _max_age(member: Member) -> Millis:
    return member.subscription.policy.max_age
