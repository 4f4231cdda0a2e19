"""What holds up whom: heads of lines that keep failing while others wait behind them."""

from collections.abc import Iterator
from heapq import nsmallest
from typing import Any, Final

from webhookd.core.model import SubscriptionKey
from webhookd.store.driver import Connection
from webhookd.store.queue import WAITING_AGAIN

PAGE: Final = 1_000
MOST_COUNTED: Final = 1_000
"""Deliveries behind a head that are counted: there may be a million."""

HEADS: Final = (
    "SELECT due_at, id, order_key, event, failing_since FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_again"
    " WHERE subscription = ? AND due_at IS NOT NULL AND tries > 0 AND (due_at, id) > (?, ?)"
    " ORDER BY due_at, id LIMIT ?"
)
BEHIND: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_in_line WHERE subscription = ? AND order_key = ?"
    " AND state = 'pending' AND order_key <> 0 AND event > ? LIMIT ?)"
)
SHOWN: Final = (
    "SELECT r.delivery_id, r.subscription_id, r.subscription_name, r.tenant, r.aggregate_type,"
    " r.aggregate_id, r.event_id, r.event_type, d.failing_since, r.attempts, r.last_status,"
    " r.last_error, d.due_at AS next_attempt_at FROM webhookd_deliveries AS d"
    " CROSS JOIN webhook_results AS r ON r.delivery_id = d.id WHERE d.id = ?"
)


def blocking(
    connection: Connection, subscription: SubscriptionKey | None, limit: int
) -> list[dict[str, Any]]:
    """At most `limit` heads, those that have failed the longest first.

    It looks at each head that is to be tried again, of one subscription or of all, and at nothing
    that waits or is finished.

    Returns:
        Each as `webhook_results` shows it, with since when it fails and how many wait for it:
        `waiting`, which with `more_waiting` is the least there are.
    """
    keys = _failing(connection) if subscription is None else [subscription]
    heads = (head for key in keys for head in _heads(connection, key))
    found = nsmallest(limit, heads)
    return [row for head in found for row in _shown(connection, *head[1:])]


def _failing(connection: Connection) -> Iterator[SubscriptionKey]:
    row = connection.execute(WAITING_AGAIN, (0,)).fetchone()
    while row is not None:
        yield SubscriptionKey(row[0])
        row = connection.execute(WAITING_AGAIN, row).fetchone()


_Head = tuple[str, int, int, int, int]
"""Since when it fails, its id, its subscription, its line and its event."""


def _heads(connection: Connection, key: SubscriptionKey) -> Iterator[_Head]:
    place = ("", 0)
    while True:
        page = connection.execute(HEADS, (key, *place, PAGE)).fetchall()
        for _, delivery, line, event, since in page:
            if line and _behind(connection, key, line, event, 1):
                yield since or "", delivery, key, line, event
        if len(page) < PAGE:
            return
        place = page[-1][:2]


def _shown(
    connection: Connection, delivery: int, key: int, line: int, event: int
) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(SHOWN, (delivery,))
    names = [column[0] for column in cursor.description]
    waiting = _behind(connection, key, line, event, MOST_COUNTED + 1)
    for row in cursor.fetchall():  # one, or none if it has ended in this very moment
        yield {
            **dict(zip(names, row, strict=True)),
            "waiting": min(waiting, MOST_COUNTED),
            "more_waiting": waiting > MOST_COUNTED,
        }


def _behind(connection: Connection, key: int, line: int, event: int, most: int) -> int:
    found: int = connection.execute(BEHIND, (key, line, event, most)).fetchone()[0]
    return found
