"""Where an event is: whom it was for, whom not and why, and what became of each delivery.

Everything is read in one short snapshot, so that what is said of a delivery fits what is said of
the one that it waits for.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from webhookd.core import rows
from webhookd.core.explaining import Asked, Happened, Head, Judgement, Line, Waiting, judge, waits
from webhookd.core.model import DeliveryState, Millis, SubscriptionState
from webhookd.core.structure import Validation
from webhookd.errors import NotFound
from webhookd.store import book, deliveries, lockfile
from webhookd.store import file as files
from webhookd.store.driver import Connection
from webhookd.store.outbox import Outbox
from webhookd.store.recipients import WHOLE_SUBSCRIPTION
from webhookd.store.transaction import Session

EVENT: Final = (
    "SELECT sequence, event_type, aggregate_type, tenant, ingested_at FROM webhookd_events"
    " WHERE event_id = ?"
)
EVENT_AT: Final = (
    "SELECT sequence, event_type, aggregate_type, tenant, ingested_at FROM webhookd_events"
    " WHERE sequence = ?"
)
SHOWN_EVENT: Final = "SELECT * FROM webhook_events WHERE sequence = ?"
SUBSCRIPTIONS: Final = (
    "SELECT s.key, s.id, s.name, s.events, s.tenant, s.state, s.state_reason, s.created_at,"
    " s.removed_at, c.failing_since, c.held_until, EXISTS (SELECT 1 FROM webhookd_instructions AS i"
    " WHERE i.subscription = s.key AND i.done_at IS NULL) AS instructed"
    " FROM webhookd_subscriptions AS s"
    " CROSS JOIN webhookd_counters AS c ON c.subscription = s.key ORDER BY s.key"
)
OWED: Final = (
    "SELECT subscription, id AS delivery_id, number, order_key, state,"
    " nullif(reason, '') AS reason, attempts, last_status, nullif(last_error, '') AS last_error,"
    " due_at, passed_at, created_at, first_attempt_at, finished_at"
    " FROM webhookd_deliveries WHERE event = ?"
)
HEAD: Final = "SELECT attempts, last_error, due_at FROM webhookd_deliveries WHERE id = ?"
REJECTED: Final = (
    "SELECT reason, detail, nullif(event_type, '') AS event_type, rejected_at"
    " FROM webhookd_rejected WHERE outbox_id = ?"
)
RANGE: Final = "SELECT last FROM webhookd_ranges WHERE first <= ? ORDER BY first DESC LIMIT 1"
FIND: Final = "SELECT sequence, outbox_id FROM webhookd_events WHERE event_id = ?"
ENDS: Final = (
    "SELECT (SELECT min(sequence) FROM webhookd_events),"
    " (SELECT max(sequence) FROM webhookd_events)"
)
HOSTS_FROM: Final = (
    "SELECT sequence, outbox_id FROM webhookd_events"
    " WHERE sequence >= ? AND substr(event_type, 1, 9) <> 'webhookd.' ORDER BY sequence LIMIT 1"
)

_INNER: Final = frozenset({"subscription", "order_key"})
"""Of `OWED`, what is shown to nobody."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How rows of the outbox are judged; as in ingest."""

    default_tenant: str
    max_payload: int
    validation: Validation | None = None


def event(session: Session, wanted: str, now: Millis) -> dict[str, Any]:
    """Everything about the event with that id or sequence, subscription by subscription.

    Raises:
        NotFound: there is none.
    """
    with _snapshot(session) as connection:
        found = connection.execute(EVENT, (wanted,)).fetchone()
        is_number = wanted.isdecimal() and len(wanted) <= deliveries.LONGEST_SEQUENCE
        if found is None and is_number:
            found = connection.execute(EVENT_AT, (int(wanted),)).fetchone()
        if found is None:
            hint = f"; `--outbox-id {wanted}` asks by the outbox's own id" if is_number else ""
            raise NotFound(f"no event {wanted!r}; `webhookd events list` shows the newest{hint}")
        return _explained(connection, found, lockfile.is_held(session.path), now)


def outbox_row(session: Session, number: int, rules: Rules, now: Millis) -> dict[str, Any]:
    """What became of an outbox row.

    `standing` is `event` (then `event` is what `event()` gives), `rejected`, `waiting` (not taken
    in yet) or `done_with` (passed over at the beginning, or its event is gone).

    Raises:
        NotFound: there is no such row, and none was ever taken in.
        OutboxUnreadable: the outbox is not as it was agreed.
    """
    running = lockfile.is_held(session.path)
    with _snapshot(session) as connection:
        file = files.reread(connection, session.path)
        outbox = Outbox(session.path, file.outbox_table, rules.max_payload)
        outbox.end(connection, file.cursor)
        raw, _ = outbox.batch(connection, number, number)
        rejected = _rows(connection, REJECTED, number)
        said = {
            "outbox_id": number,
            "in_outbox": bool(raw),
            "below_cursor": number <= file.cursor,
            "daemon_running": running,
            "rejected": rejected[0] if rejected else None,
            "would_be_rejected": None,
            "event": None,
        }
        judged = _judged(raw[0], file.uuid, rules, now) if raw else None
        if not rejected and _is_done_with(connection, number):
            event_id = judged.event_id if isinstance(judged, rows.Draft) else ""
            sequence = _sequence_of(connection, number, event_id)
            if sequence is None:
                return said | {"standing": "done_with"}
            found = connection.execute(EVENT_AT, (sequence,)).fetchone()
            explained = _explained(connection, found, running, now)
            return said | {"standing": "event", "event": explained}
        if not rejected and judged is None:
            raise NotFound(f"no outbox row {number}; `webhookd events list` shows the newest")
        if (
            isinstance(judged, rows.Draft)
            and connection.execute(FIND, (judged.event_id,)).fetchone()
        ):
            judged = rows.duplicate(judged)
        elif isinstance(judged, rows.Draft) and rules.validation is not None:
            judged = _validated(judged, rules.validation)
        if isinstance(judged, rows.Rejection):
            said["would_be_rejected"] = {"reason": judged.reason.value, "detail": judged.detail}
        return said | {"standing": "rejected" if rejected else "waiting"}


