"""Where an outbox row becomes an event, or is rejected with a reason. Nothing in between, no raise.

The host's transaction is long committed when a row is judged, so a bad row is told of here and
nowhere sooner, and never stands in the way of the rows behind it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from webhookd.core import jsontext
from webhookd.core.model import Millis
from webhookd.core.text import printable, printable_bytes
from webhookd.core.times import parse_occurred_at, to_text

MAX_TEXT: Final = 512
"""Characters in an aggregate's type or id, or a tenant's name."""
MAX_TYPE: Final = 256
"""Characters in an event's type."""
MAX_DETAIL: Final = 300
MAX_SHOWN_TYPE: Final = 80
OWN_TYPES: Final = "webhookd."
"""How the types of webhookd's own events begin; no host's may."""

_EVENT_TYPE: Final = re.compile(rb"[!-~]{1,%d}" % MAX_TYPE)
_EVENT_ID: Final = re.compile(rb"[A-Za-z0-9_:-]{1,128}")
EMPTY_ID: Final = b"\0"
"""What a capture puts into `aggregate_id` for a row of the host's whose id is an empty text."""
_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")

_ID_DOMAIN: Final = b"webhookd event id 1\0"
"""Keeps these hashes apart from any other use of the same values, and names their version."""
_KEY_DOMAIN: Final = b"webhookd event id of a key 1\0"
_ID_HEAD: Final = Struct(">q7q")
_NO_PAYLOAD: Final = -1
_LAST_48_BITS: Final = (1 << 48) - 1
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class RawRow(NamedTuple):
    """One outbox row as SQLite gave it: text as bytes, numbers cast to text, NULL as None."""

    outbox_id: int
    event_type: bytes | None
    aggregate_type: bytes | None
    aggregate_id: bytes | None
    tenant: bytes | None
    payload: bytes | None
    """None for NULL, and for a payload over the limit, which is better not loaded at all."""
    occurred_at: bytes | None
    event_id: bytes | None
    payload_size: int
    """The payload's length in bytes as it is in the file, loaded or not; 0 for NULL."""
    key: bytes | None = None
    """What tells the row from others where `outbox_id` is a number that webhookd gave it."""


class Draft(NamedTuple):
    """An event but for its sequence: what ingest writes if its event id was not seen before."""

    outbox_id: int
    event_id: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    tenant: str
    payload: bytes | None
    occurred_at: str
    occurred_at_guessed: bool
    """The row had an `occurred_at` that is no moment: the time of ingest stands in its place.

    False where the row had none, for then the time of ingest is what the host asked for."""
    aggregate_type_made: bool = False
    """The row had no aggregate type: see `webhookd.core.model.Event`."""


class RejectionReason(StrEnum):
    """Why a row cannot become an event. A closed list: people filter by it."""

    BAD_EVENT_TYPE = "bad_event_type"
    BAD_EVENT_ID = "bad_event_id"
    DUPLICATE_EVENT_ID = "duplicate_event_id"
    BAD_PAYLOAD = "bad_payload"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    BAD_AGGREGATE_TYPE = "bad_aggregate_type"
    BAD_AGGREGATE_ID = "bad_aggregate_id"
    BAD_TENANT = "bad_tenant"
    PAYLOAD_MISMATCH = "payload_mismatch"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that cannot become an event until the host has mended it."""

    outbox_id: int
    reason: RejectionReason
    detail: str
    """One printable line of at most `MAX_DETAIL` characters: the column and what is wrong in it."""
    shown_type: str
    """The event type, made printable, in at most `MAX_SHOWN_TYPE` characters."""


class _Bad(Exception):
    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def judge(
    row: RawRow, *, file_uuid: str, default_tenant: str, max_payload: int, now: Millis
) -> Draft | Rejection:
    """The event that `row` is, or why it is none. The first fault found is the one that is told.

    Whether the event id was seen before only the store knows: see `duplicate`.

    Args:
        row: as read; in every column but the payload and the event type, `''` counts as absent.
        file_uuid: the file's identity, part of made event ids.
        default_tenant: for a row without one; `''` for none.
        max_payload: bytes; a longer payload is rejected, whether it was loaded or not.
        now: the time of ingest, for a row without a usable `occurred_at`.

    Raises:
        ValueError: the caller left out a payload that is not over the limit. To go on would turn
            the row into an ID-only event.
    """
    try:
        event_type = _event_type(row.event_type)
        event_id = _event_id(row.event_id)
        aggregate_type = _text(
            row.aggregate_type, "aggregate_type", RejectionReason.BAD_AGGREGATE_TYPE
        )
        aggregate_id = _text(row.aggregate_id, "aggregate_id", RejectionReason.BAD_AGGREGATE_ID)
        tenant = _text(row.tenant, "tenant", RejectionReason.BAD_TENANT)
        _check_payload(row, max_payload)
    except _Bad as bad:
        return Rejection(
            row.outbox_id,
            bad.reason,
            printable(bad.detail, MAX_DETAIL),
            printable_bytes(row.event_type or b"", MAX_SHOWN_TYPE),
        )
    occurred = None
    if row.occurred_at:
        occurred = parse_occurred_at(row.occurred_at.decode("utf-8", "replace"))
    return Draft(
        row.outbox_id,
        event_id or made_event_id(row, file_uuid, occurred),
        event_type,
        aggregate_type or made_aggregate_type(event_type),
        aggregate_id,
        tenant or default_tenant,
        row.payload,
        to_text(now if occurred is None else occurred),
        occurred is None and bool(row.occurred_at),
        not aggregate_type,
    )


def made_aggregate_type(event_type: str) -> str:
    """The aggregate type of a row that names none: what stands before the type's last dot."""
    return event_type.rpartition(".")[0]


