"""How fast a lane may go: its health, its receiver's wishes, its rate limit, this machine."""

import math
from dataclasses import dataclass, field

import trio

from webhookd.core import health, rate
from webhookd.core.delivery import Happening, Move
from webhookd.core.health import Health, Opening, Rule
from webhookd.core.model import Millis, Policy, SubscriptionKey
from webhookd.core.outcomes import Signs
from webhookd.daemon.clock import Clock
from webhookd.daemon.outage import Outage


@dataclass(slots=True)
class Brakes:
    """What slows lanes down and outlives them: a lane ends whenever nothing is due."""

    clock: Clock
    outage: Outage
    buckets: dict[SubscriptionKey, rate.Bucket] = field(default_factory=dict)
    """Of subscriptions with a rate limit that have been sent something."""

    def not_before(self, key: SubscriptionKey, policy: Policy, known: Health) -> Millis | None:
        """The wall time before which nothing may be sent to a subscription; None for none."""
        now = self.clock.now()
        wait = self.outage.wait(key)
        if policy.rate_limit:
            wait = max(wait, self._bucket(key).wait(policy.rate_limit, trio.current_time()))
        until = now + math.ceil(wait * 1000) if wait else None
        held = known.holds(now, policy)
        return held if until is None else max(until, held or 0)

    def spend(self, key: SubscriptionKey, policy: Policy) -> None:
        """Count one attempt against the rate limit, if there is one."""
        if policy.rate_limit:
            taken = self._bucket(key).take(policy.rate_limit, trio.current_time())
            self.buckets[key] = taken

    def forget(self, key: SubscriptionKey) -> None:
        """The subscription is gone."""
        self.buckets.pop(key, None)
        self.outage.reached(key)

    def _bucket(self, key: SubscriptionKey) -> rate.Bucket:
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = rate.started(trio.current_time())
        return bucket


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

    @property
    def is_probing(self) -> bool:
        """Whether the subscription is being asked, one request at a time, if it is well again."""
        return self._opening == health.PROBE

    def limit(self, policy: Policy) -> int:
        """Attempts that may be under way at once; one while this machine is at fault."""
        if self._brakes.outage.concerns(self._key):
            return 1
        return self._opening.limit(policy)

    def not_before(self, policy: Policy) -> Millis | None:
        """The wall time before which nothing may be sent; None if something may be now."""
        return self._brakes.not_before(self._key, policy, self._health)

    def spend(self, policy: Policy) -> None:
        """Count one attempt."""
        self._brakes.spend(self._key, policy)

    def note(self, happened: Move, signs: Signs | None, policy: Policy) -> Rule | None:
        """Follow the outcome of one attempt; returns the rule that disables the subscription.

        Whether it is disabled, the file says: an operator may have paused it meanwhile.
        """
        verdict = health.after(self._health, happened, signs, policy)
        self._health = verdict.health
        succeeded = happened.happening is Happening.SUCCEEDED
        self._opening = self._opening.after(self._health, succeeded=succeeded, policy=policy)
        return verdict.rule

    def settle(self, known: Health) -> None:
        """Take over what the file says: an operator may have changed it."""
        self._health = known
