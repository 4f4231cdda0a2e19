"""Judges what the file says of an attempt by what came of the request that it was.

Each promise is one function in `PROMISES`; a new one is one more row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.facts import PENDING, Delivery, iso
from tests.simulation.network import Request

if TYPE_CHECKING:
    from tests.simulation.model import Model


@dataclass(frozen=True)
class Case:
    """One recorded attempt."""

    request: Request
    known: Delivery
    """The delivery as it was before."""
    row: dict[str, Any]
    """And as the file has it now."""

    @property
    def failed_in_line(self) -> bool:
        """Whether the schedule decides what comes next."""
        return not self.request.succeeded and self.known.state == PENDING

    @property
    def policies(self) -> list[dict[str, Any]]:
        """Those that may have been in force when the request ended."""
        found: list[dict[str, Any]] = self.request.extra["policies"]
        return found

    @property
    def left(self) -> list[dict[str, Any]]:
        """Those of them by which there is one more try."""
        return [one for one in self.policies if self.known.tries < len(one["retry_delays"])]


def answered(known: Delivery, row: dict[str, Any]) -> Request | None:
    """The answered request that a recorded attempt is about."""
    for request in reversed(known.requests):
        if request.attempt == row["attempts"] and request.result is not None:
            return request if not request.recorded else None
    return None


def judge(model: "Model", known: Delivery, row: dict[str, Any], request: Request) -> None:
    """An attempt was recorded."""
    request.was_recorded()
    case = Case(request, known, row)
    for promise in PROMISES:
        for guarantee, text in promise(case):
            model.wrong(guarantee, f"{request}, which brought {request.result}: {text}")


Wrong = Iterator[tuple[str, str]]
"""Which guarantee is broken, and how."""


def truthful(case: Case) -> Wrong:
    """The file says what the receiver said."""
    row = case.row
    if row["last_status"] != getattr(case.request.result, "status", None):
        yield "G3", f"recorded as {row}"
    if bool(row["last_error"]) == case.request.succeeded:
        yield "G3", f"the error is {row['last_error']!r}"


def moved(case: Case) -> Wrong:
    """A success is final whatever the row said; a failure moves only what was pending."""
    before, after = case.known.state, case.row["state"]
    if case.request.succeeded:
        if after != "delivered":
            yield "G2", f"{case.known} was accepted and is {after}"
    elif after == "delivered" and before != "delivered":
        yield "G2", f"{case.known} is delivered all the same"
    elif before not in (PENDING, after):
        yield "G2", f"moved {case.known} from {before} to {after}"


def as_often_as_agreed(case: Case) -> Wrong:
    """It is given up after the last try of its schedule, neither before nor later."""
    if not case.failed_in_line:
        return
    if case.row["state"] == "failed":
        if case.row["reason"] != "exhausted" or len(case.left) == len(case.policies):
            yield "G2", f"failed ({case.row['reason']}) at try {case.known.tries + 1}"
    elif not case.left:
        yield "G2", "goes on after its last try"


def when_agreed(case: Case) -> Wrong:
    """Delays are minima; jitter and the receiver's own wish lengthen them, within limits."""
    if not case.failed_in_line or case.row["state"] != PENDING or not case.left:
        return
    tries, left, ended = case.known.tries, case.left, case.request.ended_wall
    delays = [one["retry_delays"][tries] for one in left]
    soonest, latest = (
        min(delays),
        max(int(delay * (1 + one["jitter"])) for delay, one in zip(delays, left, strict=True)),
    )
    if case.known.reopened_at >= case.request.began:
        # Taken back and opened again meanwhile: the place it had in the schedule may still count.
        latest = max(
            int(delay * (1 + one["jitter"])) for one in left for delay in one["retry_delays"]
        )
    wish = getattr(case.request.result, "retry_after", "")
    if wish.isdigit():
        longest = [one["retry_after_max"] for one in case.policies]
        soonest = max(soonest, min(int(wish) * 1000, min(longest)))
        latest = max(latest, min(int(wish) * 1000, max(longest)))
    retry_at = case.row["retry_at"] or ""
    if not iso(ended + soonest) <= retry_at <= iso(ended + latest):
        yield "G3", f"again at {retry_at}, not {iso(ended + soonest)} to {iso(ended + latest)}"


PROMISES: Final[tuple[Callable[[Case], Wrong], ...]] = (
    truthful,
    moved,
    as_often_as_agreed,
    when_agreed,
)
"""What is promised of every attempt that is in the file."""
