"""Why an event is for a subscription or is not, and what a delivery waits for: in words.

For the people whom a partner asks where an event is. The rules of matching are those of
`webhookd.core.matching`; here each of them has its sentence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from webhookd.core.matching import matches
from webhookd.core.model import Millis, SubscriptionState
from webhookd.core.rows import OWN_TYPES
from webhookd.core.text import counted, printable
from webhookd.core.times import to_text

PATTERNS_SHOWN: Final = 20
"""Patterns of a subscription that a sentence names; the document has them all."""
SHOWN: Final = 120
"""Characters of a pattern, tenant or error in a sentence."""


class Why(StrEnum):
    """What stands between an event and a subscription, if anything. A closed list."""

    MATCHED = "matched"
    MATCHED_THEN = "matched_then"
    """It has a delivery, and would have none if the event were taken in now."""
    OTHER_TENANT = "other_tenant"
    OTHER_TYPE = "other_type"
    OWN_EVENT = "own_event"
    """One of webhookd's own, which go only to those who name them."""
    MADE_LATER = "made_later"
    """It matches now; the subscription was not there when the event was taken in."""
    NOT_THEN = "not_then"
    """It matches now and never had a delivery, though the subscription was there."""
    MAY_BE_PRUNED = "may_be_pruned"
    """It matches now, and retention has come past the deliveries of its time."""


@dataclass(frozen=True, slots=True)
class Happened:
    """What matching goes by in an event, and when it was taken in (as the file has it)."""

    event_type: str
    aggregate_type: str
    tenant: str
    ingested_at: str
    pruned: bool = False
    """Retention has taken a delivery that is newer than the event: its own may have gone too."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a subscription asks for, and since when."""

    events: tuple[str, ...]
    tenant: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether the event was for the subscription, and why; `text` is for people."""

    why: Why
    text: str

    @property
    def matched(self) -> bool:
        """Whether it was when the event was taken in."""
        return self.why in (Why.MATCHED, Why.MATCHED_THEN)


def judge(event: Happened, asked: Asked, *, owed: bool) -> Judgement:
    """Why this event is for this subscription, or why not.

    Args:
        event: as it was taken in.
        asked: as the subscription is now; its patterns may have been others.
        owed: there is a delivery of the one to the other, in whatever state.
    """
    fault = _fault(event, asked)
    if owed:
        if fault is not None:
            then = "it matched when the event was taken in; as the subscription is now it would not"
            return Judgement(Why.MATCHED_THEN, f"{then}: {fault.text}")
        return Judgement(
            Why.MATCHED, f"its pattern {_shown(_first(event, asked) or '')} asks for it"
        )
    if fault is not None:
        return fault
    remedy = "it matches now: `webhookd replay` makes what is missing"
    if asked.created_at >= event.ingested_at:
        made = f"the subscription was made at {asked.created_at}"
        taken = f"after the event was taken in at {event.ingested_at}"
        return Judgement(Why.MADE_LATER, f"{made}, {taken}; {remedy}")
    if event.pruned:
        kept = "it matches, and the delivery that it had, if any, was pruned: nobody can tell now"
        anew = "`webhookd replay` would make it anew and send it, delivered before or not"
        return Judgement(Why.MAY_BE_PRUNED, f"{kept}; {anew}")
    others = "its patterns were others when the event was taken in"
    return Judgement(Why.NOT_THEN, f"{others}; {remedy}")


def _fault(event: Happened, asked: Asked) -> Judgement | None:
    """What keeps them apart by the rules of matching; None where nothing does."""
    if event.event_type.startswith(OWN_TYPES):
        rule = f"{OWN_TYPES}* events go only to subscriptions without a tenant that name them"
        if asked.tenant:
            return Judgement(Why.OWN_EVENT, f"{rule}; this one's tenant is {_shown(asked.tenant)}")
        if not any(pattern.startswith(OWN_TYPES) for pattern in asked.events):
            patterns = _patterns(asked.events)
            return Judgement(
                Why.OWN_EVENT, f"{rule}; no pattern of {patterns} begins with {OWN_TYPES}"
            )
    elif asked.tenant and asked.tenant != event.tenant:
        its = f"is {_shown(event.tenant)}" if event.tenant else "is absent"
        return Judgement(
            Why.OTHER_TENANT,
            f"the tenant differs: the event's {its}, the subscription's is {_shown(asked.tenant)}",
        )
    if _first(event, asked) is None:
        names = event.event_type
        # Of `supplier` and `supplier.created` nobody means `supplier.supplier.created`.
        if event.aggregate_type and not names.startswith(f"{event.aggregate_type}."):
            names += f" or {_shown(event.aggregate_type)}.{event.event_type}"
        return Judgement(Why.OTHER_TYPE, f"no pattern of {_patterns(asked.events)} matches {names}")
    return None


def _first(event: Happened, asked: Asked) -> str | None:
    return next(
        (one for one in asked.events if matches(one, event.event_type, event.aggregate_type)), None
    )


def _patterns(events: Sequence[str]) -> str:
    shown = ", ".join(map(_shown, events[:PATTERNS_SHOWN]))
    more = len(events) - PATTERNS_SHOWN
    return f"[{shown}, and {more} more]" if more > 0 else f"[{shown}]"


def _shown(text: str) -> str:
    return printable(text, SHOWN)


class Cause(StrEnum):
    """What a pending delivery waits for. A closed list."""

    DAEMON = "daemon"
    REMOVED = "removed"
    PAUSED = "paused"
    DISABLED = "disabled"
    INSTRUCTED = "instructed"
    """A bulk change of what the subscription is owed."""
    FAILING = "failing"
    """The receiver is unwell, and is tried with one request at a time."""
    HELD_BACK = "held_back"
    """The daemon cannot deliver to it as it is: a secret cannot be found, or its profile."""
    HELD = "held"
    """The receiver's own Retry-After."""
    BEHIND = "behind"
    """Another delivery of its line."""
    TIME = "time"
    PLACE = "place"
    """Nothing but its turn."""


