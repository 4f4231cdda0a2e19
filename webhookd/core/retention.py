"""How long what is done with is kept: the spans of `[retention]`, and the order of taking away.

What is owed is never taken away, and an event stays for as long as a delivery refers to it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from webhookd.core.model import DeliveryState, Millis
from webhookd.core.times import EARLIEST, to_text

DAY: Final[Millis] = 86_400_000

Span = Millis | None
"""How long something is kept; None: for ever."""


class Work(StrEnum):
    """One kind of what is taken away after the other, in the order of a round.

    The outbox comes before the events, because an event is how the age of its row is known.
    """

    OUTBOX = "outbox"
    """Rows of webhookd's own outbox that are events."""
    DELIVERIES = "deliveries"
    """Finished deliveries, with their attempts."""
    ATTEMPTS = "attempts"
    """Attempts of deliveries that stay."""
    EVENTS = "events"
    """Events that no delivery refers to."""
    CHANGES = "changes"
    """Aggregates of which no event is left."""
    REJECTED = "rejected"
    """Rejected rows, with their row in webhookd's own outbox."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each kind is kept, from its end, its attempt, its ingest or its rejection on."""

    delivered: Span = 7 * DAY
    cancelled: Span = 7 * DAY
    superseded: Span = 7 * DAY
    failed: Span = 30 * DAY
    attempts: Span = 7 * DAY
    """A delivery that is taken away takes its attempts along, however young."""
    events: Span = 30 * DAY
    rejected: Span = 90 * DAY
    outbox: Span = 7 * DAY
    """Rows of an outbox that webhookd made; another one's are the host's."""
    changes: Span = None
    """Aggregates, by the age of their newest event."""

    def of(self, state: DeliveryState) -> Span:
        """How long a delivery is kept that has ended so; None for one that is owed."""
        spans = {
            DeliveryState.DELIVERED: self.delivered,
            DeliveryState.CANCELLED: self.cancelled,
            DeliveryState.SUPERSEDED: self.superseded,
            DeliveryState.FAILED: self.failed,
        }
        return spans.get(state)


FINISHED: Final = tuple(state for state in DeliveryState if state is not DeliveryState.PENDING)
"""The states in which a delivery can be taken away."""


def before(span: Span, now: Millis) -> str | None:
    """What is of this moment or older may go; None where nothing may."""
    return None if span is None else to_text(max(EARLIEST, now - span))
