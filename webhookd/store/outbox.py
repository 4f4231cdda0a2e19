"""Reading the host's table: in bytes, within bounds, and never trusting what it finds.

Text is read as bytes, because one row of invalid UTF-8 would make a whole `fetchall` fail, and no
JSON function of SQLite's is used on it, because one malformed row would abort the query.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhookd.core.rows import RawRow, Rejection, RejectionReason
from webhookd.errors import DatabaseError, OutboxUnreadable
from webhookd.store.driver import Connection, sqlite3, translated
from webhookd.store.schema import OUTBOX_COLUMNS

BATCH_ROWS: Final = 250
"""Rows a transaction: about 10 ms of work, so that the host's own commits hardly wait."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Text and payload a transaction: bounds memory when rows are large."""

TOO_BIG: Final = 18
"""SQLITE_TOOBIG: a value is longer than this SQLite can hold."""

LAST_ID: Final = "SELECT seq FROM sqlite_sequence WHERE name = ?"
"""The highest id that an AUTOINCREMENT table ever had; no row before the first."""

_NOT_CODE: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^]]*\]""", re.DOTALL
)
"""Comments, strings and quoted names in a statement."""


def quoted(name: str) -> str:
    """An SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the file says of a table that is, or is to be, the outbox."""

    columns: frozenset[str]
    integer_key: bool
    """Its `id` is SQLite's own row number: INTEGER PRIMARY KEY."""
    autoincrement: bool
    """And one that is never given out twice."""


def inspect(connection: Connection, table: str) -> TableFacts | None:
    """The facts of `table`; None if there is none."""
    found = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)", (table,)
    ).fetchone()
    if found is None:
        return None
    rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    key = [(row[1].lower(), row[2].upper()) for row in rows if row[5]]
    words = re.findall(r"\w+", _NOT_CODE.sub(" ", found[0]).upper())
    integer_key = key == [("id", "INTEGER")] and words[-2:] != ["WITHOUT", "ROWID"]
    return TableFacts(
        columns=frozenset(row[1].lower() for row in rows),
        integer_key=integer_key,
        autoincrement=integer_key and "AUTOINCREMENT" in words,
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
            f"{path}: table {table} has no column {missing[0]}; add it, "
            "or name another table with `table` in [outbox]"
        )
    check_key(connection, table, path, ids_never_reused=ids_never_reused)


def check_key(connection: Connection, table: str, path: Path, *, ids_never_reused: bool) -> None:
    """Refuse a table whose ids can come back. One that is gone, or lacks a column, passes.

    Raises:
        DatabaseError: its key gives no order, or one that cannot be relied on.
    """
    facts = inspect(connection, table)
    if facts is None or "id" not in facts.columns:
        return
    if not facts.integer_key:
        raise DatabaseError(
            f"{path}: {table}.id is no INTEGER PRIMARY KEY, so it gives rows no order; "
            "name another table with `table` in [outbox]"
        )
    if not facts.autoincrement and not ids_never_reused:
        raise DatabaseError(
            f"{path}: {table}.id is no INTEGER PRIMARY KEY AUTOINCREMENT, so an id can come back "
            'after a delete; if the host never reuses one say ids = "never-reused" in [outbox]'
        )


def change_row(connection: Connection, table: str, sql: str, number: int) -> int:
    """Change or delete the row `number` of webhookd's own outbox; returns how many there were.

    Raises:
        OutboxUnreadable: the table is gone, or something of the host's keeps its rows.
    """
    try:
        return connection.execute(sql, (number,)).rowcount
    except (sqlite3.IntegrityError, sqlite3.OperationalError) as error:
        if error.sqlite_errorcode & 0xFF not in _REFUSED:
            raise
        raise OutboxUnreadable(
            f"the rows of table {table} cannot be changed ({error}); take away what keeps them, "
            'or say outbox = "never" in [retention]'
        ) from error


_REFUSED: Final = {1, 19}
"""SQLITE_ERROR and SQLITE_CONSTRAINT: no such table, or a trigger or a key of the host's."""


