"""Reading the host's table: in bytes, within bounds, and never trusting what it finds.

Text is read as bytes, because one row of invalid UTF-8 would make a whole `fetchall` fail, and no
JSON function of SQLite's is used on it, because one malformed row would abort the query.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from webhookd.core.columns import OWN, Columns, Constant, Source
from webhookd.core.rows import RawRow, Rejection, RejectionReason
from webhookd.errors import OutboxMissing, OutboxUnreadable
from webhookd.store import ranges
from webhookd.store.driver import Connection, sqlite3, translated
from webhookd.store.host_table import OWN_COLUMN, inspect, quoted, real_name, remedy_of_table
from webhookd.store.transaction import Transaction

BATCH_ROWS: Final = 100
"""Rows a transaction: about 3 ms of the write lock where they were read ahead of it, so that the
host's own commits hardly wait."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Text and payload a transaction: bounds memory when rows are large."""

TOO_BIG: Final = 18
"""SQLITE_TOOBIG: a value is longer than this SQLite can hold."""

LAST_ID: Final = (
    "SELECT seq, name FROM sqlite_sequence WHERE name = ? COLLATE NOCASE ORDER BY seq DESC LIMIT 1"
)
"""The highest id that an AUTOINCREMENT table ever had, and its name as the host wrote it; no row
before the first."""


def raise_ids(connection: Connection, table: str, cursor: int, above: int) -> bool:
    """Give new rows of webhookd's own outbox ids above `above`; they never go down.

    To be called in a writing transaction; `cursor` is how far ingest has come. Returns False of a
    table that is gone, or was made anew: what is in that one is not to be passed over (see `end`).
    """
    if inspect(connection, table) is None:
        return False
    found = connection.execute(LAST_ID, (table,)).fetchone()
    if found is None:  # it never had a row
        name = real_name(connection, table)
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, above))
        return True
    last, name = found
    if last < cursor:
        return False
    sql = "UPDATE sqlite_sequence SET seq = ? WHERE name = ?"
    connection.execute(sql, (max(last, above), name))
    return True


def raising(connection: Connection, table: str, above: int | str) -> str:
    """The statement by which a person raises the ids of a table, for them to copy.

    It never lowers them. '' of a table that is gone, or does not count its ids (AUTOINCREMENT).
    """
    facts = inspect(connection, table)
    if facts is None or not facts.autoincrement:
        return ""
    found = connection.execute(LAST_ID, (table,)).fetchone()
    if found is None:  # it never had a row
        name = literal(real_name(connection, table))
        return f"INSERT INTO sqlite_sequence (name, seq) VALUES ({name}, {above})"
    return _raising_row(found[1], above)


def _raising_row(name: str, above: int | str) -> str:
    """See `raising`; `name` is that of the row in `sqlite_sequence`."""
    return f"UPDATE sqlite_sequence SET seq = max(seq, {above}) WHERE name = {literal(name)}"


def change_row(transaction: Transaction, sql: str, number: int) -> int:
    """Change or delete the row `number` of webhookd's own outbox; returns how many there were.

    Raises:
        OutboxMissing: the outbox is gone, or a column of it; no row is taken in either.
        OutboxUnreadable: something of the host's keeps its rows.
    """
    table = transaction.file.outbox_table
    remedy = 'take away what keeps them, or say outbox = "never" in [retention]'
    try:
        with told_of_refusal(f"the rows of table {table} cannot be changed", remedy):
            return transaction.connection.execute(sql, (number,)).rowcount
    except OutboxUnreadable as refused:
        try:
            Outbox(transaction.path, table, 0, ours=True).probe(transaction.connection)
        except OutboxUnreadable as missing:
            raise OutboxMissing(str(missing)) from refused
        raise


@contextmanager
def told_of_refusal(what: str, remedy: str) -> Iterator[None]:
    """Say in words that the host's table, or something of the host's on it, lets nothing be done.

    Raises:
        OutboxUnreadable: it does not.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.OperationalError) as error:
        if error.sqlite_errorcode & 0xFF not in _REFUSED:
            raise
        raise OutboxUnreadable(f"{what} ({error}); {remedy}") from error


_REFUSED: Final = {1, 19}
"""SQLITE_ERROR and SQLITE_CONSTRAINT: no such table, or a trigger or a key of the host's."""


