"""What operators ask of deliveries and events, and what they may do to a delivery."""

from dataclasses import dataclass
from typing import Any, Final

from webhookd.core.delivery import Happening, IllegalTransition, Move, Standing
from webhookd.core.model import DeliveryId, DeliveryState, Event, Millis, Reason
from webhookd.core.profiles import Known
from webhookd.core.storage import StoredSubscription
from webhookd.core.times import to_text
from webhookd.errors import NotFound, Refused
from webhookd.store import aggregates, keys, queue, subscriptions
from webhookd.store.book import Book, Row
from webhookd.store.driver import Connection
from webhookd.store.erased import IS_ERASED, sends_payload
from webhookd.store.transaction import BULK_ROWS, Transaction

LONGEST_SEQUENCE: Final = 18
"""Digits of a sequence that a person may ask for: SQLite's integers hold each of that length."""

LATEST_EVENTS: Final = 1_000
"""Events whose types stand for all that the host sends: no index knows them all."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries (or events) a listing shows; None (or 0) means any."""

    state: DeliveryState | None = None
    subscription: str | None = None
    event: str | None = None
    event_type: str | None = None
    aggregate_id: str | None = None
    tenant: str | None = None
    since: Millis | None = None
    until: Millis | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Owed:
    """All that goes into a delivery's request."""

    event: Event
    subscription: StoredSubscription
    number: int
    """Its own consecutive number within its subscription."""
    attempts: int
    """Made so far."""


def list_deliveries(connection: Connection, wanted: Filter) -> list[dict[str, Any]]:
    """Deliveries as `webhook_results` shows them, newest first."""
    conditions = {
        "state = ?": wanted.state,
        "event_id = ?": wanted.event,
        "event_type = ?": wanted.event_type,
        "tenant = ?": wanted.tenant,
        "created_at >= ?": wanted.since and to_text(wanted.since),
        "created_at < ?": wanted.until and to_text(wanted.until),
    }
    where, values = _where(conditions)
    if wanted.subscription is not None:
        where += " AND (subscription_id = ? OR subscription_name = ?)"
        values += [wanted.subscription, wanted.subscription]
    if wanted.aggregate_id is not None:
        events = aggregates.events_of(connection, wanted.aggregate_id)
        where += (
            " AND delivery_id IN (SELECT o.id FROM webhookd_deliveries AS o"
            f" INDEXED BY webhookd_deliveries_event WHERE o.event IN ({events}))"
        )
    return _rows(
        connection,
        f"SELECT * FROM webhook_results WHERE 1{where} ORDER BY delivery_id DESC LIMIT ?",
        [*values, wanted.limit],
    )


def check_known(connection: Connection, wanted: Filter) -> None:
    """Pass if there is, or was, the subscription and there is the event that `wanted` names.

    Raises:
        NotFound: there never was; an empty listing would pass for an answer.
    """
    named = wanted.subscription
    if (
        named is not None
        and not _any(connection, "webhookd_subscriptions WHERE id = ?1 OR name = ?1", named)
        and not _any(connection, "webhook_results WHERE subscription_name = ?1", named)
    ):
        raise NotFound(f"no subscription {named!r}; `webhookd subscriptions list` shows them all")
    if wanted.event is not None and not _any(
        connection, "webhookd_events WHERE event_id = ?1", wanted.event
    ):
        raise NotFound(f"no event {wanted.event!r}; `webhookd events list` shows the newest")


def latest_types(connection: Connection) -> list[tuple[str, str]]:
    """The event and aggregate types of the host's latest events, each pair once."""
    rows = connection.execute(
        "SELECT event_type, aggregate_type FROM webhookd_events ORDER BY sequence DESC LIMIT ?",
        (LATEST_EVENTS,),
    ).fetchall()
    return list(dict.fromkeys((row[0], row[1]) for row in rows))


def read_owed(connection: Connection, delivery: int) -> Owed:
    """A delivery as its next attempt would send it.

    Raises:
        NotFound: there is none.
        Refused: its subscription was removed, and its secrets with it.
    """
    row = connection.execute(
        "SELECT d.event, d.number, d.attempts, s.id, s.removed_at FROM webhookd_deliveries AS d"
        " JOIN webhookd_subscriptions AS s ON s.key = d.subscription WHERE d.id = ?",
        (delivery,),
    ).fetchone()
    event = None if row is None else queue.event(connection, row[0])
    if event is None:
        raise NotFound(f"no delivery {delivery}; `webhookd deliveries list` shows the newest")
    if row[4] is not None:
        raise Refused(
            f"delivery {delivery}: its subscription was removed, and its secrets with it; "
            "no request can be signed any more"
        )
    return Owed(event, subscriptions.find(connection, row[3]), number=row[1], attempts=row[2])


def _any(connection: Connection, what: str, value: str) -> bool:
    found = connection.execute(f"SELECT EXISTS (SELECT 1 FROM {what})", (value,)).fetchone()
    return bool(found[0])


