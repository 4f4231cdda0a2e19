"""`replay`: the events of a span of time once more, for one subscription.

Every event of the span is judged, the oldest first. What it came to is opened again; if it never
was a delivery and matches now, one is made. A step judges a stretch of events and changes what it
finds; a dry run judges all of them and changes nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from webhookd.core.delivery import Happening, Move
from webhookd.core.matching import Interest, Matcher
from webhookd.core.model import DeliveryId, DeliveryState, Millis, SubscriptionKey
from webhookd.core.profiles import Known
from webhookd.core.rows import OWN_TYPES
from webhookd.core.times import to_text
from webhookd.store import coalesce, recipients
from webhookd.store.ages import PRUNED
from webhookd.store.driver import Connection
from webhookd.store.erased import IS_ERASED, sends_payload
from webhookd.store.fanout import Fanout
from webhookd.store.instructions import Instruction, Kind, give
from webhookd.store.newest import DELIVERED, Budget, Newest
from webhookd.store.recipients import Crowd, Recipient, Terms
from webhookd.store.step import Done
from webhookd.store.transaction import Transaction

PAGE: Final = 250
"""Events read at once."""
A_PAGE_OF_READING: Final = 20_000
"""Looks at a row between two pauses of a dry run, which holds no lock but keeps its place."""
HIGHEST: Final = 2**63 - 1

EVENTS: Final = (
    "SELECT e.sequence, e.aggregate, e.event_type, e.aggregate_type, e.aggregate_id, e.tenant,"
    f" typeof(e.payload) = 'null', {IS_ERASED}, d.id, d.state FROM webhookd_events AS e"
    " LEFT JOIN webhookd_deliveries AS d ON d.event = e.sequence AND d.subscription = ?"
    " WHERE e.sequence > ? AND e.sequence <= ? ORDER BY e.sequence LIMIT ?"
)
NEXT_EVENT: Final = (
    "SELECT sequence, ingested_at FROM webhookd_events WHERE sequence >= ? ORDER BY sequence"
    " LIMIT 1"
)
EVENTS_PRUNED: Final = "SELECT minimum_cursor FROM webhook_feeds WHERE feed = 'events'"
ENDS: Final = (
    "SELECT (SELECT min(sequence) FROM webhookd_events),"
    " (SELECT max(sequence) FROM webhookd_events)"
)
NEWEST: Final = (
    "SELECT a.sequence, a.event_type, a.aggregate_type, a.tenant, e.sequence, d.id"
    " FROM webhookd_aggregates AS a LEFT JOIN webhookd_events AS e ON e.sequence = a.sequence"
    " LEFT JOIN webhookd_deliveries AS d ON d.event = a.sequence AND d.subscription = ?"
    " WHERE a.key = ?"
)
"""The newest event of an aggregate, whether it is kept, and its delivery to the subscription."""
WANTS: Final = "SELECT id, events, tenant, profile FROM webhookd_subscriptions WHERE key = ?"
BY_ID: Final = "SELECT key FROM webhookd_subscriptions WHERE id = ?"
SUPERSEDED_NOW: Final = "SELECT superseded FROM webhookd_counters WHERE subscription = ?"

SUPERSEDED: Final = "superseded"
"""The word for what was opened or made, and gave way at once to a newer one: `coalesce`."""


class Verdict(StrEnum):
    """What replay makes of an event; counted by these words."""

    REOPENED = "reopened"
    MADE = "made"
    STALE = "stale"
    """Its aggregate has a newer one that was delivered, or whose delivery retention took away."""
    ERASED = "erased"
    """Nothing is left of it to send: see `webhookd.store.erased`."""
    PENDING = "pending"
    """It is owed already."""
    NOT_FAILED = "not_failed"
    """Only what failed is wanted, and its delivery did not fail."""
    NOT_MATCHING = "not_matching"
    """It is not for this subscription."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which events, and which of them."""

    position: int
    """The sequence before the first of them."""
    last: int
    failed_only: bool = False
    include_stale: bool = False

    @property
    def is_empty(self) -> bool:
        """No event was taken in then."""
        return self.position >= self.last


@dataclass(frozen=True, slots=True)
class _Event:
    sequence: int
    aggregate: int
    event_type: str
    aggregate_type: str
    aggregate_id: str
    tenant: str
    thin: int
    erased: int | None
    """None where there never was a payload."""
    delivery: DeliveryId | None
    state: DeliveryState | None

    @property
    def is_own(self) -> bool:
        return self.event_type.startswith(OWN_TYPES)