def _explained(
    connection: Connection, found: tuple[Any, ...], running: bool, now: Millis
) -> dict[str, Any]:
    sequence, happened = found[0], Happened(*found[1:])
    owed = {one["subscription"]: one for one in _rows(connection, OWED, sequence)}
    subscriptions = []
    for one in _rows(connection, SUBSCRIPTIONS):
        delivery = owed.get(one["key"])
        if one["removed_at"] is not None and delivery is None:
            continue
        asked = Asked(tuple(json.loads(one["events"])), one["tenant"], one["created_at"])
        judged = judge(happened, asked, owed=delivery is not None)
        said = _subscription(one, asked, judged)
        if delivery is not None:
            said["delivery"] = _delivery(connection, one, delivery, running, now)
        subscriptions.append(said)
    return {
        **_rows(connection, SHOWN_EVENT, sequence)[0],
        "daemon_running": running,
        "subscriptions": subscriptions,
    }


def _subscription(one: dict[str, Any], asked: Asked, judged: Judgement) -> dict[str, Any]:
    return {
        "subscription_id": one["id"],
        "subscription_name": one["name"],
        "state": one["state"],
        "state_reason": one["state_reason"] or None,
        "tenant": asked.tenant or None,
        "events": list(asked.events),
        "created_at": asked.created_at,
        "removed_at": one["removed_at"],
        "matched": judged.matched,
        "why": judged.why.value,
        "why_text": judged.text,
        "delivery": None,
    }


def _delivery(
    connection: Connection, one: dict[str, Any], row: dict[str, Any], running: bool, now: Millis
) -> dict[str, Any]:
    head, waiting_for = None, []
    if row["state"] == DeliveryState.PENDING:
        head = _head(connection, row)
        waiting = Waiting(
            subscription=one["name"],
            state=SubscriptionState(one["state"]),
            state_reason=one["state_reason"],
            removed=one["removed_at"] is not None,
            instructed=bool(one["instructed"]),
            failing_since=one["failing_since"],
            held_until=one["held_until"],
            due_at=row["due_at"],
            head=head,
        )
        waiting_for = waits(waiting, running=running, now=now)
    shown = {name: value for name, value in row.items() if name not in _INNER}
    return shown | {
        "behind_delivery": None if head is None else head.id,
        "waits_for": [{"cause": wait.cause.value, "text": wait.text} for wait in waiting_for],
        "attempts_made": deliveries.attempts_of(connection, row["delivery_id"]),
    }


def _head(connection: Connection, row: dict[str, Any]) -> Head | None:
    """Who comes first in the line that a pending delivery waits in; None if it is first itself."""
    if row["due_at"] is not None or not row["order_key"]:
        return None
    line = (row["subscription"], row["order_key"])
    first = connection.execute(book.HEAD_OF_LINE, line).fetchone()[0]
    if first == row["delivery_id"]:
        return None
    attempts, error, due_at = connection.execute(HEAD, (first,)).fetchone()
    return Head(first, attempts, error, due_at, _line(row["order_key"]))


def _line(order_key: int) -> Line:
    if order_key == WHOLE_SUBSCRIPTION:
        return Line.SUBSCRIPTION
    return Line.AGGREGATE if order_key > 0 else Line.OWN


def _judged(
    raw: rows.RawRow | rows.Rejection, uuid: str, rules: Rules, now: Millis
) -> rows.Draft | rows.Rejection:
    if isinstance(raw, rows.Rejection):
        return raw
    return rows.judge(
        raw,
        file_uuid=uuid,
        default_tenant=rules.default_tenant,
        max_payload=rules.max_payload,
        now=now,
    )


def _validated(draft: rows.Draft, validation: Validation) -> rows.Draft | rows.Rejection:
    """As in ingest: a payload that is not as its type says counts only where it is rejected."""
    if not validation.rejects:
        return draft
    fault = validation.fault(draft.event_type, draft.aggregate_type, draft.payload)
    return rows.mismatch(draft, fault) if fault else draft


def _is_done_with(connection: Connection, number: int) -> bool:
    found = connection.execute(RANGE, (number,)).fetchone()
    return found is not None and found[0] >= number


def _sequence_of(connection: Connection, number: int, event_id: str) -> int | None:
    """The event that an outbox row became; no index leads there, and none is worth its price.

    The row itself leads to the event id, if it is still as it was. Else events are in the order of
    their rows, but for those that were taken in late: they are searched by halving.
    """
    found = connection.execute(FIND, (event_id,)).fetchone()
    if found is not None and found[1] == number:
        return int(found[0])
    low, high = connection.execute(ENDS).fetchone()
    while low is not None and low <= high:
        middle = (low + high) // 2
        found = connection.execute(HOSTS_FROM, (middle,)).fetchone()
        if found is not None and found[1] == number:
            return int(found[0])
        if found is not None and found[1] < number:
            low = found[0] + 1
        else:
            high = middle - 1
    return None


@contextlib.contextmanager
def _snapshot(session: Session) -> Iterator[Connection]:
    """The connection, seeing one state of the file throughout."""
    with session.read() as connection:
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")


def _rows(connection: Connection, sql: str, *values: object) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
