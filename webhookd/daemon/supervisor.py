"""Starts a lane when a subscription has something due, and minds the times of all that wait.

Lanes are few: only what is due has one. All others are a line in a table here, and an alarm where
a retry lies ahead.
"""

import logging
import os
from collections.abc import Collection, Iterable
from heapq import nsmallest
from typing import Final

import trio

from webhookd.core import holding
from webhookd.core.health import Change
from webhookd.core.model import Policy, SubscriptionKey, SubscriptionState
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.core.storage import Notice, StoredSubscription
from webhookd.daemon import acts
from webhookd.daemon.alarms import Alarms
from webhookd.daemon.attempt import READ_AGAIN, Shared
from webhookd.daemon.lane import Lane
from webhookd.daemon.pace import Pace
from webhookd.daemon.roster import HeldBack, Member, enroll, refers
from webhookd.daemon.rounds import A_BREATH, BEFORE_THE_FIRST, Rounds
from webhookd.errors import StoreBusy, WebhookdError
from webhookd.logs.actions import Action, log

LOOK_AGAIN: Final = 60_000
"""Milliseconds after which a subscription that is held back is tried again."""

FIRST_RESTART: Final = 1.0
LONGEST_RESTART: Final = 60.0
"""Seconds before a lane that crashed is started again; doubled at each crash in a row."""

FORGOTTEN_AFTER: Final = 3_600.0
"""Seconds after which a bug that has not been met again is no longer told of."""


