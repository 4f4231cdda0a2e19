"""What the file says of a table of the host's, and whether it can serve as an outbox."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhookd.core.columns import OWN, Columns
from webhookd.errors import OutboxUnfit
from webhookd.store.driver import Connection

ROW_NUMBERS: Final = ("rowid", "_rowid_", "oid")
"""By any of these names, unless a column has it, SQLite gives the number of a row."""

_NOT_CODE: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^]]*\]""", re.DOTALL
)
"""Comments, strings and quoted names in a statement."""

OWN_COLUMN: Final = "give it that name again with ALTER TABLE, or add it where it was dropped"
"""The remedy where webhookd's own outbox lacks a column: its names are not for [outbox.columns]."""


def remedy_of_table(*, ours: bool | None) -> str:
    """What to do about an outbox that is gone.

    `ours`: `init` made it; None of a file that `init` has not prepared, whose outbox is still to be
    chosen.
    """
    if ours is None:
        return "name the host's table with `table` in [outbox], or let the host make it"
    if ours:
        return "`webhookd init` makes it again"
    return "give it that name again, or let the host make it"


def quoted(name: str) -> str:
    """An SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def same(one: str, other: str) -> bool:
    """Whether two names are one to SQLite, which compares ASCII letters alone without case."""
    return _folded(one) == _folded(other)


def _folded(name: str) -> str:
    return re.sub("[A-Z]", lambda found: found[0].lower(), name)


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table as it stands in the file. Names of columns are without capitals (see `same`)."""

    columns: frozenset[str]
    key: tuple[str, ...]
    """The columns of its PRIMARY KEY."""
    integer_key: str
    """Its column that is SQLite's own row number, an INTEGER PRIMARY KEY; `''` for none."""
    autoincrement: bool
    """And one that is never given out twice."""
    row_number: str
    """How to ask for the number of a row; `''` where there is none."""
    indexes: tuple[tuple[tuple[str, ...], bool], ...]
    """Whole indexes: their columns, and whether they allow each value once only."""

    def has(self, column: str) -> bool:
        """Whether there is a column of that name."""
        return _folded(column) in self.columns

    def has_key(self, column: str) -> bool:
        """Whether that is the INTEGER PRIMARY KEY."""
        return bool(self.integer_key) and _folded(column) == self.integer_key

    def is_unique(self, *columns: str) -> bool:
        """Whether no two rows can have the same values in these columns, unless one is NULL."""
        names = {_folded(column) for column in columns}
        keys = [self.key, *(parts for parts, is_unique in self.indexes if is_unique)]
        return any(key and names.issuperset(key) for key in keys)

    def is_indexed(self, column: str) -> bool:
        """Whether rows can be read in the order of that column."""
        name = _folded(column)
        return self.has_key(name) or any(names[0] == name for names, _ in self.indexes)


def kind_of(connection: Connection, name: str) -> str:
    """What has that name: `table`, `view`, `virtual table`; `''` for nothing."""
    found = _found(connection, name)
    if found is None:
        return ""
    kind, sql = found
    if kind == "table" and re.match(r"\s*CREATE\s+VIRTUAL\b", sql or "", re.IGNORECASE):
        return "virtual table"
    return kind


def _found(connection: Connection, name: str) -> tuple[str, str] | None:
    row: tuple[str, str] | None = connection.execute(
        "SELECT type, sql FROM sqlite_master"
        " WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
        (name,),
    ).fetchone()
    return row


def inspect(connection: Connection, table: str) -> TableFacts | None:
    """The facts of `table`; None if there is none, or nothing but a view of that name."""
    found = _found(connection, table)
    if found is None or found[0] != "table":
        return None
    # Unlike table_info this knows generated columns too, and those of a virtual table.
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    columns = frozenset(_folded(row[1]) for row in rows)
    parts = sorted((row for row in rows if row[5]), key=lambda row: row[5])
    key = tuple(_folded(row[1]) for row in parts)
    words = re.findall(r"\w+", _NOT_CODE.sub(" ", found[1]).upper())
    # WITHOUT ROWID may stand beside STRICT, before it or after it.
    options = _NOT_CODE.sub(" ", found[1]).upper().rpartition(")")[2]
    rowid = re.search(r"\bWITHOUT\s+ROWID\b", options) is None
    integer_key = key[0] if rowid and len(key) == 1 and parts[0][2].upper() == "INTEGER" else ""
    if integer_key and _key_has_index(connection, table):
        integer_key = ""  # INTEGER PRIMARY KEY DESC is, for SQLite's own reasons, none
    free = [name for name in ROW_NUMBERS if name not in columns]
    return TableFacts(
        columns=columns,
        key=key,
        integer_key=integer_key,
        autoincrement=bool(integer_key) and "AUTOINCREMENT" in words,
        row_number=free[0] if rowid and free else "",
        indexes=tuple(_indexes(connection, table)),
    )


def _key_has_index(connection: Connection, table: str) -> bool:
    listed = connection.execute(f"PRAGMA index_list({quoted(table)})").fetchall()
    return any(row[3] == "pk" for row in listed)


