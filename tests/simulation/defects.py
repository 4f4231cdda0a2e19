"""Seeded defects: bugs that the real code does not have, each to be switched on by a test.

Each is one function in `DEFECTS` that puts wrong behaviour in the place of right behaviour, by
replacing a method of a class in the running program. The simulation must catch every one of them;
one that it does not catch is a hole in the model.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import trio

from webhookd.core import outcomes
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import Answer, DeliveryState
from webhookd.core.request import Renderer
from webhookd.core.storage import AttemptNote, Record
from webhookd.daemon.lane import Lane
from webhookd.daemon.recorder import Outcome, Recorder
from webhookd.daemon.supervisor import Supervisor
from webhookd.store import file as files
from webhookd.store import ranges, record, sqlite
from webhookd.store.record import Book
from webhookd.store.sqlite import SqliteStore

Defect = Callable[[ExitStack], None]
DEFECTS: Final[dict[str, Defect]] = {}


def _defect(apply: Defect) -> Defect:
    DEFECTS[apply.__name__] = apply
    return apply


@contextmanager
def switched_on(name: str) -> Iterator[None]:
    """The program with one defect in it, for the length of the block; '' for none."""
    with ExitStack() as stack:
        if name:
            DEFECTS[name](stack)
        yield


def _instead(stack: ExitStack, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of the right one in its place."""
    stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))


@_defect
def cursor_committed_before_the_events(stack: ExitStack) -> None:
    """The cursor moves in a transaction of its own."""

    def make(right: Any) -> Any:
        def ingest(self: SqliteStore, now: int) -> Any:
            file = self._begun().file
            raw, _ = self._outbox.batch(self._writer, file.cursor + 1, ranges.HIGHEST)
            if raw:
                files.write_back(self._writer, replace(file, cursor=raw[-1].outbox_id))
                self._writer.execute("COMMIT")
                self._writer.execute("BEGIN IMMEDIATE")
            return right(self, now)

        return ingest

    _instead(stack, SqliteStore, "ingest", make)


@_defect
def result_recorded_before_the_answer(stack: ExitStack) -> None:
    """What has not failed within 50 ms is taken for a success."""

    def make(right: Any) -> Any:
        async def attempt(self: Lane, channel: Any, due: Any) -> Any:
            started = self._shared.clock.now()
            with trio.move_on_after(0.05):
                return await right(self, channel, due)
            move = Move(Happening.SUCCEEDED, started, attempted_at=started, status=200)
            note = AttemptNote(due.attempts + 1, started, 50, 200, "", "", "", b"", b"")
            return Record(due.id, move, note)

        return attempt

    _instead(stack, Lane, "_attempt", make)


@_defect
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

    _instead(stack, Book, "apply", make)


@_defect
def lost_wake_up(stack: ExitStack) -> None:
    """A worker that rests with its connection kept is not woken."""

    def make(right: Any) -> Any:
        def wake(self: Lane) -> None:
            self._may_be_more = True
            if not self._resting:
                right(self)

        return wake

    _instead(stack, Lane, "wake", make)


@_defect
def sequence_given_out_twice(stack: ExitStack) -> None:
    """Our own commits are not synced: a power cut takes them, and their numbers come again."""

    def make(right: Any) -> Any:
        def init(self: SqliteStore, *args: Any, **options: Any) -> None:
            right(self, *args, **options)
            self._writer.execute("PRAGMA synchronous = OFF")

        return init

    _instead(stack, SqliteStore, "__init__", make)


@_defect
def delivered_on_a_5xx(stack: ExitStack) -> None:
    """503 counts as a success."""

    def make(right: Any) -> Any:
        def succeeded(answer: Answer) -> bool:
            return right(answer) or answer.status == 503

        return succeeded

    _instead(stack, outcomes, "_succeeded", make)


@_defect
def attempt_not_recorded(stack: ExitStack) -> None:
    """Every third attempt of a delivery is missing from its list."""

    def make(right: Any) -> Any:
        def note(self: Book, delivery: Any, subscription: Any, made: AttemptNote) -> None:
            if made.number % 3:
                right(self, delivery, subscription, made)

        return note

    _instead(stack, Book, "note", make)


@_defect
def line_opened_before_the_record(stack: ExitStack) -> None:
    """A delivery counts as under way until it is answered, not until it is recorded."""

    def make(right: Any) -> Any:
        def put(self: Recorder, outcome: Outcome) -> None:
            outcome.recorded(outcome.record.delivery)
            right(self, Outcome(outcome.record, lambda _: None))

        return put

    _instead(stack, Recorder, "put", make)


