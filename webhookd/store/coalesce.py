"""`coalesce`: an ID-only delivery that was not attempted yet gives way to a newer one of its kind.

A receiver that fetches the data itself learns nothing from being told twice what it has not asked
for once. So of those that wait, only the newest of each (subscription, aggregate, event type)
stays; the others become `superseded`, and say so in the feed.

Each new delivery makes one older one needless at most, so a transaction that makes a bounded
number of them can take as many away, and none is left. More are found only where operators
re-opened many, one by one: these are taken away a batch at each new event, those first that would
be sent next; what is sent before its turn comes is what they asked for.
"""

from collections import Counter
from typing import Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Millis, Reason, SubscriptionKey
from webhookd.store.book import Book
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.recipients import Crowd
from webhookd.store.transaction import BULK_ROWS

UNSENT: Final = (
    "SELECT d.id, e.event_type FROM webhookd_deliveries AS d"
    " INDEXED BY webhookd_deliveries_unsent"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " WHERE d.subscription = ? AND d.coalesce_key = ? AND d.coalesce_key <> 0"
    " AND d.state = 'pending' AND d.attempts = 0 ORDER BY d.event DESC LIMIT ?"
)
AT_ONCE: Final = 250
"""Older deliveries of one aggregate that are looked at: of more types than anybody has. There are
more only where operators re-opened many."""


def supersede(
    connection: Connection, file: FileRow, crowded: Counter[Crowd], now: Millis
) -> tuple[FileRow, frozenset[SubscriptionKey]]:
    """Leave the newest of each kind in these subscriptions' aggregates.

    Args:
        connection: in a writing transaction.
        file: the file's row as it is by now.
        crowded: how many deliveries are new, by where they are.
        now: the time.

    Returns:
        The file's row with its counter moved, and subscriptions in which another delivery has
        come to the head of its line.
    """
    needless: list[DeliveryId] = []
    spare = BULK_ROWS
    for (key, aggregate), new in crowded.items():
        kinds: set[str] = set()
        found: list[DeliveryId] = []
        for delivery, event_type in connection.execute(
            UNSENT, (key, aggregate, AT_ONCE + new)
        ).fetchall():
            if event_type in kinds:
                found.append(delivery)
            kinds.add(event_type)
        needless += found[-(new + spare) :]
        spare -= max(0, min(spare, len(found) - new))
    if not needless:
        return file, frozenset()
    book = Book(connection, file, now)
    # The newest first: then none has to make way for one that is needless too.
    for delivery in sorted(needless, reverse=True):
        row = book.read(delivery)
        if row is not None:
            book.apply(row, Move(Happening.SUPERSEDED, now, Reason.COALESCED))
    return book.close(), frozenset(book.ready)
