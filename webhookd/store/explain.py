"""Where an event is: whom it was for, whom not and why, and what became of each delivery.

Everything is read in one short snapshot, so that what is said of a delivery fits what is said of
the one that it waits for.
"""

import json
import shlex
from dataclasses import dataclass, replace
from typing import Any, Final

from webhookd.core import rows
from webhookd.core.explaining import Asked, Happened, Judgement, judge
from webhookd.core.holding import Daemon
from webhookd.core.model import DeliveryState, Millis, Reason
from webhookd.core.profiles import Known
from webhookd.core.structure import Validation
from webhookd.core.times import format_duration
from webhookd.errors import NotFound
from webhookd.store import aggregates, deliveries, keys, lockfile, sources, waiting
from webhookd.store import file as files
from webhookd.store.ages import PRUNED
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.outbox import Outbox
from webhookd.store.transaction import Session, snapshot
from webhookd.store.waiting import rows_of

EVENT: Final = (
    "SELECT sequence, event_type, aggregate_type, tenant, ingested_at FROM webhookd_events"
    " WHERE event_id = ?"
)
EVENT_AT: Final = (
    "SELECT sequence, event_type, aggregate_type, tenant, ingested_at FROM webhookd_events"
    " WHERE sequence = ?"
)
SHOWN_EVENT: Final = "SELECT * FROM webhook_events WHERE sequence = ?"
OWED: Final = (
    "SELECT subscription, id AS delivery_id, number, order_key, state,"
    " nullif(reason, '') AS reason, attempts, last_status, nullif(last_error, '') AS last_error,"
    " due_at, passed_at, created_at, first_attempt_at, finished_at, since"
    " FROM webhookd_deliveries WHERE event = ?"
)
SUPERSEDER: Final = (
    "SELECT n.id FROM webhookd_deliveries AS d"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " CROSS JOIN webhookd_events AS f INDEXED BY webhookd_events_aggregate"
    " CROSS JOIN webhookd_deliveries AS n ON n.event = f.sequence"
    " AND n.subscription = d.subscription"
    " WHERE d.id = ? AND e.aggregate <> 0 AND f.aggregate = e.aggregate AND f.aggregate <> 0"
    " AND f.sequence > e.sequence AND f.event_type = e.event_type AND f.payload IS NULL"
    " ORDER BY f.sequence LIMIT 1"
)
"""The next ID-only one of its kind, which took its place (or was superseded in its turn)."""
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

NEWEST_NAMED: Final = 3
"""Events of an aggregate that are named to whoever asked for it as if it were an event."""
ONE_OWED: Final = f"{OWED} AND id = ?"
OF_DELIVERY: Final = "SELECT event, subscription FROM webhookd_deliveries WHERE id = ?"
_INNER: Final = frozenset({"subscription", "order_key", "since"})
"""Of `OWED`, what is shown to nobody."""
_SURROUNDINGS: Final = (
    "behind_delivery",
    "expires_at",
    "max_age",
    "superseded_by",
    "unsendable",
    "waits_for",
)
"""Of a delivery, what it does not know itself."""


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
    with session.read() as connection, snapshot(connection):
        found = connection.execute(EVENT, (wanted,)).fetchone()
        is_number = wanted.isdecimal() and len(wanted) <= deliveries.LONGEST_SEQUENCE
        if found is None and is_number:
            found = connection.execute(EVENT_AT, (int(wanted),)).fetchone()
        if found is None:
            hint = f"; `--outbox-id {wanted}` asks by the outbox's own id" if is_number else ""
            if sources.read(connection).kind == "ledger":  # nobody knows a row by its number
                hint = f"; `--outbox-key {shlex.quote(wanted)}` asks by the host's own key"
            newest = aggregates.newest_events(connection, wanted, NEWEST_NAMED)
            if newest:
                named = ", ".join(newest)
                raise NotFound(
                    f"no event {wanted!r}, but an aggregate with that id; its newest events: "
                    f"{named}; `webhookd events list --aggregate-id {wanted}` has all"
                )
            raise NotFound(f"no event {wanted!r}; `webhookd events list` shows the newest{hint}")
        daemon = lockfile.look(session.path)
        return _explained(connection, session.profiles, found, daemon, now)


