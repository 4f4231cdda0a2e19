"""Reading what is due: always a whole small batch, straight from an index, never a scan.

A window holds no payloads. They are read one by one, by whoever has a place to send from, so that
memory follows the attempts under way and not the subscriptions times what they are owed.
"""

from collections.abc import Collection
from typing import Any, Final

from webhookd.core.model import DeliveryId, Event, Millis, Sequence, SubscriptionKey
from webhookd.core.storage import Due
from webhookd.core.times import from_text, to_text
from webhookd.store.driver import Connection

DUE: Final = (
    "SELECT id, number, attempts, tries, order_key, due_at, event"
    " FROM webhookd_deliveries INDEXED BY webhookd_deliveries_due"
    " WHERE subscription = ? AND due_at IS NOT NULL AND due_at <= ?"
    " ORDER BY due_at, id LIMIT ?"
)
EVENT: Final = (
    "SELECT sequence, outbox_id, event_id, event_type, aggregate_type, aggregate_id, tenant,"
    " payload, occurred_at FROM webhookd_events WHERE sequence = ?"
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

    At most `limit`, none of `without`. Without the events: see `event`.
    """
    # What is in flight is still due in the file, so it is asked for too and passed over.
    rows = connection.execute(DUE, (key, to_text(now), limit + len(without))).fetchall()
    found = [_due(row) for row in rows if row[0] not in without]
    return found[:limit]


def event(connection: Connection, sequence: Sequence) -> Event | None:
    """An event with its payload; None if it is gone."""
    row = connection.execute(EVENT, (sequence,)).fetchone()
    return None if row is None else Event(*row)


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
        event=Sequence(row[6]),
    )
