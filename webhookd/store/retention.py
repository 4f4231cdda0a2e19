"""Taking away what is kept no longer, in batches that hold the write lock for some milliseconds.

Theory
======

Deliveries, attempts and rejected rows are found by indexes on the moment from which they count.
Events, outbox rows and aggregates are gone through in the order of their sequences, because they
came in that order; how far that has come is in `webhookd_retention`. What is old enough and goes,
goes; what is held by something (an event by a delivery, an aggregate by an event) is passed over,
and looked at again in the transaction that takes that away. So nothing is looked at twice, however
much is owed. Where what lets go is not old enough yet (somebody has lengthened a span), the
position goes back to it.

An aggregate goes only when no event of it is left: events and lines know it by its key, and the key
of one that is gone may be given to another.

What goes out of a feed raises that feed's `minimum_cursor` in the same transaction. Any number of
daemons' and commands' transactions may do this side by side: each begins from what is in the file.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from webhookd.core.model import DeliveryState, Millis
from webhookd.core.retention import FINISHED, Retention, Work, before
from webhookd.core.rows import OWN_TYPES
from webhookd.core.storage import Pruned
from webhookd.store.ages import CHANGES, EVENTS, HIGHEST, LAST_CHANGE, LAST_EVENT, Ages, Terms
from webhookd.store.driver import Connection
from webhookd.store.host_table import quoted
from webhookd.store.outbox import change_row
from webhookd.store.transaction import Transaction

ROWS: Final = 200
"""Rows that one transaction takes away."""
A_MOMENT: Final = 0.005
"""Seconds after which a transaction takes nothing more: with its commit it holds the lock for
twice that."""

DELIVERIES: Final = (
    "SELECT id, sequence, event, subscription, attempts FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_finished"
    " WHERE state = ? AND finished_at IS NOT NULL AND finished_at <= ?"
    " ORDER BY finished_at LIMIT ?"
)
ATTEMPTS: Final = (
    "SELECT delivery, number FROM webhookd_attempts INDEXED BY webhookd_attempts_started"
    " WHERE started_at <= ? ORDER BY started_at LIMIT ?"
)
REJECTED: Final = (
    "SELECT outbox_id FROM webhookd_rejected INDEXED BY webhookd_rejected_at"
    " WHERE rejected_at <= ? ORDER BY rejected_at LIMIT ?"
)
EVENT: Final = "SELECT ingested_at, aggregate FROM webhookd_events WHERE sequence = ?"
CHANGE: Final = "SELECT sequence, changed_at FROM webhookd_aggregates WHERE key = ?"
IS_REFERRED_TO: Final = "SELECT 1 FROM webhookd_deliveries WHERE event = ? LIMIT 1"
HAS_EVENTS: Final = (
    "SELECT 1 FROM webhookd_events INDEXED BY webhookd_events_aggregate"
    " WHERE aggregate = ? AND aggregate <> 0 LIMIT 1"
)
DELETE_DELIVERY: Final = "DELETE FROM webhookd_deliveries WHERE id = ?"
DELETE_ATTEMPTS: Final = "DELETE FROM webhookd_attempts WHERE delivery = ?"
DELETE_SOME_ATTEMPTS: Final = (
    "DELETE FROM webhookd_attempts WHERE delivery = ?1 AND number IN"
    " (SELECT number FROM webhookd_attempts WHERE delivery = ?1 ORDER BY number LIMIT ?2)"
)
DELETE_ATTEMPT: Final = "DELETE FROM webhookd_attempts WHERE delivery = ? AND number = ?"
DELETE_EVENT: Final = "DELETE FROM webhookd_events WHERE sequence = ?"
DELETE_CHANGE: Final = "DELETE FROM webhookd_aggregates WHERE key = ?"
DELETE_REJECTED: Final = "DELETE FROM webhookd_rejected WHERE outbox_id = ?"
MOVE: Final = "UPDATE webhookd_retention SET position = ? WHERE what = ?"
RAISE_MINIMUM: Final = (
    "UPDATE webhookd_feeds SET minimum_cursor = max(minimum_cursor, ?) WHERE feed = ?"
)
FEWER: Final = (
    "UPDATE webhookd_counters SET delivered = delivered - ?, failed = failed - ?,"
    " cancelled = cancelled - ?, superseded = superseded - ? WHERE subscription = ?"
)


@dataclass(slots=True)
class Allowance:
    """What one transaction may still take away, in rows and in time."""

    left: int = field(default_factory=lambda: ROWS)
    until: float = field(default_factory=lambda: time.perf_counter() + A_MOMENT)
    _whole: int = field(default_factory=lambda: ROWS)

    @property
    def is_late(self) -> bool:
        """The time is over."""
        return time.perf_counter() >= self.until

    @property
    def is_spent(self) -> bool:
        """The rest is for the next transaction; each takes one at least, however slow the disk."""
        return self.left <= 0 or (self.left < self._whole and self.is_late)


def prune(transaction: Transaction, work: Work, kept: Retention, now: Millis) -> Pruned:
    """Take away a batch of what is kept no longer, inside the caller's transaction.

    Raises:
        OutboxMissing: the outbox is gone, or a column of it; no row is taken in either.
        OutboxUnreadable: something of the host's keeps its rows.
    """
    step = _Step(transaction, kept, now)
    more = _WORKS[work](step)
    step.close()
    return Pruned(dict(step.gone), more)


def may_prune(
    connection: Connection, work: Work, kept: Retention, now: Millis, *, outbox_ours: bool
) -> bool:
    """Whether `prune` would find anything; only reads, a step or two in an index."""
    terms = Terms(connection, kept, now)
    match work:
        case Work.DELIVERIES:
            cutoffs = ((state, before(kept.of(state), now)) for state in FINISHED)
            return any(
                cutoff is not None
                and connection.execute(DELIVERIES, (state, cutoff, 1)).fetchone() is not None
                for state, cutoff in cutoffs
            )
        case Work.ATTEMPTS:
            return terms.finds(ATTEMPTS, kept.attempts)
        case Work.REJECTED:
            return terms.finds(REJECTED, kept.rejected)
        case Work.OUTBOX:
            return outbox_ours and terms.comes_further(work, EVENTS, LAST_EVENT, kept.outbox)
        case Work.EVENTS:
            last = terms.last_event(outbox_ours=outbox_ours)
            return terms.comes_further(work, EVENTS, LAST_EVENT, kept.events, last)
        case Work.CHANGES:
            return terms.comes_further(work, CHANGES, LAST_CHANGE, kept.changes)


class _Step(Terms):
    """One transaction's worth of taking away; sums are written down by `close`."""

    def __init__(self, transaction: Transaction, kept: Retention, now: Millis) -> None:
        super().__init__(transaction.connection, kept, now)
        self.transaction = transaction
        self.allowance = Allowance()
        self.gone: Counter[str] = Counter()
        """How many went, by the keys of `[retention]`."""
        self._before = dict(self.positions)
        self._highest: dict[str, int] = {}
        """The highest sequence that went out of each feed."""
        self._fewer: Counter[tuple[int, DeliveryState]] = Counter()

    def close(self) -> None:
        """Write the sums down."""
        for what, position in self.positions.items():
            if position != self._before[what]:
                self.connection.execute(MOVE, (position, what))
        for feed, sequence in self._highest.items():
            self.connection.execute(RAISE_MINIMUM, (sequence, feed))
        for key in {key for key, _ in self._fewer}:
            fewer = (self._fewer[key, state] for state in FINISHED)
            self.connection.execute(FEWER, (*fewer, key))
        rejected = self.gone["rejected"]
        if rejected:
            file = self.transaction.file
            self.transaction.file = replace(file, rejected=file.rejected - rejected)

    def deliveries(self) -> bool:
        """Finished deliveries, each with its attempts; returns whether there may be more."""
        for state in FINISHED:
            cutoff = before(self.kept.of(state), self.now)
            if cutoff is None:
                continue
            wanted = self.allowance.left
            found = self.connection.execute(DELIVERIES, (state, cutoff, wanted)).fetchall()
            for row in found:
                if not self._take_delivery(state, *row):
                    return True
            if len(found) == wanted:
                return True
        return False

    def _take_delivery(
        self, state: DeliveryState, number: int, sequence: int, event: int, key: int, attempts: int
    ) -> bool:
        """Whether it is gone: not if the allowance is spent before."""
        allowance = self.allowance
        if allowance.is_spent:
            return False
        if attempts <= allowance.left:
            taken = self.connection.execute(DELETE_ATTEMPTS, (number,)).rowcount
        else:
            taken = self.connection.execute(DELETE_SOME_ATTEMPTS, (number, allowance.left)).rowcount
        allowance.left -= taken
        self.gone["attempts"] += taken
        if taken and allowance.left <= 0:
            return False
        self.connection.execute(DELETE_DELIVERY, (number,))
        self._went(state, sequence, "results")
        self._fewer[key, state] += 1
        if event <= self.positions[Work.EVENTS]:
            self._let_go_of_event(event)
        return True

    def _let_go_of_event(self, sequence: int) -> None:
        """A delivery that held it is gone; the walk has passed it already."""
        if self.connection.execute(IS_REFERRED_TO, (sequence,)).fetchone() is not None:
            return
        at, aggregate = self.connection.execute(EVENT, (sequence,)).fetchone()
        if self.events.is_old(sequence, at):
            self._take_event(sequence, aggregate)
        else:
            self._go_back(Work.EVENTS, sequence)

    def attempts(self) -> bool:
        """Attempts whose delivery stays; what it says of them stays with it."""
        return self._by_age(ATTEMPTS, self.kept.attempts, self._take_attempt)

    def _take_attempt(self, delivery: int, number: int) -> None:
        self.connection.execute(DELETE_ATTEMPT, (delivery, number))
        self._went("attempts")

    def rejected(self) -> bool:
        """Rejected rows; until then they have stayed in the outbox too."""
        return self._by_age(REJECTED, self.kept.rejected, self._take_rejected)

    def _take_rejected(self, number: int) -> None:
        self.connection.execute(DELETE_REJECTED, (number,))
        self._went("rejected")
        if self.kept.outbox is not None:
            self._take_row(number)

    def _by_age(self, sql: str, span: Millis | None, take: Callable[..., None]) -> bool:
        cutoff, wanted = before(span, self.now), self.allowance.left
        if cutoff is None:
            return False
        found = self.connection.execute(sql, (cutoff, wanted)).fetchall()
        for row in found:
            if self.allowance.is_spent:
                return True
            take(*row)
        return len(found) == wanted

    def outbox(self) -> bool:
        """Rows that are events; in the host's own table they are the host's."""
        if not self.transaction.file.outbox_ours:
            return False
        ages = self.ages(EVENTS, LAST_EVENT, self.kept.outbox)
        return self._walk(Work.OUTBOX, ages, self._take_row_of)

    def _take_row_of(self, _: int, __: int, number: int, event_type: str) -> None:
        if not event_type.startswith(OWN_TYPES):
            self._take_row(number)

    def _take_row(self, number: int) -> None:
        file = self.transaction.file
        if not file.outbox_ours:
            return
        sql = f"DELETE FROM {quoted(file.outbox_table)} WHERE id = ?"
        if change_row(self.transaction, sql, number):
            self._went("outbox")

    def all_events(self) -> bool:
        """Events that no delivery refers to."""
        last = self.last_event(outbox_ours=bool(self.transaction.file.outbox_ours))
        return self._walk(Work.EVENTS, self.events, self._look_at_event, last)

    def _look_at_event(self, sequence: int, aggregate: int, *_: object) -> None:
        if self.connection.execute(IS_REFERRED_TO, (sequence,)).fetchone() is None:
            self._take_event(sequence, aggregate)

    def _take_event(self, sequence: int, aggregate: int) -> None:
        self.connection.execute(DELETE_EVENT, (sequence,))
        self._went("events", sequence, "events")
        if aggregate and self.positions[Work.CHANGES]:
            self._let_go_of_change(aggregate)

    def _let_go_of_change(self, key: int) -> None:
        """An event that held it is gone; the walk may have passed it already."""
        sequence, at = self.connection.execute(CHANGE, (key,)).fetchone()
        passed = sequence <= self.positions[Work.CHANGES]
        if not passed or self.connection.execute(HAS_EVENTS, (key,)).fetchone() is not None:
            return
        if self.changes.is_old(sequence, at):
            self._take_change(sequence, key)
        else:
            self._go_back(Work.CHANGES, sequence)

    def all_changes(self) -> bool:
        """Aggregates of which no event is left."""
        return self._walk(Work.CHANGES, self.changes, self._look_at_change)

    def _look_at_change(self, sequence: int, key: int) -> None:
        if self.connection.execute(HAS_EVENTS, (key,)).fetchone() is None:
            self._take_change(sequence, key)

    def _take_change(self, sequence: int, key: int) -> None:
        self.connection.execute(DELETE_CHANGE, (key,))
        self._went("changes", sequence, "changes")

    def _walk(self, work: Work, ages: Ages, look: Callable[..., None], last: int = HIGHEST) -> bool:
        """Go on from the position, up to `last` or the first that is not old enough."""
        if ages.cutoff is None:
            return False
        wanted = self.allowance.left
        found = list(self._page(ages.page, self.positions[work], wanted))
        for sequence, at, *rest in found:
            if self.allowance.is_spent:
                return True
            if sequence > last or not ages.is_old(sequence, at):
                return False
            left = self.allowance.left
            look(sequence, *rest)
            self.allowance.left = min(self.allowance.left, left - 1)  # to look costs too
            self.positions[work] = sequence
        return bool(found) and (len(found) == wanted or self.allowance.is_late)

    def _page(self, sql: str, position: int, wanted: int) -> Iterator[tuple[Any, ...]]:
        """Rows behind the position; fewer where a large payload takes long to read over."""
        cursor = self.connection.execute(sql, (position, wanted))
        try:
            for row in cursor:
                yield row
                if self.allowance.is_late:
                    return
        finally:
            cursor.close()

    def _went(self, what: str, sequence: int = 0, feed: str = "") -> None:
        self.gone[what] += 1
        self.allowance.left -= 1
        if feed:
            self._highest[feed] = max(sequence, self._highest.get(feed, 0))

    def _go_back(self, work: Work, sequence: int) -> None:
        """Look at it once more: it has been let go of, and is not old enough yet."""
        self.positions[work] = min(self.positions[work], sequence - 1)


_WORKS: Final[dict[Work, Callable[[_Step], bool]]] = {
    Work.OUTBOX: _Step.outbox,
    Work.DELIVERIES: _Step.deliveries,
    Work.ATTEMPTS: _Step.attempts,
    Work.EVENTS: _Step.all_events,
    Work.CHANGES: _Step.all_changes,
    Work.REJECTED: _Step.rejected,
}
