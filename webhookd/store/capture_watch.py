"""What has become of captures, for those who look often: `status`, and the daemon all the time.

What is whole is broken by a change of the schema alone. SQLite numbers its states, and to ask for
the number costs some microseconds; nothing more is read while that stays as it is. What is broken
is looked at each time: a capture whose table is gone is removed without a change of the schema.
"""

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


class CaptureWatch:
    """The faults of captures, looked for when the schema has changed or there were any. Not
    thread-safe."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._faults: tuple[str, ...] = ()

    def look(self, connection: Connection, file: FileRow) -> tuple[str, ...]:
        """See `faults`; `connection` is in no transaction."""
        # Taken first: what changes while this looks is looked at the next time.
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._version or self._faults:
            self._faults = faults(connection, file)
            self._version = version
        return self._faults
