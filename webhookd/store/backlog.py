"""What becomes of what a subscription was owed while it was down: the kinds that `enable` gives.

`skip_backlog` and `newest_only` walk from the newest delivery to the oldest, so that mostly none
that is cancelled has to make way for the next in its line. `retry_failed` goes by the order
in which the deliveries failed, whatever the clock said.
"""

from typing import Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Millis, Reason
from webhookd.store.book import Book
from webhookd.store.erased import IS_ERASED, sends_payload
from webhookd.store.instructions import Instruction
from webhookd.store.newest import WAS_PENDING, Budget, Newest
from webhookd.store.step import Done
from webhookd.store.transaction import Transaction

PENDING: Final = (
    "SELECT d.id, d.event, e.aggregate, d.opened_sequence > ?3"
    " FROM webhookd_deliveries AS d INDEXED BY webhookd_deliveries_owed"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " WHERE d.subscription = ?1 AND d.state = 'pending' AND d.id < ?2 ORDER BY d.id DESC LIMIT ?4"
)
"""The last column: an operator has re-opened it since the instruction was given."""
FAILED: Final = (
    f"SELECT d.id, d.ended_sequence, d.reason, {IS_ERASED} FROM webhookd_deliveries AS d"
    " INDEXED BY webhookd_deliveries_failed"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " WHERE d.subscription = ? AND d.state = 'failed'"
    " AND d.ended_sequence > ? AND d.ended_sequence <= ? ORDER BY d.ended_sequence LIMIT ?"
)
PROFILE: Final = "SELECT profile FROM webhookd_subscriptions WHERE key = ?"
STREAK: Final = frozenset({Reason.EXHAUSTED, Reason.PERMANENT_STATUS, Reason.GONE})
"""What counts for a disabling: what expired or could not be rendered says nothing of an endpoint,
and would end in the same way again."""


def skip(transaction: Transaction, one: Instruction, budget: Budget, now: Millis) -> Done:
    """Cancel a batch of what was pending when it was given."""
    rows = _pending(transaction, one, budget.changes)
    happened = Move(Happening.CANCELLED, now, Reason.BACKLOG_SKIPPED)
    cancelled = 0
    with transaction.book(now) as book:
        for delivery, _, _, opened_since in rows:
            if not opened_since:
                cancelled += _apply(book, delivery, happened)
    budget.change(len(rows))
    position = rows[-1][0] if rows else one.position
    after = one.after(position, done=cancelled, counts={"cancelled": cancelled})
    return Done(after, not rows, cancelled, frozenset(book.ready))


def keep_newest(transaction: Transaction, one: Instruction, budget: Budget, now: Millis) -> Done:
    """Go through a batch of what was pending then: keep the newest of each aggregate."""
    newest = Newest(
        transaction.connection,
        WAS_PENDING,
        one.subscription,
        budget,
        before=one.last + 1,
        extra=(one.last,),
        **one.options.get("newest", {}),
    )
    rows = _pending(transaction, one, budget.changes)
    happened = Move(Happening.CANCELLED, now, Reason.NEWEST_ONLY)
    position, cancelled, kept = one.position, 0, 0
    with transaction.book(now) as book:
        for delivery, event, aggregate, opened_since in rows:
            budget.look()
            if aggregate and not opened_since:
                found = newest.find(aggregate, event - 1)
                if found is None:
                    break
                if found != event:
                    cancelled += _apply(book, delivery, happened)
                    budget.change()
                else:
                    kept += 1
            else:
                kept += 1
            position = delivery
    after = one.after(
        position,
        done=cancelled,
        counts={"cancelled": cancelled, "kept": kept},
        newest=newest.state(),
    )
    return Done(after, not rows, cancelled, frozenset(book.ready))


def retry_failed(transaction: Transaction, one: Instruction, budget: Budget, now: Millis) -> Done:
    """Open a batch of what failed in the streak again, but for what cannot be sent any more."""
    connection = transaction.connection
    profile = connection.execute(PROFILE, (one.subscription,)).fetchone()[0]
    passes = sends_payload(transaction.profiles, profile)
    rows = connection.execute(
        FAILED, (one.subscription, one.position, one.last, budget.changes)
    ).fetchall()
    happened = Move(Happening.REOPENED, now)
    reopened, erased = 0, 0
    with transaction.book(now) as book:
        for delivery, _, reason, is_erased in rows:
            if reason not in STREAK:
                continue
            if is_erased and passes:
                erased += 1
            else:
                reopened += _apply(book, delivery, happened)
    budget.change(len(rows))
    position = rows[-1][1] if rows else one.position
    after = one.after(position, done=reopened, counts={"reopened": reopened, "erased": erased})
    return Done(after, not rows, reopened, frozenset(book.ready))


def _pending(
    transaction: Transaction, one: Instruction, limit: int
) -> list[tuple[DeliveryId, int, int, int]]:
    return transaction.connection.execute(
        PENDING, (one.subscription, one.position, one.last, limit)
    ).fetchall()


def _apply(book: Book, delivery: DeliveryId, happened: Move) -> bool:
    row = book.read(delivery)
    if row is None:
        return False
    book.apply(row, happened)
    return True
