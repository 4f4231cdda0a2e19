"""What time does to deliveries, in batches: they expire, let others pass, or were due too late."""

from typing import Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, DeliveryState, Millis, Reason, SubscriptionKey
from webhookd.core.storage import Step
from webhookd.core.times import to_text
from webhookd.store import recipients
from webhookd.store.book import Book
from webhookd.store.driver import Connection
from webhookd.store.recipients import NO_LINE
from webhookd.store.transaction import BULK_ROWS, Transaction

OWED: Final = (
    "SELECT id, coalesce(opened_at, created_at), opened_at IS NOT NULL FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_owed"
    " WHERE subscription = ? AND state = 'pending' AND id > ? ORDER BY id LIMIT ?"
)
OVERDUE_HEADS: Final = (
    "SELECT id FROM webhookd_deliveries INDEXED BY webhookd_deliveries_pass"
    " WHERE pass_at IS NOT NULL AND pass_at <= ? ORDER BY pass_at LIMIT ?"
)
STAY: Final = "UPDATE webhookd_deliveries SET pass_at = NULL WHERE id = ?"
_TOO_LATE: Final = (
    "SELECT id FROM webhookd_deliveries INDEXED BY {index} WHERE subscription = ?"
    " AND due_at IS NOT NULL AND {kind} AND due_at > ? ORDER BY due_at DESC LIMIT ?"
)
FIRST_TOO_LATE: Final = _TOO_LATE.format(index="webhookd_deliveries_first", kind="tries = 0")
AGAIN_TOO_LATE: Final = _TOO_LATE.format(index="webhookd_deliveries_again", kind="tries > 0")


def expired(connection: Connection, key: SubscriptionKey, before: Millis) -> list[DeliveryId]:
    """A batch of what the subscription has been owed since `before` or longer, oldest first.

    Ids ascend with time, but for deliveries that were re-opened: these are looked past.
    """
    limit, place = to_text(before), 0
    found: list[DeliveryId] = []
    while len(found) < BULK_ROWS:
        page = connection.execute(OWED, (key, place, BULK_ROWS)).fetchall()
        found += [DeliveryId(row[0]) for row in page if row[1] <= limit]
        if len(page) < BULK_ROWS or (page[-1][1] > limit and not page[-1][2]):
            break
        place = page[-1][0]
    return found[:BULK_ROWS]


def expire(transaction: Transaction, key: SubscriptionKey, before: Millis, now: Millis) -> Step:
    """End a batch of what the subscription has been owed since `before` or longer."""
    found = expired(transaction.connection, key, before)
    with transaction.book(now) as book:
        # The newest first: then none has to make way for one that has expired too.
        for delivery in reversed(found):
            row = book.read(delivery)
            if row is not None:
                book.apply(row, Move(Happening.FAILED, now, Reason.EXPIRED))
    return Step(len(found), frozenset(book.ready), more=len(found) == BULK_ROWS)


def let_pass(transaction: Transaction, now: Millis) -> Step:
    """Let those behind heads that have kept failing for `max_block` pass them."""
    connection = transaction.connection
    found = connection.execute(OVERDUE_HEADS, (to_text(now), BULK_ROWS)).fetchall()
    with transaction.book(now) as book:
        for (delivery,) in found:
            _let_pass(connection, book, DeliveryId(delivery))
    return Step(len(found), frozenset(book.ready), more=len(found) == BULK_ROWS)


def _let_pass(connection: Connection, book: Book, delivery: DeliveryId) -> None:
    row = book.read(delivery)
    if row is None:
        return
    recipient = recipients.find(connection, row.subscription, book.profiles)
    may_block = recipient is None or not recipient.policy.max_block
    is_head = row.standing.state is DeliveryState.PENDING and row.order_key != NO_LINE
    if may_block or not is_head:
        connection.execute(STAY, (delivery,))  # the rule was taken back since it was set
    else:
        book.leave_line(row)


def bring_forward(transaction: Transaction, key: SubscriptionKey, latest: Millis) -> Step:
    """Make due at `latest` what is due later: no delay is that long, so a clock was wrong.

    The feed does not move: no visible field changes.
    """
    connection, text, count = transaction.connection, to_text(latest), 0
    for sql in (FIRST_TOO_LATE, AGAIN_TOO_LATE):
        found = connection.execute(sql, (key, text, BULK_ROWS - count)).fetchall()
        count += len(found)
        for (delivery,) in found:
            connection.execute(
                "UPDATE webhookd_deliveries SET due_at = ?1,"
                " retry_at = CASE WHEN retry_at > ?1 THEN ?1 ELSE retry_at END WHERE id = ?2",
                (text, delivery),
            )
    return Step(count, frozenset((key,)) if count else frozenset(), more=count == BULK_ROWS)