def outbox_row(session: Session, number: int, rules: Rules, now: Millis) -> dict[str, Any]:
    """What became of an outbox row.

    `standing` is `event` (then `event` is what `event()` gives), `rejected`, `waiting` (not taken
    in yet) or `done_with` (passed over at the beginning, or rejected and forgotten).

    Raises:
        NotFound: there is no such row, and none was ever taken in.
        OutboxUnreadable: the outbox is not as it was agreed.
    """
    daemon = lockfile.look(session.path)
    with session.read() as connection, snapshot(connection):
        return _outbox_row(session, connection, number, rules, daemon, now)


def keyed_row(session: Session, key: str, rules: Rules, now: Millis) -> dict[str, Any]:
    """The same by the host's own key; `outbox_id` is None of a row that has no number yet.

    Raises:
        NotFound: no such key has been seen, and the host's table has none.
        OutboxUnreadable: as `outbox_row`.
    """
    daemon = lockfile.look(session.path)
    with session.read() as connection, snapshot(connection):
        try:
            number = keys.find(connection, key)
        except NotFound:
            if sources.read(connection).kind != "ledger":
                raise
            file, outbox = _outbox(session, connection, rules)
            outbox.probe(connection)
            found = keys.unnumbered(connection, outbox, rules.max_payload, key)
            if found is None:
                raise
        else:
            return _outbox_row(session, connection, number, rules, daemon, now)
        raw, shown = found
        said = _standing(daemon, number=None, key=shown, in_outbox=True, below_cursor=False)
        judged = _judged(raw, file.uuid, rules, now)
        return said | {
            "standing": "waiting",
            "would_be_rejected": _wrong(connection, judged, rules),
        }


def _outbox(session: Session, connection: Connection, rules: Rules) -> tuple[FileRow, Outbox]:
    file = files.reread(connection, session.path)
    sources.check(connection, session.path, file, session.columns)
    outbox = sources.open_outbox(connection, session.path, file, session.columns, rules.max_payload)
    return file, outbox


def _outbox_row(
    session: Session,
    connection: Connection,
    number: int,
    rules: Rules,
    daemon: Daemon,
    now: Millis,
) -> dict[str, Any]:
    file, outbox = _outbox(session, connection, rules)
    outbox.end(connection, file.cursor)
    raw, _ = outbox.batch(connection, number, number)
    rejected = rows_of(connection, REJECTED, number)
    said = _standing(
        daemon,
        number=number,
        key=keys.shown(connection, number),
        in_outbox=bool(raw),
        below_cursor=number <= file.cursor,
    )
    judged = _judged(raw[0], file.uuid, rules, now) if raw else None
    if not rejected and _is_done_with(connection, number):
        event_id = judged.event_id if isinstance(judged, rows.Draft) else ""
        sequence = _sequence_of(connection, number, event_id)
        if sequence is None:
            return said | {"standing": "done_with"}
        found = connection.execute(EVENT_AT, (sequence,)).fetchone()
        explained = _explained(connection, session.profiles, found, daemon, now)
        return said | {"standing": "event", "event": explained}
    if not rejected and judged is None:
        raise NotFound(f"no outbox row {number}; `webhookd events list` shows the newest")
    return said | {
        "standing": "rejected" if rejected else "waiting",
        "rejected": rejected[0] if rejected else None,
        "would_be_rejected": None if judged is None else _wrong(connection, judged, rules),
    }


def _standing(
    daemon: Daemon, *, number: int | None, key: str | None, in_outbox: bool, below_cursor: bool
) -> dict[str, Any]:
    """What is said of every outbox row, as long as nothing more is known of it."""
    return {
        "outbox_id": number,
        "outbox_key": key,
        "in_outbox": in_outbox,
        "below_cursor": below_cursor,
        "daemon_running": daemon.running,
        "rejected": None,
        "would_be_rejected": None,
        "event": None,
    }