def show_delivery(connection: Connection, delivery: int) -> dict[str, Any]:
    """One delivery with all its attempts, oldest first. Raises NotFound."""
    found = _rows(connection, "SELECT * FROM webhook_results WHERE delivery_id = ?", [delivery])
    if not found:
        raise NotFound(f"no delivery {delivery}; `webhookd deliveries list` shows the newest")
    extra = _rows(
        connection,
        "SELECT number, due_at, failing_since, passed_at FROM webhookd_deliveries WHERE id = ?",
        [delivery],
    )[0]
    return {**found[0], **extra, "attempts_made": attempts_of(connection, delivery)}


def attempts_of(connection: Connection, delivery: int) -> list[dict[str, Any]]:
    """Every attempt of a delivery, oldest first."""
    attempts = _rows(
        connection,
        "SELECT number, started_at, duration_ms, status, nullif(error_class, '') AS error_class,"
        " nullif(error, '') AS error, nullif(note, '') AS note, excerpt FROM webhookd_attempts"
        " WHERE delivery = ? ORDER BY number",
        [delivery],
    )
    for attempt in attempts:
        attempt["excerpt"] = attempt["excerpt"].decode("utf-8", "replace") or None
    return attempts


def list_events(connection: Connection, wanted: Filter) -> list[dict[str, Any]]:
    """Events as `webhook_events` shows them, newest first."""
    conditions: dict[str, Any] = {
        "tenant = ?": wanted.tenant,
        "ingested_at >= ?": wanted.since and to_text(wanted.since),
        "ingested_at < ?": wanted.until and to_text(wanted.until),
    }
    if wanted.event_type is None or "*" not in wanted.event_type:
        conditions["event_type = ?"] = wanted.event_type
    where, values = _where(conditions)
    if wanted.event_type is not None and "*" in wanted.event_type:
        where += " AND (event_type GLOB ? OR aggregate_type || '.' || event_type GLOB ?)"
        values += [_as_glob(wanted.event_type)] * 2
    if wanted.aggregate_id is not None:
        where += f" AND sequence IN ({aggregates.events_of(connection, wanted.aggregate_id)})"
    return _rows(
        connection,
        f"SELECT * FROM webhook_events WHERE 1{where} ORDER BY sequence DESC LIMIT ?",
        [*values, wanted.limit],
    )


def _as_glob(pattern: str) -> str:
    """A pattern of event types as SQLite's GLOB has it, where `*` stands for none as well."""
    if pattern == "*":
        return pattern
    escaped = pattern.replace("[", "[[]").replace("?", "[?]")
    return escaped.replace("*", "?*")


def list_rejected(connection: Connection, wanted: Filter) -> list[dict[str, Any]]:
    """Outbox rows that could not become events, newest id first.

    `outbox_key` is the host's own, where `outbox_id` is a number that webhookd gave.
    """
    where, values = _where(
        {
            "rejected_at >= ?": wanted.since and to_text(wanted.since),
            "rejected_at < ?": wanted.until and to_text(wanted.until),
        }
    )
    found = _rows(
        connection,
        "SELECT outbox_id, NULL AS outbox_key, reason, detail,"
        " nullif(event_type, '') AS event_type, rejected_at"
        f" FROM webhookd_rejected WHERE 1{where} ORDER BY outbox_id DESC LIMIT ?",
        [*values, wanted.limit],
    )
    named = keys.named(connection, [row["outbox_id"] for row in found])
    return [row | {"outbox_key": named.get(row["outbox_id"])} for row in found]


def show_event(connection: Connection, event: str) -> dict[str, Any]:
    """One event, by its event id or its sequence, with its payload and deliveries.

    Raises:
        NotFound: there is none.
    """
    found = _rows(
        connection,
        "SELECT v.*, e.payload AS payload, e.time_guessed AS time_guessed"
        " FROM webhookd_events AS e JOIN webhook_events AS v ON v.sequence = e.sequence"
        " WHERE e.event_id = ?",
        [event],
    )
    if not found and event.isdecimal() and len(event) <= LONGEST_SEQUENCE:
        found = _rows(
            connection,
            "SELECT v.*, e.payload AS payload, e.time_guessed AS time_guessed"
            " FROM webhookd_events AS e JOIN webhook_events AS v ON v.sequence = e.sequence"
            " WHERE e.sequence = ?",
            [int(event)],
        )
    if not found:
        raise NotFound(f"no event {event!r}; `webhookd events list` shows the newest")
    shown = found[0]
    payload = shown["payload"]
    shown["erased"] = payload == b""
    shown["payload"] = payload.decode("utf-8") if payload else None
    shown["time_guessed"] = bool(shown["time_guessed"])
    shown["deliveries"] = _rows(
        connection,
        "SELECT r.delivery_id, r.subscription_id, r.subscription_name, r.state, r.reason,"
        " r.attempts, r.last_status, r.last_error, r.next_attempt_at, r.finished_at"
        " FROM webhookd_deliveries AS d JOIN webhook_results AS r ON r.delivery_id = d.id"
        " WHERE d.event = ? ORDER BY d.id",
        [shown["sequence"]],
    )
    return shown


