"""The deliveries' rows: where one is moved, and where whoever is next comes to its line's head.

Lines
=====

Deliveries with the same subscription and order key stand in one line, in the order of their events.
Only the head has a `due_at`; the others wait with none. So a lane's query never sees the 100,000
behind a head, and finishing a head costs one look-up for the next. A delivery that is re-opened has
an older event than those that wait, so it goes before them. A head that keeps failing for longer
than `max_block` leaves its line: the others go on, and it is tried again on its own.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from webhookd.core.delivery import Happening, Move, Standing, move
from webhookd.core.model import DeliveryId, DeliveryState, Millis, Reason, SubscriptionKey
from webhookd.core.profiles import Known
from webhookd.core.retry import longest_wait
from webhookd.core.rows import OWN_TYPES
from webhookd.core.storage import AttemptNote
from webhookd.core.times import from_text, to_text
from webhookd.store import recipients
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.recent import Tally
from webhookd.store.recipients import NO_LINE

SELECT: Final = (
    "SELECT subscription, order_key, state, reason, attempts, tries, last_status, last_error,"
    " first_attempt_at, finished_at, due_at, retry_at, body_hash, event, failing_since, pass_at,"
    " coalesce(since, created_at) FROM webhookd_deliveries WHERE id = ?"
)
RESCHEDULE: Final = (
    "UPDATE webhookd_deliveries SET tries = ?, due_at = ?, retry_at = ?, body_hash = ? WHERE id = ?"
)
UPDATE: Final = (
    "UPDATE webhookd_deliveries SET sequence = ?, state = ?, reason = ?, attempts = ?, tries = ?,"
    " last_status = ?, last_error = ?, first_attempt_at = ?, finished_at = ?, due_at = ?,"
    " next_attempt_at = ?, retry_at = ?, body_hash = ?,"
    " opened_sequence = coalesce(?, opened_sequence),"
    " ended_sequence = coalesce(?, ended_sequence) WHERE id = ?"
)
INSERT_ATTEMPT: Final = (
    "INSERT INTO webhookd_attempts (delivery, number, started_at, duration_ms, status,"
    " error_class, error, note, excerpt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
HEAD_OF_LINE: Final = (
    "SELECT id, due_at, retry_at, event FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_in_line"
    " WHERE subscription = ? AND order_key = ? AND state = 'pending' AND order_key <> 0"
    " ORDER BY event LIMIT 1"
)
SET_DUE: Final = "UPDATE webhookd_deliveries SET due_at = ? WHERE id = ?"
SET_FAILING: Final = "UPDATE webhookd_deliveries SET failing_since = ?, pass_at = ? WHERE id = ?"
REOPEN: Final = (
    "UPDATE webhookd_deliveries SET order_key = ?, coalesce_key = ?, since = ?,"
    " passed_at = NULL WHERE id = ?"
)
CHANGE_LINE: Final = (
    "UPDATE webhookd_deliveries SET order_key = ?, due_at = ?, pass_at = ? WHERE id = ?"
)
LEAVE_LINE: Final = (
    "UPDATE webhookd_deliveries SET order_key = 0, passed_at = ?, pass_at = NULL WHERE id = ?"
)
KIND: Final = (
    "SELECT e.aggregate, e.event_type, typeof(e.payload) = 'null',"
    " (SELECT s.key FROM webhookd_subscriptions AS s WHERE s.id = e.aggregate_id)"
    " FROM webhookd_events AS e WHERE e.sequence = ?"
)
"""What decides the place of an event's deliveries; last the subscription that one of ours is
about."""


class Row(NamedTuple):
    """A delivery's row as it is moved."""

    id: DeliveryId
    subscription: SubscriptionKey
    order_key: int
    standing: Standing
    retry_at: str | None
    body_hash: bytes | None
    event: int
    failing_since: str | None
    pass_at: str | None
    since: str
    """When it was taken in, or re-opened since then."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a delivery belongs, by its event and its subscription's policy as it is now."""

    order_key: int
    coalesce_key: int


def read(connection: Connection, delivery: DeliveryId) -> Row | None:
    """A delivery as it stands in the file; None if retention or an operator took it away."""
    found = connection.execute(SELECT, (delivery,)).fetchone()
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
    return Row(delivery, found[0], found[1], standing, *found[11:])


