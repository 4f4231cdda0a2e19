"""Reading the host's table: in bytes, within bounds, and never trusting what it finds.

Text is read as bytes, because one row of invalid UTF-8 would make a whole `fetchall` fail, and no
JSON function of SQLite's is used on it, because one malformed row would abort the query.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhookd.core.rows import RawRow
from webhookd.errors import DatabaseError, OutboxUnreadable
from webhookd.store.driver import Connection, sqlite3, translated
from webhookd.store.schema import OUTBOX_COLUMNS

BATCH_ROWS: Final = 250
"""Rows a transaction: about 10 ms of work, so that the host's own commits hardly wait."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Payload a transaction: bounds memory when rows are large."""


def quoted(name: str) -> str:
    """An SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the file says of a table that is, or is to be, the outbox."""

    columns: frozenset[str]
    autoincrement: bool
    """Its key is an integer that is never given out twice."""


def inspect(connection: Connection, table: str) -> TableFacts | None:
    """The facts of `table`; None if there is none."""
    found = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)", (table,)
    ).fetchone()
    if found is None:
        return None
    rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    key = [row[1].lower() for row in rows if row[5]]
    words = (found[0] or "").upper().replace("(", " ").replace(",", " ").replace(")", " ").split()
    return TableFacts(
        columns=frozenset(row[1].lower() for row in rows),
        autoincrement=key == ["id"] and "AUTOINCREMENT" in words,
    )


def check_table(connection: Connection, table: str, path: Path, *, ids_never_reused: bool) -> None:
    """Refuse a table that cannot serve as an outbox.

    Raises:
        DatabaseError: missing, lacking a column, or with keys that can come back.
    """
    facts = inspect(connection, table)
    if facts is None:
        raise DatabaseError(f"{path}: there is no table {table}; `webhookd init` creates it")
    missing = [column for column in OUTBOX_COLUMNS if column not in facts.columns]
    if missing:
        raise DatabaseError(
            f"{path}: table {table} has no column {missing[0]}; "
            "name another table with `table` in [outbox]"
        )
    if not facts.autoincrement and not ids_never_reused:
        raise DatabaseError(
            f"{path}: {table}.id is no INTEGER PRIMARY KEY AUTOINCREMENT, so an id can come back "
            'after a delete; if the host never reuses one say ids = "never-reused" in [outbox]'
        )


class Outbox:
    """The host's table, as this webhookd may read it.

    Not thread-safe: while it reads, it changes how its connection returns text.
    """

    def __init__(self, path: Path, table: str, max_payload: int) -> None:
        self.path = path
        self.table = table
        self._select = _select(table, max_payload)

    def batch(self, connection: Connection, first: int, last: int) -> tuple[list[RawRow], bool]:
        """Rows with `first` <= id <= `last`, in order of id; and whether the batch was full.

        Raises:
            OutboxUnreadable: the table or one of its columns is gone.
        """
        found: list[RawRow] = []
        size = 0
        text_factory = connection.text_factory
        connection.text_factory = bytes
        try:
            with self._explained():
                cursor = connection.execute(self._select, (first, last, BATCH_ROWS))
                try:
                    for row in cursor:
                        found.append(RawRow(*row))
                        size += row[8]
                        if size >= BATCH_BYTES:
                            return found, True
                finally:
                    cursor.close()
        finally:
            connection.text_factory = text_factory
        return found, len(found) == BATCH_ROWS

    def end(self, connection: Connection) -> int | None:
        """The highest id, or None. Raises OutboxUnreadable as `batch` does."""
        with self._explained():
            found = connection.execute(f"SELECT max(id) FROM {quoted(self.table)}").fetchone()
        return None if found is None else found[0]

    def _explained(self) -> "_Explained":
        return _Explained(self)


class _Explained:
    """Turns "no such column" into words; all other errors go the ordinary way."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, sqlite3.Error):
            return
        text = str(error)
        table = self._outbox.table
        for gone in ("no such column: ", "no such table: "):
            if text.startswith(gone):
                what = "column " + table + "." if "column" in gone else "table "
                raise OutboxUnreadable(
                    f"schema: {what}{text.removeprefix(gone)} missing"
                ) from error
        with translated(self._outbox.path):
            raise error


def _select(table: str, max_payload: int) -> str:
    # A number in a text column becomes text as SQLite itself would make it. A payload over the
    # limit is not loaded at all: only its size is.
    if sqlite3.sqlite_version_info >= (3, 43):
        size = "octet_length(t.payload)"
    else:
        size = "length(CAST(t.payload AS BLOB))"

    def text(column: str) -> str:
        name = f"t.{column}"
        return (
            f"CASE WHEN typeof({name}) IN ('integer', 'real')"
            f" THEN CAST({name} AS TEXT) ELSE {name} END"
        )

    payload = (
        f"CASE WHEN coalesce({size}, 0) > {int(max_payload)} THEN NULL ELSE {text('payload')} END"
    )
    return (
        f"SELECT t.id, {text('event_type')}, {text('aggregate_type')}, {text('aggregate_id')},"
        f" {text('tenant')}, {payload}, {text('occurred_at')}, {text('event_id')},"
        f" coalesce({size}, 0) FROM {quoted(table)} AS t"
        " WHERE t.id >= ? AND t.id <= ? ORDER BY t.id LIMIT ?"
    )
