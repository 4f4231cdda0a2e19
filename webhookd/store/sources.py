"""By what rows of the outbox are told from one another, as the file remembers it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhookd.core.columns import OWN, Columns
from webhookd.errors import OutboxUnfit
from webhookd.store import host_table
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.host_table import inspect, key_column, kind_of_key, same
from webhookd.store.ledger import LedgerOutbox
from webhookd.store.outbox import Outbox
from webhookd.store.transaction import snapshot

OWN_KEY: Final = "id"

_READ: Final = "SELECT kind, key_column FROM webhookd_source"
_FIX: Final = "UPDATE webhookd_source SET kind = ?, key_column = ?"


@dataclass(frozen=True, slots=True)
class Source:
    """The row of `webhookd_source`, but for the ledger's place."""

    kind: str
    key_column: str


def read(connection: Connection) -> Source:
    """What `init` has fixed; in a file of an older schema there is but one kind."""
    there = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'webhookd_source'"
    ).fetchone()
    return Source(*connection.execute(_READ).fetchone()) if there else Source("integer", OWN_KEY)


def open_outbox(
    connection: Connection, path: Path, file: FileRow, columns: Columns, max_payload: int
) -> Outbox:
    """The outbox of a prepared file; whether it can be read is another question."""
    if read(connection).kind == "integer":
        ours = bool(file.outbox_ours)
        return Outbox(path, file.outbox_table, max_payload, columns, ours=ours)
    facts = inspect(connection, file.outbox_table)
    return LedgerOutbox(path, file.outbox_table, max_payload, columns, facts)


def fix(connection: Connection, table: str, columns: Columns) -> Source:
    """Note by what the rows of `table`, which `check_table` has passed, are told apart."""
    facts = inspect(connection, table)
    if facts is None:
        raise RuntimeError(f"there is no table {table}")
    source = Source(kind_of_key(facts, columns), key_column(facts, columns))
    connection.execute(_FIX, (source.kind, source.key_column))
    return source


def check(connection: Connection, path: Path, file: FileRow, columns: Columns) -> None:
    """Refuse columns by which other ids would come out than those that are done with.

    A table that is not as it was agreed passes: that stops ingest, and nothing else.

    Raises:
        OutboxUnfit: the configuration is at odds with what `init` has fixed.
    """
    _check_own(path, file, columns)
    facts = inspect(connection, file.outbox_table)
    if facts is None or not all(facts.has(name) for name in columns.needed):
        return
    source = read(connection)
    kind, key = kind_of_key(facts, columns), key_column(facts, columns)
    if kind == source.kind and same(key, source.key_column):
        return
    if kind == source.kind and not facts.has(source.key_column):
        raise OutboxUnfit(
            f"{path}: was prepared with the key {file.outbox_table}.{source.key_column}, which is "
            f"gone; if it is {key} now run `webhookd init`"
        )
    raise OutboxUnfit(
        f"{path}: was prepared with the key {file.outbox_table}.{source.key_column}, and by "
        f"{key} other rows would count as done with; set `id` in [outbox.columns] and "
        "`order_column` in [outbox] back"
    )


def renew(connection: Connection, path: Path, file: FileRow, columns: Columns) -> str:
    """Accept that the host has given its key column another name; for `init`, which is asked to.

    Returns the new name; '' where nothing was to be changed.

    Raises:
        OutboxUnfit: as `check`, for all else.
    """
    _check_own(path, file, columns)
    facts = inspect(connection, file.outbox_table)
    source, renewed = read(connection), ""
    if facts is not None and not facts.has(source.key_column):
        key = key_column(facts, columns)
        if facts.has(key) and kind_of_key(facts, columns) == source.kind:
            connection.execute(_FIX, (source.kind, key))
            renewed = key
    check(connection, path, file, columns)
    return renewed


def _check_own(path: Path, file: FileRow, columns: Columns) -> None:
    if file.outbox_ours and columns != OWN:
        raise OutboxUnfit(
            f"{path}: {file.outbox_table} is the table that `webhookd init` made, and its columns "
            "have the names that it gave them; take [outbox.columns] and `order_column` out"
        )


def unfit(
    connection: Connection, path: Path, file: FileRow, columns: Columns, *, ids_never_reused: bool
) -> tuple[str, ...]:
    """Why `run` would not start on this outbox, as `check_ready` has it: one line, or none.

    To be called often: the host may have changed its table since a daemon started on it.
    """
    try:
        with snapshot(connection):
            check_ready(connection, path, file, columns, ids_never_reused=ids_never_reused)
    except OutboxUnfit as error:
        return (f"the next start of `webhookd run` would be refused: {error}",)
    return ()


def check_ready(
    connection: Connection, path: Path, file: FileRow, columns: Columns, *, ids_never_reused: bool
) -> None:
    """What must hold before rows are taken in: see `check`, and `host_table.check_key`.

    Raises:
        OutboxUnfit: it does not.
    """
    check(connection, path, file, columns)
    host_table.check_kind(connection, file.outbox_table, path)
    host_table.check_key(
        connection, file.outbox_table, path, columns, ids_never_reused=ids_never_reused
    )
