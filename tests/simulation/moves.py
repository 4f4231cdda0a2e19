"""Judges what happened to a delivery without an attempt: who may move it so, and when.

Each ending (or opening) has one function in `MOVES`, by what the file says that it came to; it
yields what is wrong with it. Whose commit it was matters only where a person must have wanted it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import PENDING, Delivery, millis
from tests.simulation.network import is_ours

if TYPE_CHECKING:
    from tests.simulation.model import Model
    from tests.simulation.source import Source

A_LONG_WRITE: Final = 60.0
"""Seconds for which what was decided may wait for the file."""


@dataclass(frozen=True)
class Case:
    """One delivery that was moved, unattempted."""

    model: "Model"
    known: Delivery
    """As it was before."""
    row: dict[str, Any]
    """As the file has it now."""
    source: "Source"


Wrong = Iterator[str]


def judge(model: "Model", known: Delivery, row: dict[str, Any], source: "Source") -> None:
    """A delivery has moved, and nothing was attempted."""
    case = Case(model, known, row, source)
    before, after = known.state, row["state"]
    reopened = row["opened_sequence"] != known.opened
    if reopened:
        name = "reopened"
    elif before == after:
        name = "noted"
    elif before == PENDING:
        name = row["reason"]
    else:
        name = ""
    for text in MOVES.get(name, _unknown)(case):
        model.wrong("G2", f"{source} moved {known} from {before} to {row}: {text}")
    now = trio.current_time()
    if name != "noted":
        known.touched_at = now
    if reopened:
        known.reopened_at = now
        known.opened, known.since = row["opened_sequence"], row["since"]
        known.tries, known.not_before, known.failing_since = 0, "", None
        known.passed = False
        known.line = known.sub.line_of(known.event)


def _unknown(case: Case) -> Wrong:
    yield "nothing can bring that about"


def _reopened(case: Case) -> Wrong:
    known = case.known
    if case.row["state"] != PENDING:
        # In one transaction it was opened, and gave way to a newer one.
        yield from MOVES.get(case.row["reason"], _unknown)(case)
    if case.source.retried == known.id:
        if known.pending:
            yield "it was pending"
        return
    yield from case.model.instructed.may_open(known)


def _noted(case: Case) -> Wrong:
    """A fault of this machine: it is said once, and costs nothing."""
    met = [one for one in case.known.requests if one.result is not None and is_ours(one.result)]
    if case.source.kind != "daemon" or not met:
        yield "nothing has happened to it"
    elif not case.known.pending:
        yield "it is finished, and nothing was attempted"


def _cancelled(case: Case) -> Wrong:
    if case.source.cancelled != case.known.id:
        yield "nobody has taken it back"


def _removed(case: Case) -> Wrong:
    if case.known.sub.removed_at is None:
        yield "its subscription is there"
    source = case.source
    if source.kind == "operator" and source.removed != case.known.sub.key and not source.carries:
        yield "that is not what was commanded"


def _expired(case: Case) -> Wrong:
    known, now = case.known, trio.current_time()
    age = millis(case.row["finished_at"]) - millis(known.since)
    limits = [one["max_age"] for one in known.sub.policy.since(now - A_LONG_WRITE)]
    case.model.expired_at = now
    life = case.model.world.machine.life
    if life is not None:
        life.recorded_at = now  # the lane that met it may have handed it to the recorder
    if case.source.kind != "daemon" or not any(limit and age >= limit for limit in limits):
        yield f"it is {age} ms old, of {limits}"


def _unrenderable(case: Case) -> Wrong:
    if case.known.event.sequence not in case.model.keeping.erased:
        yield "nothing was erased of it"


def _superseded(case: Case) -> Wrong:
    known = case.known
    recent = trio.current_time() - A_LONG_WRITE
    if not any(one["coalesce"] for one in known.sub.policy.since(recent)):
        yield "its subscription does not coalesce"
    if known.attempts:
        yield "it was attempted"
    if known.kind is None:
        yield "it is of no kind"
    elif not any(one.event.sequence > known.event.sequence for one in newer(case.model, known)):
        yield "it is the newest of its kind"


def newer(model: "Model", known: Delivery) -> Iterator[Delivery]:
    """Pending deliveries of the same kind, unattempted as far as the file knows."""
    for one in model.deliveries.values():
        waits = one.pending and not one.attempts and one is not known
        if waits and one.sub is known.sub and one.kind == known.kind:
            yield one


def _skipped(case: Case) -> Wrong:
    yield from case.model.instructed.may_cancel(case.known, case.row["reason"])


MOVES: Final[dict[str, Callable[[Case], Wrong]]] = {
    "reopened": _reopened,
    "noted": _noted,
    "operator": _cancelled,
    "subscription_removed": _removed,
    "expired": _expired,
    "unrenderable": _unrenderable,
    "coalesced": _superseded,
    "backlog_skipped": _skipped,
    "newest_only": _skipped,
}
"""What can happen to a delivery without an attempt."""
