"""What `check` looks at in the file: everything that would stop or hinder a daemon there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from webhookd.core.columns import Columns
from webhookd.core.egress import EgressPolicy
from webhookd.core.examination import Resolve, of_subscription
from webhookd.core.findings import Finding, Level
from webhookd.core.model import Millis, SubscriptionState
from webhookd.core.profiles import Known
from webhookd.core.storage import StoredSubscription
from webhookd.core.text import counted
from webhookd.core.times import to_text
from webhookd.errors import DatabaseError, OutboxUnreadable, StoreBusy, StoreUnwritable
from webhookd.store import (
    captures,
    health,
    host_table,
    lockfile,
    preflight,
    ranges,
    sources,
    subscriptions,
)
from webhookd.store import file as files
from webhookd.store.driver import (
    FIXED_WAL_RESET,
    Connection,
    connect,
    has_wal_reset_bug,
    library_version,
    translated,
)
from webhookd.store.file import FileRow
from webhookd.store.host_table import quoted
from webhookd.store.ledger import LedgerOutbox
from webhookd.store.outbox import Outbox
from webhookd.store.schema import SCHEMA_VERSION

WAIT: Final = 2.0
"""Seconds that a check waits for the write lock: who holds it longer is a finding of its own."""

_DATABASE: Final = "database"
_OUTBOX: Final = "outbox"
NEWER_TOLD: Final = 10
NEWER_COUNTED: Final = 100
"""Rows inserted after the one that is highest by the order column: fewer are the disorder of a
moment, more are not counted."""


def inspect(
    database: Path,
    *,
    table: str,
    columns: Columns,
    ids_never_reused: bool,
    egress: EgressPolicy,
    profiles: Known,
    resolve: Resolve,
    now: Millis,
) -> list[Finding]:
    """All that can be found out about the file and its subscriptions, without changing a thing.

    Args:
        database: as configured.
        table: the outbox as configured.
        columns: where in the outbox its columns are, as configured.
        ids_never_reused: the host vouches for a key that is no AUTOINCREMENT.
        egress: what subscriptions may connect to.
        profiles: those that the configuration has.
        resolve: fetches the secret that a reference names.
        now: for secrets that expire.
    """
    try:
        path = preflight.real_path(database)
        preflight.check(path)
        mark = lockfile.read(path)
        connection = connect(path, mode="rw", wait=WAIT)
    except DatabaseError as error:
        return [_fault(_DATABASE, error)]
    try:
        with translated(path):
            row = files.read(connection, path)
            return [
                Finding(Level.OK, _DATABASE, f"{path}: prepared, schema {row.schema_version}"),
                *_identity(row, path, mark),
                *_lockable(path),
                *_writable(connection, path),
                *_journal(connection),
                *_outbox(connection, row, path, table, columns, ids_never_reused),
                *captures.findings(connection, row),
                *_subscriptions(connection, egress, profiles, resolve, now),
            ]
    except DatabaseError as error:
        return [_fault(_DATABASE, error)]
    finally:
        connection.close()


def _fault(place: str, error: Exception) -> Finding:
    return Finding(Level.FAULT, place, str(error))


def _passes(place: str, check: Callable[[], None]) -> Iterator[Finding]:
    try:
        check()
    except DatabaseError as error:
        yield _fault(place, error)


def _identity(row: FileRow, path: Path, mark: dict[str, object]) -> Iterator[Finding]:
    if row.schema_version < SCHEMA_VERSION:
        yield Finding(
            Level.WARNING,
            _DATABASE,
            f"its schema is version {row.schema_version} of {SCHEMA_VERSION}; `webhookd init` or "
            "the next `webhookd run` upgrades it",
        )
    yield from _passes(_DATABASE, lambda: files.check_home(row, path, files.machine_id()))
    yield from _passes(_DATABASE, lambda: files.check_mark(row, path, mark))


def _lockable(path: Path) -> Iterator[Finding]:
    fault = lockfile.unusable(path)
    if fault:
        yield Finding(Level.FAULT, _DATABASE, fault)


def _writable(connection: Connection, path: Path) -> Iterator[Finding]:
    """Take the write lock and let go of it again: the one sure test, and it writes nothing."""
    try:
        with translated(path):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except StoreBusy:
        yield Finding(
            Level.WARNING,
            _DATABASE,
            f"another program has held the write lock for {WAIT:g} s; results wait as long, so "
            "let the host keep its transactions short",
        )
    except (StoreUnwritable, DatabaseError) as error:
        yield _fault(_DATABASE, error)


def _journal(connection: Connection) -> Iterator[Finding]:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        yield Finding(
            Level.WARNING,
            _DATABASE,
            f"its journal mode is {mode}, so readers and writers hold each other up; if the host "
            "agrees: sqlite3 FILE 'PRAGMA journal_mode = WAL'",
        )
    elif has_wal_reset_bug():
        fixed = ", ".join(".".join(map(str, version)) for version in FIXED_WAL_RESET)
        yield Finding(
            Level.WARNING,
            "SQLite",
            f"{library_version()} can damage a WAL file while it is checkpointed, so webhookd "
            f"leaves that to the host; install pysqlite3 or an SQLite of {fixed} or newer",
        )


def _outbox(
    connection: Connection,
    row: FileRow,
    path: Path,
    table: str,
    columns: Columns,
    ids_never_reused: bool,
) -> Iterator[Finding]:
    if table != row.outbox_table:
        yield Finding(
            Level.FAULT,
            _OUTBOX,
            f"the file was prepared with the table {row.outbox_table}, and [outbox] table is "
            f"{table}; set it back",
        )
    try:
        host_table.check_table(
            connection,
            row.outbox_table,
            path,
            columns,
            ids_never_reused=ids_never_reused,
            ours=bool(row.outbox_ours),
        )
        sources.check(connection, path, row, columns)
        source = sources.open_outbox(connection, path, row, columns, 0)
        source.probe(connection)
        end = source.end(connection, row.cursor)
        if isinstance(source, LedgerOutbox):
            yield from _ledger(connection, source)
        else:
            yield from _highest_id(connection, row, source, end or 0)
    except (DatabaseError, OutboxUnreadable) as error:
        yield _fault(_OUTBOX, error)
        return
    if row.rejected:
        yield Finding(
            Level.WARNING,
            _OUTBOX,
            f"{counted(row.rejected, 'row')} could not become events; "
            "`webhookd events list --rejected` says why",
        )
    if table == row.outbox_table:
        yield Finding(Level.OK, _OUTBOX, f"table {row.outbox_table} can be read")


def _highest_id(
    connection: Connection, row: FileRow, source: Outbox, highest: int
) -> Iterator[Finding]:
    """Whether the ids, those too that SQLite only remembers, have come to their end."""
    facts = host_table.inspect(connection, row.outbox_table)
    if facts is not None and facts.autoincrement:
        ever = connection.execute(
            "SELECT max(seq) FROM sqlite_sequence WHERE name = ? COLLATE NOCASE",
            (row.outbox_table,),
        ).fetchone()[0]
        highest = max(highest, ever or 0)
    if highest >= ranges.HIGHEST:
        yield Finding(
            Level.WARNING,
            _OUTBOX,
            f"{row.outbox_table}.{source.key} has reached {highest}, so AUTOINCREMENT is exhausted "
            "and the host's next INSERT fails; empty the table into a new one with lower ids",
        )


def _ledger(connection: Connection, source: LedgerOutbox) -> Iterator[Finding]:
    """What a key that is no growing number costs."""
    name, columns = source.table, source.columns
    if not columns.order_column:
        yield Finding(
            Level.WARNING,
            _OUTBOX,
            f"the keys of {name} do not grow and it has no order column, so its events have no "
            "promise of order; name one with `order_column` in [outbox]",
        )
    if source.only_rear:
        yield Finding(
            Level.WARNING,
            _OUTBOX,
            f"{name} has no row numbers and no order column, so new rows are found by reading all "
            "of it, piece by piece; name one with `order_column` in [outbox]",
        )
    newer = source.newer_than_the_last(connection, NEWER_COUNTED)
    if newer >= NEWER_TOLD:
        order = columns.order_column
        yield Finding(
            Level.WARNING,
            _OUTBOX,
            f"{name} has a row whose {order} is higher than that of {newer}"
            f"{' or more' if newer == NEWER_COUNTED else ''} rows inserted after it, so what comes "
            "below it is found late, and in no promised order, until it is set right: "
            f"SELECT * FROM {quoted(name)} ORDER BY {quoted(order)} DESC LIMIT 1",
        )
    if source.rows_without_key(connection):
        yield Finding(
            Level.WARNING,
            _OUTBOX,
            f"{name} has rows whose {columns.id} is NULL, which wait until they have a key; "
            f"let the host set it: SELECT * FROM {quoted(name)} WHERE {quoted(columns.id)} IS NULL",
        )


def _subscriptions(
    connection: Connection,
    egress: EgressPolicy,
    profiles: Known,
    resolve: Resolve,
    now: Millis,
) -> Iterator[Finding]:
    stored = subscriptions.load(connection)
    if not stored:
        yield Finding(
            Level.WARNING,
            "subscriptions",
            "there are none, so nothing is sent; `webhookd subscriptions add URL` makes one",
        )
    for one in stored:
        yield from of_subscription(one, egress, profiles, resolve, now)
        yield from _health(connection, one)


def _health(connection: Connection, one: StoredSubscription) -> Iterator[Finding]:
    place = f"subscription {one.name}"
    since = health.read(connection, one.key).failing_since
    if one.state is SubscriptionState.DISABLED:
        again = f"`webhookd subscriptions enable {one.name}` sends what it is owed"
        said = f"was disabled by a rule ({one.state_reason})"
        yield Finding(Level.WARNING, place, f"{said}; once its endpoint is well, {again}")
    elif one.state is SubscriptionState.ENABLED and since is not None:
        why = f"`webhookd deliveries list --subscription {one.name}` has the errors"
        said = f"has been failing since {to_text(since)}"
        yield Finding(
            Level.WARNING, place, f"{said}: it is tried with one request at a time; {why}"
        )
