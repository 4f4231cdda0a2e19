"""Where a row becomes an event: event, deliveries owed and cursor in one transaction.

It is judged first, which only reads: the daemon does so before it takes the write lock, because the
host's own commits wait while that is held. What is written then is written by one call a table, on
the caller's thread: there is nothing to hand to another one but the commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from webhookd.core import rows
from webhookd.core.model import SubscriptionKey
from webhookd.core.storage import DoubtedRow, Ingested, RejectedRow
from webhookd.core.structure import Validation
from webhookd.core.times import to_text
from webhookd.store import coalesce, ranges
from webhookd.store.driver import Connection
from webhookd.store.fanout import Fanout
from webhookd.store.file import FileRow
from webhookd.store.recipients import Terms

DELIVERIES_A_BATCH: Final = 250
"""A batch ends after the event that reaches this: only one event's fan-out cannot be split."""
VALIDATED_A_BATCH: Final = 512 * 1024
"""Bytes of payload, where their structure is checked: a batch ends after the row that reaches it,
because the loop stands still meanwhile."""
A_MERGE: Final = 9
"""Deliveries that one costs more which may make an older one needless: both are written."""

FIND_EVENT: Final = "SELECT 1 FROM webhookd_events WHERE event_id = ?"
INSERT_REJECTED: Final = (
    "INSERT INTO webhookd_rejected (outbox_id, reason, detail, event_type, rejected_at)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (outbox_id) DO UPDATE SET reason = excluded.reason,"
    " detail = excluded.detail, event_type = excluded.event_type"
)
"""One that is rejected again has the reason of now, and the time of the first."""


@dataclass(slots=True)
class Judged:
    """The first rows of a batch: what becomes of each, in ascending order of id."""

    drafts: list[rows.Draft | rows.Rejection] = field(default_factory=list)
    doubts: dict[int, str] = field(default_factory=dict)
    """By outbox id: why a payload is doubted though the row becomes an event."""
    is_all: bool = True
    """None was left for the next batch."""


def judge(
    connection: Connection,
    file_uuid: str,
    terms: Terms,
    raw: Sequence[rows.RawRow | rows.Rejection],
    now: int,
) -> Judged:
    """Judge `raw` (ascending ids). Only reads.

    Stops after the row that reaches `VALIDATED_A_BATCH`, and where `take` would stop.
    """
    judged, validated, owed = Judged(), 0, 0
    ids: set[str] = set()
    for row in raw:
        if validated >= VALIDATED_A_BATCH or owed >= DELIVERIES_A_BATCH:
            judged.is_all = False
            break
        draft = row if isinstance(row, rows.Rejection) else _draft(file_uuid, terms, row, now)
        if isinstance(draft, rows.Draft):
            if draft.event_id in ids or _is_known(connection, draft):
                draft = rows.duplicate(draft)
            elif terms.validation is not None:
                validated += len(draft.payload or b"")
                draft = _validate(judged, draft, terms.validation)
        if isinstance(draft, rows.Draft):
            ids.add(draft.event_id)
            owed += len(_interested(terms, draft))
        judged.drafts.append(draft)
    return judged


def take(
    connection: Connection,
    file: FileRow,
    terms: Terms,
    judged: Judged,
    now: int,
    *,
    again: bool = False,
) -> tuple[FileRow, Ingested, int]:
    """Make events, or rejected rows, of what was judged, inside the caller's transaction.

    Stops after the row that reaches `DELIVERIES_A_BATCH`. `again`: the ids are done with already.

    Returns:
        The file's row with its counters moved (the caller writes it back), what was done, and
        how many of the rows were taken.
    """
    fanout = Fanout(connection, terms, file.sequence, to_text(now))
    rejected: list[RejectedRow] = []
    guessed: list[int] = []
    doubted: list[DoubtedRow] = []
    taken = 0
    for draft in judged.drafts:
        taken += 1
        if isinstance(draft, rows.Rejection):
            rejected.append(_reject(connection, draft, fanout.now_text))
            continue
        fanout.host_event(draft)
        if draft.occurred_at_guessed:
            guessed.append(draft.outbox_id)
        if draft.outbox_id in judged.doubts:
            doubted.append(DoubtedRow(draft.outbox_id, judged.doubts[draft.outbox_id]))
        if fanout.deliveries + A_MERGE * fanout.crowding >= DELIVERIES_A_BATCH:
            break
    done = judged.drafts[:taken]
    for first, last in () if again else ranges.runs(draft.outbox_id for draft in done):
        ranges.add(connection, first, last)
    after = replace(
        file,
        sequence=fanout.close(),
        rejected=file.rejected + len(rejected),
        unannounced=file.unannounced + len(rejected),
    )
    after, ready = coalesce.supersede(connection, after, terms.profiles, fanout.crowded, now)
    ingested = Ingested(
        events=fanout.events,
        deliveries=fanout.deliveries,
        rejected=tuple(rejected),
        guessed_times=tuple(guessed),
        ready=frozenset(fanout.ready | ready),
        more=taken < len(judged.drafts) or not judged.is_all,
        doubted=tuple(doubted),
    )
    return after, ingested, taken


def _draft(file_uuid: str, terms: Terms, row: rows.RawRow, now: int) -> rows.Draft | rows.Rejection:
    return rows.judge(
        row,
        file_uuid=file_uuid,
        default_tenant=terms.default_tenant,
        max_payload=terms.max_payload,
        now=now,
    )


def _interested(terms: Terms, draft: rows.Draft) -> tuple[SubscriptionKey, ...]:
    return terms.matcher.match(draft.event_type, draft.aggregate_type, draft.tenant)


def _is_known(connection: Connection, draft: rows.Draft) -> bool:
    return connection.execute(FIND_EVENT, (draft.event_id,)).fetchone() is not None


def _validate(
    judged: Judged, draft: rows.Draft, validation: Validation
) -> rows.Draft | rows.Rejection:
    fault = validation.fault(draft.event_type, draft.aggregate_type, draft.payload)
    if not fault:
        return draft
    mismatch = rows.mismatch(draft, fault)
    if validation.rejects:
        return mismatch
    judged.doubts[draft.outbox_id] = mismatch.detail
    return draft


def _reject(connection: Connection, rejection: rows.Rejection, now_text: str) -> RejectedRow:
    connection.execute(
        INSERT_REJECTED,
        (
            rejection.outbox_id,
            rejection.reason,
            rejection.detail,
            rejection.shown_type,
            now_text,
        ),
    )
    return RejectedRow(rejection.outbox_id, rejection.reason, rejection.detail)
