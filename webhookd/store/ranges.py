"""The outbox ids that are done with, kept as ranges, so that nothing is ever taken up twice."""

from collections.abc import Iterable
from typing import Final

from webhookd.store.driver import Connection

LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1


def runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending ids as inclusive runs of neighbours: 3, 4, 7 are (3, 4) and (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in ids:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def add(connection: Connection, first: int, last: int) -> None:
    """Mark `first` to `last` as done, joining the ranges that it touches.

    The ids must be in no range yet.
    """
    before = connection.execute(
        "SELECT first, last FROM webhookd_ranges WHERE first < ? ORDER BY first DESC LIMIT 1",
        (first,),
    ).fetchone()
    after = None
    if last < HIGHEST:
        after = connection.execute(
            "SELECT first, last FROM webhookd_ranges WHERE first = ?", (last + 1,)
        ).fetchone()
    if after is not None:
        connection.execute("DELETE FROM webhookd_ranges WHERE first = ?", (after[0],))
        last = after[1]
    if before is not None and before[1] == first - 1:
        connection.execute("UPDATE webhookd_ranges SET last = ? WHERE first = ?", (last, before[0]))
    else:
        connection.execute("INSERT INTO webhookd_ranges (first, last) VALUES (?, ?)", (first, last))


def remove(connection: Connection, number: int) -> None:
    """Take one id out again, so that the next sweep looks at it."""
    found = connection.execute(
        "SELECT first, last FROM webhookd_ranges WHERE first <= ? ORDER BY first DESC LIMIT 1",
        (number,),
    ).fetchone()
    if found is None or found[1] < number:
        return
    first, last = found
    connection.execute("DELETE FROM webhookd_ranges WHERE first = ?", (first,))
    for piece in ((first, number - 1), (number + 1, last)):
        if piece[0] <= piece[1]:
            connection.execute("INSERT INTO webhookd_ranges (first, last) VALUES (?, ?)", piece)


def gaps(connection: Connection, start: int, cursor: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` inclusive stretches of ids from `start` to `cursor` that are in no range."""
    around = connection.execute(
        "SELECT last FROM webhookd_ranges WHERE first <= ? ORDER BY first DESC LIMIT 1", (start,)
    ).fetchone()
    position = start
    if around is not None and around[0] >= start:
        if around[0] >= cursor:
            return []
        position = around[0] + 1
    rows = connection.execute(
        "SELECT first, last FROM webhookd_ranges WHERE first >= ? AND first <= ?"
        " ORDER BY first LIMIT ?",
        (position, cursor, limit + 1),
    ).fetchall()
    found: list[tuple[int, int]] = []
    for first, last in rows:
        if first > position:
            found.append((position, first - 1))
        if last >= cursor:
            return found[:limit]
        position = last + 1
    if len(rows) <= limit and position <= cursor:
        found.append((position, cursor))
    return found[:limit]