def span(
    connection: Connection,
    since: Millis,
    until: Millis | None,
    *,
    failed_only: bool = False,
    include_stale: bool = False,
) -> Span:
    """The events that were taken in from `since` on and before `until`.

    Found by halving: sequences ascend with the time of ingest, as long as no clock is set back.
    """
    lowest, highest = connection.execute(ENDS).fetchone()
    if highest is None:
        return Span(0, 0)
    first = _first_since(connection, lowest, highest, since)
    end = highest + 1 if until is None else _first_since(connection, lowest, highest, until)
    return Span(first - 1, end - 1, failed_only, include_stale)


def has_lost_deliveries(connection: Connection, span: Span) -> bool:
    """Whether retention may have taken a delivery of an event in there: it counts as missing."""
    pruned: int = connection.execute(PRUNED).fetchone()[0]
    return not span.is_empty and pruned > span.position + 1


def has_lost_events(connection: Connection, since: Millis, span: Span) -> tuple[bool, str | None]:
    """Whether retention has taken events that may belong to `span`, which begins at `since`.

    Also when the oldest event that is kept was taken in; None where none is kept.
    """
    pruned: int = connection.execute(EVENTS_PRUNED).fetchone()[0]
    oldest = connection.execute(NEXT_EVENT, (0,)).fetchone()
    if oldest is None:
        return pruned > 0, None
    return pruned > 0 and (pruned > span.position or to_text(since) < oldest[1]), oldest[1]


def order(transaction: Transaction, key: SubscriptionKey, span: Span, now: Millis) -> int | None:
    """Have the events of `span` replayed; the instruction's key, None where there are none."""
    if span.is_empty:
        return None
    return give(
        transaction,
        Kind.REPLAY,
        key,
        position=span.position,
        last=span.last,
        now=now,
        options={"failed_only": span.failed_only, "include_stale": span.include_stale},
    )


def replay(transaction: Transaction, one: Instruction, budget: Budget, now: Millis) -> Done:
    """Replay a stretch of events."""
    connection = transaction.connection
    recipient = recipients.find(connection, one.subscription, transaction.profiles)
    if recipient is None:
        return Done(one, is_last=True, rows=0)
    # What is opened or made where deliveries coalesce may be changed a second time at once.
    judge = _Judge(
        connection, transaction.profiles, one, budget, changes=1 + recipient.policy.coalesce
    )
    judged = list(judge.stretch())
    ready, crowded = _make(
        transaction,
        one.subscription,
        recipient,
        [event for event, verdict in judged if verdict is Verdict.MADE],
        now,
    )
    with transaction.book(now) as book:
        for event, verdict in judged:
            row = book.read(event.delivery) if event.delivery is not None else None
            if verdict is Verdict.REOPENED and row is not None:
                book.apply(row, Move(Happening.REOPENED, now))
                merges = recipients.merge_key(
                    recipient.policy, event.aggregate, thin=bool(event.thin)
                )
                if merges:
                    crowded[one.subscription, merges] += 1
    before = _superseded(connection, one.subscription)
    transaction.file, stepped_up = coalesce.supersede(
        connection, transaction.file, transaction.profiles, crowded, now
    )
    counts = Counter(verdict.value for _, verdict in judged)
    counts[SUPERSEDED] = _superseded(connection, one.subscription) - before
    changed = counts[Verdict.REOPENED] + counts[Verdict.MADE]
    after = one.after(
        judge.position, done=changed, counts=dict(counts), newest=judge.newest.state()
    )
    return Done(after, judge.is_over, changed, ready | book.ready | stepped_up)


def foresee(
    connection: Connection, known: Known, key: SubscriptionKey, span: Span
) -> Iterator[tuple[int, Counter[str]]]:
    """What a replay would do: after each stretch how far it has come, and the counts of it.

    Only reads.
    """
    one = Instruction(
        0,
        Kind.REPLAY,
        key,
        span.position,
        span.last,
        {"failed_only": span.failed_only, "include_stale": span.include_stale},
    )
    while True:
        judge = _Judge(connection, known, one, Budget(A_PAGE_OF_READING))
        counts = Counter(verdict.value for _, verdict in judge.stretch())
        yield judge.position, counts
        if judge.is_over:
            return
        one = one.after(judge.position, newest=judge.newest.state())


