"""The facts for `status`, from counters and the ends of indexes: no scan, however full the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from webhookd.core import urls
from webhookd.core.columns import OWN, Columns
from webhookd.core.model import DeliveryState, Millis, SubscriptionState
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.core.recent import IDLE
from webhookd.core.status import FileFacts, SubscriptionFacts
from webhookd.errors import DatabaseError, OutboxUnreadable
from webhookd.store import (
    capture_watch,
    health,
    lockfile,
    recent,
    recipients,
    sizes,
    sources,
)
from webhookd.store import file as files
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow

LAG_COUNTED: Final = 1_000
"""A lag up to this is counted; above, it is the span of the ids."""

_DUE: Final = (
    "(SELECT min(due_at) FROM webhookd_deliveries INDEXED BY webhookd_deliveries_{index}"
    " WHERE subscription = s.key AND due_at IS NOT NULL AND {kind})"
)
SUBSCRIPTIONS: Final = (
    "SELECT s.key, s.id, s.name, s.url, s.state, s.state_reason, s.disabled_at, s.profile,"
    " s.policy, c.pending, c.delivered, c.failed, c.last_status, c.last_error, c.last_attempt_at,"
    " c.last_success_at,"
    " (SELECT created_at FROM webhookd_deliveries INDEXED BY webhookd_deliveries_owed"
    " WHERE subscription = s.key AND state = 'pending' ORDER BY id LIMIT 1),"
    f" {_DUE.format(index='first', kind='tries = 0')},"
    f" {_DUE.format(index='again', kind='tries > 0')},"
    f" {health.COLUMNS}"
    " FROM webhookd_subscriptions AS s CROSS JOIN webhookd_counters AS c ON c.subscription = s.key"
    " WHERE s.removed_at IS NULL ORDER BY s.key"
)
"""All that there is to say of subscriptions, in one statement: there may be ten thousand."""
_TOTALS: Final = (
    "SELECT coalesce(sum(pending), 0), coalesce(sum(delivered), 0), coalesce(sum(failed), 0),"
    " coalesce(sum(cancelled), 0), coalesce(sum(superseded), 0) FROM webhookd_counters"
)


def facts(
    connection: Connection,
    file: FileRow,
    path: Path,
    known: Known = BUILT_IN,
    columns: Columns = OWN,
    *,
    now: Millis,
    ids_never_reused: bool | None = None,
) -> FileFacts:
    """Everything that `status` says of the file.

    Args:
        connection: to it.
        file: its row.
        path: its real path.
        known: by which policies.
        columns: where in the outbox its columns are.
        now: the end of the last hour.
        ids_never_reused: the host vouches for its keys; None where no configuration was read, or
            one with a fault, so that nobody knows whether `run` would start on the outbox.
    """
    lag, fault = _lag(connection, file, path, columns)
    totals = connection.execute(_TOTALS).fetchone()
    log = sizes.wal_bytes(path)
    return FileFacts(
        path=str(path),
        epoch=file.epoch,
        sequence=file.sequence,
        lag_rows=lag,
        rejected=file.rejected,
        outbox_fault=fault,
        totals=dict(zip((state.value for state in DeliveryState), totals, strict=True)),
        subscriptions=tuple(_subscriptions(connection, known, now)),
        size=sizes.file_bytes(path) + log,
        wal_bytes=log,
        free_bytes=sizes.free_bytes(connection),
        refusals=tuple(_refusals(file, path)),
        captures=capture_watch.faults(connection, file),
        outbox_faults=()
        if fault or ids_never_reused is None
        else sources.unfit(connection, path, file, columns, ids_never_reused=ids_never_reused),
    )


def _subscriptions(
    connection: Connection, known: Known, now: Millis
) -> Iterator[SubscriptionFacts]:
    lately = recent.read(connection, now)
    for row in connection.execute(SUBSCRIPTIONS).fetchall():
        yield SubscriptionFacts(
            key=row[0],
            id=row[1],
            name=row[2],
            url_shown=urls.parse(row[3]).shown,
            state=SubscriptionState(row[4]),
            state_reason=row[5],
            disabled_at=row[6],
            owed=row[9],
            delivered=row[10],
            failed=row[11],
            last_status=row[12],
            last_error=row[13],
            last_attempt_at=row[14],
            last_success_at=row[15],
            oldest_owed_at=row[16],
            next_attempt_at=min(filter(None, row[17:19]), default=None),
            health=health.of(row[19:]),
            policy=recipients.effective(known, row[7], json.loads(row[8])),
            recent=lately.get(row[0], IDLE),
        )


def _lag(connection: Connection, file: FileRow, path: Path, columns: Columns) -> tuple[int, str]:
    """Rows that wait to be ingested, and why they cannot be read, if they cannot."""
    outbox = sources.open_outbox(connection, path, file, columns, 0)
    try:
        outbox.probe(connection)
        return outbox.lag(connection, file.cursor, LAG_COUNTED), ""
    except OutboxUnreadable as error:
        return 0, str(error)


def _refusals(file: FileRow, path: Path) -> Iterator[str]:
    try:
        files.check_mark(file, path, lockfile.read(path))
    except DatabaseError as error:
        yield str(error)
    try:
        files.check_home(file, path, files.machine_id())
    except DatabaseError as error:
        yield str(error)
