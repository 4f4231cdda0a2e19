"""What nearly every outcome is: a delivery that still stands as its attempt found it, delivered.

What becomes of it is worked out before the write lock is taken, because the host's own commits wait
while it is held. It is written by one call for all of them, and only if each row stands as it stood
then. Every other outcome takes the long way: see `webhookd.store.record`.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from webhookd.core.delivery import Happening, Standing, move
from webhookd.core.model import DeliveryId, DeliveryState
from webhookd.core.storage import AttemptNote, Record
from webhookd.core.store import Stale
from webhookd.core.times import to_text
from webhookd.store.book import Book, Row, read
from webhookd.store.driver import Connection

FINISH: Final = (
    "UPDATE webhookd_deliveries SET sequence = ?1, ended_sequence = ?1, state = 'delivered',"
    " reason = '', attempts = ?2, tries = ?3, last_status = ?4, last_error = ?5,"
    " first_attempt_at = ?6, finished_at = ?7, body_hash = ?8, due_at = NULL,"
    " next_attempt_at = NULL, retry_at = NULL, failing_since = NULL, pass_at = NULL"
    " WHERE id = ?9 AND state = 'pending' AND order_key = ?10 AND attempts = ?11 AND tries = ?12"
    " AND body_hash IS ?13 AND coalesce(since, created_at) = ?14"
)


class Success(NamedTuple):
    """A delivery that ends delivered, if it stands as `row` has it."""

    record: Record
    attempt: AttemptNote
    """The record's."""
    row: Row
    after: Standing


def find(connection: Connection, records: Iterable[Record]) -> dict[DeliveryId, Success]:
    """Those of the outcomes that need no second thought, by delivery. Only reads."""
    found: dict[DeliveryId, Success] = {}
    for item in records:
        attempt = item.attempt
        if attempt is None or item.move.happening is not Happening.SUCCEEDED:
            continue
        row = read(connection, item.delivery)
        if (
            row is not None
            and row.standing.state is DeliveryState.PENDING
            and row.standing.attempts == attempt.number - 1
            and item.since in {"", row.since}
            and row.body_hash in {None, attempt.body_hash}
        ):
            found[row.id] = Success(item, attempt, row, move(row.standing, item.move))
    return found


def write(connection: Connection, book: Book, ended: Mapping[int, Success]) -> None:
    """Write them down in a writing transaction, each with its sequence.

    Raises:
        Stale: one of them does not stand as it did; nothing of this may be committed.
    """
    rows = [_values(one, sequence) for sequence, one in ended.items()]
    if rows and connection.executemany(FINISH, rows).rowcount != len(rows):
        raise Stale("a delivery was changed while its outcome was on its way into the file")
    for one in ended.values():
        book.moved(one.row, one.after)


def _values(one: Success, sequence: int) -> tuple[object, ...]:
    row, before, after = one.row, one.row.standing, one.after
    first, finished = after.first_attempt_at, after.finished_at
    return (
        sequence,
        after.attempts,
        after.tries,
        after.last_status,
        after.last_error,
        None if first is None else to_text(first),
        None if finished is None else to_text(finished),
        row.body_hash or one.attempt.body_hash or None,
        row.id,
        row.order_key,
        before.attempts,
        before.tries,
        row.body_hash,
        row.since,
    )
