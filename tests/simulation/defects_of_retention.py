"""Defects of taking away: too much, too soon, by the wrong clock, or without a word to pollers."""

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.simulation.planting import defect, instead
from webhookd.daemon.janitor import Janitor
from webhookd.store import erase, retention


@defect
def minimum_cursor_not_raised(stack: ExitStack) -> None:
    """What goes out of a feed is told to nobody."""

    def make(right: Any) -> Any:
        def went(self: Any, what: str, sequence: int = 0, feed: str = "") -> None:
            right(self, what)

        return went

    instead(stack, retention._Step, "_went", make)


@defect
def owed_event_pruned(stack: ExitStack) -> None:
    """An event goes by its age alone, whatever refers to it."""
    nobody = "SELECT 1 FROM webhookd_deliveries WHERE event = ? AND 0"
    stack.enter_context(patch.object(retention, "IS_REFERRED_TO", nobody))


@defect
def aggregate_pruned_too_soon(stack: ExitStack) -> None:
    """An aggregate goes by its age alone, though events of it are there."""
    none = "SELECT 1 FROM webhookd_events WHERE aggregate = ? AND 0"
    stack.enter_context(patch.object(retention, "HAS_EVENTS", none))


@defect
def kept_from_its_beginning(stack: ExitStack) -> None:
    """A delivery's age counts from when it was made, not from its end."""
    wrong = retention.DELIVERIES.replace("finished_at <= ?", "created_at <= ?")
    stack.enter_context(patch.object(retention, "DELIVERIES", wrong))


@defect
def pruned_by_a_clock_in_doubt(stack: ExitStack) -> None:
    """The janitor trusts a clock that has just leapt ahead."""

    def make(right: Any) -> Any:
        def init(self: Janitor, *given: Any, **more: Any) -> None:
            right(self, *given, **more)
            self._steadiness = SimpleNamespace(is_trusted=True)  # type: ignore[assignment]

        return init

    instead(stack, Janitor, "__init__", make)


@defect
def erased_is_still_sent(stack: ExitStack) -> None:
    """An erased payload stays in its event."""
    nothing = "UPDATE webhookd_events SET payload = payload WHERE sequence = ?"
    stack.enter_context(patch.object(erase, "BLANK", nothing))
