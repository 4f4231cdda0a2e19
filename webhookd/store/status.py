"""The facts for `status`, from counters and the ends of indexes: no scan, however full the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from webhookd.core import urls
from webhookd.core.columns import OWN, Columns
from webhookd.core.model import DeliveryState, Millis, SubscriptionState
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.core.status import FileFacts, SubscriptionFacts
from webhookd.core.times import to_text
from webhookd.errors import DatabaseError, OutboxUnreadable
from webhookd.store import capture_watch, checkup, lockfile, queue, recent, recipients, sources
from webhookd.store import file as files
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.housekeeping import free_bytes, wal_bytes

LAG_COUNTED: Final = 1_000
"""A lag up to this is counted; above, it is the span of the ids."""

_SUBSCRIPTIONS: Final = (
    "SELECT s.key, s.id, s.name, s.url, s.state, s.state_reason, c.pending, c.delivered, c.failed,"
    " c.last_status, c.last_error, c.last_attempt_at, c.last_success_at, s.disabled_at,"
    " s.profile, s.policy"
    " FROM webhookd_subscriptions AS s CROSS JOIN webhookd_counters AS c ON c.subscription = s.key"
    " WHERE s.removed_at IS NULL ORDER BY s.key"
)
_TOTALS: Final = (
    "SELECT coalesce(sum(pending), 0), coalesce(sum(delivered), 0), coalesce(sum(failed), 0),"
    " coalesce(sum(cancelled), 0), coalesce(sum(superseded), 0) FROM webhookd_counters"
)
OLDEST_OWED: Final = (
    "SELECT created_at FROM webhookd_deliveries INDEXED BY webhookd_deliveries_owed"
    " WHERE subscription = ? AND state = 'pending' ORDER BY id LIMIT 1"
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
        ids_never_reused: the host vouches for its keys; None where the configuration is not known,
            and so neither is whether `run` would start on the outbox.
    """
    lag, fault = _lag(connection, file, path, columns)
    totals = connection.execute(_TOTALS).fetchone()
    log = wal_bytes(path)
    return FileFacts(
        path=str(path),
        epoch=file.epoch,
        sequence=file.sequence,
        lag_rows=lag,
        rejected=file.rejected,
        outbox_fault=fault,
        totals=dict(zip((state.value for state in DeliveryState), totals, strict=True)),
        subscriptions=tuple(
            _subscription(connection, row, known, now)
            for row in connection.execute(_SUBSCRIPTIONS).fetchall()
        ),
        size=_size(path) + log,
        wal_bytes=log,
        free_bytes=free_bytes(connection),
        refusals=tuple(_refusals(file, path)),
        captures=capture_watch.faults(connection, file),
        outbox_faults=()
        if ids_never_reused is None
        else sources.unfit(connection, path, file, columns, ids_never_reused=ids_never_reused),
    )


def _subscription(
    connection: Connection, row: tuple[Any, ...], known: Known, now: Millis
) -> SubscriptionFacts:
    key, pending = row[0], row[6]
    oldest = following = None
    if pending:
        oldest = connection.execute(OLDEST_OWED, (key,)).fetchone()
        following = queue.next_due(connection, key)
    return SubscriptionFacts(
        key=key,
        id=row[1],
        name=row[2],
        url_shown=urls.parse(row[3]).shown,
        state=SubscriptionState(row[4]),
        state_reason=row[5],
        disabled_at=row[13],
        owed=pending,
        delivered=row[7],
        failed=row[8],
        oldest_owed_at=oldest and oldest[0],
        next_attempt_at=None if following is None else to_text(following),
        last_status=row[9],
        last_error=row[10],
        last_attempt_at=row[11],
        last_success_at=row[12],
        health=checkup.read(connection, key),
        policy=recipients.effective(known, row[14], json.loads(row[15])),
        recent=recent.read(connection, key, now),
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


def _size(path: Path) -> int:
    """Its bytes; none where it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
