"""What time does without anyone's asking: deliveries expire, lines pass, clocks jump.

One task looks every few seconds, by indexes and on the connection that reads; only what is found is
written. The limits themselves are exact where they matter: a lane sends nothing that has expired,
whenever it was looked at last.

Of a subscription nothing is asked before its time can have come. What it is owed expires no sooner
than the oldest of it does. What is due too late was made so by another policy or by a clock that
was ahead, so that is looked for at the start and after a change of either. A few are looked at in
each round all the same, in turn: what a round costs does not grow with the subscriptions.

The clock has a task of its own, which never waits for the file: whoever holds its lock must not
keep a jump from being noticed.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from webhookd.core.model import Millis, Policy, SubscriptionKey
from webhookd.core.retry import longest_wait
from webhookd.core.storage import NO_STEP, Step
from webhookd.core.times import LATEST
from webhookd.daemon.clock import Clock, Steadiness, next_tick
from webhookd.daemon.rounds import A_BREATH, BEFORE_THE_FIRST
from webhookd.daemon.storage import AsyncStore
from webhookd.daemon.supervisor import Supervisor
from webhookd.errors import StoreBusy
from webhookd.logs.actions import Action, log

EVERY: Final = 5.0
"""Seconds between two looks."""

A_FEW: Final = 100
"""Subscriptions that wait, and that a round looks at whatever is known of them."""

CLOCK_EVERY: Final = 1.0
"""Seconds between two looks at the clock: until a jump is noticed, a failed attempt is judged by
the new one."""

ANNOUNCE_EVERY: Final = 60.0
"""Seconds between two summaries of rejected rows."""


class Upkeep:
    """Looks after what is owed while nothing happens."""

    def __init__(
        self,
        store: AsyncStore,
        supervisor: Supervisor,
        clock: Clock,
        steadiness: Steadiness,
        has_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`has_stopped`: whether ingest has, and says why; that is not to be told twice."""
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._steadiness = steadiness
        self._has_stopped = has_stopped
        self._announced = -ANNOUNCE_EVERY
        self._captures: tuple[str, ...] = ()
        """What is wrong with captures, one line each."""
        self._outbox: tuple[str, ...] = ()
        """Why the next start would be refused."""
        self._judged_by: dict[SubscriptionKey, Policy | None] | None = None
        """By which policy nothing of a subscription is due too late; None: all are to be judged."""
        self._expiry: dict[SubscriptionKey, tuple[Policy, Millis]] = {}
        """When the first of what a subscription is owed can expire, by which policy."""
        self._turn = BEFORE_THE_FIRST
        """After whom the next few come that are looked at whatever is known of them."""
        self._jumped_by: Millis = 0
        """How far it has jumped since the file's moments were moved."""
        self._jump = trio.Event()

    @property
    def problems(self) -> tuple[str, ...]:
        """What the host's migrations have broken, one line each."""
        return *(() if self._has_stopped() else self._outbox), *self._captures

    async def run(self) -> None:
        """Look every few seconds, until cancelled; soon at first, for much may lie behind.

        Raises:
            DatabaseError: the file is no longer usable, or another one.
        """
        await trio.sleep(CLOCK_EVERY)
        while True:
            begun = trio.current_time()
            for work in (self._bring_forward, self._expire, self._let_pass, self._announce):
                await self._look(work)
            with suppress(StoreBusy):
                self._look_at_schema()
            # A round that had to wait for the file is followed by another one at once.
            await trio.sleep(max(0.0, begun + EVERY - trio.current_time()))

    async def watch_clock(self) -> None:
        """Notice within a second when the wall clock jumps, until cancelled.

        Raises:
            DatabaseError: as `run`.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_jumps, name="jumps")
            while True:
                await trio.sleep_until(next_tick(CLOCK_EVERY))
                by = self._steadiness.jumped()
                if by:
                    log(Action.CLOCK_JUMPED, logging.WARNING, by_ms=by)
                    self._supervisor.clock_jumped()
                    self._begin_anew()
                    self._jumped_by += by
                    self._jump.set()

    async def _look(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do one thing; outside WAL mode a writer may keep us from looking until the next time."""
        with suppress(StoreBusy):
            await work()

    def _look_at_schema(self) -> None:
        """Say what the host's migrations have broken: a change that is not said is not seen."""
        store = self._store.store
        if not self._has_stopped():
            before, self._outbox = self._outbox, store.outbox_faults()
            _tell(before, self._outbox, Action.OUTBOX_UNFIT, Action.OUTBOX_FIT)
        before, self._captures = self._captures, store.capture_faults()
        _tell(before, self._captures, Action.CAPTURE_BROKEN, Action.CAPTURE_WHOLE)

    async def _follow_jumps(self) -> None:
        """Write down what follows from a jump, as soon as the file can be had."""
        while True:
            await self._jump.wait()
            self._jump = trio.Event()
            await self._shift_health()
            self._begin_anew()  # a round may have looked before the jump
            await self._look(self._bring_forward)
            self._supervisor.clock_jumped()  # holds, too, were set by another clock

    async def _shift_health(self) -> None:
        """Move all health by what the clock has jumped until the first step was taken.

        What it jumps amid the steps is for the next round: some have had their turn by then.
        """
        store, by = self._store.store, 0

        def first() -> Step:
            nonlocal by
            by = self._jumped_by
            return store.shift_health(by, self._clock.now())

        def further() -> Step:
            since = self._jumped_by - by
            return store.shift_health(by, self._clock.now() - since)

        begun = await self._store.write(first)
        if begun.more:
            await self._do(further)
        self._jumped_by -= by

    def _begin_anew(self) -> None:
        """Look at all that wait, whatever is known of them."""
        self._judged_by, self._expiry = None, {}

    async def _bring_forward(self) -> None:
        """Make due in time what a clock that was ahead has put off for longer than any delay."""
        stored, policy = self._supervisor.subscriptions, self._supervisor.policy
        judged_by = {one.key: policy(one.key) for one in stored}
        before = self._judged_by
        if before is None:
            # From here on; what changes on the way is for the next look.
            self._judged_by = judged_by
            try:
                await self._bring_all_forward()
            except BaseException:
                self._judged_by = None
                raise
            return
        others = [
            (key, by) for key, by in judged_by.items() if key not in before or before[key] is not by
        ]
        for count, (key, by) in enumerate(others, 1):
            await self._bring_one_forward(key)
            before[key] = by
            if count % A_BREATH == 0:
                await trio.lowlevel.checkpoint()
        if len(before) > len(judged_by):
            for gone in before.keys() - judged_by.keys():
                del before[gone]
            for gone in self._expiry.keys() - judged_by.keys():
                del self._expiry[gone]
        page = self._store.store.waiting(self._turn, A_FEW)
        self._turn = page[-1] if len(page) == A_FEW else BEFORE_THE_FIRST
        for key in page:
            self._expiry.pop(key, None)
            await self._bring_one_forward(key)

    async def _bring_all_forward(self) -> None:
        after, full = BEFORE_THE_FIRST, True
        while full:
            keys = self._store.store.waiting(after, A_BREATH)
            for key in keys:
                await self._bring_one_forward(key)
            full = len(keys) == A_BREATH
            if full:
                after = keys[-1]
                await trio.lowlevel.checkpoint()

    async def _bring_one_forward(self, key: SubscriptionKey) -> None:
        store, now = self._store.store, self._clock.now()
        policy = self._supervisor.policy(key)
        first = store.latest_due(key, False)
        late = first is not None and first > now
        # Where the delays are not known, they are not judged either.
        latest = LATEST if policy is None else now + longest_wait(policy)
        again = store.latest_due(key, True)
        late = late or (again is not None and again > latest)
        if late:
            # What comes in meanwhile is due at its own time, and not too late for that.
            await self._do(
                lambda: store.bring_forward(key, now, latest, max(0, self._clock.now() - now))
            )

    async def _expire(self) -> None:
        """End what is owed for too long, whoever may be sent anything or not."""
        for count, one in enumerate(list(self._supervisor.subscriptions), 1):
            if count % A_BREATH == 0:
                await trio.lowlevel.checkpoint()
            policy = self._supervisor.policy(one.key)
            if policy is None or not policy.max_age or not self._steadiness.is_trusted:
                continue
            judged_by, at = self._expiry.get(one.key, (None, 0))
            if judged_by is policy and self._clock.now() < at:
                continue
            await self._expire_one(one.key, one.name, policy)

    async def _expire_one(self, key: SubscriptionKey, name: str, policy: Policy) -> None:
        store, now = self._store.store, self._clock.now()
        # What it will be owed is younger than what it is.
        since = store.owed_since(key)
        at = (now if since is None else since) + policy.max_age
        self._expiry[key] = policy, at
        if at > now:
            return

        def step() -> Step:
            # It may have been waited for, and more may have come in since the step before.
            policy = self._supervisor.policy(key)
            if policy is None or not policy.max_age or not self._steadiness.is_trusted:
                return NO_STEP
            now = self._clock.now()
            return store.expire(key, now - policy.max_age, now)

        ended = await self._do(step)
        if ended:
            log(Action.DELIVERIES_EXPIRED, logging.WARNING, subscription=name, deliveries=ended)

    async def _let_pass(self) -> None:
        store = self._store.store
        at = store.next_pass()
        if at is None or at > self._clock.now():
            return
        passed: Counter[SubscriptionKey] = Counter()
        await self._do(
            lambda: store.let_pass(self._clock.now()), lambda done: passed.update(dict(done.whose))
        )
        for one in self._supervisor.subscriptions if passed else ():
            if one.key in passed:
                log(
                    Action.LINES_PASSED,
                    logging.WARNING,
                    subscription=one.name,
                    deliveries=passed[one.key],
                )

    async def _announce(self) -> None:
        store = self._store.store
        if trio.current_time() - self._announced < ANNOUNCE_EVERY:
            return
        if store.outlook().unannounced:
            self._announced = trio.current_time()
            await self._do(lambda: store.announce_rejected(self._clock.now()))

    async def _do(
        self, step: Callable[[], Step], note: Callable[[Step], None] = lambda _: None
    ) -> int:
        """Take steps until there is no more to do; returns the rows that they changed.

        `note` is told of each that is committed.
        """
        rows, more = 0, True
        while more:
            done = await self._store.write(step)
            rows, more = rows + done.rows, done.more
            note(done)
            self._supervisor.wake(done.ready)
        return rows


def _tell(before: tuple[str, ...], now: tuple[str, ...], broken: Action, whole: Action) -> None:
    """A line for each fault that is new, and one when none is left."""
    for one in now:
        if one not in before:
            log(broken, logging.ERROR, detail=one)
    if before and not now:
        log(whole, logging.INFO)