class Outbox:
    """The host's table, as this webhookd may read it.

    Not thread-safe: while it reads, it changes how its connection returns text.
    """

    def __init__(self, path: Path, table: str, max_payload: int) -> None:
        self.path = path
        self.table = table
        self._select = _select(table, max_payload)
        self._has_sequence: bool | None = None

    def probe(self, connection: Connection) -> None:
        """Pass if the outbox can be read. Raises OutboxUnreadable as `batch` does."""
        with self._explained():
            connection.execute(self._select, (0, -1, 0)).close()

    def batch(
        self, connection: Connection, first: int, last: int
    ) -> tuple[list[RawRow | Rejection], bool]:
        """Rows with `first` <= id <= `last`, in order of id; and whether the batch was full.

        A row that SQLite itself cannot read is rejected here, by its id alone.

        Raises:
            OutboxUnreadable: the table or one of its columns is gone.
        """
        found: list[RawRow | Rejection] = []
        text_factory = connection.text_factory
        connection.text_factory = bytes
        try:
            with self._explained():
                full = self._read(connection, first, last, BATCH_ROWS, found)
                if full is None:
                    # The module drops the good row before a bad one too, so look again, singly.
                    first = found[-1].outbox_id + 1 if found else first
                    if self._read(connection, first, last, 1, found) is None:
                        found.append(self._too_big(connection, first, last))
                    full = True
        finally:
            connection.text_factory = text_factory
        return found, full

    def _read(
        self,
        connection: Connection,
        first: int,
        last: int,
        limit: int,
        found: list[RawRow | Rejection],
    ) -> bool | None:
        """Append rows to `found`; returns whether it is a full batch, None if a row is too big."""
        size = count = 0
        cursor = connection.cursor()
        try:
            for *values, length in cursor.execute(self._select, (first, last, limit)):
                size += sum(map(len, filter(None, values[1:])))
                count += 1
                payload = values[5]
                values.append(length if payload is None else len(payload))
                found.append(RawRow(*values))
                if size >= BATCH_BYTES:
                    return True
        except sqlite3.DataError as error:
            if error.sqlite_errorcode != TOO_BIG:
                raise
            return None
        finally:
            cursor.close()
        return count == limit

    def end(self, connection: Connection, cursor: int) -> int | None:
        """The highest id, or None; `cursor` is how far ingest has come.

        Raises:
            OutboxUnreadable: as `batch`; or the table was dropped and made anew, so that its ids
                begin again among those that are done with.
        """
        with self._explained():
            found = connection.execute(f"SELECT max(id) FROM {quoted(self.table)}").fetchone()
            if self._has_sequence is None:
                self._has_sequence = _has_sequence(connection)
            last = (
                connection.execute(LAST_ID, (self.table,)).fetchone()
                if self._has_sequence
                else None
            )
        highest: int | None = found[0]
        if last is not None and last[0] < cursor:
            raise OutboxUnreadable(
                f"schema: table {self.table} was made anew, its ids begin again at {last[0]} and "
                f"{cursor} are done with; UPDATE sqlite_sequence SET seq = {cursor} WHERE name = "
                f"'{self.table}', then insert its rows again"
            )
        return highest

    def _too_big(self, connection: Connection, first: int, last: int) -> Rejection:
        number = connection.execute(
            f"SELECT id FROM {quoted(self.table)} WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1",
            (first, last),
        ).fetchone()[0]
        detail = "the row has a value that is longer than SQLite can read"
        return Rejection(number, RejectionReason.PAYLOAD_TOO_LARGE, detail, "")

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
                name = text.removeprefix(gone).removeprefix("t.").removeprefix("main.")
                raise OutboxUnreadable(f"schema: {what}{name} missing") from error
        with translated(self._outbox.path):
            raise error


def _has_sequence(connection: Connection) -> bool:
    """Whether the file has any AUTOINCREMENT table at all; once it has, it always will."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
    return connection.execute(sql).fetchone() is not None


def _select(table: str, max_payload: int) -> str:
    # A number in a text column becomes text as SQLite itself would make it. A payload far over the
    # limit is not loaded at all: only its size is. Twice the limit, because a file in UTF-16 has
    # two bytes for a character that is one when it is read.
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
        f"CASE WHEN coalesce({size}, 0) > {2 * int(max_payload)} THEN NULL"
        f" ELSE {text('payload')} END"
    )
    return (
        f"SELECT t.id, {text('event_type')}, {text('aggregate_type')}, {text('aggregate_id')},"
        f" {text('tenant')}, {payload}, {text('occurred_at')}, {text('event_id')},"
        f" coalesce({size}, 0) FROM {quoted(table)} AS t"
        " WHERE t.id >= ? AND t.id <= ? ORDER BY t.id LIMIT ?"
    )
