"""`coalesce`: an ID-only delivery that was not attempted yet gives way to a newer one of its kind.

A receiver that fetches the data itself learns nothing from being told twice what it has not asked
for once. So of those that wait, only the newest of each (subscription, aggregate, event type)
stays; the others become `superseded`, and say so in the feed.
"""

from collections.abc import Iterable
from typing import Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Millis, Reason, SubscriptionKey
from webhookd.store.book import Book
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow

UNSENT: Final = (
    "SELECT d.id, e.event_type FROM webhookd_deliveries AS d"
    " INDEXED BY webhookd_deliveries_unsent"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " WHERE d.subscription = ? AND d.coalesce_key = ? AND d.coalesce_key <> 0"
    " AND d.state = 'pending' AND d.attempts = 0 ORDER BY d.event DESC LIMIT ?"
)
AT_ONCE: Final = 2_000
"""Deliveries of one aggregate that are looked at: more than a batch of ingest can add to it. There
are more only where operators re-opened many: these have their turn at the next event."""


def supersede(
    connection: Connection,
    file: FileRow,
    crowded: Iterable[tuple[SubscriptionKey, int]],
    now: Millis,
) -> tuple[FileRow, frozenset[SubscriptionKey]]:
    """Leave the newest of each kind in these subscriptions' aggregates.

    Returns:
        The file's row with its counter moved, and subscriptions in which another delivery has
        come to the head of its line.
    """
    needless: list[DeliveryId] = []
    for key, aggregate in crowded:
        kinds: set[str] = set()
        waiting = connection.execute(UNSENT, (key, aggregate, AT_ONCE)).fetchall()
        for delivery, event_type in waiting:
            if event_type in kinds:
                needless.append(delivery)
            kinds.add(event_type)
    if not needless:
        return file, frozenset()
    book = Book(connection, file, now)
    # The newest first: then none has to make way for one that is needless too.
    for delivery in sorted(needless, reverse=True):
        row = book.read(delivery)
        if row is not None:
            book.apply(row, Move(Happening.SUPERSEDED, now, Reason.COALESCED))
    return book.close(), frozenset(book.ready)