class Outbox:
    """The host's table, as this webhookd may read it.

    Not thread-safe: while it reads, it changes how its connection returns text.
    """

    has_numbers: ClassVar = True
    """Rows have their outbox ids from the host, so that `fresh` writes nothing."""

    def __init__(
        self,
        path: Path,
        table: str,
        max_payload: int,
        columns: Columns = OWN,
        *,
        ours: bool = False,
    ) -> None:
        """For a table whose `columns.order_column`, or `columns.id`, is its INTEGER PRIMARY KEY.

        `ours`: `init` made it, and makes it again where it is gone.
        """
        self.path = path
        self.ours = ours
        self.table = table
        self.columns = columns
        self.key = columns.order_column or columns.id
        number = f"t.{quoted(self.key)}"
        self._rows = Rows(f"{quoted(table)} AS t", number, columns, max_payload)
        self._has_sequence: bool | None = None
        self.went_round = True
        """Every row was looked at since this was opened, or need not be: one look sees all."""

    def limited(self, max_payload: int) -> "Outbox":
        """The same outbox, with another limit to payloads."""
        return Outbox(self.path, self.table, max_payload, self.columns, ours=self.ours)

    def probe(self, connection: Connection) -> None:
        """Pass if the outbox can be read. Raises OutboxUnreadable as `batch` does."""
        with self._explained():
            connection.execute(self._rows.select, (0, -1, 0)).close()

    def rests(self, version: int) -> bool:  # noqa: ARG002 - for those that take more than one look
        """Whether `end` has nothing more to find in this version of the file."""
        return True

    def adopt(self, connection: Connection) -> int:
        """Give every row its outbox id, taken in or not; returns the highest, or 0 for none.

        To be called in a writing transaction. Here rows have their ids already.

        Raises:
            OutboxUnreadable: as `end`.
        """
        return self.end(connection, ranges.LOWEST) or 0

    def fresh(self, connection: Connection, cursor: int) -> tuple[list[RawRow | Rejection], bool]:
        """What `batch` finds above `cursor`: the rows that ingest takes in next.

        To be called in a writing transaction, unless the outbox `has_numbers`.
        """
        return self.batch(connection, cursor + 1, ranges.HIGHEST)

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
            for *values, length, key in cursor.execute(self._rows.select, (first, last, limit)):
                size += sum(map(len, filter(None, values[1:])))
                count += 1
                payload = values[1 + PAYLOAD]
                values += (length if payload is None else len(payload), key)
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
            found = connection.execute(
                f"SELECT max(t.{quoted(self.key)}) FROM {quoted(self.table)} AS t"
            ).fetchone()
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
                f"{cursor} are done with; {_raising_row(last[1], cursor)}, then insert its "
                "rows again"
            )
        return highest

    def lag(self, connection: Connection, cursor: int, most: int) -> int:
        """How many rows wait above `cursor`; over `most` it is the span of their ids.

        Raises:
            OutboxUnreadable: as `end`.
        """
        end = self.end(connection, cursor)
        if end is None or end <= cursor:
            return 0
        with self._explained():
            counted, first = connection.execute(
                f"SELECT count(*), min(n) FROM ({self._rows.numbers})", (cursor + 1, end, most)
            ).fetchone()
        return int(counted) if counted < most else int(end) - int(first) + 1

    def _too_big(self, connection: Connection, first: int, last: int) -> Rejection:
        number = connection.execute(self._rows.numbers, (first, last, 1)).fetchone()[0]
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
                if name.startswith(("webhookd_", "l.")):  # not the host's doing: see `translated`
                    break
                remedy = self._remedy(table=what == "table ")
                raise OutboxUnreadable(f"schema: {what}{name} missing{remedy}") from error
        with translated(self._outbox.path):
            raise error

    def _remedy(self, *, table: bool) -> str:
        if table:
            return f"; {remedy_of_table(ours=self._outbox.ours)}"
        if self._outbox.ours:
            return f"; {OWN_COLUMN}"
        return "; put it right in the table, or in [outbox.columns] and start webhookd again"


def _has_sequence(connection: Connection) -> bool:
    """Whether the file has any AUTOINCREMENT table at all; once it has, it always will."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
    return connection.execute(sql).fetchone() is not None


class Rows:
    """The statements that read rows by their outbox ids: parameters are first, last and a limit."""

    def __init__(
        self, source: str, number: str, columns: Columns, max_payload: int, key: str = "NULL"
    ) -> None:
        """Build them.

        Args:
            source: what stands after FROM; the host's table is `t` in it.
            number: the outbox id, as an expression.
            columns: where the rest of a row is.
            max_payload: bytes.
            key: the bytes that tell the row from others, where its number does not.
        """
        within = f" FROM {source} WHERE {number} >= ? AND {number} <= ? ORDER BY {number} LIMIT ?"
        self.numbers: Final = f"SELECT {number} AS n{within}"
        # A payload far over the limit is not loaded at all: only its size is. Twice the limit,
        # because a file in UTF-16 has two bytes for a character that is one when it is read.
        size = _size(columns.payload)
        texts = [_text(one) for one in columns.texts]
        texts[PAYLOAD] = (
            f"CASE WHEN {size} > {2 * int(max_payload)} THEN NULL ELSE {texts[PAYLOAD]} END"
        )
        self.select: Final = f"SELECT {number}, {', '.join(texts)}, {size}, {key}{within}"


PAYLOAD: Final = 4
"""Its place in `Columns.texts`."""


def _text(source: Source) -> str:
    """A number in a text column becomes text as SQLite itself would make it."""
    if isinstance(source, Constant):
        return literal(source.text)
    if not source:
        return "NULL"
    name = f"t.{quoted(source)}"
    return (
        f"CASE WHEN typeof({name}) IN ('integer', 'real') THEN CAST({name} AS TEXT) ELSE {name} END"
    )


def _size(source: Source) -> str:
    if isinstance(source, Constant):
        return str(len(source.text.encode()))
    if not source:
        return "0"
    if sqlite3.sqlite_version_info >= (3, 43):
        return f"coalesce(octet_length(t.{quoted(source)}), 0)"
    return f"coalesce(length(CAST(t.{quoted(source)} AS BLOB)), 0)"


def literal(text: str) -> str:
    """A text in SQL, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"
