"""A changed `ordering` or `coalesce`, brought to what is pending already.

The oldest come first. After each step the lines are as they must be: exactly the head of each has a
due time, be it a line of the old ordering or of the new one. What has left its line because it held
it up (`max_block`) stays out.
"""

from collections import Counter
from typing import Final

from webhookd.core.model import Millis, Policy, SubscriptionKey
from webhookd.store import coalesce
from webhookd.store import instructions as given_ones
from webhookd.store.instructions import Instruction, Kind
from webhookd.store.newest import Budget
from webhookd.store.recipients import Crowd
from webhookd.store.step import Done
from webhookd.store.transaction import Transaction

PENDING: Final = (
    "SELECT id, coalesce_key, passed_at IS NOT NULL FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_owed"
    " WHERE subscription = ? AND state = 'pending' AND id > ? AND id <= ? ORDER BY id LIMIT ?"
)
MERGE: Final = "UPDATE webhookd_deliveries SET coalesce_key = ? WHERE id = ?"
OWED: Final = "SELECT pending FROM webhookd_counters WHERE subscription = ?"


def give_if_needed(
    transaction: Transaction,
    key: SubscriptionKey,
    before: Policy,
    after: Policy,
    now: Millis | None,
) -> int | None:
    """Have what is pending put into its new lines; the instruction's key, None where all is well.

    To be called in the transaction that changes the policy.
    """
    if (before.ordering, before.coalesce) == (after.ordering, after.coalesce):
        return None
    if not transaction.connection.execute(OWED, (key,)).fetchone()[0]:
        return None
    last = transaction.file.sequence
    return given_ones.give(transaction, Kind.REALIGN, key, position=0, last=last, now=now)


def realign(transaction: Transaction, one: Instruction, budget: Budget, now: Millis) -> Done:
    """Put a batch of what is pending where it belongs by the policy as it is now."""
    connection = transaction.connection
    rows = connection.execute(
        PENDING, (one.subscription, one.position, one.last, max(1, budget.changes // 2))
    ).fetchall()
    changed = 0
    crowded: Counter[Crowd] = Counter()
    with transaction.book(now) as book:
        for delivery, merges, passed in rows:
            row = book.read(delivery)
            if row is None:
                continue
            place = book.place(row)
            moves = not passed and place.order_key != row.order_key
            if moves:
                book.change_line(row, place.order_key)
            if place.coalesce_key != merges:
                connection.execute(MERGE, (place.coalesce_key, delivery))
                if place.coalesce_key:
                    crowded[one.subscription, place.coalesce_key] += 1
            changed += moves or place.coalesce_key != merges
    transaction.file, ready = coalesce.supersede(connection, transaction.file, crowded, now)
    budget.look(len(rows))
    budget.change(2 * changed)
    after = one.after(rows[-1][0] if rows else one.position, done=changed)
    return Done(after, not rows, changed, frozenset(book.ready) | ready)
