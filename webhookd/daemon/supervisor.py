"""Starts a lane when a subscription has something due, and minds the times of all that wait.

Lanes are few: only what is due has one. All others are a line in a table here, and an alarm where
a retry lies ahead.
"""

import logging
import os
from collections.abc import Iterable
from typing import Final

import trio

from webhookd.core.health import Change
from webhookd.core.model import SubscriptionKey, SubscriptionState
from webhookd.core.storage import Notice, StoredSubscription
from webhookd.daemon.alarms import Alarms
from webhookd.daemon.attempt import READ_AGAIN, Shared
from webhookd.daemon.lane import Lane
from webhookd.daemon.pace import Pace
from webhookd.daemon.roster import HeldBack, Member, enroll, refers
from webhookd.errors import StoreBusy, WebhookdError
from webhookd.logs.actions import Action, log

LOOK_AGAIN: Final = 60_000
"""Milliseconds after which a subscription that is held back is tried again."""

FIRST_RESTART: Final = 1.0
LONGEST_RESTART: Final = 60.0
"""Seconds before a lane that crashed is started again; doubled at each crash in a row."""

A_BREATH: Final = 100
"""Subscriptions looked at before others get a turn."""


class Supervisor:
    """Keeps a lane for each subscription that has something due."""

    def __init__(self, shared: Shared, alarms: Alarms) -> None:
        self._shared = shared
        self._alarms = alarms
        self._nursery: trio.Nursery | None = None
        self._stored: dict[SubscriptionKey, StoredSubscription] = {}
        self._members: dict[SubscriptionKey, Member] = {}
        self._held_back: dict[SubscriptionKey, HeldBack] = {}
        self._lanes: dict[SubscriptionKey, Lane] = {}
        self._crashes: dict[SubscriptionKey, int] = {}
        self._benched: set[SubscriptionKey] = set()
        self._disabled: set[SubscriptionKey] = set()
        """By a rule, a moment ago: `load` has not seen it yet."""
        self._stopping = False
        self._renew = False
        self._changed = trio.Event()
        self.restarted: set[str] = set()
        """Names of subscriptions whose lane has crashed since the start."""
        self.troubled: set[str] = set()
        """Names of subscriptions of which an attempt has met a bug since the start."""

    @property
    def problems(self) -> list[str]:
        """What keeps subscriptions from being delivered to, one line each."""
        return [
            *(
                f"subscription {held.name} is held back: {held.problem}"
                for held in self._held_back.values()
            ),
            *(f"the lane of {name} has crashed; see the log" for name in sorted(self.restarted)),
            *(
                f"an attempt for {name} has met a bug of webhookd; see the log"
                for name in sorted(self.troubled)
            ),
        ]

    @property
    def members(self) -> Iterable[Member]:
        """All that can be delivered to, whatever their state."""
        return self._members.values()

    def member(self, key: SubscriptionKey) -> Member | None:
        """One that can be delivered to, whatever its state."""
        return self._members.get(key)

    @property
    def is_stale(self) -> bool:
        """Whether `load` is to be called although nothing in the file has changed."""
        return self._renew

    def renew(self) -> None:
        """Resolve secrets that are kept elsewhere anew at the next `load`: they may be others."""
        self._renew = True

    @property
    def is_busy(self) -> bool:
        """Whether any lane runs."""
        return bool(self._lanes)

    def open(self, nursery: trio.Nursery) -> None:
        """Start lanes in `nursery` from now on: cancel it, and every attempt is cut off."""
        self._nursery = nursery
        self.look_at_all()

    def close(self) -> None:
        """Start no lane any more: outcomes are still recorded while the daemon ends, and wake."""
        self._nursery = None

    async def load(self) -> None:
        """Read all subscriptions and start what is due. Called at the start and after changes."""
        stored = {one.key: one for one in self._shared.store.subscriptions()}
        before, self._stored = self._stored, stored
        self._disabled.clear()
        renew, self._renew = self._renew, False
        for count, (key, one) in enumerate(stored.items(), 1):
            again = renew and refers(one)
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
            self._shared.brakes.forget(key)
            if lane := self._lanes.get(key):
                lane.stop()
        self.look_at_all()

    def reread(self) -> None:
        """An operator changed single deliveries: what lanes have read of them is out of date."""
        for lane in self._lanes.values():
            lane.reread()
        self.look_at_all()

    def wake(self, keys: Iterable[SubscriptionKey]) -> None:
        """These have something at the head of a line that may be due."""
        for key in keys:
            lane = self._lanes.get(key)
            if lane is None:
                self._start(key)
            else:
                lane.news()

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
        try:
            waiting = self._shared.store.waiting()
        except StoreBusy:
            waiting = list(self._members)
        self.look_at(waiting)

    def look_at(self, keys: Iterable[SubscriptionKey]) -> None:
        """These may be sent something again."""
        for key in keys:
            self.look(key)

    def clock_jumped(self) -> None:
        """All alarms were set by another clock: look at everything now."""
        self._alarms.clear()
        self.look_at_all()
        self.look_at(list(self._held_back))

    def tell(self, notices: tuple[Notice, ...]) -> None:
        """Tell of changes in health; who was disabled is sent nothing more from this moment on."""
        for notice in notices:
            action, level = _TOLD[notice.change]
            log(action, level, subscription=notice.name, reason=notice.rule)
            if notice.change is Change.DISABLED:
                self._disabled.add(notice.subscription)
                if lane := self._lanes.get(notice.subscription):
                    lane.stop()

    def stop(self) -> None:
        """Begin no further attempt; `quiet` returns once those under way are recorded."""
        self._stopping = True
        for lane in self._lanes.values():
            lane.stop()

    async def quiet(self) -> None:
        """Return when no lane is left: nothing is under way, and nothing was due a moment ago."""
        while self._lanes:
            await self._changed.wait()

    def _enroll(self, one: StoredSubscription) -> None:
        now = self._shared.clock.now()
        enrolled = enroll(one, os.environ, now)
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
            self._changed.set()
            self._changed = trio.Event()
        if crash is not None:
            await self._bench(key, lane, crash)
        if lane.missing_secret and key in self._stored:
            self._enroll(self._stored[key])
        if not self._stopping:
            self.look(key)

    async def _bench(self, key: SubscriptionKey, lane: Lane, crash: BaseException) -> None:
        """Start no lane for a subscription whose last one crashed, for a while."""
        name = lane.member.subscription.name
        count = self._crashes[key] = self._crashes.get(key, 0) + 1
        pause = min(FIRST_RESTART * 2 ** (count - 1), LONGEST_RESTART)
        self.restarted.add(name)
        log(Action.LANE_CRASHED, logging.CRITICAL, error=crash, subscription=name)
        self._benched.add(key)
        await trio.sleep(pause)
        self._benched.discard(key)
        log(Action.LANE_RESTARTED, logging.WARNING, subscription=name, after_s=pause)


_TOLD: Final = {
    Change.FAILING: (Action.SUBSCRIPTION_FAILING, logging.WARNING),
    Change.RECOVERED: (Action.SUBSCRIPTION_RECOVERED, logging.INFO),
    Change.DISABLED: (Action.SUBSCRIPTION_DISABLED, logging.ERROR),
}