class Book:
    """The deliveries' rows during one writing transaction; attempts and sums are written down by
    `close`."""

    def __init__(self, connection: Connection, file: FileRow, now: int, profiles: Known) -> None:
        """`profiles` says how a subscription is ordered, and how long its delays are."""
        self._connection = connection
        self.profiles = profiles
        self._file = file
        self._sequence = file.sequence
        self.now = now
        self._now_text = to_text(now)
        self._states: dict[SubscriptionKey, Counter[DeliveryState]] = defaultdict(Counter)
        self._attempts: list[tuple[object, ...]] = []
        self._latest: dict[SubscriptionKey, AttemptNote] = {}
        self._successes: dict[SubscriptionKey, str] = {}
        self._tally = Tally(connection, now)
        self._recipients: dict[SubscriptionKey, recipients.Recipient | None] = {}
        self.ready: set[SubscriptionKey] = set()
        """Subscriptions in which another delivery has come to the head of its line."""

    @property
    def sequence(self) -> int:
        """THE counter: the sequence of what was moved last."""
        return self._sequence

    def next_sequence(self) -> int:
        """Move THE counter on."""
        self._sequence += 1
        return self._sequence

    def read(self, delivery: DeliveryId) -> Row | None:
        """The delivery as it stands in this transaction: see `read`."""
        return read(self._connection, delivery)

    def apply(
        self, row: Row, happened: Move, *, body_hash: bytes | None = None, max_block: Millis = 0
    ) -> Standing:
        """Move a delivery on, write it down, and let the next in line come to the head.

        Args:
            row: as `read` found it in this transaction.
            happened: what moves it.
            body_hash: of the body that was sent.
            max_block: how long it may hold up its line from its first failed attempt on; 0: ever.

        Raises:
            IllegalTransition: it cannot happen to a delivery in that state; nothing was written.
        """
        before, after = row.standing, move(row.standing, happened)
        if happened.happening is Happening.REOPENED:
            row = self._reopen(row)
        retry_at = _text(happened.retry_at) if after.state is DeliveryState.PENDING else None
        if happened.happening is Happening.NOTED:
            retry_at = row.retry_at
        pending_before = before.state is DeliveryState.PENDING
        if after.state is DeliveryState.PENDING:
            if not pending_before:
                after = self._step_in(row, after)
            elif before.due_at is None:
                # Another one was put before it while its request was in flight: it waits again.
                after = after._replace(due_at=None)
            if after.due_at is not None:
                self.ready.add(row.subscription)
        self._write(row, after, retry_at, body_hash)
        self._set_failing(row, after, happened, max_block)
        self.moved(row, after)
        return after

    def moved(self, row: Row, after: Standing) -> None:
        """Count a row that is written as it stands now; where it left its line, the next comes."""
        before = row.standing.state
        if before is after.state:
            return
        change = self._states[row.subscription]
        change[before] -= 1
        change[after.state] += 1
        self._tally.ended(row.subscription, after.state)
        if before is DeliveryState.PENDING:
            self._step_up(row)

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
        return row.standing._replace(due_at=self.now)

    def note(self, delivery: DeliveryId, subscription: SubscriptionKey, made: AttemptNote) -> None:
        """Write an attempt down."""
        self._attempts.append(
            (
                delivery,
                made.number,
                to_text(made.started_at),
                made.duration,
                made.status,
                made.error_class,
                made.error,
                made.note,
                made.excerpt,
            )
        )
        self._latest[subscription] = made
        self._tally.attempted(subscription, made.duration)
        if not made.error_class:
            self._successes[subscription] = to_text(made.started_at + made.duration)

    def leave_line(self, row: Row) -> None:
        """Let those behind a pending delivery pass it: it goes on alone."""
        self._connection.execute(LEAVE_LINE, (self._now_text, row.id))
        self._step_up(row)

    def place(self, row: Row) -> Place:
        """Where a delivery belongs now; where it is, if its subscription was removed."""
        aggregate, event_type, thin, about = self._connection.execute(KIND, (row.event,)).fetchone()
        recipient = self._recipient(row.subscription)
        if recipient is None:
            return Place(row.order_key, 0)
        ordering = recipient.policy.ordering
        if event_type.startswith(OWN_TYPES):
            return Place(recipients.own_order_key(ordering, about), 0)
        return Place(
            recipients.order_key(ordering, aggregate),
            recipients.merge_key(recipient.policy, aggregate, thin=bool(thin)),
        )

    def change_line(self, row: Row, line: int) -> None:
        """Put a pending delivery into another line, where its event belongs in it.

        The feed does not move: no visible field changes.
        """
        moved = row._replace(order_key=line)
        due = _text(row.standing.due_at)
        head = self._head(moved)
        if head is not None and head[3] < row.event:
            after = None
        else:
            if head is not None:
                self._connection.execute(SET_DUE, (None, head[0]))
            after = due or self._due(row.subscription, row.retry_at)
            self.ready.add(row.subscription)
        pass_at = None if line == NO_LINE else row.pass_at
        self._connection.execute(CHANGE_LINE, (line, after, pass_at, row.id))
        if due is not None:
            self._step_up(row)

    def close(self) -> FileRow:
        """Write attempts and sums down; returns the file's row with the counter moved."""
        self._connection.executemany(INSERT_ATTEMPT, self._attempts)
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
        self._tally.close()
        return replace(self._file, sequence=self._sequence)

    def _write(
        self, row: Row, after: Standing, retry_at: str | None, body_hash: bytes | None
    ) -> None:
        due_at = _text(after.due_at)
        body_hash = row.body_hash or body_hash
        before = row.standing
        if _seen(before) == _seen(after):
            self._connection.execute(RESCHEDULE, (after.tries, due_at, retry_at, body_hash, row.id))
            return
        sequence = self.next_sequence()
        was_pending = before.state is DeliveryState.PENDING
        is_pending = after.state is DeliveryState.PENDING
        opens, ends = is_pending and not was_pending, was_pending and not is_pending
        self._connection.execute(
            UPDATE,
            (
                sequence,
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
                sequence if opens else None,
                sequence if ends else None,
                row.id,
            ),
        )

    def _set_failing(self, row: Row, after: Standing, happened: Move, max_block: Millis) -> None:
        """Keep since when it has been failing, and until when it may hold up its line."""
        if happened.happening is Happening.NOTED:
            return
        since = pass_at = None
        if after.state is DeliveryState.PENDING and happened.happening is Happening.RETRY:
            since = row.failing_since
            now = to_text(happened.at)
            if since is not None:
                # One that lies ahead is a wrong clock's: counted from there, it would never pass.
                since = min(since, now)
            elif happened.attempted_at is not None:
                since = now
            if since is not None and max_block and row.order_key != NO_LINE:
                pass_at = to_text(from_text(since) + max_block)
        if (since, pass_at) != (row.failing_since, row.pass_at):
            self._connection.execute(SET_FAILING, (since, pass_at, row.id))

    def _reopen(self, row: Row) -> Row:
        """Put it into the line that is its own by the ordering as it is now."""
        place = self.place(row)
        self._connection.execute(
            REOPEN, (place.order_key, place.coalesce_key, self._now_text, row.id)
        )
        return row._replace(order_key=place.order_key)

    def _step_in(self, row: Row, after: Standing) -> Standing:
        """Find a re-opened delivery's place in line; returns its standing there."""
        head = self._head(row)
        if head is None:
            return after
        if head[3] < row.event:
            return after._replace(due_at=None)
        self._connection.execute(SET_DUE, (None, head[0]))
        return after

    def _step_up(self, row: Row) -> None:
        """Make the first that waits in this row's line the head of it."""
        head = self._head(row)
        if head is None or head[1] is not None:
            return
        # Delays are minima: one that was put back while it waited for its next try still waits.
        self._connection.execute(SET_DUE, (self._due(row.subscription, head[2]), head[0]))
        self.ready.add(row.subscription)

    def _due(self, subscription: SubscriptionKey, retry_at: str | None) -> str:
        """When one that comes to the head is due; no later than by the longest of its delays."""
        if retry_at is None or retry_at <= self._now_text:
            return self._now_text
        recipient = self._recipient(subscription)
        if recipient is None:
            return retry_at
        return min(retry_at, to_text(self.now + longest_wait(recipient.policy)))

    def _recipient(self, key: SubscriptionKey) -> recipients.Recipient | None:
        if key not in self._recipients:
            self._recipients[key] = recipients.find(self._connection, key, self.profiles)
        return self._recipients[key]

    def _head(self, row: Row) -> tuple[int, str | None, str | None, int] | None:
        if row.order_key == NO_LINE:
            return None
        found: tuple[int, str | None, str | None, int] | None = self._connection.execute(
            HEAD_OF_LINE, (row.subscription, row.order_key)
        ).fetchone()
        return found


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
