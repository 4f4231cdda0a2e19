"""One event to try a subscription with, and what the answer to it would mean for a delivery.

It belongs to nobody's outbox: no row, no delivery and no feed knows of it. A receiver tells it by
its type, which only webhookd itself has, and by its number 0, which no delivery has.
"""

from typing import Final

from webhookd.core import outcomes
from webhookd.core.delivery import Happening
from webhookd.core.model import (
    Answer,
    Event,
    Fault,
    FaultKind,
    Millis,
    Policy,
    Reason,
    Result,
    Sequence,
    Subscription,
)
from webhookd.core.rows import OWN_TYPES, made_aggregate_type
from webhookd.core.times import format_duration, to_text

EVENT_TYPE: Final = f"{OWN_TYPES}test"
AGGREGATE_ID: Final = "test"
NUMBER: Final = 0
"""In the place of the delivery's number: no gap is seen, whoever counts them."""


def event(subscription: Subscription, event_id: str, now: Millis) -> Event:
    """An ID-only event that every profile can say, of the subscription's tenant."""
    return Event(
        sequence=Sequence(0),
        outbox_id=0,
        event_id=event_id,
        event_type=EVENT_TYPE,
        aggregate_type=made_aggregate_type(EVENT_TYPE),
        aggregate_id=AGGREGATE_ID,
        tenant=subscription.tenant,
        payload=None,
        occurred_at=to_text(now),
        aggregate_type_made=True,
    )


def meaning(result: Result, policy: Policy, now: Millis) -> tuple[str, str]:
    """What went wrong, in one line (`''`: nothing), and what would become of a first attempt."""
    move = outcomes.judge(result, policy, tries=0, started=now, now=now, jitter=0.0)
    if move.happening is Happening.SUCCEEDED:
        return "", "a delivery would be done"
    if isinstance(result, Fault) and result.kind is FaultKind.LOCAL:
        return move.error, "this machine is at fault, so no attempt of a delivery would count"
    if move.happening is Happening.FAILED:
        if move.reason is Reason.EXHAUSTED:
            return move.error, "a delivery would have failed: its policy has no further attempts"
        return move.error, f"a delivery would have failed for good ({move.reason})"
    if isinstance(result, Answer) and result.status == outcomes.GONE and policy.gone_disables:
        return move.error, "it would disable the subscription, and a delivery would stay owed"
    wait = format_duration((move.retry_at or now) - now)
    signs = outcomes.signs(result, policy, now)
    if signs is not None and signs.held_until is not None:
        held = format_duration(signs.held_until - now)
        return (
            move.error,
            f"a delivery would be tried again after {wait}, and nothing else before {held}",
        )
    return move.error, f"a delivery would be tried again after {wait}"
