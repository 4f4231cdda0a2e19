"""Defects of what the file is made to say."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tests.simulation.planting import defect, instead
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryState
from webhookd.core.storage import AttemptNote
from webhookd.store import book, deliveries, intake, ranges, successes
from webhookd.store import file as files
from webhookd.store.book import Book
from webhookd.store.sqlite import SqliteStore


@defect
def cursor_committed_before_the_events(stack: ExitStack) -> None:
    """The cursor moves in a transaction of its own."""

    def make(right: Any) -> Any:
        def ingest(self: SqliteStore, now: int, ahead: object = None) -> Any:
            file = self._begun().file
            raw, _ = self._outbox.batch(self._writer, file.cursor + 1, ranges.HIGHEST)
            if raw:
                files.write_back(self._writer, replace(file, cursor=raw[-1].outbox_id))
                self._writer.execute("COMMIT")
                self._writer.execute("BEGIN IMMEDIATE")
            return right(self, now, ahead)

        return ingest

    instead(stack, SqliteStore, "ingest", make)


@defect
def order_ignored_on_retry(stack: ExitStack) -> None:
    """While a head waits for its next try, the one behind it goes."""

    def make(right: Any) -> Any:
        def apply(self: Book, row: Any, happened: Move, **rest: Any) -> Any:
            after = right(self, row, happened, **rest)
            if happened.happening is Happening.RETRY and row.order_key:
                self._connection.execute(
                    "UPDATE webhookd_deliveries SET due_at = ? WHERE id = (SELECT id"
                    " FROM webhookd_deliveries WHERE subscription = ? AND order_key = ?"
                    " AND state = 'pending' AND due_at IS NULL AND id > ? ORDER BY id LIMIT 1)",
                    (self._now_text, row.subscription, row.order_key, row.id),
                )
            return after

        return apply

    instead(stack, Book, "apply", make)


@defect
def sequence_given_out_twice(stack: ExitStack) -> None:
    """Our own commits are not synced: a power cut takes them, and their numbers come again."""

    def make(right: Any) -> Any:
        def init(self: SqliteStore, *args: Any, **options: Any) -> None:
            right(self, *args, **options)
            self._writer.execute("PRAGMA synchronous = OFF")

        return init

    instead(stack, SqliteStore, "__init__", make)


@defect
def attempt_not_recorded(stack: ExitStack) -> None:
    """Every third attempt of a delivery is missing from its list."""

    def make(right: Any) -> Any:
        def note(self: Book, delivery: Any, subscription: Any, made: AttemptNote) -> None:
            if made.number % 3:
                right(self, delivery, subscription, made)

        return note

    instead(stack, Book, "note", make)


@defect
def rows_taken_in_again(stack: ExitStack) -> None:
    """What has been taken in is not remembered, so the sweep takes it in again."""
    instead(stack, ranges, "add", lambda _: lambda *_: None)


@defect
def next_not_stepped_up_after_a_cancel(stack: ExitStack) -> None:
    """A cancelled head leaves its line without one."""

    def make(right: Any) -> Any:
        def step_up(self: Book, row: Any) -> None:
            if row.standing.attempts:
                right(self, row)

        return step_up

    instead(stack, Book, "_step_up", make)


@defect
def counters_off(stack: ExitStack) -> None:
    """What was cancelled is not counted."""

    def make(right: Any) -> Any:
        def close(self: Book) -> Any:
            for change in self._states.values():
                change.pop(DeliveryState.CANCELLED, None)
            return right(self)

        return close

    instead(stack, Book, "close", make)


@defect
def feed_changed_in_place(stack: ExitStack) -> None:
    """A delivery whose attempts alone have changed keeps its sequence."""

    def make(right: Any) -> Any:
        def seen(standing: Any) -> Any:
            return right(standing._replace(attempts=0, last_status=None, last_error=""))

        return seen

    instead(stack, book, "_seen", make)


@defect
def removed_stays_owed(stack: ExitStack) -> None:
    """What a removed subscription was owed is not cancelled by the daemon."""
    instead(stack, deliveries, "cancel_removed", lambda _: lambda *_: 0)


@defect
def nothing_swept(stack: ExitStack) -> None:
    """Rows below the cursor are never looked for."""
    instead(stack, SqliteStore, "sweep", lambda _: lambda *_: intake.NOTHING)


@defect
def matched_by_a_memory(stack: ExitStack) -> None:
    """The rules of matching are read once and kept, whatever operators change."""

    def make(right: Any) -> Any:
        kept: dict[SqliteStore, Any] = {}

        def load(self: SqliteStore, connection: Any) -> Any:
            if self not in kept:
                kept[self] = right(self, connection)
            return kept[self]

        return load

    instead(stack, SqliteStore, "_load_terms", make)


@defect
def delay_forgotten_in_the_line(stack: ExitStack) -> None:
    """What comes to the head of its line again is due at once, though its next try lies ahead."""

    def make(right: Any) -> Any:
        def head(self: Book, row: Any) -> Any:
            found = right(self, row)
            return None if found is None else (found[0], found[1], None, found[3])

        return head

    instead(stack, Book, "_head", make)


@defect
def two_heads_after_a_retry(stack: ExitStack) -> None:
    """What is re-opened goes to the head of its line, and so does what was there."""
    instead(stack, Book, "_step_in", lambda _: lambda self, row, after: after)


@defect
def success_written_however_it_stands(stack: ExitStack) -> None:
    """What was worked out ahead of the lock is written, whatever was changed meanwhile."""
    blind = successes.FINISH.partition(" WHERE ")[0] + (
        " WHERE id = ?9 AND (?10, ?11, ?12, ?14) IS NOT (NULL, NULL, NULL, NULL) AND ?13 IS ?13"
    )
    instead(stack, successes, "FINISH", lambda _: blind)
