"""What an attempt's result means for its delivery: what happens on a 500 is decided here."""

import re
from dataclasses import dataclass
from typing import Final, assert_never

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import Answer, Fault, FaultKind, Millis, Policy, Reason, Result
from webhookd.core.retry import next_attempt_at, parse_retry_after
from webhookd.core.text import printable

MAX_ERROR: Final = 300
"""Characters of an error's text: it stands in the feed and in log lines."""
MAX_LOCATION: Final = 120

GONE: Final = 410

_ILL_STATUSES: Final = frozenset({408, 425, 429})
_NEVER_BY_CLASS: Final = _ILL_STATUSES
"""Statuses that ask to be tried again: no class of permanent statuses has them in it."""
_THROTTLING: Final = frozenset({429, 502, 503, 504})
"""With a `Retry-After` these speak for the whole endpoint, not for one delivery."""
_NOT_THE_ENDPOINTS: Final = frozenset({FaultKind.LOCAL, FaultKind.INTERNAL, FaultKind.BLOCKED})

_ORIGIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//[^/\\?#]*")


@dataclass(frozen=True, slots=True)
class Signs:
    """What a failed attempt says of the endpoint as a whole."""

    ill: bool = False
    """It may not be there for others either."""
    held_until: Millis | None = None
    """When its receiver wants to be asked again."""
    gone: bool = False
    """It says that it will not be there again."""


def signs(result: Result, policy: Policy, now: Millis) -> Signs | None:
    """What `result` says of its endpoint; None for a fault on this side, which says nothing."""
    if isinstance(result, Fault):
        ours = result.kind in {FaultKind.LOCAL, FaultKind.INTERNAL}
        return None if ours else Signs(ill=is_ill(result))
    held_until = None
    if result.status in _THROTTLING:
        wait = parse_retry_after(result.retry_after, now)
        held_until = now + min(wait, policy.retry_after_max) if wait else None
    return Signs(is_ill(result), held_until, result.status == GONE)


def judge(
    result: Result, policy: Policy, *, tries: int, started: Millis, now: Millis, jitter: float
) -> Move:
    """What `result` does to its delivery.

    2xx has succeeded. Everything else has failed, and is tried again by the policy's schedule until
    that is exhausted: 3xx too, which is never followed. Three things are not by the schedule: a
    status that is permanent ends it; a 410 that disables the subscription leaves it owed; and a
    fault of this machine is no attempt at all, so it is due again as soon as the machine is well.

    Args:
        result: what the exchange came to.
        policy: of the subscription, as it is now.
        tries: attempts since the delivery was opened, before this one.
        started: when the attempt began.
        now: when it ended.
        jitter: from [0, 1), drawn anew for each call.
    """
    status: int | None
    match result:
        case Answer(status=status, retry_after=header):
            if _succeeded(result):
                return Move(Happening.SUCCEEDED, now, attempted_at=started, status=status)
            retry_after = parse_retry_after(header, now)
        case Fault(kind=FaultKind.LOCAL):
            return Move(Happening.RETRY, now, error=_error(result), retry_at=now)
        case Fault():
            status = retry_after = None
        case _:
            assert_never(result)
    error = _error(result)
    if status == GONE and policy.gone_disables:
        return Move(Happening.RETRY, now, None, started, status, error, now)
    if status is not None and _is_permanent(status, policy.permanent_statuses):
        reason = Reason.GONE if status == GONE else Reason.PERMANENT_STATUS
        return Move(Happening.FAILED, now, reason, started, status, error)
    retry_at = next_attempt_at(policy, tries, now, jitter, retry_after)
    if retry_at is None:
        return Move(Happening.FAILED, now, Reason.EXHAUSTED, started, status, error)
    return Move(Happening.RETRY, now, None, started, status, error, retry_at)


def error_class(result: Result) -> str:
    """A short name for what went wrong, for counting; `''` if nothing did.

    `redirect`, `http_4xx`, `http_5xx`, `status` (any other), or the kind of the fault.
    """
    if isinstance(result, Fault):
        return result.kind.value
    if _succeeded(result):
        return ""
    if 300 <= result.status < 400:
        return "redirect"
    if 400 <= result.status < 600:
        return f"http_{result.status // 100}xx"
    return "status"


def is_ill(result: Result) -> bool:
    """Whether `result` speaks of an endpoint in ill health: one that may not be there for others.

    A 400 says nothing of the endpoint's health, and this machine's own faults even less.
    """
    if isinstance(result, Fault):
        return result.kind not in _NOT_THE_ENDPOINTS
    return result.status in _ILL_STATUSES or result.status >= 500


def _is_permanent(status: int, permanent: tuple[str, ...]) -> bool:
    if str(status) in permanent:
        return True
    return status not in _NEVER_BY_CLASS and f"{status // 100}xx" in permanent


def _succeeded(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _error(result: Result) -> str:
    """The failure in one printable line for a person."""
    if isinstance(result, Fault):
        text = f"{result.kind}: {result.detail}" if result.detail else result.kind.value
    elif error_class(result) == "redirect":
        text = f"redirect {result.status}"
        if result.location:
            text = f"{text} → {_shown_location(result.location)}"
    else:
        text = f"http {result.status}"
    return printable(text, MAX_ERROR)


def _shown_location(location: str) -> str:
    """The origin of `location`, or its path if it has none: a query may echo ours, with secrets.

    For the same reason what stands before an `@` (a password, if it is one) is masked.
    """
    origin = _ORIGIN.match(location.strip())
    shown = origin[0] if origin else re.split("[?#]", location.strip(), maxsplit=1)[0]
    before, at, after = shown.rpartition("@")
    if at:
        scheme = before.partition("//")[0] + "//" if origin else ""
        shown = f"{scheme}***@{after}"
    return printable(shown, MAX_LOCATION)