class Supervisor:
    """Keeps a lane for each subscription that has something due."""

    def __init__(self, shared: Shared, alarms: Alarms, profiles: Known = BUILT_IN) -> None:
        self._shared = shared
        self._profiles = profiles
        self._alarms = alarms
        self._nursery: trio.Nursery | None = None
        self._stored: dict[SubscriptionKey, StoredSubscription] = {}
        self._is_loaded = False
        """`load` was called: what differs from now on was changed while the daemon ran."""
        self._members: dict[SubscriptionKey, Member] = {}
        self._held_back: dict[SubscriptionKey, HeldBack] = {}
        self._lanes: dict[SubscriptionKey, Lane] = {}
        self._crashes: dict[SubscriptionKey, int] = {}
        self._benched: set[SubscriptionKey] = set()
        self._disabled: set[SubscriptionKey] = set()
        """By a rule, a moment ago: `load` has not seen it yet."""
        self._stopping = False
        self._renew = False
        self._renew_all = False
        """The profiles are others than at the last `load`."""
        self._changed = trio.Event()
        self._rounds = Rounds(self._waiting, self.look, self._tell_change)
        self._restarted: dict[str, float] = {}
        """Names of subscriptions whose lane has crashed, with the time of the latest crash."""
        self._troubled: dict[str, float] = {}
        """Names of subscriptions of which an attempt has met a bug, with the time of the latest."""

    @property
    def problems(self) -> list[str]:
        """What keeps subscriptions from being delivered to, one line each."""
        return [
            *(f"the lane of {name} has crashed; see the log" for name in _recent(self._restarted)),
            *(
                f"an attempt for {name} has met a bug of webhookd; see the log"
                for name in _recent(self._troubled)
            ),
            *(holding.told(held.name, held.problem) for held in self._held_back.values()),
        ]

    @property
    def held_back(self) -> list[SubscriptionKey]:
        """Who cannot be delivered to, by key."""
        return sorted(self._held_back)

    @property
    def subscriptions(self) -> Collection[StoredSubscription]:
        """All that there are, whether they can be delivered to or not."""
        return self._stored.values()

    def policy(self, key: SubscriptionKey) -> Policy | None:
        """By what time goes for a subscription; None where nobody knows."""
        member = self._members.get(key)
        if member is not None:
            return member.subscription.policy
        held = self._held_back.get(key)
        return None if held is None else held.policy

    def trouble(self, name: str) -> None:
        """An attempt of this subscription has met a bug."""
        self._troubled[name] = trio.current_time()

    @property
    def is_stale(self) -> bool:
        """Whether `load` is to be called although nothing in the file has changed."""
        return self._renew

    def renew(self, profiles: Known | None = None) -> None:
        """At the next `load` look up secrets that are kept elsewhere anew: they may be others.

        Other `profiles` make every subscription be looked at anew.
        """
        self._renew = True
        if profiles is not None:
            self._profiles = profiles
            self._renew_all = True

    @property
    def is_busy(self) -> bool:
        """Whether any lane runs, or may be about to."""
        return bool(self._lanes) or not self._rounds.is_idle

    @property
    def turns(self) -> int | None:
        """Differs after each attempt that began or ended; None while nobody has to.

        One that is under way for longer than it can be stops it, whatever the others do.
        """
        under_way = self._shared.under_way
        if under_way.is_overdue:
            return -1
        if under_way or self._shared.recorder.unrecorded or not self._lanes:
            return None
        return under_way.turns

    def open(self, nursery: trio.Nursery) -> None:
        """Start lanes in `nursery` from now on: cancel it, and every attempt is cut off."""
        self._nursery = nursery
        nursery.start_soon(self._rounds.run, name="rounds")
        self.look_at_all()

    def close(self) -> None:
        """Start no lane any more: outcomes are still recorded while the daemon ends, and wake."""
        self._nursery = None

    async def load(self) -> None:
        """Read all subscriptions and start what is due. Called at the start and after changes."""
        stored = {one.key: one for one in self._shared.store.subscriptions()}
        before, self._stored = self._stored, stored
        if self._is_loaded:
            acts.tell(before, stored)
        self._is_loaded = True
        self._disabled.clear()
        renew, self._renew = self._renew, False
        renew_all, self._renew_all = self._renew_all, False
        for count, (key, one) in enumerate(stored.items(), 1):
            again = renew_all or (renew and refers(one, self._profiles))
            if before.get(key) != one or key in self._held_back or again:
                self._enroll(one)
            if lane := self._lanes.get(key):
                self._obey(key, lane)
            if count % A_BREATH == 0:
                await trio.lowlevel.checkpoint()
        for key in before.keys() - stored.keys():
            self._members.pop(key, None)
            self._held_back.pop(key, None)
            self._crashes.pop(key, None)
            if lane := self._lanes.get(key):
                lane.stop()  # it is forgotten at its end: an attempt may be under way
            else:
                self._shared.forget(key)
        names = {one.name for one in stored.values()}
        for found in (self._restarted, self._troubled):
            for name in found.keys() - names:
                del found[name]
        self.look_at_all()

    def reread(self) -> None:
        """An operator changed single deliveries: what lanes have read of them is out of date."""
        for lane in self._lanes.values():
            lane.reread()
        self.look_at_all()

    def wake(self, keys: Iterable[SubscriptionKey]) -> None:
        """These have something at the head of a line that may be due."""
        idle = []
        for key in keys:
            lane = self._lanes.get(key)
            if lane is None:
                idle.append(key)
            else:
                lane.news()
        if len(idle) > A_BREATH:
            self._rounds.add(idle)
            return
        for key in idle:
            self._start(key)

    def look(self, key: SubscriptionKey) -> None:
        """Start the subscription's lane if something is due, or set an alarm for when it is."""
        if key in self._lanes:
            self._lanes[key].wake()
            return
        held = self._held_back.get(key)
        if held is not None:
            one = self._stored.get(key)
            if one is not None:
                self._enroll(one)
        if key not in self._members:
            return
        now = self._shared.clock.now()
        try:
            due_at = self._shared.store.next_due(key)
        except StoreBusy:
            due_at = now + READ_AGAIN
        if due_at is None:
            return
        if due_at <= now:
            self._start(key)
        else:
            self._alarms.set(key, due_at)

    def look_at_all(self) -> None:
        """Start whatever is due, whoever was told of it or not."""
        self._rounds.add_all()

    def look_at(self, keys: Iterable[SubscriptionKey]) -> None:
        """These may be sent something again."""
        self._rounds.add(keys)

    async def look_for_due(self) -> bool:
        """Look at who is owed something now, and is not to wait for it; returns whether any is.

        Such a one has no lane for a moment: it waits for its rate limit, or the file could not be
        read. Who waits because of its receiver, this machine or a bug is sent something later.
        """
        found = False
        after, full = BEFORE_THE_FIRST, True
        while full:
            keys = self._waiting(after, A_BREATH)
            for key in keys:
                if self._is_due(key):
                    found = True
                    self.look(key)
            full = len(keys) == A_BREATH
            if full:
                after = keys[-1]
                await trio.lowlevel.checkpoint()
        return found

    def clock_jumped(self) -> None:
        """All alarms were set by another clock: look at everything now."""
        self._shared.other_clocks.forget()
        self._alarms.clear()
        self.reread()
        self.look_at(list(self._held_back))

    def tell(self, notices: tuple[Notice, ...]) -> None:
        """Tell of changes in health; who was disabled is sent nothing more from this moment on."""
        for notice in notices:
            action, level = _TOLD[notice.change]
            log(
                action,
                level,
                subscription=notice.name,
                reason=notice.rule,
                status=notice.last_status,
                fault=notice.last_error or None,
            )
            if notice.change is Change.DISABLED:
                self._disabled.add(notice.subscription)
                if lane := self._lanes.get(notice.subscription):
                    lane.stop()

    def stop(self) -> None:
        """Begin no further attempt; `quiet` returns once those under way are recorded."""
        self._stopping = True
        self._rounds.clear()
        for lane in self._lanes.values():
            lane.stop()

    async def quiet(self) -> None:
        """Return when no lane is left: nothing is under way, and nothing was due a moment ago."""
        await trio.lowlevel.checkpoint()
        while self._lanes:
            await self._changed.wait()

    def _waiting(self, after: SubscriptionKey, limit: int) -> list[SubscriptionKey]:
        try:
            return self._shared.store.waiting(after, limit)
        except StoreBusy:
            return nsmallest(limit, (key for key in self._members if key > after))

    def _is_due(self, key: SubscriptionKey) -> bool:
        """Whether something is to be sent to it now, by all but its rate limit."""
        member = self._members.get(key)
        if member is None or key in self._benched or not self._may_send(member):
            return False
        shared, now = self._shared, self._shared.clock.now()
        try:
            due_at = shared.store.next_due(key)
            health = shared.store.health(key)
        except StoreBusy:
            return True
        if due_at is None or due_at > now or shared.brakes.outage.wait(key):
            return False
        if shared.brakes.pause(key, health):
            return False
        return health.holds(now, member.subscription.policy) is None

    def _enroll(self, one: StoredSubscription) -> None:
        now = self._shared.clock.now()
        enrolled = enroll(one, self._profiles, os.environ, now)
        before = self._held_back.pop(one.key, None)
        if isinstance(enrolled, HeldBack):
            self._members.pop(one.key, None)
            self._held_back[one.key] = enrolled
            self._alarms.set(one.key, now + LOOK_AGAIN)
            if before != enrolled:
                log(
                    Action.SECRET_MISSING,
                    logging.WARNING,
                    subscription=one.name,
                    problem=enrolled.problem,
                )
            return
        if before is not None:
            log(Action.SECRET_FOUND, logging.INFO, subscription=one.name)
        self._members[one.key] = enrolled

    def _obey(self, key: SubscriptionKey, lane: Lane) -> None:
        """Let a lane that runs know what became of its subscription."""
        member = self._members.get(key)
        if member is None or not self._may_send(member):
            lane.stop()
        elif not self._stopping:
            lane.update(member)

    def _may_send(self, member: Member) -> bool:
        """Whether its state lets anything be sent to it, and nobody is changing what it is owed."""
        key, state = member.subscription.key, member.subscription.state
        instructed = key in self._stored and self._stored[key].instructed
        return state is SubscriptionState.ENABLED and not instructed and key not in self._disabled

    def _start(self, key: SubscriptionKey) -> None:
        member = self._members.get(key)
        if self._stopping or self._nursery is None or member is None or key in self._lanes:
            return
        if key in self._benched:
            return
        if not self._may_send(member):
            return
        shared, policy = self._shared, member.subscription.policy
        try:
            health = shared.store.health(key)
        except StoreBusy:
            self._alarms.set(key, shared.clock.now() + READ_AGAIN)
            return
        until = shared.brakes.not_before(key, policy, health)
        if until is not None:
            self._alarms.set(key, until)
            return
        lane = self._lanes[key] = Lane(member, shared, Pace(key, shared.brakes, health))
        self._nursery.start_soon(self._mind, key, lane, name=f"lane {member.subscription.id}")

    async def _mind(self, key: SubscriptionKey, lane: Lane) -> None:
        """Run a lane to its end, and see to what comes after it."""
        crash: BaseException | None = None
        try:
            await lane.run()
        except* WebhookdError:
            raise  # the file is not to be used any more: that is not the lane's to survive
        except* Exception as group:  # noqa: BLE001 - a lane's bug is not the daemon's end
            crash = group
        else:
            self._crashes.pop(key, None)
        finally:  # cut off as well: `quiet` waits for no lane that is gone
            del self._lanes[key]
            self._tell_change()
        if key not in self._stored:
            self._shared.forget(key)
        if crash is not None:
            await self._bench(key, lane, crash)
        if lane.missing_secret and key in self._stored:
            self._enroll(self._stored[key])
        if not self._stopping:
            self.look(key)

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _bench(self, key: SubscriptionKey, lane: Lane, crash: BaseException) -> None:
        """Start no lane for a subscription whose last one crashed, for a while."""
        name = lane.member.subscription.name
        count = self._crashes[key] = self._crashes.get(key, 0) + 1
        pause = min(FIRST_RESTART * 2 ** (count - 1), LONGEST_RESTART)
        self._restarted[name] = trio.current_time()
        log(Action.LANE_CRASHED, logging.CRITICAL, error=crash, subscription=name)
        self._benched.add(key)
        await trio.sleep(pause)
        self._benched.discard(key)
        log(Action.LANE_RESTARTED, logging.WARNING, subscription=name, after_s=pause)


def _recent(found: dict[str, float]) -> list[str]:
    """The names of those that it has not been well with for long enough."""
    since = trio.current_time() - FORGOTTEN_AFTER
    return sorted(name for name, at in found.items() if at > since)


_TOLD: Final = {
    Change.FAILING: (Action.SUBSCRIPTION_FAILING, logging.WARNING),
    Change.RECOVERED: (Action.SUBSCRIPTION_RECOVERED, logging.INFO),
    Change.DISABLED: (Action.SUBSCRIPTION_DISABLED, logging.ERROR),
}
