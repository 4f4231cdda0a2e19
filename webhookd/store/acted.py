"""Which single deliveries operators changed a moment ago, found by what their commands left."""

from typing import Final

from webhookd.core.model import DeliveryId, Millis
from webhookd.core.times import to_text
from webhookd.store.driver import Connection

OPENED_OR_CANCELLED: Final = (
    "SELECT id FROM webhookd_deliveries WHERE sequence > ?1 AND (opened_sequence > ?1"
    " OR (state = 'cancelled' AND reason = 'operator' AND ended_sequence > ?1))"
    " ORDER BY sequence LIMIT ?2"
)
HASTENED: Final = (
    "SELECT d.id FROM webhookd_counters AS c"
    " CROSS JOIN webhookd_deliveries AS d INDEXED BY webhookd_deliveries_again"
    " WHERE c.pending > 0 AND d.subscription = c.subscription AND d.due_at IS NOT NULL"
    " AND d.tries > 0 AND d.due_at BETWEEN ? AND ? AND d.retry_at IS NULL LIMIT ?"
)
"""A further attempt has an earliest time of its own, unless somebody took that away."""

_COMMIT: Final = 1_000
"""Milliseconds by which a command's time may lie before its commit: both are under the lock."""


def find(
    connection: Connection, after: int, since: Millis, now: Millis, limit: int
) -> list[DeliveryId]:
    """At most `limit` deliveries that were opened again, cancelled, or made due at once.

    Args:
        connection: one that reads.
        after: the file's sequence before it happened.
        since: when that was read.
        now: when this is asked.
        limit: how many are wanted.
    """
    found = connection.execute(OPENED_OR_CANCELLED, (after, limit)).fetchall()
    span = to_text(since - _COMMIT), to_text(now)
    found += connection.execute(HASTENED, (*span, limit)).fetchall()
    return [DeliveryId(one) for (one,) in found[:limit]]
