"""An outbox whose keys are no growing integers: each row is given a number when it is found.

The ledger keeps every key with its number, so that no row is taken in twice and none is forgotten.
From there on the number is the row's outbox id, and all is as with a table that has one of its own.

New rows are found in two ways, because SQLite says of a table only that the file has changed:

- In front: what stands above the highest place reached so far, by the order column, else by the
  row number. An index leads there, so a look costs what is new.
- In the rear: round after round over the whole table, a piece at each look, as long as the file
  changes. It finds what the front has passed: rows whose order value is lower than that of rows
  before them, or whose row number was used before. They have no promise of order.

The place in front is kept in the file with the rows that were found by it; in memory it runs ahead
over rows that are known. One row with a value far too high takes it along, and what comes then is
the rear's; once no row is as high any more the front begins anew. The rear begins again at each
start. A row whose key is NULL cannot be told from others: it waits until it has one, and then the
rear finds it.
"""

from pathlib import Path
from typing import ClassVar, Final

from webhookd.core.columns import Columns
from webhookd.core.rows import RawRow, Rejection
from webhookd.errors import OutboxUnreadable
from webhookd.store import ranges
from webhookd.store.driver import Connection
from webhookd.store.host_table import TableFacts, inspect, quoted
from webhookd.store.outbox import Outbox, Rows
from webhookd.store.walk import KEPT, NOWHERE, PIECE, Spot, Walk, as_read, bound

PIECES_A_LOOK: Final = 10
"""Pieces of known rows that a look in front passes over before it lets others have their turn."""

HIGHEST: Final = "SELECT coalesce(max(number), 0) FROM webhookd_ledger"
FORGET_ABOVE: Final = "DELETE FROM webhookd_ledger WHERE number > ?"
PLACE: Final = (
    f"SELECT {as_read('position')}, {as_read('place')}, order_column FROM webhookd_source"
)
SET_PLACE: Final = f"UPDATE webhookd_source SET order_column = ?, position = {KEPT}, place = {KEPT}"


