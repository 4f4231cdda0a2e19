"""What the host's migrations have broken, for those who look often: `status`, and the daemon all
the time: captures, and what the daemon needs of the outbox table.

What is whole is broken by a change of the schema alone. SQLite numbers its states, and to ask for
the number costs some microseconds; nothing more is read while that stays as it is. What is broken
is looked at each time: a capture whose table is gone is removed without a change of the schema.
"""

from collections.abc import Callable

from webhookd.core.findings import Level
from webhookd.store import captures
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.transaction import snapshot


def faults(connection: Connection, file: FileRow) -> tuple[str, ...]:
    """What is wrong with captures, each in one line with its remedy; no row of a table is read."""
    with snapshot(connection):
        found = list(captures.findings(connection, file))
    return tuple(f"{one.place}: {one.text}" for one in found if one.level is Level.FAULT)


class SchemaWatch:
    """Faults of one kind, looked for when the schema has changed or there were any. Not
    thread-safe."""

    def __init__(self, find: Callable[[Connection, FileRow], tuple[str, ...]]) -> None:
        """`find` is given a connection that is in no transaction."""
        self._find = find
        self._version: int | None = None
        self._faults: tuple[str, ...] = ()

    def look(self, connection: Connection, file: FileRow) -> tuple[str, ...]:
        """What `find` finds, or found while the schema was as it is; `connection` as there."""
        # Taken first: what changes while this looks is looked at the next time.
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._version or self._faults:
            self._faults = self._find(connection, file)
            self._version = version
        return self._faults