class _Judge:
    """Judges events one by one, for as long as the budget lasts."""

    def __init__(
        self,
        connection: Connection,
        known: Known,
        one: Instruction,
        budget: Budget,
        *,
        changes: int = 1,
    ) -> None:
        wants: Any = connection.execute(WANTS, (one.subscription,)).fetchone()
        self._connection = connection
        self._one = one
        self._budget = budget
        self._changes = changes
        self._pruned: int = connection.execute(PRUNED).fetchone()[0]
        self._id: str = wants[0]
        self._matcher = Matcher([Interest(one.subscription, tuple(json.loads(wants[1])), wants[2])])
        self._sends_payload = sends_payload(known, wants[3])
        self.newest = Newest(
            connection,
            DELIVERED,
            one.subscription,
            budget,
            before=HIGHEST,
            **one.options.get("newest", {}),
        )
        self.position = one.position
        self.is_over = False

    def stretch(self) -> Iterator[tuple[_Event, Verdict]]:
        """The next events with what is to become of them, the oldest first."""
        while True:
            rows = self._connection.execute(
                EVENTS, (self._one.subscription, self.position, self._one.last, PAGE)
            ).fetchall()
            if not rows:
                self.is_over = True
                return
            for row in rows:
                if self._budget.is_spent:
                    return
                event = _Event(*row)
                verdict = self._verdict(event)
                if verdict is None:
                    return
                self.position = event.sequence
                self._budget.look()
                yield event, verdict

    def _verdict(self, event: _Event) -> Verdict | None:
        """None when the budget has run out before it is known."""
        if event.state == DeliveryState.PENDING:
            return Verdict.PENDING
        options = self._one.options
        failed_only = options["failed_only"]
        if event.delivery is None and (failed_only or not self._matches(event)):
            return Verdict.NOT_MATCHING
        if failed_only and event.state != DeliveryState.FAILED:
            return Verdict.NOT_FAILED
        if event.erased and self._sends_payload:
            return Verdict.ERASED
        if event.aggregate and not options["include_stale"]:
            newer = self.newest.find(event.aggregate, event.sequence)
            if newer is None:
                return None
            if newer or self._has_lost_newest(event):
                return Verdict.STALE
        self._budget.change(self._changes)
        return Verdict.MADE if event.delivery is None else Verdict.REOPENED

    def _has_lost_newest(self, event: _Event) -> bool:
        """Whether retention has taken the delivery of the newest event of its aggregate.

        What was delivered is kept for a shorter time than what failed, so it may well have been.
        Where that event is kept and has no delivery, it may never have had one. That it had is
        taken for granted only if this older one has: the subscription was there by then.
        """
        self._budget.look()
        found = self._connection.execute(NEWEST, (self._one.subscription, event.aggregate))
        sequence, event_type, aggregate_type, tenant, kept, delivery = found.fetchone()
        if sequence <= event.sequence or delivery is not None:
            return False
        if kept is not None and (event.delivery is None or sequence > self._pruned):
            return False
        return bool(self._matcher.match(event_type, aggregate_type, tenant))

    def _matches(self, event: _Event) -> bool:
        if event.is_own:
            # Whom an event is about is not told of it.
            about_itself = event.aggregate_id == self._id
            return not about_itself and bool(self._matcher.match(event.event_type, "", ""))
        return bool(self._matcher.match(event.event_type, event.aggregate_type, event.tenant))


def _make(
    transaction: Transaction,
    key: SubscriptionKey,
    recipient: Recipient,
    events: list[_Event],
    now: Millis,
) -> tuple[frozenset[SubscriptionKey], Counter[Crowd]]:
    """Make the deliveries that are missing, each where its event belongs in its line."""
    connection, file = transaction.connection, transaction.file
    terms = Terms(Matcher(()), {key: recipient}, transaction.profiles, "", 0)
    fanout = Fanout(connection, terms, file.sequence, to_text(now))
    ordering = recipient.policy.ordering
    for event in events:
        if event.is_own:
            about = connection.execute(BY_ID, (event.aggregate_id,)).fetchone()
            line, merges = recipients.own_order_key(ordering, about and about[0]), 0
        else:
            line = recipients.order_key(ordering, event.aggregate)
            merges = recipients.merge_key(recipient.policy, event.aggregate, thin=bool(event.thin))
        fanout.delivery(key, recipient, event.sequence, line, coalesce_key=merges, newest=False)
    transaction.file = replace(file, sequence=fanout.close())
    return frozenset(fanout.ready), fanout.crowded


def _superseded(connection: Connection, key: SubscriptionKey) -> int:
    found: int = connection.execute(SUPERSEDED_NOW, (key,)).fetchone()[0]
    return found


def _first_since(connection: Connection, lowest: int, highest: int, since: Millis) -> int:
    """The lowest sequence of an event taken in at `since` or later; above all where none was."""
    text, low, high = to_text(since), lowest, highest + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(NEXT_EVENT, (middle,)).fetchone()
        if found is None or found[1] >= text:
            high = middle
        else:
            low = found[0] + 1
    return low
