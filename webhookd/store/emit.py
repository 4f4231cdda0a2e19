"""One row for webhookd's own outbox, as a host would insert it; judged before, not after."""

from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis
from webhookd.core.rows import Draft, RawRow, Rejection, judge, mismatch
from webhookd.core.structure import Validation
from webhookd.errors import Refused, UsageError
from webhookd.store.host_table import quoted
from webhookd.store.outbox import told_of_refusal
from webhookd.store.transaction import Transaction

_COLUMNS: Final = (
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "tenant",
    "payload",
    "occurred_at",
    "event_id",
)


@dataclass(frozen=True, slots=True)
class NewRow:
    """What is to be inserted; `''` (and None for the payload) for what the row goes without."""

    event_type: str
    aggregate_type: str = ""
    aggregate_id: str = ""
    tenant: str = ""
    payload: str | None = None
    occurred_at: str = ""
    event_id: str = ""


def emit(
    transaction: Transaction,
    row: NewRow,
    *,
    default_tenant: str,
    max_payload: int,
    now: Millis,
    validation: Validation | None = None,
) -> int:
    """Insert a row into the outbox; returns its id.

    Raises:
        Refused: the outbox is the host's own table, or the event id was seen before.
        UsageError: ingest would reject the row.
        OutboxUnreadable: the outbox is gone, or not as it was made, or takes no row.
    """
    file = transaction.file
    if not file.outbox_ours:
        raise Refused(
            f"{file.outbox_table}: is the host's own table, so webhookd writes nothing into it; "
            "insert the row with the host's program"
        )
    draft = _judge(row, file.uuid, default_tenant, max_payload, now)
    if validation is not None and validation.rejects:
        fault = validation.fault(draft.event_type, draft.aggregate_type, draft.payload)
        if fault:
            raise UsageError(f"{mismatch(draft, fault).detail}; nothing was inserted")
    seen = (
        row.event_id
        and transaction.connection.execute(
            "SELECT outbox_id FROM webhookd_events WHERE event_id = ?", (row.event_id,)
        ).fetchone()
    )
    if seen:
        raise Refused(
            f"event_id {row.event_id} is that of outbox row {seen[0]} already; choose another"
        )
    values = [getattr(row, column) for column in _COLUMNS]
    remedy = "take away what is in the way; `webhookd init` makes a table that is gone"
    with told_of_refusal(f"{file.outbox_table}: takes no row", remedy):
        inserted = transaction.connection.execute(
            f"INSERT INTO {quoted(file.outbox_table)} ({', '.join(_COLUMNS)})"
            f" VALUES ({', '.join('?' * len(_COLUMNS))})",
            [
                value if value != "" or column == "payload" else None
                for column, value in zip(_COLUMNS, values, strict=True)
            ],
        ).lastrowid
    if inserted is None:
        raise RuntimeError("an INSERT into a table with an integer key gave no id")
    return inserted


def _bytes(text: str) -> bytes:
    """What an argument of bad UTF-8 brought along goes through as such, to be refused in words."""
    return text.encode("utf-8", "surrogatepass")


def _judge(row: NewRow, uuid: str, default_tenant: str, max_payload: int, now: Millis) -> Draft:
    payload = None if row.payload is None else _bytes(row.payload)
    raw = RawRow(
        0,
        _bytes(row.event_type),
        _bytes(row.aggregate_type),
        _bytes(row.aggregate_id),
        _bytes(row.tenant),
        payload,
        _bytes(row.occurred_at),
        _bytes(row.event_id),
        0 if payload is None else len(payload),
    )
    judged = judge(
        raw, file_uuid=uuid, default_tenant=default_tenant, max_payload=max_payload, now=now
    )
    if isinstance(judged, Rejection):
        raise UsageError(f"{judged.detail}; nothing was inserted")
    if judged.occurred_at_guessed:
        raise UsageError(
            "occurred_at is no moment in ISO 8601, like 2026-01-31T12:00:00Z; nothing was inserted"
        )
    return judged
