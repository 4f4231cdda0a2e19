"""Defects of decisions: what a result means, when to try again, what a request says."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.simulation.planting import defect, instead
from webhookd.core import outcomes, request
from webhookd.core.delivery import TRANSITIONS, Happening
from webhookd.core.model import Answer, DeliveryState
from webhookd.core.request import Renderer


@defect
def delivered_on_a_5xx(stack: ExitStack) -> None:
    """503 counts as a success."""

    def make(right: Any) -> Any:
        def succeeded(answer: Answer) -> bool:
            return right(answer) or answer.status == 503

        return succeeded

    instead(stack, outcomes, "_succeeded", make)


@defect
def body_rendered_differently(stack: ExitStack) -> None:
    """From the third attempt on the body has one more blank."""

    def make(right: Any) -> Any:
        def render(self: Renderer, event: Any, **rest: Any) -> Any:
            request = right(self, event, **rest)
            blank = b" " if rest["attempt"] > 2 else b""
            return replace(request, body=request.body + blank)

        return render

    instead(stack, Renderer, "render", make)


@defect
def retried_too_soon(stack: ExitStack) -> None:
    """Jitter shortens delays."""

    def make(right: Any) -> Any:
        def next_at(policy: Any, tries: int, now: int, jitter: float, wish: Any) -> Any:
            at = right(policy, tries, now, 0.0, wish)
            return None if at is None else at - int((at - now) * jitter * 0.1)

        return next_at

    instead(stack, outcomes, "next_attempt_at", make)


@defect
def given_up_a_try_early(stack: ExitStack) -> None:
    """The last delay of the schedule is never used."""

    def make(right: Any) -> Any:
        def next_at(policy: Any, tries: int, *rest: Any) -> Any:
            return None if tries + 1 >= len(policy.retry_delays) else right(policy, tries, *rest)

        return next_at

    instead(stack, outcomes, "next_attempt_at", make)


@defect
def retried_too_late(stack: ExitStack) -> None:
    """Every delay is a second longer than agreed."""

    def make(right: Any) -> Any:
        def next_at(*given: Any) -> Any:
            at = right(*given)
            return None if at is None else at + 1_000

        return next_at

    instead(stack, outcomes, "next_attempt_at", make)


@defect
def success_after_a_cancel_forgotten(stack: ExitStack) -> None:
    """What was taken back while it was under way stays cancelled, though it was accepted."""
    cancelled = {DeliveryState.CANCELLED: DeliveryState.CANCELLED}
    stack.enter_context(patch.dict(TRANSITIONS[Happening.SUCCEEDED], cancelled))


@defect
def ended_secret_signs_on(stack: ExitStack) -> None:
    """The overlap of a rotation never ends."""
    instead(stack, request, "live", lambda _: lambda keys, now: keys)


@defect
def only_the_newest_secret_signs(stack: ExitStack) -> None:
    """A rotation has no overlap."""
    instead(stack, request, "live", lambda right: lambda keys, now: right(keys, now)[:1])
