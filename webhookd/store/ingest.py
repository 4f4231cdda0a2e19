"""Where a row becomes an event: event, deliveries owed and cursor in one transaction.

Everything runs statement by statement on the caller's thread, 5 to 10 µs each: each row is judged
by the core in between, so there is nothing to hand to a thread but the commit.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from webhookd.core import rows
from webhookd.core.storage import DoubtedRow, Ingested, RejectedRow
from webhookd.core.structure import Validation
from webhookd.core.times import to_text
from webhookd.store import coalesce, ranges
from webhookd.store.driver import Connection
from webhookd.store.fanout import Fanout
from webhookd.store.file import FileRow
from webhookd.store.recipients import Terms

DELIVERIES_A_BATCH: Final = 1_000
"""A batch ends after the event that reaches this: only one event's fan-out cannot be split."""
VALIDATED_A_BATCH: Final = 512 * 1024
"""Bytes of payload, where their structure is checked: a batch ends after the row that reaches it,
because the host's own commits wait meanwhile."""
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
class _Judged:
    """What was found out about the rows of one batch, beside the events that they became."""

    rejected: list[RejectedRow] = field(default_factory=list)
    guessed: list[int] = field(default_factory=list)
    doubted: list[DoubtedRow] = field(default_factory=list)
    validated: int = 0
    """Bytes of payload whose structure was checked."""


def take(
    connection: Connection,
    file: FileRow,
    terms: Terms,
    raw: list[rows.RawRow | rows.Rejection],
    now: int,
    *,
    again: bool = False,
) -> tuple[FileRow, Ingested, int]:
    """Make events of `raw` (ascending ids), or rejected rows, inside the caller's transaction.

    Stops after the row that reaches `DELIVERIES_A_BATCH` or `VALIDATED_A_BATCH`. `again`: the ids
    are done with already.

    Returns:
        The file's row with its counters moved (the caller writes it back), what was done, and
        how many of the rows were taken.
    """
    fanout = Fanout(connection, terms, file.sequence, to_text(now))
    judged = _Judged()
    taken = 0
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
        if terms.validation is not None and isinstance(draft, rows.Draft):
            draft = _validate(judged, draft, terms.validation)
        if isinstance(draft, rows.Rejection):
            _reject(connection, judged, draft, fanout.now_text)
        else:
            fanout.host_event(draft)
            if draft.occurred_at_guessed:
                judged.guessed.append(draft.outbox_id)
        weight = fanout.owed.total() + A_MERGE * fanout.crowded.total()
        if weight >= DELIVERIES_A_BATCH or judged.validated >= VALIDATED_A_BATCH:
            break
    for first, last in () if again else ranges.runs(row.outbox_id for row in raw[:taken]):
        ranges.add(connection, first, last)
    rejected = len(judged.rejected)
    after = replace(
        file,
        sequence=fanout.close(),
        rejected=file.rejected + rejected,
        unannounced=file.unannounced + rejected,
    )
    after, ready = coalesce.supersede(connection, after, terms.profiles, fanout.crowded, now)
    done = Ingested(
        events=fanout.events,
        deliveries=fanout.owed.total(),
        rejected=tuple(judged.rejected),
        guessed_times=tuple(judged.guessed),
        ready=frozenset(fanout.ready | ready),
        more=taken < len(raw),
        doubted=tuple(judged.doubted),
    )
    return after, done, taken


def _not_seen_before(connection: Connection, draft: rows.Draft) -> rows.Draft | rows.Rejection:
    found = connection.execute(FIND_EVENT, (draft.event_id,)).fetchone()
    return draft if found is None else rows.duplicate(draft)


def _validate(
    judged: _Judged, draft: rows.Draft, validation: Validation
) -> rows.Draft | rows.Rejection:
    judged.validated += len(draft.payload or b"")
    fault = validation.fault(draft.event_type, draft.aggregate_type, draft.payload)
    if not fault:
        return draft
    mismatch = rows.mismatch(draft, fault)
    if validation.rejects:
        return mismatch
    judged.doubted.append(DoubtedRow(draft.outbox_id, mismatch.detail))
    return draft


def _reject(
    connection: Connection, judged: _Judged, rejection: rows.Rejection, now_text: str
) -> None:
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
    judged.rejected.append(RejectedRow(rejection.outbox_id, rejection.reason, rejection.detail))
