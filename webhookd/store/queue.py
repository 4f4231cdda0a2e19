"""Reading what is due: always a whole small batch, straight from an index, never a scan."""

from collections.abc import Collection
from typing import Any, Final

from webhookd.core.model import DeliveryId, Event, Millis, Sequence, SubscriptionKey
from webhookd.core.storage import Due
from webhookd.core.times import from_text, to_text
from webhookd.store.driver import Connection

WINDOW_BYTES: Final = 1024 * 1024
"""Payload that one window holds at most (but always one delivery): 1,000 lanes stay below 1 GiB."""

DUE: Final = (
    "SELECT d.id, d.number, d.attempts, d.tries, d.order_key, d.due_at, e.sequence, e.outbox_id,"
    " e.event_id, e.event_type, e.aggregate_type, e.aggregate_id, e.tenant, e.payload,"
    " e.occurred_at"
    " FROM webhookd_deliveries AS d INDEXED BY webhookd_deliveries_due"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " WHERE d.subscription = ? AND d.due_at IS NOT NULL AND d.due_at <= ?"
    " ORDER BY d.due_at, d.id LIMIT ?"
)
NEXT_DUE: Final = (
    "SELECT due_at FROM webhookd_deliveries INDEXED BY webhookd_deliveries_due"
    " WHERE subscription = ? AND due_at IS NOT NULL AND due_at > ? ORDER BY due_at LIMIT 1"
)


def due(
    connection: Connection,
    key: SubscriptionKey,
    now: Millis,
    limit: int,
    without: Collection[DeliveryId],
) -> list[Due]:
    """Deliveries of one subscription whose time has come, oldest due time first.

    At most `limit`, at most `WINDOW_BYTES` of payload (but at least one), none of `without`.
    """
    found: list[Due] = []
    size = 0
    # What is in flight is still due in the file, so it is asked for too and passed over.
    cursor = connection.execute(DUE, (key, to_text(now), limit + len(without)))
    try:
        for row in cursor:
            if row[0] in without:
                continue
            size += len(row[13] or b"")
            if len(found) >= limit or (found and size > WINDOW_BYTES):
                break
            found.append(_due(row))
    finally:
        cursor.close()  # a half-read cursor would pin the snapshot
    return found


def next_due(
    connection: Connection, key: SubscriptionKey, after: Millis | None = None
) -> Millis | None:
    """The subscription's earliest due time (later than `after`); None if there is none."""
    found = connection.execute(NEXT_DUE, (key, "" if after is None else to_text(after))).fetchone()
    return None if found is None else from_text(found[0])


def _due(row: tuple[Any, ...]) -> Due:
    return Due(
        id=DeliveryId(row[0]),
        number=row[1],
        attempts=row[2],
        tries=row[3],
        order_key=row[4],
        due_at=from_text(row[5]),
        event=Event(Sequence(row[6]), *row[7:]),
    )