@_defect
def rows_taken_in_again(stack: ExitStack) -> None:
    """What has been taken in is not remembered, so the sweep takes it in again."""
    _instead(stack, ranges, "add", lambda _: lambda *_: None)


@_defect
def last_batch_dropped_at_shutdown(stack: ExitStack) -> None:
    """A recorder that closes forgets what it has not written yet."""

    def make(right: Any) -> Any:
        def close(self: Recorder) -> None:
            self._outcomes.clear()
            right(self)

        return close

    _instead(stack, Recorder, "close", make)


@_defect
def next_not_stepped_up_after_a_cancel(stack: ExitStack) -> None:
    """A cancelled head leaves its line without one."""

    def make(right: Any) -> Any:
        def step_up(self: Book, row: Any) -> None:
            if row.standing.attempts:
                right(self, row)

        return step_up

    _instead(stack, Book, "_step_up", make)


@_defect
def counters_off(stack: ExitStack) -> None:
    """What was cancelled is not counted."""

    def make(right: Any) -> Any:
        def close(self: Book) -> Any:
            for change in self._states.values():
                change.pop(DeliveryState.CANCELLED, None)
            return right(self)

        return close

    _instead(stack, Book, "close", make)


@_defect
def body_rendered_differently(stack: ExitStack) -> None:
    """From the third attempt on the body has one more blank."""

    def make(right: Any) -> Any:
        def render(self: Renderer, event: Any, **rest: Any) -> Any:
            request = right(self, event, **rest)
            blank = b" " if rest["attempt"] > 2 else b""
            return replace(request, body=request.body + blank)

        return render

    _instead(stack, Renderer, "render", make)


@_defect
def retried_too_soon(stack: ExitStack) -> None:
    """Jitter shortens delays."""

    def make(right: Any) -> Any:
        def next_at(policy: Any, tries: int, now: int, jitter: float, wish: Any) -> Any:
            at = right(policy, tries, now, 0.0, wish)
            return None if at is None else at - int((at - now) * jitter * 0.1)

        return next_at

    _instead(stack, outcomes, "next_attempt_at", make)


@_defect
def given_up_a_try_early(stack: ExitStack) -> None:
    """The last delay of the schedule is never used."""

    def make(right: Any) -> Any:
        def next_at(policy: Any, tries: int, *rest: Any) -> Any:
            return None if tries + 1 >= len(policy.retry_delays) else right(policy, tries, *rest)

        return next_at

    _instead(stack, outcomes, "next_attempt_at", make)


@_defect
def feed_changed_in_place(stack: ExitStack) -> None:
    """A delivery whose attempts alone have changed keeps its sequence."""

    def make(right: Any) -> Any:
        def seen(standing: Any) -> Any:
            return replace(right(standing), attempts=0, last_status=None, last_error="")

        return seen

    _instead(stack, record, "_seen", make)


@_defect
def pause_not_obeyed(stack: ExitStack) -> None:
    """A lane that is at work goes on through a pause."""
    _instead(stack, Supervisor, "_obey", lambda _: lambda *_: None)


@_defect
def edits_not_obeyed(stack: ExitStack) -> None:
    """Only new subscriptions are read; what was changed in one is not."""

    def make(right: Any) -> Any:
        def enroll(self: Supervisor, one: Any) -> None:
            if (
                one.key not in self._members
                or one.state != self._members[one.key].subscription.state
            ):
                right(self, one)

        return enroll

    _instead(stack, Supervisor, "_enroll", make)


@_defect
def removed_stays_owed(stack: ExitStack) -> None:
    """What a removed subscription was owed is not cancelled by the daemon."""
    _instead(stack, SqliteStore, "cancel_removed", lambda _: lambda *_: 0)


@_defect
def nothing_swept(stack: ExitStack) -> None:
    """Rows below the cursor are never looked for."""
    _instead(stack, SqliteStore, "sweep", lambda _: lambda *_: sqlite._NOTHING)


@_defect
def places_leak(stack: ExitStack) -> None:
    """A delivery that was not attempted after all keeps its place for ever."""

    def make(right: Any) -> Any:
        def leave(self: Recorder) -> None:
            self._attempts -= 1

        return leave

    _instead(stack, Recorder, "leave", make)


@_defect
def matched_by_a_memory(stack: ExitStack) -> None:
    """The rules of matching are read once and kept, whatever operators change."""

    def make(right: Any) -> Any:
        kept: dict[SqliteStore, Any] = {}

        def load(self: SqliteStore, connection: Any) -> Any:
            if self not in kept:
                kept[self] = right(self, connection)
            return kept[self]

        return load

    _instead(stack, SqliteStore, "_load_terms", make)