class Line(StrEnum):
    """What keeps deliveries in one line, in words."""

    AGGREGATE = "aggregate"
    SUBSCRIPTION = "subscription, whose deliveries go one by one"
    OWN = "line of webhookd's own events"


@dataclass(frozen=True, slots=True)
class Head:
    """The delivery that comes first in a line."""

    id: int
    attempts: int
    last_error: str
    due_at: str | None
    line: Line


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending delivery and what surrounds it; moments as the file has them."""

    subscription: str
    """Its name."""
    state: SubscriptionState
    state_reason: str
    removed: bool
    instructed: bool
    failing_since: str | None
    held_until: str | None
    due_at: str | None
    head: Head | None
    """Who stands before it; None where nobody does."""
    held_back: str = ""
    """Why the daemon holds its subscription back; `''` where it does not."""
    rate_limit: str = ""
    """How many attempts over time its subscription allows; `''` for no limit."""


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that a delivery waits for; `text` is for people."""

    cause: Cause
    text: str


def waits(one: Waiting, *, running: bool, now: Millis) -> list[Wait]:
    """All that a pending delivery waits for, the subscription's affairs before its own.

    Args:
        one: as it stands.
        running: a daemon holds the file.
        now: for what lies in the future.
    """
    if one.removed:
        return [Wait(Cause.REMOVED, "its subscription was removed: it is about to be cancelled")]
    found = list(_of_subscription(one, to_text(now)))
    if one.head is not None:
        found.append(Wait(Cause.BEHIND, _behind(one.head)))
    elif one.due_at is not None and one.due_at > to_text(now):
        found.append(Wait(Cause.TIME, f"the next attempt is due at {one.due_at}"))
    if not running:
        found.append(Wait(Cause.DAEMON, "the daemon does not run: nothing is sent"))
    if found:
        return found
    limit = f", within the rate limit of {one.rate_limit}" if one.rate_limit else ""
    return [Wait(Cause.PLACE, f"it is due: it is sent as soon as a place is free{limit}")]


def _of_subscription(one: Waiting, now: str) -> Iterator[Wait]:
    if one.state is not SubscriptionState.ENABLED:
        cause = Cause.PAUSED if one.state is SubscriptionState.PAUSED else Cause.DISABLED
        reason = f" ({_shown(one.state_reason)})" if one.state_reason else ""
        enable = f"`webhookd subscriptions enable {one.subscription}` sends what it is owed"
        yield Wait(cause, f"its subscription is {one.state.value}{reason}: {enable}")
    if one.instructed:
        under_way = "a bulk change of what its subscription is owed is under way"
        yield Wait(Cause.INSTRUCTED, f"{under_way}: the daemon ends it by itself")
    if one.held_back:
        again = "once that is mended the daemon sends by itself, within a minute"
        yield Wait(Cause.HELD_BACK, f"its subscription is held back: {one.held_back}; {again}")
    if one.failing_since is not None:
        since = f"its receiver has been failing since {one.failing_since}"
        tried = "it is tried with one request at a time, until one succeeds"
        asks = f"`webhookd subscriptions enable {one.subscription}` asks at once"
        yield Wait(Cause.FAILING, f"{since}: {tried}; {asks}")
    if one.held_until is not None and one.held_until > now:
        asked = f"its receiver asked (Retry-After) to be left alone until {one.held_until}"
        ends = f"`webhookd subscriptions enable {one.subscription}` ends that"
        yield Wait(Cause.HELD, f"{asked}; {ends}")


def _behind(head: Head) -> str:
    said = [counted(head.attempts, "attempt") if head.attempts else "not attempted yet"]
    if head.last_error:
        said.append(f"the last: {_shown(head.last_error)}")
    if head.due_at is not None:
        said.append(f"due at {head.due_at}")
    return f"behind delivery {head.id} of the same {head.line.value} ({'; '.join(said)})"
