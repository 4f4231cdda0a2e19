"""Writing events down with the deliveries that they owe, in one stroke and in their lines.

Rows gather here and are written by one call a table: from Python, each call costs about as much as
the writing of a row itself, and the host's own commits wait meanwhile.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from webhookd.core import rows
from webhookd.core.model import SubscriptionKey
from webhookd.store.book import HEAD_OF_LINE, SET_DUE
from webhookd.store.driver import Connection
from webhookd.store.recipients import (
    NO_LINE,
    Crowd,
    Recipient,
    Terms,
    merge_key,
    order_key,
    own_order_key,
)

INSERT_EVENT: Final = (
    "INSERT INTO webhookd_events (sequence, outbox_id, event_id, aggregate, event_type,"
    " aggregate_type, aggregate_id, tenant, payload, occurred_at, time_guessed, ingested_at,"
    " aggregate_type_made) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
FIND_AGGREGATE: Final = (
    "SELECT key FROM webhookd_aggregates"
    " WHERE tenant = ? AND aggregate_type = ? AND aggregate_id = ?"
)
MOVE_AGGREGATE: Final = (
    "UPDATE webhookd_aggregates SET sequence = ?, event_type = ?, event_id = ?, occurred_at = ?,"
    " changed_at = ? WHERE key = ?"
)
INSERT_AGGREGATE: Final = (
    "INSERT INTO webhookd_aggregates (sequence, event_type, event_id, occurred_at, changed_at,"
    " tenant, aggregate_type, aggregate_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING key"
)
INSERT_DELIVERY: Final = (
    "INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name,"
    " number, order_key, state, reason, attempts, tries, last_error, due_at, next_attempt_at,"
    " created_at, since, coalesce_key)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', '', 0, 0, '', ?8, ?8, ?9, ?9, ?10)"
)
IN_LINE: Final = (
    "SELECT 1 FROM webhookd_deliveries INDEXED BY webhookd_deliveries_in_line"
    " WHERE subscription = ? AND order_key = ? AND state = 'pending' AND order_key <> 0 LIMIT 1"
)
ADD_OWED: Final = (
    "UPDATE webhookd_counters SET numbers = numbers + ?1, pending = pending + ?1"
    " WHERE subscription = ?2"
)


@dataclass(slots=True)
class Fanout:
    """What one transaction adds. Nothing of it is in the file for certain before `close`."""

    connection: Connection
    terms: Terms
    sequence: int
    """THE counter, as far as it has been moved."""
    now_text: str
    events: int = 0
    deliveries: int = 0
    owed: Counter[SubscriptionKey] = field(default_factory=Counter)
    numbers: dict[SubscriptionKey, int] = field(default_factory=dict)
    ready: set[SubscriptionKey] = field(default_factory=set)
    """Subscriptions that have a new delivery at the head of its line."""
    crowded: Counter[Crowd] = field(default_factory=Counter)
    """New deliveries that may make older ones needless, by subscription and aggregate."""
    crowding: int = 0
    """How many those are."""
    _event_rows: list[tuple[object, ...]] = field(default_factory=list)
    _delivery_rows: list[tuple[object, ...]] = field(default_factory=list)
    _aggregates: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """The keys of those that have been met, by tenant, type and id."""
    _newest: dict[int, tuple[object, ...]] = field(default_factory=dict)
    """What becomes of aggregates that are in the file, by key: of each the last change alone."""
    _lines: set[tuple[SubscriptionKey, int]] = field(default_factory=set)
    """In which somebody stands for certain."""

    def host_event(self, draft: rows.Draft) -> None:
        """Write one of the host's events, its aggregate's place in the feed, and what it owes."""
        self.sequence += 1
        place = self.sequence
        aggregate = self._move_aggregate(draft, place) if draft.aggregate_id else 0
        self._insert_event(draft, place, aggregate)
        thin = draft.payload is None
        for key in self.terms.matcher.match(draft.event_type, draft.aggregate_type, draft.tenant):
            recipient = self.terms.recipients[key]
            merges = merge_key(recipient.policy, aggregate, thin=thin)
            line = order_key(recipient.policy.ordering, aggregate)
            self.delivery(key, recipient, place, line, coalesce_key=merges)

    def own_event(
        self,
        draft: rows.Draft,
        recipients: Iterable[SubscriptionKey],
        about: SubscriptionKey | None,
    ) -> None:
        """Write one of webhookd's own events: in no feed of changes, and in a line of its kind."""
        self.sequence += 1
        place = self.sequence
        self._insert_event(draft, place, 0)
        for key in recipients:
            recipient = self.terms.recipients[key]
            line = own_order_key(recipient.policy.ordering, about)
            self.delivery(key, recipient, place, line)

    def delivery(
        self,
        key: SubscriptionKey,
        recipient: Recipient,
        event: int,
        line: int,
        *,
        coalesce_key: int = 0,
        newest: bool = True,
    ) -> None:
        """Write one delivery down, due now if nothing stands before it in line.

        `newest`: its event is the newest of its line, so that nobody stands behind it.
        """
        self.sequence += 1
        stands_behind = self._stands_behind if newest else self._steps_in_behind
        waits = line != NO_LINE and stands_behind(key, line, event)
        due = None if waits else self.now_text
        self._delivery_rows.append(
            (
                self.sequence,
                self.sequence,
                event,
                key,
                recipient.name,
                self._next_number(key),
                line,
                due,
                self.now_text,
                coalesce_key,
            )
        )
        self.deliveries += 1
        self.owed[key] += 1
        if not waits:
            self.ready.add(key)
        if coalesce_key:
            self.crowding += 1
            self.crowded[key, coalesce_key] += 1

    def close(self) -> int:
        """Write down what has gathered, and the sums; returns THE counter."""
        self._flush()
        for key, count in self.owed.items():
            self.connection.execute(ADD_OWED, (count, key))
        return self.sequence

    def _flush(self) -> None:
        self.connection.executemany(INSERT_EVENT, self._event_rows)
        self.connection.executemany(MOVE_AGGREGATE, self._newest.values())
        self.connection.executemany(INSERT_DELIVERY, self._delivery_rows)
        self._event_rows.clear()
        self._newest.clear()
        self._delivery_rows.clear()

    def _stands_behind(self, key: SubscriptionKey, line: int, _: int) -> bool:
        """Whether anybody is in line already."""
        place = (key, line)
        if place in self._lines:
            return True
        self._lines.add(place)
        return self.connection.execute(IN_LINE, place).fetchone() is not None

    def _steps_in_behind(self, key: SubscriptionKey, line: int, event: int) -> bool:
        """Whether an older one is in line already; a newer head makes way."""
        self._flush()  # it may stand behind one of these
        head = self.connection.execute(HEAD_OF_LINE, (key, line)).fetchone()
        if head is None:
            return False
        if head[3] < event:
            return True
        self.connection.execute(SET_DUE, (None, head[0]))
        return False

    def _move_aggregate(self, draft: rows.Draft, place: int) -> int:
        """Make this the newest event of its aggregate; returns the aggregate's key."""
        name = (draft.tenant, draft.aggregate_type, draft.aggregate_id)
        change = (place, draft.event_type, draft.event_id, draft.occurred_at, self.now_text)
        key = self._aggregates.get(name)
        if key is None:
            found = self.connection.execute(FIND_AGGREGATE, name).fetchone()
            if found is None:
                made = self.connection.execute(INSERT_AGGREGATE, (*change, *name)).fetchone()
                self._aggregates[name] = made[0]
                return int(made[0])
            key = self._aggregates[name] = found[0]
        self._newest[key] = (*change, key)
        return key

    def _insert_event(self, draft: rows.Draft, place: int, aggregate: int) -> None:
        self._event_rows.append(
            (
                place,
                draft.outbox_id,
                draft.event_id,
                aggregate,
                draft.event_type,
                draft.aggregate_type,
                draft.aggregate_id,
                draft.tenant,
                draft.payload,
                draft.occurred_at,
                draft.occurred_at_guessed,
                self.now_text,
                draft.aggregate_type_made,
            )
        )
        self.events += 1

    def _next_number(self, key: SubscriptionKey) -> int:
        number = self.numbers.get(key)
        if number is None:
            number = self.connection.execute(
                "SELECT numbers FROM webhookd_counters WHERE subscription = ?", (key,)
            ).fetchone()[0]
        self.numbers[key] = number + 1
        return number + 1