def duplicate(draft: Draft) -> Rejection:
    """The rejection of a row whose event id another event has already."""
    return Rejection(
        draft.outbox_id,
        RejectionReason.DUPLICATE_EVENT_ID,
        f"event_id {draft.event_id} was seen before",
        printable(draft.event_type, MAX_SHOWN_TYPE),
    )


def mismatch(draft: Draft, fault: str) -> Rejection:
    """The rejection of a row whose payload is not made as its type's catalogue says, and how."""
    return Rejection(
        draft.outbox_id,
        RejectionReason.PAYLOAD_MISMATCH,
        printable(fault, MAX_DETAIL),
        printable(draft.event_type, MAX_SHOWN_TYPE),
    )


def made_event_id(row: RawRow, file_uuid: str, occurred: Millis | None) -> str:
    """The event id of a row that has none: the same whenever this row of this file is ingested.

    It has the layout of a UUIDv7. Its 74 free bits are the first ones of SHA-256 over the file, the
    outbox id and every column as the host wrote it, each with its length before it, so that no two
    rows are written alike. What depends on the moment of ingest or on the configuration (a default
    tenant, a derived aggregate type) has no part in it: after a restore they may differ.

    Its 48 bits of time are `occurred` (`occurred_at` as ms, held within 1970 to 10889). A row
    without a usable one has no moment that a second ingest would find again, so the outbox id
    stands there: such ids sort as their rows were inserted, and read as a time they say 1970, which
    nobody takes for a real one. Where the host's key is no number, it has the outbox id's part in
    the hash, and 0 stands for the time: after a restore a row may get another number.
    """
    occurred_at = row.occurred_at or b""
    event_type = row.event_type or b""
    tenant = row.tenant or b""
    aggregate_type = row.aggregate_type or b""
    aggregate_id = row.aggregate_id or b""
    payload = row.payload
    file = file_uuid.encode()
    key = row.key
    head = _ID_HEAD.pack(
        row.outbox_id if key is None else len(key),
        len(file),
        len(occurred_at),
        len(event_type),
        len(tenant),
        len(aggregate_type),
        len(aggregate_id),
        _NO_PAYLOAD if payload is None else len(payload),
    )
    parts = (
        _ID_DOMAIN if key is None else _KEY_DOMAIN,
        head,
        key or b"",
        file,
        occurred_at,
        event_type,
        tenant,
        aggregate_type,
        aggregate_id,
        payload or b"",
    )
    bits = sha256(b"".join(parts)).hexdigest()
    if occurred is None:
        occurred = row.outbox_id if key is None else 0
    time = min(max(occurred, 0), _LAST_48_BITS)
    clock = f"{time:012x}"
    return f"{clock[:8]}-{clock[8:]}-7{bits[:3]}-{_VARIANT[bits[3]]}{bits[4:7]}-{bits[7:19]}"


def _event_type(raw: bytes | None) -> str:
    if raw is not None and _EVENT_TYPE.fullmatch(raw):
        text = raw.decode()
        if not text.startswith(OWN_TYPES):
            return text
        detail = f"event_type begins with {OWN_TYPES}, which is kept for webhookd's own events"
    elif not raw:
        detail = "event_type is " + ("NULL" if raw is None else "empty")
    elif len(raw) > MAX_TYPE and raw.isascii():
        detail = f"event_type is {len(raw)} characters long; {MAX_TYPE} are allowed"
    else:
        detail = f"event_type has characters that are not visible ASCII: {printable_bytes(raw, 80)}"
    raise _Bad(RejectionReason.BAD_EVENT_TYPE, detail)


def _event_id(raw: bytes | None) -> str:
    """The host's own event id, `''` if absent."""
    if not raw:
        return ""
    if _EVENT_ID.fullmatch(raw):
        return raw.decode()
    if len(raw) > 128 and raw.isascii():
        detail = f"event_id is {len(raw)} characters long; 128 are allowed"
    else:
        shown = printable_bytes(raw, 128)
        detail = f"event_id has characters other than A-Z a-z 0-9 _ : - in it: {shown}"
    raise _Bad(RejectionReason.BAD_EVENT_ID, detail)


def _text(raw: bytes | None, column: str, reason: RejectionReason) -> str:
    """A column of free text, `''` if absent."""
    if not raw:
        return ""
    if raw == EMPTY_ID and reason is RejectionReason.BAD_AGGREGATE_ID:
        raise _Bad(reason, "aggregate_id: the captured row's id is an empty text")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _Bad(reason, f"{column} is not UTF-8 at byte {error.start}") from None
    if len(text) > MAX_TEXT:
        raise _Bad(reason, f"{column} is {len(text)} characters long; {MAX_TEXT} are allowed")
    # What is printable has no control characters, and to ask that is much cheaper.
    if not text.isprintable() and (found := _CONTROL.search(text)):
        shown = printable(found[0], 8)
        raise _Bad(reason, f"{column} has the control character {shown} at {found.start()}")
    return text


def _check_payload(row: RawRow, max_payload: int) -> None:
    if row.payload_size > max_payload:
        raise _Bad(
            RejectionReason.PAYLOAD_TOO_LARGE,
            f"payload is {row.payload_size} bytes long; outbox.max_payload is {max_payload}",
        )
    if row.payload is None:
        if row.payload_size:
            raise ValueError(f"outbox row {row.outbox_id}: its payload was not loaded")
        return
    try:
        jsontext.check(row.payload)
    except jsontext.NotJson as fault:
        raise _Bad(RejectionReason.BAD_PAYLOAD, f"payload: {fault}") from None