class LedgerOutbox(Outbox):
    """A host's table whose rows get their outbox ids from the ledger.

    Not thread-safe, like `Outbox`. What it remembers of its places is right for any connection to
    the file, and whatever becomes of the transaction.
    """

    has_numbers: ClassVar = False

    def __init__(
        self, path: Path, table: str, max_payload: int, columns: Columns, facts: TableFacts | None
    ) -> None:
        """`facts` of the table as it is; None where it cannot be read: see `probe`."""
        super().__init__(path, table, max_payload, columns)
        key = f"t.{quoted(columns.id)}"
        self._rows = Rows(
            f"webhookd_ledger AS l CROSS JOIN {quoted(table)} AS t ON {key} = l.key",
            "l.number",
            columns,
            max_payload,
            f"CAST({key} AS BLOB)",
        )
        self._facts: TableFacts | None = None
        self._front: Walk | None = None
        self._rear: Walk | None = None
        if facts is not None:
            self._plan(facts)
        self._front_at: Spot | None = None
        self._front_known = False
        """Whether the place in front has been read from the file."""
        self._rear_at: Spot | None = None
        self._version: int | None = None
        """The file's version when the round under way in the rear began."""
        self._rested: int | None = None
        """The version at the beginning of the last whole round: until it changes, there is rest."""
        self.went_round = False

    def limited(self, max_payload: int) -> "LedgerOutbox":
        """The same outbox, with another limit to payloads."""
        return LedgerOutbox(self.path, self.table, max_payload, self.columns, self._facts)

    def _plan(self, facts: TableFacts) -> None:
        key, table = f"t.{quoted(self.columns.id)}", quoted(self.table)
        place = f"t.{facts.row_number}" if facts.row_number else key
        order = self.columns.order_column
        self._rear = Walk(table, key, place, "")
        self._front = None
        if order:
            self._front = Walk(table, key, place, f"t.{quoted(order)}")
        elif facts.row_number:
            self._front = self._rear
        self._facts = facts

    def _planned(self, connection: Connection) -> None:
        """Make sure of how the table is to be walked."""
        if self._facts is None:
            # Where it is gone this says so in words.
            connection.execute(f"SELECT 1 FROM {quoted(self.table)} AS t LIMIT 0").close()
            facts = inspect(connection, self.table)
            if facts is not None:
                self._plan(facts)
                # The table may be another one: what is known in it is passed over once more.
                self._front_at, self._front_known = None, True
                self._version = self._rested = None

    def probe(self, connection: Connection) -> None:
        """Pass if the outbox can be read. Raises OutboxUnreadable as `batch` does."""
        with self._explained():
            self._planned(connection)
            connection.execute(self._rows.select, (0, -1, 0)).close()
            order = self.columns.order_column
            if order:
                connection.execute(
                    f"SELECT t.{quoted(order)} FROM {quoted(self.table)} AS t LIMIT 0"
                ).close()

    def end(self, connection: Connection, cursor: int) -> int | None:
        """The highest number, or one above it where a row waits for one; None for neither.

        Raises:
            OutboxUnreadable: as `batch`.
        """
        try:
            self.probe(connection)
            highest = _highest(connection)
            if highest > max(cursor, 0):  # below 0 is the cursor before the first row
                return highest
            with self._explained():
                found = self._look(connection)
        except OutboxUnreadable:
            self._facts = None  # once it is back it may be made otherwise
            raise
        return highest + 1 if found else highest or None

    def rests(self, version: int) -> bool:
        """Whether a round in the rear, which is longer than what is in front, has come to its end
        in this version of the file."""
        return self._rested == version

    def fresh(self, connection: Connection, cursor: int) -> tuple[list[RawRow | Rejection], bool]:
        """Give new rows their numbers, and read those that ingest takes in next.

        To be called in a writing transaction.
        """
        raw, full = self.batch(connection, cursor + 1, ranges.HIGHEST)
        if raw:
            return raw, True  # numbered by a batch before, and it may not be all
        # Of what was numbered and not taken the host has deleted all: no id, no gap.
        connection.execute(FORGET_ABOVE, (max(cursor, 0),))
        with self._explained():
            self._planned(connection)
            full = self._number(connection)
        raw, more = self.batch(connection, cursor + 1, ranges.HIGHEST)
        return raw, full or more

    def batch(
        self, connection: Connection, first: int, last: int
    ) -> tuple[list[RawRow | Rejection], bool]:
        """As with a table that has numbers of its own. A key that two rows share counts once."""
        raw, full = super().batch(connection, first, last)
        once = {row.outbox_id: row for row in reversed(raw)}
        return [once[number] for number in sorted(once)], full

    def lag(self, connection: Connection, cursor: int, most: int) -> int:
        """How many rows wait, up to `most`; of those that only the rear can find, the newest count.

        Raises:
            OutboxUnreadable: as `end`.
        """
        self.probe(connection)
        waiting = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM webhookd_ledger WHERE number > ? LIMIT ?)",
            (cursor, most),
        ).fetchone()[0]
        with self._explained():
            walk = self._front or self._rear
            spot = self._place(connection) if self._front is not None else None
            if self._front is not None and spot is not None:
                waiting += self._front.unknown_behind(connection, spot)
            while walk is not None and waiting < most:
                unknown, count = walk.look(connection, spot)
                waiting += unknown
                if count < PIECE or not unknown:
                    break
                spot = walk.end(connection, spot, count)
        return min(int(waiting), most)

    def adopt(self, connection: Connection) -> int:
        """Give every row its number, for whoever wants all of them at once; returns the highest."""
        with self._explained():
            self._planned(connection)
            spot: Spot | None = None
            while self._rear is not None:
                self._rear.number(connection, spot)
                _, count = self._rear.look(connection, spot)
                if not count:
                    break
                spot = self._rear.end(connection, spot, count)
            self._move_front(connection)
        return _highest(connection)

    @property
    def only_rear(self) -> bool:
        """Whether new rows are found by reading the whole table alone."""
        return self._front is None

    def rows_without_key(self, connection: Connection) -> bool:
        """Whether there is a row whose key is NULL: it waits for one."""
        key = f"t.{quoted(self.columns.id)}"
        sql = f"SELECT 1 FROM {quoted(self.table)} AS t WHERE {key} IS NULL LIMIT 1"
        with self._explained():
            return connection.execute(sql).fetchone() is not None

    def newer_than_the_last(self, connection: Connection, most: int) -> int:
        """How many rows, up to `most`, were inserted after the one that is last by the order
        column: what comes then is no longer found in front."""
        if self._front is None or self._front is self._rear or self._facts is None:
            return 0
        if not self._facts.row_number:
            return 0  # which one was inserted after another is not to be told
        with self._explained():
            return self._front.above_the_last(connection, most)

    def statements(self) -> list[str]:
        """What is run again and again, for whoever asks how SQLite would go about it."""
        walks = {id(walk): walk for walk in (self._front, self._rear) if walk is not None}
        return [
            self._rows.select,
            self._rows.numbers,
            *(sql for walk in walks.values() for sql in walk.statements()),
        ]

    def _place(self, connection: Connection) -> Spot | None:
        if not self._front_known:
            found = connection.execute(PLACE).fetchone()
            spot = ((found[0], found[1]), (found[2], found[3]))
            # Places by another order say nothing: what is known is passed over once more.
            same_order = found[4] == self.columns.order_column
            self._front_at = spot if same_order and spot[1] != NOWHERE else None
            self._front_known = True
        return self._front_at

    def _look(self, connection: Connection) -> bool:
        """Whether there is an unknown row within sight; passes over those that are known."""
        return self._look_in_front(connection) or self._look_in_the_rear(connection)

    def _look_in_front(self, connection: Connection) -> bool:
        if self._front is None:
            return False
        spot = self._place(connection)
        if spot is not None and self._front.is_below(connection, spot):
            # Rows were deleted or put right, or VACUUM has numbered them anew. A piece back: what
            # came since may be among the last, and what lies before them is the rear's.
            spot = self._front_at = self._front.last_spot(connection, before=PIECE)
        for _ in range(PIECES_A_LOOK):
            unknown, count = self._front.look(connection, spot)
            if unknown:
                return True
            if count:
                spot = self._front_at = self._front.end(connection, spot, count)
            if count < PIECE:
                return False
        return False

    def _look_in_the_rear(self, connection: Connection) -> bool:
        if self._rear is None:
            return False
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if self._version is None:
            if version == self._rested:
                return False
            self._version, self._rear_at = version, None
        unknown, count = self._rear.look(connection, self._rear_at)
        if unknown:
            return True
        if count == PIECE:
            self._rear_at = self._rear.end(connection, self._rear_at, count)
        else:
            self._rested, self._version, self._rear_at = self._version, None, None
            self.went_round = True
        return False

    def _number(self, connection: Connection) -> bool:
        """Number what is new within sight; returns whether there may be more of it."""
        full = False
        if self._front is not None:
            spot = self._place(connection)
            _, count = self._front.look(connection, spot)
            if count and self._front.number(connection, spot):
                self._keep(connection, self._front.end(connection, spot, count))
                full = count == PIECE
        if self._rear is not None and self._version is not None:
            full |= self._rear.number(connection, self._rear_at) == PIECE
        return full

    def _move_front(self, connection: Connection) -> None:
        """Put the place in front behind the last row, in the caller's transaction."""
        if self._front is None:
            return
        spot = self._front.last_spot(connection)
        if spot is not None:
            self._keep(connection, spot)

    def _keep(self, connection: Connection, spot: Spot) -> None:
        values = (self.columns.order_column, *bound(spot[0]), *bound(spot[1]))
        connection.execute(SET_PLACE, values)


def _highest(connection: Connection) -> int:
    return int(connection.execute(HIGHEST).fetchone()[0])
