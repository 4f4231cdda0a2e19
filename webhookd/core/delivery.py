"""THE state machine of a delivery. Everything that moves one is in this file.

Theory
======

A delivery is one event owed to one subscription. Its row says what became of it, always, and the
row is all there is: no state stands for "a request is in flight". So a crash needs no repair. What
was in flight is still `pending`, hence due again, and the receiver tells the copies apart by the
`webhook-id`, which is the same at every attempt.

    pending ──succeeded──▶ delivered
       │ ├─────failed────▶ failed        (exhausted, permanent_status, expired, unrenderable, ...)
       │ ├────cancelled──▶ cancelled     (operator, backlog_skipped, newest_only, ...)
       │ └───superseded──▶ superseded    (coalesced)
       └──◀───reopened──── any of the four: the schedule starts again, attempts go on counting

Because an operator may cancel (or a command supersede) a row while its request is in flight, an
outcome can meet a row that is no longer pending. The truth about the receiver wins where it is
final, and is only noted where it is not:

- a success turns any row into `delivered`: the receiver has the event, whatever the row said;
- any other outcome adds its attempt to the count and leaves the state as it is; where nothing was
  attempted, it leaves all as it is.

It can also meet a row that was finished and re-opened meanwhile, and is pending once more. Then the
attempt belongs to an opening that is over: it is `NOTED`, and uses up nothing of the new schedule.

`attempts` counts every attempt ever made, and is what a receiver sees as `webhookd-attempt`.
`tries` counts those since the delivery was last (re)opened, and is what the schedule goes by.
A failed attempt that will be repeated leaves the row `pending` with a time, `due_at`. What failed
for this machine's own sake is no attempt: it is a `RETRY` without `attempted_at`, counted nowhere.

An illegal happening raises `IllegalTransition` and changes nothing.
"""

from enum import Enum, auto
from typing import Final, NamedTuple

from webhookd.core.model import DeliveryState, Millis, Reason


class Happening(Enum):
    """What can happen to a delivery."""

    SUCCEEDED = auto()
    """The receiver answered 2xx."""
    RETRY = auto()
    """An attempt failed, and another one is owed."""
    FAILED = auto()
    """An attempt failed, or none can be made, and no further one is owed."""
    NOTED = auto()
    """An attempt from before it was last opened has failed: it is counted, and nothing else."""
    CANCELLED = auto()
    """An operator (or a command of theirs) took it back."""
    SUPERSEDED = auto()
    """A newer delivery makes it needless."""
    REOPENED = auto()
    """An operator wants it sent (again)."""


P, D, F, C, S = (
    DeliveryState.PENDING,
    DeliveryState.DELIVERED,
    DeliveryState.FAILED,
    DeliveryState.CANCELLED,
    DeliveryState.SUPERSEDED,
)

TRANSITIONS: Final[dict[Happening, dict[DeliveryState, DeliveryState]]] = {
    Happening.SUCCEEDED: {P: D, D: D, F: D, C: D, S: D},
    Happening.RETRY: {P: P, D: D, F: F, C: C, S: S},
    Happening.FAILED: {P: F, D: D, F: F, C: C, S: S},
    Happening.NOTED: {P: P, D: D, F: F, C: C, S: S},
    Happening.CANCELLED: {P: C},
    Happening.SUPERSEDED: {P: S},
    Happening.REOPENED: {D: P, F: P, C: P, S: P},
}
"""From state to state, by what happened. What is not here is illegal."""

REASONS: Final[dict[Happening, frozenset[Reason]]] = {
    Happening.FAILED: frozenset(
        {
            Reason.EXHAUSTED,
            Reason.PERMANENT_STATUS,
            Reason.GONE,
            Reason.EXPIRED,
            Reason.UNRENDERABLE,
        }
    ),
    Happening.CANCELLED: frozenset(
        {
            Reason.OPERATOR,
            Reason.BACKLOG_SKIPPED,
            Reason.NEWEST_ONLY,
            Reason.SUBSCRIPTION_REMOVED,
        }
    ),
    Happening.SUPERSEDED: frozenset({Reason.COALESCED}),
}
"""The reasons that each ending can have; the other happenings have none."""


class IllegalTransition(ValueError):
    """Something happened to a delivery that cannot happen to one in its state."""


class Standing(NamedTuple):
    """The part of a delivery's row that the state machine moves."""

    state: DeliveryState
    reason: Reason | None
    attempts: int
    """Attempts ever made."""
    tries: int
    """Attempts made since it was last opened: its place in the retry schedule."""
    last_status: int | None
    last_error: str
    first_attempt_at: Millis | None
    finished_at: Millis | None
    due_at: Millis | None
    """When the next attempt may be made; None once it is finished."""


class Move(NamedTuple):
    """One thing that happened, with what it brought along."""

    happening: Happening
    at: Millis
    """When it was known."""
    reason: Reason | None = None
    """Why it ended; with `FAILED`, `CANCELLED` and `SUPERSEDED` alone."""
    attempted_at: Millis | None = None
    """When the attempt began; None where nothing was attempted."""
    status: int | None = None
    error: str = ""
    retry_at: Millis | None = None
    """When to try again; with `RETRY` alone."""


def opened(at: Millis) -> Standing:
    """A new delivery, due at once."""
    return Standing(P, None, 0, 0, None, "", None, None, at)


def move(standing: Standing, happened: Move) -> Standing:
    """The standing after `happened`.

    Raises:
        IllegalTransition: it cannot happen in that state, or its reason does not go with it.
    """
    after = TRANSITIONS[happened.happening].get(standing.state)
    if after is None:
        raise IllegalTransition(f"{happened.happening.name} cannot happen to {standing.state}")
    allowed = REASONS.get(happened.happening, frozenset())
    if (happened.reason is None) == bool(allowed) or happened.reason not in (allowed or {None}):
        raise IllegalTransition(f"{happened.happening.name} cannot have reason {happened.reason}")
    if (happened.happening is Happening.RETRY) == (happened.retry_at is None):
        raise IllegalTransition(f"{happened.happening.name} with retry_at={happened.retry_at}")

    counted = happened.attempted_at is not None
    noted = happened.happening is Happening.NOTED
    told = counted or (standing.state is P and happened.error)
    tried = standing.tries + (counted and not noted)
    reason, finished_at, due_at = standing.reason, standing.finished_at, standing.due_at
    if happened.happening is Happening.REOPENED:
        tried, reason, finished_at, due_at = 0, None, None, happened.at
    elif after is P and not noted:
        due_at = happened.retry_at
    elif after is not standing.state:
        reason, finished_at, due_at = happened.reason, happened.at, None
    first = standing.first_attempt_at
    return Standing(
        state=after,
        reason=reason,
        attempts=standing.attempts + counted,
        tries=tried,
        last_status=happened.status if counted else standing.last_status,
        last_error=happened.error if told else standing.last_error,
        first_attempt_at=happened.attempted_at if first is None else first,
        finished_at=finished_at,
        due_at=due_at,
    )
