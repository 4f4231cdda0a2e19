"""Where a row becomes an event: event, deliveries owed and cursor in one transaction.

Everything runs statement by statement on the caller's thread, 5 to 10 µs each: each row is judged
by the core in between, so there is nothing to hand to a thread but the commit.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from webhookd.core import rows
from webhookd.core.matching import Matcher
from webhookd.core.model import Ordering, SubscriptionKey
from webhookd.core.storage import Ingested, RejectedRow
from webhookd.core.times import to_text
from webhookd.store import ranges
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow

DELIVERIES_A_BATCH: Final = 1_000
"""A batch ends after the event that reaches this: only one event's fan-out cannot be split."""

INSERT_EVENT: Final = (
    "INSERT INTO webhookd_events (sequence, outbox_id, event_id, aggregate, event_type,"
    " aggregate_type, aggregate_id, tenant, payload, occurred_at, time_guessed, ingested_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
FIND_EVENT: Final = "SELECT 1 FROM webhookd_events WHERE event_id = ?"
MOVE_AGGREGATE: Final = (
    "UPDATE webhookd_aggregates SET sequence = ?, event_type = ?, event_id = ?, occurred_at = ?"
    " WHERE tenant = ? AND aggregate_type = ? AND aggregate_id = ? RETURNING key"
)
INSERT_AGGREGATE: Final = (
    "INSERT INTO webhookd_aggregates (sequence, event_type, event_id, occurred_at, tenant,"
    " aggregate_type, aggregate_id) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING key"
)
INSERT_DELIVERY: Final = (
    "INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name,"
    " number, order_key, state, reason, attempts, tries, last_error, due_at, next_attempt_at,"
    " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', '', 0, 0, '', ?, ?, ?)"
)
IN_LINE: Final = (
    "SELECT 1 FROM webhookd_deliveries INDEXED BY webhookd_deliveries_line"
    " WHERE subscription = ? AND order_key = ? AND state = 'pending' AND order_key <> 0 LIMIT 1"
)
INSERT_REJECTED: Final = (
    "INSERT OR REPLACE INTO webhookd_rejected (outbox_id, reason, detail, event_type, rejected_at)"
    " VALUES (?, ?, ?, ?, ?)"
)
ADD_OWED: Final = (
    "UPDATE webhookd_counters SET numbers = numbers + ?1, pending = pending + ?1"
    " WHERE subscription = ?2"
)

WHOLE_SUBSCRIPTION: Final = -1
"""The order key of deliveries that stand in one line a subscription."""
NO_LINE: Final = 0
"""The order key of deliveries that wait for nothing."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """What ingest needs to know of a subscription."""

    name: str
    ordering: Ordering


@dataclass(frozen=True, slots=True)
class Terms:
    """By what rules rows are judged and matched; made anew whenever subscriptions change."""

    matcher: Matcher
    recipients: dict[SubscriptionKey, Recipient]
    default_tenant: str
    max_payload: int


@dataclass(slots=True)
class _Batch:
    """What one transaction gathers before it writes the sums down."""

    file: FileRow
    now: int
    now_text: str
    events: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    guessed: list[int] = field(default_factory=list)
    owed: Counter[SubscriptionKey] = field(default_factory=Counter)
    numbers: dict[SubscriptionKey, int] = field(default_factory=dict)
    ready: set[SubscriptionKey] = field(default_factory=set)


def order_key(ordering: Ordering, aggregate: int) -> int:
    """The line that a delivery stands in, by the ordering and its aggregate's key."""
    if ordering is Ordering.SUBSCRIPTION:
        return WHOLE_SUBSCRIPTION
    return aggregate if ordering is Ordering.AGGREGATE else NO_LINE


def take(
    connection: Connection,
    file: FileRow,
    terms: Terms,
    raw: list[rows.RawRow | rows.Rejection],
    now: int,
) -> tuple[FileRow, Ingested, int]:
    """Make events of `raw` (ascending ids), or rejected rows, inside the caller's transaction.

    Stops after the row that reaches `DELIVERIES_A_BATCH`.

    Returns:
        The file's row with its counters moved (the caller writes it back), what was done, and
        how many of the rows were taken.
    """
    batch = _Batch(file, now, to_text(now))
    sequence, taken = file.sequence, 0
    for row in raw:
        taken += 1
        draft: rows.Draft | rows.Rejection
        if isinstance(row, rows.Rejection):
            draft = row
        else:
            draft = rows.judge(
                row,
                file_uuid=file.uuid,
                default_tenant=terms.default_tenant,
                max_payload=terms.max_payload,
                now=now,
            )
        if isinstance(draft, rows.Draft):
            draft = _not_seen_before(connection, draft)
        if isinstance(draft, rows.Rejection):
            _reject(connection, batch, draft)
            continue
        sequence = _insert(connection, batch, terms, draft, sequence)
        if batch.owed.total() >= DELIVERIES_A_BATCH:
            break
    for first, last in ranges.runs(row.outbox_id for row in raw[:taken]):
        ranges.add(connection, first, last)
    for key, count in batch.owed.items():
        connection.execute(ADD_OWED, (count, key))
    after = replace(file, sequence=sequence, rejected=file.rejected + len(batch.rejected))
    done = Ingested(
        events=batch.events,
        deliveries=batch.owed.total(),
        rejected=tuple(batch.rejected),
        guessed_times=tuple(batch.guessed),
        ready=frozenset(batch.ready),
        more=taken < len(raw),
    )
    return after, done, taken


def _not_seen_before(connection: Connection, draft: rows.Draft) -> rows.Draft | rows.Rejection:
    found = connection.execute(FIND_EVENT, (draft.event_id,)).fetchone()
    return draft if found is None else rows.duplicate(draft)


def _reject(connection: Connection, batch: _Batch, rejection: rows.Rejection) -> None:
    connection.execute(
        INSERT_REJECTED,
        (
            rejection.outbox_id,
            rejection.reason,
            rejection.detail,
            rejection.shown_type,
            batch.now_text,
        ),
    )
    batch.rejected.append(RejectedRow(rejection.outbox_id, rejection.reason, rejection.detail))


def _insert(
    connection: Connection, batch: _Batch, terms: Terms, draft: rows.Draft, sequence: int
) -> int:
    """Write one event and the deliveries that it owes; returns the counter after them."""
    sequence += 1
    place = sequence
    aggregate = 0
    if draft.aggregate_id:
        change = (
            place,
            draft.event_type,
            draft.event_id,
            draft.occurred_at,
            draft.tenant,
            draft.aggregate_type,
            draft.aggregate_id,
        )
        found = connection.execute(MOVE_AGGREGATE, change).fetchone()
        aggregate = (found or connection.execute(INSERT_AGGREGATE, change).fetchone())[0]
    connection.execute(
        INSERT_EVENT,
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
            batch.now_text,
        ),
    )
    batch.events += 1
    if draft.occurred_at_guessed:
        batch.guessed.append(draft.outbox_id)
    for key in terms.matcher.match(draft.event_type, draft.aggregate_type, draft.tenant):
        sequence += 1
        recipient = terms.recipients[key]
        line = order_key(recipient.ordering, aggregate)
        waits = line != NO_LINE and connection.execute(IN_LINE, (key, line)).fetchone() is not None
        due = None if waits else batch.now_text
        connection.execute(
            INSERT_DELIVERY,
            (
                sequence,
                sequence,
                place,
                key,
                recipient.name,
                _next_number(connection, batch, key),
                line,
                due,
                due,
                batch.now_text,
            ),
        )
        batch.owed[key] += 1
        if not waits:
            batch.ready.add(key)
    return sequence


def _next_number(connection: Connection, batch: _Batch, key: SubscriptionKey) -> int:
    number = batch.numbers.get(key)
    if number is None:
        number = connection.execute(
            "SELECT numbers FROM webhookd_counters WHERE subscription = ?", (key,)
        ).fetchone()[0]
    batch.numbers[key] = number + 1
    return number + 1
