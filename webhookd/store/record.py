"""Where outcomes reach the file, and where whoever is next in line comes to the head of it.

Lines
=====

Deliveries with the same subscription and order key stand in one line, in the order of their ids
(that is, of their events). Only the head has a `due_at`; the others wait with none. So a lane's
query never sees the 100,000 behind a head, and finishing a head costs one look-up for the next.
A delivery that is re-opened has an older id than those that wait, so it goes before them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from webhookd.core.delivery import Move, Standing, move
from webhookd.core.model import DeliveryId, DeliveryState, Reason, SubscriptionKey
from webhookd.core.storage import AttemptNote, Record, Recorded
from webhookd.core.times import from_text, to_text
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow

SELECT: Final = (
    "SELECT subscription, order_key, state, reason, attempts, tries, last_status, last_error,"
    " first_attempt_at, finished_at, due_at, retry_at, body_hash"
    " FROM webhookd_deliveries WHERE id = ?"
)
RESCHEDULE: Final = (
    "UPDATE webhookd_deliveries SET tries = ?, due_at = ?, retry_at = ?, body_hash = ? WHERE id = ?"
)
UPDATE: Final = (
    "UPDATE webhookd_deliveries SET sequence = ?, state = ?, reason = ?, attempts = ?, tries = ?,"
    " last_status = ?, last_error = ?, first_attempt_at = ?, finished_at = ?, due_at = ?,"
    " next_attempt_at = ?, retry_at = ?, body_hash = ? WHERE id = ?"
)
INSERT_ATTEMPT: Final = (
    "INSERT INTO webhookd_attempts (delivery, number, started_at, duration_ms, status,"
    " error_class, error, note, excerpt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
HEAD_OF_LINE: Final = (
    "SELECT id, due_at, retry_at FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_line"
    " WHERE subscription = ? AND order_key = ? AND state = 'pending' AND order_key <> 0"
    " ORDER BY id LIMIT 1"
)
SET_DUE: Final = "UPDATE webhookd_deliveries SET due_at = ? WHERE id = ?"

BODY_CHANGED: Final = "the body is another one than at the first attempt"


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery's row as it is moved."""

    id: DeliveryId
    subscription: SubscriptionKey
    order_key: int
    standing: Standing
    retry_at: str | None
    body_hash: bytes | None


