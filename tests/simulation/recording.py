"""Judges what the file says of an attempt by what came of the request that it was.

Each promise is one function in `PROMISES`; a new one is one more row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.facts import PENDING, Delivery, iso, millis
from tests.simulation.network import Request, is_ours
from tests.simulation.wellness import longest_wait
from webhookd.core.model import Fault, FaultKind

if TYPE_CHECKING:
    from tests.simulation.model import Model


DISPROVED: Final = 8
"""Answers of others after which a host's trouble may be its own."""
WITNESS: Final = 1.9
"""Seconds, or a little more, for which such a fault waits for a second host to meet one."""


@dataclass(frozen=True)
class Case:
    """One recorded attempt."""

    request: Request
    known: Delivery
    """The delivery as it was before."""
    row: dict[str, Any]
    """And as the file has it now."""

    @property
    def noted(self) -> bool:
        """Whether it is of an opening that is over: it counts, and uses up nothing."""
        request, known, row = self.request, self.known, self.row
        if request.succeeded or known.reopened_at < request.began - request.life.grace:
            return False
        # Opened again a moment before it began, of which the lane need not have known yet.
        unclear = known.reopened_at <= request.began
        return not unclear or (row["state"] == PENDING and row["retry_at"] is None)

    @property
    def policies(self) -> list[dict[str, Any]]:
        """Those that may have been in force when the request ended."""
        request = self.request
        if request.may_be_ours:  # it was thought over, and is judged by what the policy is by then
            return self.known.sub.policy.since(request.began - request.life.grace)
        found: list[dict[str, Any]] = request.extra["policies"]
        return found


def answered(known: Delivery, row: dict[str, Any]) -> Request | None:
    """The answered request that a recorded attempt is about."""
    for request in reversed(known.requests):
        if request.attempt == row["attempts"] and request.result is not None:
            return request if not request.recorded else None
    return None


def judge(model: "Model", known: Delivery, row: dict[str, Any], request: Request) -> None:
    """An attempt was recorded, and that moved its delivery."""
    request.was_recorded()
    case = Case(request, known, row)
    for promise in PROMISES:
        for guarantee, text in promise(case):
            model.wrong(guarantee, f"{request}, which brought {request.result}: {text}")
    noted = case.noted
    model.wellness.note(known, row, request, noted=noted)
    if noted or request.succeeded or not known.pending:
        return
    known.tries += 1
    known.not_before = row["retry_at"] or ""
    if known.not_before:
        known.not_before_of = request.ended, millis(known.not_before) - request.ended_wall
    if known.failing_since is None:
        known.failing_since, known.failing_at = request.ended_wall, request.ended


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


def as_agreed(case: Case) -> Wrong:
    """A failure has the one consequence that the policy gives it, neither sooner nor later."""
    if case.request.succeeded or case.known.state != PENDING:
        return
    if case.noted:
        if case.row["state"] != PENDING or case.row["retry_at"] is not None:
            yield "G2", f"uses up something of the schedule that began since: {case.row}"
        return
    agreed = [_consequence(case, policy) for policy in case.policies]
    clock = case.request.life.world.clock
    have = case.row["state"], case.row["reason"], case.row["retry_at"] or ""
    # A clock that jumped while it was thought over has moved the time as well.
    moved = case.request.may_be_ours and clock.jumped_at >= case.request.ended
    # So it has while the outcome waited for the file, and then no wait is longer than the longest.
    moved |= clock.went_back_at >= case.request.ended
    if moved:
        agreed = [(state, "", "~" if state[0] == PENDING else "") for state, _, _ in agreed]
    if not any(state == have[:2] and first <= have[2] <= last for state, first, last in agreed):
        yield "G2", f"it is {have}, not one of {agreed}"


def _consequence(case: Case, policy: dict[str, Any]) -> tuple[tuple[str, str], str, str]:
    """State and reason by this policy, and between which times it is tried again."""
    result, tries = case.request.result, case.known.tries
    ended, by = case.request.ended_wall, case.request.judged_by
    status = getattr(result, "status", None)
    if status == 410 and policy["gone_disables"]:
        return (PENDING, ""), iso(ended), iso(ended)
    permanent = policy["permanent_statuses"]
    by_class = status not in (None, 408, 425, 429) and f"{status // 100}xx" in permanent
    if str(status) in permanent or by_class:
        return ("failed", "gone" if status == 410 else "permanent_status"), "", ""
    if tries >= len(policy["retry_delays"]):
        return ("failed", "exhausted"), "", ""
    # Nothing is put off for longer than any delay of the policy as it is when it is recorded.
    most = longest_wait(case.known.sub.policy.now)
    delay = policy["retry_delays"][tries]
    wish = getattr(result, "retry_after", "")
    least = min(int(wish) * 1000, policy["retry_after_max"]) if wish.isdigit() else 0
    longest = int(delay * (1 + policy["jitter"]))
    return (PENDING, ""), iso(ended + min(most, max(delay, least))), iso(by + max(longest, least))


def not_this_machines(case: Case) -> Wrong:
    """What fails for this machine's own sake is no attempt."""
    request, life = case.request, case.request.life
    result = request.result
    if isinstance(result, Fault) and result.kind is FaultKind.LOCAL:
        yield "E", "this machine was at fault"
    if not request.may_be_ours:
        return
    ended = [one for one in life.requests if one.result is not None and one is not request]
    others = [one for one in ended if one.may_be_ours and one.who != request.who]
    answers = [one.ended for one in ended if not is_ours(one.result) and not _silent(one.result)]
    if len([at for at in answers if at >= life.requests[0].began]) >= DISPROVED:
        return  # it may be its own trouble, as others were reached again and again
    for one in others:
        first, last = sorted((one.ended, request.ended))
        near = request.ended - 60 <= one.ended <= request.ended + WITNESS
        if near and not any(first <= at <= last + WITNESS for at in answers):
            yield "E", f"{one} met the same: this machine was at fault"
            return


def _silent(result: Any) -> bool:
    """Whether nobody out there has said anything."""
    quiet = (FaultKind.TIMEOUT, FaultKind.INTERNAL, FaultKind.DNS, FaultKind.UNREACHABLE)
    return isinstance(result, Fault) and result.kind in quiet


PROMISES: Final[tuple[Callable[[Case], Wrong], ...]] = (
    truthful,
    moved,
    as_agreed,
    not_this_machines,
)
"""What is promised of every attempt that is in the file."""
