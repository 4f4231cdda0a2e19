"""What `init` does: the schema, the outbox, and where ingest begins. Safe to repeat."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from webhookd.core.columns import OWN, Columns
from webhookd.core.model import Millis
from webhookd.errors import DatabaseError
from webhookd.store import file as files
from webhookd.store import host_table, lockfile, preflight, ranges, schema, sources
from webhookd.store.driver import CLI_BUSY_SECONDS, Connection, connect, translated
from webhookd.store.transaction import undo

IN_FILE: Final = (
    "SELECT coalesce(sum(pending + delivered + failed + cancelled + superseded), 0)"
    " FROM webhookd_counters"
)
"""Deliveries in the file, whatever became of them."""

Start = Literal["beginning", "end"] | int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `init` found and did."""

    path: Path
    created_file: bool
    migrations: tuple[str, ...]
    outbox_table: str
    outbox_ours: bool
    begins_after: int | None
    """The outbox id after which ingest begins, when it was fixed now; None: the very beginning."""
    outbox_made: bool = False
    """webhookd's own outbox was absent, and is there now."""
    key_renamed: str = ""
    """What the host calls its key column now, where that was accepted; '' for no other name."""


def prepare(
    path: Path,
    *,
    table: str,
    start: Start | None,
    ids_never_reused: bool,
    may_create: bool,
    now: Millis,
    columns: Columns = OWN,
) -> Prepared:
    """Create or upgrade everything of webhookd's in the file, in one transaction.

    A file that is created gets WAL mode, and can give pages back; an existing one stays as the
    host has it. `columns` says where in a table of the host's the columns of the outbox are.

    Raises:
        DatabaseError: missing and not to be created, unusable, newer, or the outbox does not fit.
    """
    real = preflight.real_path(path)
    created = not real.exists()
    if not created:
        preflight.check(real)
    elif not may_create:
        raise DatabaseError(f"{real}: no such file; leave --existing out to create it")
    else:
        preflight.check_file_system(real)
    connection = connect(real, mode="rwc" if created else "rw", wait=CLI_BUSY_SECONDS)
    try:
        with translated(real):
            if created:
                # Before anything is in it: later only a VACUUM of the whole file would change it.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = _prepare(connection, real, table, start, columns, ids_never_reused, now)
                connection.execute("COMMIT")
            except BaseException:
                undo(connection)
                raise
            if created:
                # A lock file left by an earlier database of that name says nothing of this one.
                mark = files.as_mark(files.read(connection, real))
                lock = lockfile.LockFile.acquire(real)
                lock.write(pid=None, **mark)
                lock.release()
    finally:
        connection.close()
    return replace(done, created_file=created)


def upgrade_ahead(path: Path) -> int | None:
    """Deliveries that an upgrade of the file is about to go through, or None where none is due.

    It holds the write lock for as long as that takes; asked beforehand, so that people can be told.

    Args:
        path: the real path of a file that `preflight.check` has passed.

    Raises:
        DatabaseError: it cannot be read.
    """
    connection = connect(path, mode="ro", wait=CLI_BUSY_SECONDS)
    try:
        with translated(path):
            if not files.is_prepared(connection):
                return None
            if files.read(connection, path).schema_version >= schema.SCHEMA_VERSION:
                return None
            found: int = connection.execute(IN_FILE).fetchone()[0]
            return found
    finally:
        connection.close()


def upgrade(connection: Connection, path: Path) -> tuple[str, ...]:
    """Apply what is missing to a prepared file, in one transaction; returns the names applied.

    Raises:
        DatabaseError: not prepared, or by a newer program.
    """
    with translated(path):
        row = files.read(connection, path)
        if row.schema_version == schema.SCHEMA_VERSION:
            return ()
        connection.execute("BEGIN IMMEDIATE")
        try:
            applied = _migrate(connection)
            connection.execute("COMMIT")
        except BaseException:
            undo(connection)
            raise
    return applied


def _migrate(connection: Connection) -> tuple[str, ...]:
    from sqlite_utils import Database  # 170 ms: only where the schema may change

    db = Database(connection, execute_plugins=False, recursive_triggers=False)
    applied = schema.apply(db)
    if applied and files.is_prepared(connection):
        connection.execute("UPDATE webhookd_file SET schema_version = ?", (schema.SCHEMA_VERSION,))
    return tuple(applied)


def _prepare(
    connection: Connection,
    path: Path,
    table: str,
    start: Start | None,
    columns: Columns,
    ids_never_reused: bool,
    now: Millis,
) -> Prepared:
    known = files.read(connection, path) if files.is_prepared(connection) else None
    applied = _migrate(connection)
    gone = schema.missing(connection)
    if gone:
        raise DatabaseError(
            f"{path}: {gone[0]} was dropped, and what it held is lost; restore a backup, or drop "
            "all that begins with webhookd_ or webhook_ and run `webhookd init` for a new start"
        )
    host_table.check_kind(connection, table, path)
    absent = host_table.inspect(connection, table) is None
    if known is not None:
        files.check_outbox(known, path, table)
        again = bool(known.outbox_ours and absent)
        if again:
            connection.execute(schema.OUTBOX.format(table=host_table.quoted(table)))
            _go_on_after(connection, table, _given_out(known, lockfile.read(path)))
        ours = bool(known.outbox_ours)
        host_table.check_table(
            connection, table, path, columns, ids_never_reused=ids_never_reused, ours=ours
        )
        renamed = sources.renew(connection, path, known, columns)
        return Prepared(path, False, applied, table, ours, None, again, renamed)
    ours = absent and not columns.mapped
    if ours:
        connection.execute(schema.OUTBOX.format(table=host_table.quoted(table)))
    host_table.check_table(connection, table, path, columns, ids_never_reused=ids_never_reused)
    files.create(connection, path, table=table, ours=ours, now=now)
    sources.fix(connection, table, columns)
    begin = start if start is not None else ("beginning" if ours else "end")
    after = _fix_start(connection, path, columns, begin)
    if ours and after is not None:
        _go_on_after(connection, table, after)
    return Prepared(path, False, applied, table, ours, after, ours)


def _given_out(file: files.FileRow, mark: Mapping[str, object]) -> int:
    """An id above which none was ever seen, or promised by a restore that was accepted.

    What it was raised to went with the table; but it was by `UNSURE` above what the mark, which no
    restore lowers, said at that time. Only a file of a further epoch can have been restored.
    """
    known = max(file.cursor, lockfile.highest_id(mark, of=file.uuid))
    return known if file.epoch == 1 or known > lockfile.MOST else max(known, 0) + lockfile.UNSURE


def _go_on_after(connection: Connection, table: str, number: int) -> None:
    """Let the ids of a new, empty outbox begin above `number`: those below count as done with."""
    if number > 0:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, number))


def _fix_start(connection: Connection, path: Path, columns: Columns, start: Start) -> int | None:
    if start == "beginning":
        return None
    row = files.reread(connection, path)
    source = sources.open_outbox(connection, path, row, columns, 0)
    if start == "end":
        if source.end(connection, ranges.LOWEST) is None:
            return None
        after = source.adopt(connection)
    elif sources.read(connection).kind == "ledger":
        raise DatabaseError(
            f"{path}: the keys of {row.outbox_table} are no growing ids, so ingest cannot begin at "
            f'{start}; set `start` in [outbox] to "beginning" or "end"'
        )
    else:
        after = start - 1
    files.write_back(connection, replace(row, cursor=after))
    ranges.add(connection, ranges.LOWEST, after)
    return after