class Book:
    """The deliveries' rows during one writing transaction; sums are written down by `close`."""

    def __init__(self, connection: Connection, file: FileRow, now: int) -> None:
        self._connection = connection
        self._file = file
        self._sequence = file.sequence
        self.now = now
        self._now_text = to_text(now)
        self._states: dict[SubscriptionKey, Counter[DeliveryState]] = defaultdict(Counter)
        self._latest: dict[SubscriptionKey, AttemptNote] = {}
        self._successes: dict[SubscriptionKey, str] = {}
        self.ready: set[SubscriptionKey] = set()

    def read(self, delivery: DeliveryId) -> Row | None:
        """The delivery as it stands in the file; None if retention or an operator took it away."""
        found = self._connection.execute(SELECT, (delivery,)).fetchone()
        if found is None:
            return None
        standing = Standing(
            state=DeliveryState(found[2]),
            reason=Reason(found[3]) if found[3] else None,
            attempts=found[4],
            tries=found[5],
            last_status=found[6],
            last_error=found[7],
            first_attempt_at=found[8] and from_text(found[8]),
            finished_at=found[9] and from_text(found[9]),
            due_at=found[10] and from_text(found[10]),
        )
        return Row(delivery, found[0], found[1], standing, found[11], found[12])

    def apply(self, row: Row, happened: Move, *, body_hash: bytes | None = None) -> Standing:
        """Move a delivery on, write it down, and let the next in line come to the head.

        Raises:
            IllegalTransition: it cannot happen to a delivery in that state; nothing was written.
        """
        before, after = row.standing, move(row.standing, happened)
        retry_at = _text(happened.retry_at) if after.state is DeliveryState.PENDING else None
        pending_before = before.state is DeliveryState.PENDING
        if after.state is DeliveryState.PENDING:
            if not pending_before:
                after = self._step_in(row, after)
            elif before.due_at is None:
                # Another one was put before it while its request was in flight: it waits again.
                after = replace(after, due_at=None)
            if after.due_at is not None:
                self.ready.add(row.subscription)
        self._write(row, after, retry_at, body_hash)
        if before.state is not after.state:
            change = self._states[row.subscription]
            change[before.state] -= 1
            change[after.state] += 1
        if pending_before and after.state is not DeliveryState.PENDING:
            self._step_up(row)
        return after

    def hasten(self, row: Row) -> Standing:
        """Make a pending delivery due now; one that waits in line goes on waiting.

        The feed does not move: no visible field changes.
        """
        self._connection.execute(
            "UPDATE webhookd_deliveries SET retry_at = NULL WHERE id = ?", (row.id,)
        )
        if row.standing.due_at is None or row.standing.due_at <= self.now:
            return row.standing
        self._connection.execute(SET_DUE, (self._now_text, row.id))
        self.ready.add(row.subscription)
        return replace(row.standing, due_at=self.now)

    def note(self, delivery: DeliveryId, subscription: SubscriptionKey, made: AttemptNote) -> None:
        """Write an attempt down."""
        started = to_text(made.started_at)
        self._connection.execute(
            INSERT_ATTEMPT,
            (
                delivery,
                made.number,
                started,
                made.duration,
                made.status,
                made.error_class,
                made.error,
                made.note,
                made.excerpt,
            ),
        )
        self._latest[subscription] = made
        if not made.error_class:
            self._successes[subscription] = to_text(made.started_at + made.duration)

    def close(self) -> FileRow:
        """Write the sums down; returns the file's row with the counter moved."""
        for key, change in self._states.items():
            self._connection.execute(
                "UPDATE webhookd_counters SET pending = pending + ?, delivered = delivered + ?,"
                " failed = failed + ?, cancelled = cancelled + ?, superseded = superseded + ?"
                " WHERE subscription = ?",
                (*(change[state] for state in DeliveryState), key),
            )
        for key, made in self._latest.items():
            self._connection.execute(
                "UPDATE webhookd_counters SET last_status = ?, last_error = ?,"
                " last_attempt_at = ?, last_success_at = coalesce(?, last_success_at)"
                " WHERE subscription = ?",
                (made.status, made.error, to_text(made.started_at), self._successes.get(key), key),
            )
        return replace(self._file, sequence=self._sequence)

    def _write(
        self, row: Row, after: Standing, retry_at: str | None, body_hash: bytes | None
    ) -> None:
        due_at = _text(after.due_at)
        body_hash = row.body_hash or body_hash
        if _seen(row.standing) == _seen(after):
            self._connection.execute(RESCHEDULE, (after.tries, due_at, retry_at, body_hash, row.id))
            return
        self._sequence += 1
        self._connection.execute(
            UPDATE,
            (
                self._sequence,
                after.state.value,
                after.reason.value if after.reason else "",
                after.attempts,
                after.tries,
                after.last_status,
                after.last_error,
                _text(after.first_attempt_at),
                _text(after.finished_at),
                due_at,
                due_at,
                retry_at,
                body_hash,
                row.id,
            ),
        )

    def _step_in(self, row: Row, after: Standing) -> Standing:
        """Find a re-opened delivery's place in line; returns its standing there."""
        head = self._head(row)
        if head is None:
            return after
        if head[0] < row.id:
            return replace(after, due_at=None)
        self._connection.execute(SET_DUE, (None, head[0]))
        return after

    def _step_up(self, row: Row) -> None:
        """Make the first that waits in this row's line the head of it."""
        head = self._head(row)
        if head is None or head[1] is not None:
            return
        # Delays are minima: one that was put back while it waited for its next try still waits.
        self._connection.execute(SET_DUE, (max(self._now_text, head[2] or ""), head[0]))
        self.ready.add(row.subscription)

    def _head(self, row: Row) -> tuple[int, str | None, str | None] | None:
        if not row.order_key:
            return None
        found: tuple[int, str | None, str | None] | None = self._connection.execute(
            HEAD_OF_LINE, (row.subscription, row.order_key)
        ).fetchone()
        return found


def record(
    connection: Connection, file: FileRow, records: Sequence[Record], now: int
) -> tuple[FileRow, Recorded]:
    """Write a batch of outcomes down, inside the caller's transaction."""
    book = Book(connection, file, now)
    standings: dict[DeliveryId, Standing] = {}
    changed: set[DeliveryId] = set()
    for item in records:
        row = book.read(item.delivery)
        if row is None:
            continue
        attempt = item.attempt
        if attempt is not None and row.standing.attempts >= attempt.number:
            # Recorded already: a commit went through although it seemed to fail. What it said
            # of who is ready was lost with it.
            standings[row.id] = row.standing
            book.ready.add(row.subscription)
            continue
        body_hash = attempt.body_hash if attempt is not None and attempt.body_hash else None
        standings[row.id] = book.apply(row, item.move, body_hash=body_hash)
        if attempt is None:
            continue
        if row.body_hash is not None and body_hash is not None and row.body_hash != body_hash:
            changed.add(row.id)
            attempt = replace(attempt, note=f"{attempt.note}; {BODY_CHANGED}".removeprefix("; "))
        book.note(row.id, row.subscription, attempt)
    return book.close(), Recorded(standings, frozenset(book.ready), frozenset(changed))


def _seen(standing: Standing) -> tuple[object, ...]:
    """What the feed tells of it: a delivery keeps its sequence while this stays the same."""
    return (
        standing.state,
        standing.reason,
        standing.attempts,
        standing.last_status,
        standing.last_error,
        standing.first_attempt_at,
        standing.finished_at,
    )


def _text(moment: int | None) -> str | None:
    return None if moment is None else to_text(moment)
