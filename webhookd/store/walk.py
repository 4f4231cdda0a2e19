"""Going over a host's table piece by piece, in one order: which of its rows the ledger knows."""

from collections.abc import Sequence
from typing import Any, Final

from webhookd.store.driver import Connection

PIECE: Final = 500
"""Rows that one query looks at: a third of a millisecond."""

KEPT: Final = "CASE ? WHEN 'text' THEN CAST(? AS TEXT) ELSE ? END"
"""A value as it was read: text goes to and fro as its bytes, whatever they are."""
_KNOWN: Final = "(k IS NULL OR EXISTS (SELECT 1 FROM webhookd_ledger AS l WHERE l.key = +k))"

Value = tuple[str, Any]
"""A value of SQLite's: its type, and it itself, text as bytes."""
Spot = tuple[Value, Value]
"""The order value of a row (NULL where there is none), and its place."""
NOWHERE: Final[Value] = ("null", None)


def bound(value: Value) -> tuple[Any, Any, Any]:
    """The parameters of `KEPT`."""
    return value[0], value[1], value[1]


def as_read(name: str) -> str:
    """The two columns that a `Value` is read from."""
    return (
        f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
    )


class Walk:
    """The statements that go over the table piece by piece, in one order."""

    def __init__(self, table: str, key: str, place: str, order: str) -> None:
        """`order` is '' for the order of places alone."""
        self._ordered = bool(order)
        source, not_null = f" FROM {table} AS t", f" WHERE {order} IS NOT NULL" if order else ""
        names = tuple(name for name in (order, place) if name)
        columns = f"SELECT {order or 'NULL'} AS o, {place} AS p, {key} AS k{source}"
        # Two searches where a spot has both: from a pair alone SQLite begins at the first of all
        # rows with that order value, and there may be hundreds of thousands.
        above = f"{columns} WHERE {place} > {KEPT}"
        if order:
            above = (
                f"{columns} WHERE {order} = {KEPT} AND {place} > {KEPT}"
                f" UNION ALL {columns} WHERE {order} > {KEPT}"
            )
        ordered = " ORDER BY o, p" if order else " ORDER BY p"
        self.pieces: Final = {
            name: _piece(rows + ordered)
            for name, rows in (("all", columns + not_null), ("above", above))
        }
        pair = f"({order}, {place})" if order else place
        kept = f"({KEPT}, {KEPT})" if order else KEPT
        last = f"{not_null} ORDER BY {', '.join(f'{name} DESC' for name in names)} LIMIT 1"
        self.last: Final = f"SELECT {as_read('o')}, {as_read('p')} FROM ({columns}{last} OFFSET ?)"
        # No ORDER BY: an index that goes on with other columns would have SQLite sort.
        above_it = f"EXISTS (SELECT 1{source} WHERE {place} >= {KEPT})"
        if order:
            above_it = (
                f"EXISTS (SELECT 1{source} WHERE {order} = {KEPT} AND {place} >= {KEPT})"
                f" OR EXISTS (SELECT 1{source} WHERE {order} > {KEPT})"
            )
        self.below: Final = f"SELECT NOT ({above_it})"
        self.behind: Final = (
            f"SELECT coalesce(sum(NOT {_KNOWN} AND behind), 0) FROM (SELECT {key} AS k,"
            f" coalesce({pair} <= {kept}, 1) AS behind{source} ORDER BY {place} DESC LIMIT ?)"
        )
        self.newer: Final = (
            f"SELECT count(*) FROM (SELECT 1{source} WHERE {place} >"
            f" (SELECT {place}{source}{last}) LIMIT ?)"
        )

    def is_below(self, connection: Connection, spot: Spot) -> bool:
        """Whether the last of all rows lies below `spot`; there may be none at all."""
        return bool(connection.execute(self.below, self._above(spot)).fetchone()[0])

    def unknown_behind(self, connection: Connection, spot: Spot) -> int:
        """Unknown rows not above `spot`, among those of a piece that have the highest places."""
        found = connection.execute(self.behind, (*self._values(spot), PIECE)).fetchone()
        return int(found[0])

    def above_the_last(self, connection: Connection, most: int) -> int:
        """How many rows have a higher place than the last in this order, up to `most`."""
        return int(connection.execute(self.newer, (most,)).fetchone()[0])

    def last_spot(self, connection: Connection, before: int = 0) -> Spot | None:
        """That of the last of all rows, or of the one so many `before` it; None for none."""
        found = connection.execute(self.last, (before,)).fetchone()
        return None if found is None else ((found[0], found[1]), (found[2], found[3]))

    def look(self, connection: Connection, spot: Spot | None) -> tuple[int, int]:
        """Rows above `spot` (None: all) that are unknown, and all of them, within one piece."""
        sql, values = self._piece(spot, 0)
        unknown, count = connection.execute(sql, (*values, PIECE)).fetchone()
        return unknown or 0, count

    def end(self, connection: Connection, spot: Spot | None, count: int) -> Spot:
        """The spot of the last of the `count` rows above `spot`."""
        sql, values = self._piece(spot, 1)
        found = connection.execute(sql, (*values, count - 1)).fetchone()
        return (found[0], found[1]), (found[2], found[3])

    def number(self, connection: Connection, spot: Spot | None) -> int:
        """Give each unknown row of the piece above `spot` its number; returns how many."""
        sql, values = self._piece(spot, 2)
        return int(connection.execute(sql, (*values, PIECE)).rowcount)

    def _piece(self, spot: Spot | None, which: int) -> tuple[str, Sequence[Any]]:
        if spot is None:
            return self.pieces["all"][which], ()
        return self.pieces["above"][which], self._above(spot)

    def _above(self, spot: Spot) -> Sequence[Any]:
        """The parameters of two searches: beside the spot, and beyond its order value."""
        again = bound(spot[0]) if self._ordered else ()
        return (*self._values(spot), *again)

    def _values(self, spot: Spot) -> Sequence[Any]:
        position, place = spot
        return (*bound(position), *bound(place)) if self._ordered else bound(place)

    def statements(self) -> list[str]:
        """All of them, for whoever asks how SQLite would go about them."""
        pieces = [sql for piece in self.pieces.values() for sql in piece]
        in_order = [self.last, self.newer] if self._ordered else []
        return [*pieces, self.below, self.behind, *in_order]


def _piece(rows: str) -> tuple[str, str, str]:
    """How many of the piece are unknown and how many there are; one of its rows; numbers for it."""
    unknown = f"SELECT k FROM ({rows} LIMIT ?) WHERE NOT {_KNOWN}"
    return (
        f"SELECT sum(NOT {_KNOWN}), count(*) FROM ({rows} LIMIT ?)",
        f"SELECT {as_read('o')}, {as_read('p')} FROM ({rows} LIMIT 1 OFFSET ?)",
        f"INSERT OR IGNORE INTO webhookd_ledger (key) {unknown}",
    )
