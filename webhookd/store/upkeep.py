"""What time does to deliveries, in batches: they expire, let others pass, or were due too late."""

from collections import Counter
from typing import Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Millis, Reason, SubscriptionKey
from webhookd.core.storage import Step
from webhookd.core.times import LATEST, from_text, to_text
from webhookd.store import queue, recipients
from webhookd.store.book import Book, Row
from webhookd.store.driver import Connection
from webhookd.store.recipients import NO_LINE
from webhookd.store.transaction import BULK_ROWS, Transaction

EXPIRED: Final = (
    "SELECT id FROM webhookd_deliveries INDEXED BY webhookd_deliveries_since"
    " WHERE subscription = ? AND state = 'pending' AND since <= ? ORDER BY since, id LIMIT ?"
)
OWED_SINCE: Final = (
    "SELECT since FROM webhookd_deliveries INDEXED BY webhookd_deliveries_since"
    " WHERE subscription = ? AND state = 'pending' AND since IS NOT NULL ORDER BY since LIMIT 1"
)
OVERDUE_HEADS: Final = (
    "SELECT id FROM webhookd_deliveries INDEXED BY webhookd_deliveries_pass"
    " WHERE pass_at IS NOT NULL AND pass_at <= ? ORDER BY pass_at LIMIT ?"
)
STAY: Final = "UPDATE webhookd_deliveries SET pass_at = ? WHERE id = ?"
TOO_LATE: Final = queue.both(
    "SELECT id FROM webhookd_deliveries INDEXED BY {index} WHERE subscription = ?"
    " AND due_at IS NOT NULL AND {kind} AND due_at > ? ORDER BY due_at DESC LIMIT ?"
)
IN_TIME: Final = (
    "UPDATE webhookd_deliveries SET due_at = ?1,"
    " retry_at = CASE WHEN retry_at > ?1 THEN ?1 ELSE retry_at END WHERE id = ?2"
)


def owed_since(connection: Connection, key: SubscriptionKey) -> Millis | None:
    """Since when the subscription is owed what it is owed for the longest; None for nothing."""
    found = connection.execute(OWED_SINCE, (key,)).fetchone()
    return None if found is None else from_text(found[0])


def expire(transaction: Transaction, key: SubscriptionKey, before: Millis, now: Millis) -> Step:
    """End a batch of what the subscription has been owed since `before` or longer."""
    terms = (key, to_text(before), BULK_ROWS)
    rows = transaction.connection.execute(EXPIRED, terms).fetchall()
    found = [DeliveryId(row[0]) for row in rows]
    with transaction.book(now) as book:
        # The newest first: then none has to make way for one that has expired too.
        for delivery in sorted(found, reverse=True):
            row = book.read(delivery)
            if row is not None:
                book.apply(row, Move(Happening.FAILED, now, Reason.EXPIRED))
    return Step(len(found), frozenset(book.ready), more=len(found) == BULK_ROWS)


def let_pass(transaction: Transaction, now: Millis) -> Step:
    """Let those behind heads that have kept failing for `max_block` pass them."""
    connection = transaction.connection
    found = connection.execute(OVERDUE_HEADS, (to_text(now), BULK_ROWS)).fetchall()
    passed: Counter[SubscriptionKey] = Counter()
    with transaction.book(now) as book:
        for (delivery,) in found:
            row = book.read(delivery)
            if row is not None and _let_pass(connection, book, row, now):
                passed[row.subscription] += 1
    return Step(
        passed.total(),
        frozenset(book.ready),
        more=len(found) == BULK_ROWS,
        whose=tuple(sorted(passed.items())),
    )


def _let_pass(connection: Connection, book: Book, row: Row, now: Millis) -> bool:
    """Returns whether it is passed: its policy may be another one by now."""
    recipient = recipients.find(connection, row.subscription, book.profiles)
    max_block = recipient.policy.max_block if recipient is not None else 0
    # One that is not due is no head: another was put before it, and nobody waits for it alone.
    # Should it come to the head again, its next failed attempt tells when it may be passed.
    is_head = row.standing.due_at is not None and row.order_key != NO_LINE
    if not max_block or not is_head or row.failing_since is None:
        connection.execute(STAY, (None, row.id))
        return False
    pass_at = from_text(row.failing_since) + max_block
    if pass_at > now:
        connection.execute(STAY, (to_text(pass_at), row.id))
        return False
    book.leave_line(row)
    return True


def bring_forward(
    transaction: Transaction,
    key: SubscriptionKey,
    now: Millis,
    latest: Millis,
    passed: Millis,
) -> Step:
    """Make due in time what is due later than it can be: a clock was wrong.

    A first attempt is due at once, so at `now`; a further one at `latest`, for no delay is longer.
    To be called with the same times until nothing is left: what is brought to one time stays in its
    order. What came in, or failed, in the milliseconds that have `passed` since is none of it. The
    feed does not move: no visible field changes.
    """
    connection, count = transaction.connection, 0
    for sql, moment in zip(TOO_LATE, (now, latest), strict=True):
        text, too_late = to_text(moment), to_text(min(moment + passed, LATEST))
        found = connection.execute(sql, (key, too_late, BULK_ROWS - count)).fetchall()
        count += len(found)
        for (delivery,) in found:
            connection.execute(IN_TIME, (text, delivery))
    return Step(count, frozenset((key,)) if count else frozenset(), more=count == BULK_ROWS)