def _indexes(connection: Connection, table: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    for row in connection.execute(f"PRAGMA index_list({quoted(table)})").fetchall():
        name, unique, partial = row[1], bool(row[2]), bool(row[4])
        parts = connection.execute(f"PRAGMA index_info({quoted(name)})").fetchall()
        columns = tuple(part[2] for part in parts)
        if not partial and None not in columns:  # an expression has no name
            yield tuple(map(_folded, columns)), unique


def real_name(connection: Connection, table: str) -> str:
    """The name of an existing table as the host wrote it."""
    return str(
        connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE",
            (table,),
        ).fetchone()[0]
    )


def all_columns(connection: Connection, table: str) -> list[str]:
    """The columns of a table as the host wrote them, generated ones too."""
    return [row[1] for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})")]


def plain_columns(connection: Connection, table: str) -> list[str]:
    """The same but for generated ones, which change only with the others."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({quoted(table)})")]


def kind_of_key(facts: TableFacts, columns: Columns) -> str:
    """`integer` where the order of rows is their INTEGER PRIMARY KEY's, else `ledger`."""
    return "integer" if facts.has_key(columns.order_column or columns.id) else "ledger"


def key_column(facts: TableFacts, columns: Columns) -> str:
    """The column by which rows are told from one another."""
    if kind_of_key(facts, columns) == "integer":
        return columns.order_column or columns.id
    return columns.id


def check_table(
    connection: Connection,
    table: str,
    path: Path,
    columns: Columns = OWN,
    *,
    ids_never_reused: bool,
    ours: bool | None = None,
) -> None:
    """Refuse a table that cannot serve as an outbox; `ours` as in `remedy_of_table`.

    Raises:
        OutboxUnfit: missing, no table, lacking a column, or with keys that can come back.
    """
    check_kind(connection, table, path)
    facts = inspect(connection, table)
    if facts is None:
        raise OutboxUnfit(f"{path}: there is no table {table}; {remedy_of_table(ours=ours)}")
    for name, setting in columns.needed.items():
        if facts.has(name):
            continue
        if ours:
            remedy = OWN_COLUMN
        elif setting == "order_column":
            remedy = "name another with `order_column` in [outbox]"
        elif setting == "id":
            remedy = "name the column that is the key with `id` in [outbox.columns]"
        else:
            remedy = f'add it, or say in [outbox.columns] what stands for it: {setting} = "NAME", '
            remedy += f'or {setting} = "" where there is none'
        raise OutboxUnfit(f"{path}: table {table} has no column {name}; {remedy}")
    check_key(connection, table, path, columns, ids_never_reused=ids_never_reused)


def check_kind(connection: Connection, table: str, path: Path) -> None:
    """Refuse what has the name of the outbox, and is no table. Raises OutboxUnfit."""
    kind = kind_of(connection, table)
    if kind not in ("", "table"):
        raise OutboxUnfit(
            f"{path}: {table} is a {kind}, whose rows have no keys of their own; name the table "
            "itself with `table` in [outbox]"
        )


def check_key(
    connection: Connection,
    table: str,
    path: Path,
    columns: Columns = OWN,
    *,
    ids_never_reused: bool,
) -> None:
    """Refuse a table whose keys can come back. One that is gone, or lacks a column, passes.

    Raises:
        OutboxUnfit: its key tells no rows apart, gives no order, or cannot be relied on.
    """
    facts = inspect(connection, table)
    if facts is None or not all(facts.has(name) for name in columns.needed):
        return
    key = key_column(facts, columns)
    if kind_of_key(facts, columns) == "ledger":
        _check_ledger_key(facts, table, path, columns)
        what = f"{table}.{key} is no INTEGER PRIMARY KEY AUTOINCREMENT, so a key can come back"
    elif facts.autoincrement:
        return
    else:
        what = f"{table}.{key} is no INTEGER PRIMARY KEY AUTOINCREMENT, so an id can come back"
    if not ids_never_reused:
        raise OutboxUnfit(
            f"{path}: {what} after a delete; if the host never reuses one say "
            'ids = "never-reused" in [outbox]'
        )


def _check_ledger_key(facts: TableFacts, table: str, path: Path, columns: Columns) -> None:
    if not columns.mapped:
        raise OutboxUnfit(
            f"{path}: {table}.id is no INTEGER PRIMARY KEY, so it gives rows no order; name "
            "another table with `table` in [outbox], or its key with `id` in [outbox.columns]"
        )
    if not facts.is_unique(columns.id):
        raise OutboxUnfit(
            f"{path}: {table}.{columns.id} is neither PRIMARY KEY nor UNIQUE, so it tells no rows "
            "apart; name the column that is the key with `id` in [outbox.columns]"
        )
    if not facts.row_number and facts.key != (_folded(columns.id),):
        raise OutboxUnfit(
            f"{path}: {table} is a table WITHOUT ROWID, and {columns.id} is not its PRIMARY KEY; "
            "name that with `id` in [outbox.columns]"
        )
    order = columns.order_column
    if order and not facts.is_indexed(order):
        raise OutboxUnfit(
            f"{path}: {table}.{order} has no index, so new rows could only be found by reading "
            f"the whole table; let the host create one: CREATE INDEX NAME ON {quoted(table)} "
            f"({quoted(order)})"
        )
