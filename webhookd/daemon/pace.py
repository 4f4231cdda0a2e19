"""How fast a lane may go: its health, its receiver's wishes, its rate limit, this machine."""

import math
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from webhookd.core import health, rate
from webhookd.core.delivery import Happening, Move
from webhookd.core.health import Health, Opening, Rule
from webhookd.core.model import Millis, Ordering, Policy, SubscriptionKey
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Due
from webhookd.daemon.clock import Clock
from webhookd.daemon.outage import Outage

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two probes of a failing subscription: doubled by each that fails, but for one
that tries again what failed last; never more than the longest of its own delays."""


@dataclass(frozen=True, slots=True)
class _Pause:
    """Between two probes."""

    seconds: float
    until: float
    suspect: tuple[int, int]
    """What failed last: its aggregate, or where that says nothing the delivery alone. That it fails
    again may be its own fault, and is no reason to let all others wait longer."""
    asked: bool = False
    """The next probe has gone out: what it finds lengthens the pause. What was under way before
    does not: eight that fail at once say no more than one."""


@dataclass(slots=True)
class Brakes:
    """What slows lanes down and outlives them: a lane ends whenever nothing is due."""

    clock: Clock
    outage: Outage
    buckets: dict[SubscriptionKey, rate.Bucket] = field(default_factory=dict)
    """Of subscriptions with a rate limit that have been sent something."""
    pauses: dict[SubscriptionKey, _Pause] = field(default_factory=dict)
    """Of subscriptions that are probed."""
    openings: dict[SubscriptionKey, Opening] = field(default_factory=dict)
    """Of subscriptions that have recovered, until they are wide open."""

    def not_before(self, key: SubscriptionKey, policy: Policy, known: Health) -> Millis | None:
        """The wall time before which nothing may be sent to a subscription; None for none."""
        wait = max(self.outage.wait(key), self.pause(key, known))
        if policy.rate_limit:
            wait = max(wait, self._bucket(key).wait(policy.rate_limit, trio.current_time()))
        if not wait and known.held_until is None:
            return None
        now = self.clock.now()
        until = now + math.ceil(wait * 1000) if wait else None
        held = known.holds(now, policy)
        return held if until is None else max(until, held or 0)

    def spend(self, key: SubscriptionKey, policy: Policy) -> None:
        """Count one attempt against the rate limit, if there is one; perhaps it is a probe."""
        pause = self.pauses.get(key)
        if pause is not None and not pause.asked:
            self.pauses[key] = replace(pause, asked=True)
        if policy.rate_limit:
            taken = self._bucket(key).take(policy.rate_limit, trio.current_time())
            self.buckets[key] = taken

    def note(
        self, key: SubscriptionKey, due: Due, before: Health, after: Health, policy: Policy
    ) -> None:
        """Follow the outcome of an attempt that spoke of ill health, or of a success.

        A 400 is neither: the endpoint has answered, and what ails the event is no reason to ask for
        the next one later.

        Args:
            key: the subscription.
            due: what was attempted.
            before: its health until then.
            after: its health from then on.
            policy: its policy.
        """
        if after.failing_since is None:
            self.pauses.pop(key, None)
            return
        pause, suspect = self.pauses.get(key), _suspect(due, policy)
        seconds = FIRST_PAUSE
        if pause is not None and not _counts_anew(before):
            lengthens = pause.asked and suspect != pause.suspect
            seconds = min(2 * pause.seconds, _longest(policy)) if lengthens else pause.seconds
        self.pauses[key] = _Pause(seconds, trio.current_time() + seconds, suspect)

    def forget(self, key: SubscriptionKey) -> None:
        """The subscription is gone."""
        self.buckets.pop(key, None)
        self.pauses.pop(key, None)
        self.openings.pop(key, None)
        self.outage.forget(key)

    def pause(self, key: SubscriptionKey, known: Health) -> float:
        """Seconds until the next probe; 0 for none."""
        if known.failing_since is None or _counts_anew(known):
            return 0.0
        pause = self.pauses.get(key)
        if pause is None:
            return 0.0
        return max(0.0, pause.until - trio.current_time())

    def _bucket(self, key: SubscriptionKey) -> rate.Bucket:
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = rate.started(trio.current_time())
        return bucket


def _suspect(due: Due, policy: Policy) -> tuple[int, int]:
    in_line = due.order_key and policy.ordering is Ordering.AGGREGATE
    return (due.order_key, 0) if in_line else (0, due.id)


def _longest(policy: Policy) -> float:
    """Whoever wants retries within seconds is not left waiting for a minute."""
    delays = max(policy.retry_delays, default=0) / 1000 or LONGEST_PAUSE
    return min(max(delays, FIRST_PAUSE), LONGEST_PAUSE)


def _counts_anew(known: Health) -> bool:
    """Whether a failing subscription was enabled since its last failure: that ends its pause."""
    return known.no_success_since is None


class Pace:
    """The pace of one lane, from its start to its end.

    It begins with what the file says of the subscription's health and follows the outcomes as they
    come in, before they are recorded: a probe that fails must not let seven others out meanwhile.
    """

    def __init__(self, key: SubscriptionKey, brakes: Brakes, known: Health) -> None:
        self._key = key
        self._brakes = brakes
        self._health = known
        self._opening: Opening = health.opening(known)
        if self._opening == health.OPEN:
            self._opening = brakes.openings.get(key, health.OPEN)

    @property
    def is_probing(self) -> bool:
        """Whether the subscription is being asked, one request at a time, if it is well again."""
        return self._opening is health.PROBE

    def limit(self, policy: Policy) -> int:
        """Attempts that may be under way at once; one while this machine is at fault."""
        if self._brakes.outage.concerns(self._key):
            return 1
        return self._opening.limit(policy)

    def not_before(self, policy: Policy) -> Millis | None:
        """The wall time before which nothing may be sent; None if something may be now."""
        return self._brakes.not_before(self._key, policy, self._health)

    def note(self, due: Due, happened: Move, signs: Signs | None, policy: Policy) -> Rule | None:
        """Follow the outcome of one attempt; returns the rule that disables the subscription.

        Whether it is disabled, the file says: an operator may have paused it meanwhile.
        """
        before = self._health
        verdict = health.after(before, happened, signs, policy)
        self._health = verdict.health
        succeeded = happened.happening is Happening.SUCCEEDED
        self._opening = self._opening.after(self._health, succeeded=succeeded, policy=policy)
        if self._opening in (health.OPEN, health.PROBE):
            self._brakes.openings.pop(self._key, None)
        else:
            self._brakes.openings[self._key] = self._opening
        if succeeded or (signs is not None and signs.ill):
            self._brakes.note(self._key, due, before, self._health, policy)
        return verdict.rule

    def settle(self, known: Health) -> None:
        """Take over what the file says: an operator may have changed it.

        Whether it fails, too, may be told there by another policy than its outcomes were told by
        here.
        """
        self._health = known
        if self.is_probing is (known.failing_since is None):
            self._opening = health.opening(known)