def _wrong(
    connection: Connection, judged: rows.Draft | rows.Rejection, rules: Rules
) -> dict[str, str] | None:
    """Why a row would be rejected as it is now; None where it would not."""
    if isinstance(judged, rows.Draft):
        if connection.execute(FIND, (judged.event_id,)).fetchone():
            judged = rows.duplicate(judged)
        elif rules.validation is not None:
            judged = _validated(judged, rules.validation)
    if isinstance(judged, rows.Draft):
        return None
    return {"reason": judged.reason.value, "detail": judged.detail}


def _explained(
    connection: Connection, known: Known, found: tuple[Any, ...], daemon: Daemon, now: Millis
) -> dict[str, Any]:
    sequence = found[0]
    pruned = connection.execute(PRUNED).fetchone()[0] > sequence
    happened = replace(Happened(*found[1:]), pruned=pruned)
    owed = {one["subscription"]: one for one in rows_of(connection, OWED, sequence)}
    subscriptions = []
    for one in waiting.everything(connection, known, now):
        delivery = owed.get(one["key"])
        if one["removed_at"] is not None and delivery is None:
            continue
        asked = Asked(tuple(json.loads(one["events"])), one["tenant"], one["created_at"])
        judged = judge(happened, asked, owed=delivery is not None)
        said = _subscription(one, asked, judged)
        if delivery is not None:
            said["delivery"] = _delivery(connection, known, one, delivery, daemon, now)
        subscriptions.append(said)
    return {
        **rows_of(connection, SHOWN_EVENT, sequence)[0],
        "daemon_running": daemon.running,
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
    connection: Connection,
    known: Known,
    one: dict[str, Any],
    row: dict[str, Any],
    daemon: Daemon,
    now: Millis,
) -> dict[str, Any]:
    head, found = waiting.waits(connection, one, row, daemon=daemon, now=now)
    shown = {name: value for name, value in row.items() if name not in _INNER}
    expires = superseder = None
    if row["state"] == DeliveryState.PENDING and row["since"] is not None:
        expires = waiting.expires_at(row["since"], one["max_age"])
    if row["reason"] == Reason.COALESCED:
        superseder = connection.execute(SUPERSEDER, (row["delivery_id"],)).fetchone()
    return shown | {
        "behind_delivery": None if head is None else head.id,
        "expires_at": expires,
        "max_age": format_duration(one["max_age"]) if one["max_age"] else None,
        "superseded_by": None if superseder is None else superseder[0],
        "unsendable": deliveries.unsendable(connection, known, row["delivery_id"]) or None,
        "waits_for": [{"cause": wait.cause.value, "text": wait.text} for wait in found],
        "attempts_made": deliveries.attempts_of(connection, row["delivery_id"]),
    }


def delivery(session: Session, number: int, now: Millis) -> dict[str, Any]:
    """One delivery: as `webhook_results` has it, with all its attempts and all that it waits for.

    Raises:
        NotFound: there is none.
    """
    daemon = lockfile.look(session.path)
    with session.read() as connection, snapshot(connection):
        found = deliveries.show_delivery(connection, number)
        event, key = connection.execute(OF_DELIVERY, (number,)).fetchone()
        (row,) = rows_of(connection, ONE_OWED, event, number)
        one = waiting.one(connection, session.profiles, key, now)
        happened = rows_of(connection, SHOWN_EVENT, event)[0]
        told = _delivery(connection, session.profiles, one, row, daemon, now)
        coming = waiting.upcoming(connection, session.profiles, (number,), daemon=daemon, now=now)
    return {
        **{name: value for name, value in found.items() if name != "attempts_made"},
        "occurred_at": happened["occurred_at"],
        "subscription_state": one["state"] if one["removed_at"] is None else "removed",
        "next_attempt": coming.get(number),
        **{name: told[name] for name in _SURROUNDINGS},
        "attempts_made": found["attempts_made"],
    }


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
