"""Which single deliveries operators changed a moment ago, found by what their commands left."""

from typing import Final

from webhookd.core.model import DeliveryId, Millis, SubscriptionKey
from webhookd.core.times import to_text
from webhookd.store.driver import Connection
from webhookd.store.ranges import HIGHEST

OPENED_OR_CANCELLED: Final = (
    "SELECT id FROM webhookd_deliveries WHERE sequence > ?1 AND (opened_sequence > ?1"
    " OR (state = 'cancelled' AND reason = 'operator' AND ended_sequence > ?1))"
    " ORDER BY sequence LIMIT ?2"
)
HASTENED: Final = (
    "SELECT d.id FROM webhookd_counters AS c"
    " CROSS JOIN webhookd_deliveries AS d INDEXED BY webhookd_deliveries_again"
    " WHERE c.subscription > ? AND c.subscription <= ?"
    " AND c.pending > 0 AND d.subscription = c.subscription AND d.due_at IS NOT NULL"
    " AND d.tries > 0 AND d.due_at BETWEEN ? AND ? AND d.retry_at IS NULL LIMIT ?"
)
"""A further attempt has an earliest time of its own, unless somebody took that away."""
LAST: Final = (
    "SELECT subscription FROM webhookd_counters WHERE subscription > ? ORDER BY subscription"
    " LIMIT 1 OFFSET ?"
)

PAGE: Final = 250
"""Subscriptions that one call looks at: some 0.1 ms where all of them are owed something."""

_COMMIT: Final = 1_000
"""Milliseconds by which a command's time may lie before its commit: both are under the lock."""


def find(connection: Connection, after: int, limit: int) -> list[DeliveryId]:
    """At most `limit` deliveries that were opened again or cancelled.

    Args:
        connection: one that reads.
        after: the file's sequence before it happened.
        limit: how many are wanted.
    """
    found = connection.execute(OPENED_OR_CANCELLED, (after, limit)).fetchall()
    return [DeliveryId(one) for (one,) in found]


def hastened(
    connection: Connection, beyond: SubscriptionKey, since: Millis, now: Millis, limit: int
) -> tuple[list[DeliveryId], SubscriptionKey | None]:
    """At most `limit` deliveries of the next few subscriptions that were made due at once.

    No index leads there but each subscription's own, so there may be many to look at.

    Args:
        connection: one that reads.
        beyond: the subscription after which the few begin.
        since: when the file was read before it happened.
        now: when this is asked.
        limit: how many are wanted.

    Returns:
        The deliveries, and where the next few begin; None where none are left.
    """
    row = connection.execute(LAST, (beyond, PAGE - 1)).fetchone()
    last = HIGHEST if row is None else row[0]
    span = to_text(since - _COMMIT), to_text(now)
    found = connection.execute(HASTENED, (beyond, last, *span, limit)).fetchall()
    more = None if row is None else SubscriptionKey(last)
    return [DeliveryId(one) for (one,) in found], more
