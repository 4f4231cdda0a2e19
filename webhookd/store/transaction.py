"""One writing transaction, the daemon's and a command's alike: short, immediate, and checked.

Every one begins with `BEGIN IMMEDIATE` (a deferred one that reads and then writes fails at once
when the host has committed in between) and with the file's row, so that no number is ever given
out from memory.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webhookd.core.columns import OWN, Columns
from webhookd.core.model import Millis
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.errors import DatabaseError
from webhookd.store import file as files
from webhookd.store import lockfile, preflight
from webhookd.store.driver import CLI_BUSY_SECONDS, Connection, connect, translated

if TYPE_CHECKING:
    from webhookd.store.book import Book

BULK_ROWS: Final = 100
"""Rows that one transaction of a bulk change moves: some milliseconds of the write lock."""


class Transaction:
    """A writing transaction that has begun. `finish` makes it durable, `undo` forgets it."""

    def __init__(self, connection: Connection, path: Path, profiles: Known = BUILT_IN) -> None:
        """Begin. Raises StoreBusy, StoreUnwritable or DatabaseError; then nothing is open."""
        self.connection = connection
        self.path = path
        self.profiles = profiles
        """By which ordering and policy of subscriptions are known."""
        with translated(path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._before = files.reread(connection, path)
            except BaseException:
                undo(connection)
                raise
        self.file = self._before

    def bump(self, *, roll: bool = False) -> None:
        """Tell the lanes that something changed that they must obey.

        With `roll` it is a subscription, or an instruction for one, and not deliveries alone.
        """
        file = self.file
        self.file = replace(file, control=file.control + 1, roll=file.roll + roll)

    @contextlib.contextmanager
    def book(self, now: Millis) -> Iterator["Book"]:
        """The deliveries' rows, to be moved; their sums are written down at the end."""
        from webhookd.store.book import Book  # a fifth of what `status` would import

        book = Book(self.connection, self.file, now, self.profiles)
        yield book
        self.file = book.close()

    def seal(self) -> None:
        """Write the file's row back; the last statement before the commit."""
        if self.file != self._before:
            files.write_back(self.connection, self.file)
            self._before = self.file


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[Connection]:
    """The connection, seeing one state of the file throughout. To be held for a moment only."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        undo(connection)


def undo(connection: Connection) -> None:
    """Roll back if a transaction is open; what fails even at that fails again at the next one."""
    if connection.in_transaction:
        with contextlib.suppress(Exception):  # the error that led here is the one to report
            connection.execute("ROLLBACK")


class Session:
    """A command's own connection to the file, closed at the end of its `with` block."""

    def __init__(
        self, path: Path, *, write: bool, profiles: Known = BUILT_IN, columns: Columns = OWN
    ) -> None:
        """Open `path` (a real path that `preflight.check` has passed).

        Raises:
            DatabaseError: cannot be opened, not prepared, or of another schema.
        """
        self.path = path
        self.profiles = profiles
        self.columns = columns
        """Where in the outbox its columns are."""
        self.marks = True
        """Whether the high-water mark is raised at the end; not where the lock is held already."""
        self._wrote = False
        self.connection = connect(path, mode="rw" if write else "ro", wait=CLI_BUSY_SECONDS)
        try:
            with translated(path):
                self.file = files.read(self.connection, path)
            files.check_schema(self.file, path)
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        if self._wrote and self.marks:
            # With a daemon at work this does nothing: it sees the numbers and marks them itself.
            lockfile.raise_mark(self.path, files.as_mark(self.file))

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """The connection, for functions that only read; SQLite's errors become webhookd's own."""
        with translated(self.path):
            yield self.connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that is committed at the end of the block, or undone if it raises.

        Raises:
            StoreBusy: the host held the lock for `CLI_BUSY_SECONDS`.
            DatabaseError: the file is another one than before.
        """
        transaction = Transaction(self.connection, self.path, self.profiles)
        if transaction.file.uuid != self.file.uuid:
            undo(self.connection)
            raise DatabaseError(f"{self.path}: was replaced meanwhile; run the command again")
        try:
            with translated(self.path):
                yield transaction
                transaction.seal()
                self.connection.execute("COMMIT")
        except BaseException:
            undo(self.connection)
            raise
        self.file = transaction.file
        self._wrote = True


def open_session(
    database: Path, *, write: bool, profiles: Known = BUILT_IN, columns: Columns = OWN
) -> Session:
    """A session on the file that `database` leads to, after the preflight that must come first.

    One that writes is held against the high-water mark: in a restored backup it would give out
    numbers that pollers have seen.

    Raises:
        DatabaseError: missing, unusable, not prepared, of a newer schema, or (to write) restored.
    """
    path = preflight.real_path(database)
    preflight.check(path)
    # Read before the file: with a daemon at work it would be ahead of what was read before it.
    mark = lockfile.read(path) if write else None
    session = Session(path, write=write, profiles=profiles, columns=columns)
    try:
        files.check_mark(session.file, path, mark)
    except BaseException:
        session.connection.close()
        raise
    return session