def standing(transaction: Transaction, delivery: int, now: Millis) -> Standing:
    """How a delivery stands within this transaction. Raises NotFound."""
    with transaction.book(now) as book:
        return _read(book, delivery).standing


ERASED_FOR: Final = (
    "SELECT s.profile FROM webhookd_deliveries AS d"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " CROSS JOIN webhookd_subscriptions AS s ON s.key = d.subscription"
    f" WHERE d.id = ? AND {IS_ERASED}"
)


def unsendable(connection: Connection, known: Known, delivery: int) -> str:
    """Why nothing is left of it to send, ever; `''` where there is, or nobody can tell.

    Its event was erased, and its profile sends the payload.
    """
    row = connection.execute(ERASED_FOR, (delivery,)).fetchone()
    if row is None or not sends_payload(known, row[0]):
        return ""
    return f"its event was erased, and profile {row[0]} sends what the event said"


def delivered_at(one: Standing) -> str | None:
    """When it was delivered; None while it is not."""
    if one.state is not DeliveryState.DELIVERED or one.finished_at is None:
        return None
    return to_text(one.finished_at)


def retry(
    transaction: Transaction, delivery: int, now: Millis, *, delivered: bool = True
) -> Standing:
    """Re-open a finished delivery, or make a pending one that waits for its next try due now.

    `delivered` says whether one that the receiver has already is meant too.

    Raises:
        NotFound: no such delivery.
        Refused: its subscription was removed, or it was delivered and that was not meant.
    """
    with transaction.book(now) as book:
        row = _read(book, delivery)
        removed = transaction.connection.execute(
            "SELECT removed_at FROM webhookd_subscriptions WHERE key = ?", (row.subscription,)
        ).fetchone()
        if removed is None or removed[0] is not None:
            raise Refused(f"delivery {delivery}: its subscription was removed; add a new one")
        already = delivered_at(row.standing)
        if already is not None and not delivered:
            raise Refused(
                f"delivery {delivery} was delivered already at {already}; say --delivered to send "
                "it again"
            )
        if row.standing.state is DeliveryState.PENDING:
            after = book.hasten(row)
        else:
            after = book.apply(row, Move(Happening.REOPENED, now))
    transaction.bump()
    return after


def cancel(transaction: Transaction, delivery: int, now: Millis) -> Standing:
    """Take a pending delivery back.

    Raises:
        NotFound: no such delivery.
        Refused: it is finished already.
    """
    with transaction.book(now) as book:
        row = _read(book, delivery)
        try:
            after = book.apply(row, Move(Happening.CANCELLED, now, reason=Reason.OPERATOR))
        except IllegalTransition:
            raise Refused(
                f"delivery {delivery} is {row.standing.state} already; only a pending one can be "
                "cancelled"
            ) from None
    transaction.bump()
    return after


def _read(book: Book, delivery: int) -> Row:
    row = book.read(DeliveryId(delivery))
    if row is None:
        raise NotFound(f"no delivery {delivery}; `webhookd deliveries list` shows the newest")
    return row


def cancel_removed(transaction: Transaction, now: Millis) -> int:
    """Cancel the next `BULK_ROWS` of what removed subscriptions were owed; returns how many."""
    return _cancel_pending(
        transaction,
        "SELECT s.key FROM webhookd_subscriptions AS s"
        " CROSS JOIN webhookd_counters AS c ON c.subscription = s.key"
        " WHERE s.removed_at IS NOT NULL AND c.pending > 0 LIMIT 1",
        Reason.SUBSCRIPTION_REMOVED,
        now,
    )


def cancel_all(transaction: Transaction, now: Millis) -> int:
    """Cancel the next `BULK_ROWS` of all that is owed to anyone; returns how many."""
    return _cancel_pending(
        transaction,
        "SELECT subscription FROM webhookd_counters WHERE pending > 0 LIMIT 1",
        Reason.OPERATOR,
        now,
    )


def _cancel_pending(transaction: Transaction, which: str, reason: Reason, now: Millis) -> int:
    connection = transaction.connection
    subscription = connection.execute(which).fetchone()
    if subscription is None:
        return 0
    # The newest first: then no cancelled one has to make way for the next in its line.
    rows = connection.execute(
        "SELECT id FROM webhookd_deliveries INDEXED BY webhookd_deliveries_owed"
        " WHERE subscription = ? AND state = 'pending' ORDER BY id DESC LIMIT ?",
        (subscription[0], BULK_ROWS),
    ).fetchall()
    with transaction.book(now) as book:
        for (delivery,) in rows:
            row = book.read(delivery)
            if row is not None:
                book.apply(row, Move(Happening.CANCELLED, now, reason=reason))
    return len(rows)


def _where(conditions: dict[str, Any]) -> tuple[str, list[Any]]:
    wanted = {text: value for text, value in conditions.items() if value is not None}
    return "".join(f" AND {text}" for text in wanted), list(wanted.values())


def _rows(connection: Connection, sql: str, values: list[Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
