"""A subscription's health: when it is failing, when it is held back, when a rule disables it.

Theory
======

A subscription's health is what its latest attempts say of the endpoint, and nothing else moves it:

- **Ill** are attempts that speak of an endpoint in trouble (`webhookd.core.outcomes`): network
  faults, timeouts, 408, 425, 429 and 5xx. `failing_after` of them in a row, and the subscription
  is *failing*: from then on it is probed with one request at a time. A success ends that, and lets
  2, 4, 8 ... requests out at once (`Opening`). An attempt that is neither (a 400) says nothing
  of it, and changes nothing here.
- **Failures** are deliveries in a row that ended failed, with all their attempts. What expired or
  could not be rendered says nothing of the endpoint and does not count.
- **Without success** it has been since the first failed attempt after its last success.
- **Held back** it is while a `Retry-After` of a throttling answer (429, 502, 503, 504) runs.

A success clears all of it but a hold that runs. The rules that disable are judged at a failed
attempt, never by a clock: who is asked nothing cannot fail.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import Millis, Policy, Reason
from webhookd.core.outcomes import Signs


class Rule(StrEnum):
    """Why a subscription was disabled: its `state_reason`."""

    GONE = "gone"
    """It answered 410."""
    FAILURES = "disable_after_failures"
    NO_SUCCESS = "disable_after"


class Change(StrEnum):
    """What people are told of, in the log and as an operational event."""

    FAILING = "failing"
    RECOVERED = "recovered"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Health:
    """What a subscription's attempts have said so far; kept in the file."""

    ill: int = 0
    """Attempts in a row that spoke of ill health."""
    failing_since: Millis | None = None
    """When it began to fail; None while it does not."""
    failures: int = 0
    """Deliveries in a row that ended failed."""
    failures_since: Millis | None = None
    """When the first of them ended."""
    no_success_since: Millis | None = None
    """The end of the first failed attempt after the last success."""
    held_until: Millis | None = None
    """Until when its receiver asked to be left alone."""

    def holds(self, now: Millis, policy: Policy) -> Millis | None:
        """Until when nothing may be attempted, or None.

        A time further ahead than a receiver can ask for comes from a clock that was set back since.
        """
        until = self.held_until
        return until if until and now < until <= now + policy.retry_after_max else None


WELL: Final = Health()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt means for its subscription."""

    health: Health
    changes: tuple[Change, ...] = ()
    rule: Rule | None = None
    """With `Change.DISABLED` alone."""


_STAYS_WELL: Final = Verdict(WELL)


def after(health: Health, happened: Move, signs: Signs | None, policy: Policy) -> Verdict:
    """The health after one delivery's move.

    Args:
        health: before it.
        happened: what it did to its delivery.
        signs: what the attempt said of the endpoint; None where none was made, or where what went
            wrong is this machine's own fault.
        policy: of the subscription, as it is now.
    """
    if happened.happening is Happening.SUCCEEDED:
        if health is WELL:
            return _STAYS_WELL  # as nearly all
        recovered = (Change.RECOVERED,) if health.failing_since is not None else ()
        # One that was under way while the receiver asked to be left alone does not take that back.
        held = health.holds(happened.at, policy)
        return Verdict(WELL if held is None else Health(held_until=held), recovered)
    if signs is None:
        return Verdict(health)
    now = happened.at
    changes: list[Change] = []
    ill = health.ill + signs.ill
    failing_since = health.failing_since
    if failing_since is None and ill >= policy.failing_after:
        failing_since = now
        changes.append(Change.FAILING)
    since = health.no_success_since
    held = health.held_until
    if signs.held_until is not None:
        held = max(health.holds(now, policy) or 0, signs.held_until)
    found = replace(
        health,
        ill=ill,
        failing_since=failing_since,
        no_success_since=now if since is None else since,
        held_until=held,
    )
    if happened.happening is Happening.FAILED and happened.reason in _COUNTED:
        first = now if health.failures_since is None else health.failures_since
        found = replace(found, failures=health.failures + 1, failures_since=first)
    rule = _rule(found, signs, policy, now)
    if rule is not None:
        changes.append(Change.DISABLED)
    return Verdict(found, tuple(changes), rule)


NOTICED_WITHIN: Final = 10_000
"""Milliseconds after a jump of the clock in which moments may have been written by the new one."""


def shifted(health: Health, by: Millis, now: Millis) -> Health:
    """The health once the wall clock has jumped: what has lasted so long, has still.

    `failures_since` stays: it names the deliveries that failed since, and theirs stay too.
    Moments that the new clock has set are left alone. After a jump back these are told from older
    ones by not lying ahead; what then stands too near only lets a rule wait the longer.

    Args:
        health: before it.
        by: how far the clock has jumped, forward or (negative) back.
        now: by the clock as it is now.
    """

    def moved(moment: Millis | None) -> Millis | None:
        if moment is None:
            return None
        is_old = moment <= now - by + NOTICED_WITHIN if by > 0 else moment > now
        return moment + by if is_old else moment

    return replace(
        health,
        failing_since=moved(health.failing_since),
        no_success_since=moved(health.no_success_since),
    )


def enabled(health: Health) -> Health:
    """The health once an operator has enabled it: the rules count anew, and nothing is held back.

    Whether it is failing is for its endpoint to say, so probing goes on.
    """
    return replace(health, failures=0, failures_since=None, no_success_since=None, held_until=None)


_COUNTED: Final = frozenset({Reason.EXHAUSTED, Reason.PERMANENT_STATUS, Reason.GONE})


def _rule(health: Health, signs: Signs, policy: Policy, now: Millis) -> Rule | None:
    if signs.gone and policy.gone_disables:
        return Rule.GONE
    if policy.disable_after_failures and health.failures >= policy.disable_after_failures:
        return Rule.FAILURES
    since = health.no_success_since
    if policy.disable_after and since is not None and now - since >= policy.disable_after:
        return Rule.NO_SUCCESS
    return None


@dataclass(frozen=True, slots=True)
class Opening:
    """How many requests of a subscription may be under way at once, by its health.

    It is wide open until the subscription fails; a failing one has room for a single probe, and
    each success from there on doubles the room until it is as wide as the policy lets it be. How
    far that has come outlives the lane.
    """

    room: int | None = None
    """Requests at once; None: as many as the policy allows."""

    def after(self, health: Health, *, succeeded: bool, policy: Policy) -> "Opening":
        """The opening after an attempt that left the subscription with `health`."""
        if health.failing_since is not None:
            return PROBE
        if not succeeded or self.room is None:
            return self
        room = 2 * self.room
        return OPEN if room >= policy.concurrency else Opening(room)

    def limit(self, policy: Policy) -> int:
        """Requests that may be under way at once."""
        return policy.concurrency if self.room is None else min(self.room, policy.concurrency)


OPEN: Final = Opening()
PROBE: Final = Opening(1)
"""One request at a time, until one succeeds."""


def opening(health: Health) -> Opening:
    """The opening that a subscription starts with."""
    return OPEN if health.failing_since is None else PROBE
