"""Forgetting the keys in the ledger of a host's own outbox that say nothing any more.

A key is needed for as long as its row is in the host's table, or else the row would be taken in a
second time. Once the host has deleted the row, and retention has come past its event, it goes: by
then a row with that key would be a new one. A rejected row's key stays with it, because the host
may mend the row by putting it in again.

Numbers must never come back, and SQLite gives the next one above the highest that is there. So all
goes below the cursor only: the entry of the row that was taken in last always stays.

Whether a row is still there SQLite tells nobody, so the ledger is gone through again and again, a
stretch at each look, without a lock. Only what is found is deleted, and judged once more for that.
"""

from typing import Final

from webhookd.core.storage import NO_STEP, Step
from webhookd.store import sources
from webhookd.store.driver import Connection
from webhookd.store.host_table import inspect, quoted
from webhookd.store.transaction import snapshot

STRETCH: Final = 500
"""Entries that one look goes through: some milliseconds, with nobody waiting for them."""
KEYS: Final = 200
"""Entries that one transaction deletes."""

OLDEST_EVENT: Final = (
    "SELECT outbox_id FROM webhookd_events WHERE sequence >"
    " (SELECT position FROM webhookd_retention WHERE what = 'events')"
    " AND substr(event_type, 1, 9) <> 'webhookd.' ORDER BY sequence LIMIT 1"
)
"""The outbox id of the first event that retention has not come past."""
BELOW: Final = (
    f"SELECT min(f.cursor, coalesce(({OLDEST_EVENT}), f.cursor)), f.outbox_table"
    " FROM webhookd_file AS f"
)
STRETCH_END: Final = (
    "SELECT max(number) FROM (SELECT number FROM webhookd_ledger"
    " WHERE number > ? AND number < ? ORDER BY number LIMIT ?)"
)


def gone(table: str, key: str) -> str:
    """The query of what may go, above a number and up to another one, at most so many."""
    return (
        "SELECT l.number FROM webhookd_ledger AS l WHERE l.number > ? AND l.number <= ?"
        f" AND NOT EXISTS (SELECT 1 FROM {quoted(table)} AS t WHERE t.{quoted(key)} = l.key)"
        " AND NOT EXISTS (SELECT 1 FROM webhookd_rejected AS r WHERE r.outbox_id = l.number)"
        " ORDER BY l.number LIMIT ?"
    )


def forget(table: str, key: str) -> str:
    """The statement that takes it away."""
    return f"DELETE FROM webhookd_ledger WHERE number IN ({gone(table, key)})"


class Forgetting:
    """A walk over the ledger, round after round. What it remembers only saves work."""

    def __init__(self) -> None:
        self._position = 0
        """All up to there is looked at; numbers begin with 1."""
        self.is_round = False
        """The last look came to the end and found nothing: the next one begins again."""

    def look(self, connection: Connection) -> bool:
        """Whether the next stretch has anything to forget; only reads.

        In one snapshot: a host may drop its table at any moment. `connection` is in no transaction.
        """
        with snapshot(connection):
            return self._look(connection)

    def _look(self, connection: Connection) -> bool:
        found = self._stretch(connection)
        if found is None:
            self._position, self.is_round = 0, True
            return False
        end, names = found
        self.is_round = False
        sql = gone(*names)
        if connection.execute(sql, (self._position, end, 1)).fetchone() is not None:
            return True
        self._position = end
        return False

    def forget(self, connection: Connection) -> Step:
        """Forget a batch of what the next stretch has; to be called in a writing transaction."""
        found = self._stretch(connection)
        if found is None:
            return NO_STEP
        end, names = found
        rows = connection.execute(forget(*names), (self._position, end, KEYS)).rowcount
        if rows < KEYS:  # should this be undone, the next round finds them again
            self._position = end
        return Step(rows)

    def _stretch(self, connection: Connection) -> tuple[int, tuple[str, str]] | None:
        """Its last number, and how the host's table and key are called; None at the end.

        None too where there is no ledger, or the host's table is not as it was agreed.
        """
        source = sources.read(connection)
        if source.kind != "ledger":
            return None
        below, table = connection.execute(BELOW).fetchone()
        end = connection.execute(STRETCH_END, (self._position, below, STRETCH)).fetchone()[0]
        if end is None:
            return None
        facts = inspect(connection, table)
        if facts is None or not facts.has(source.key_column):
            return None
        return end, (table, source.key_column)
