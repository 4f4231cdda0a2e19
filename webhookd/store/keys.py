"""The host's own keys of outbox rows, where the outbox id is a number that the ledger gave them.

People know a row by its key. It is of whatever type the host's column has: text and numbers are
shown as they are, bytes in hexadecimal. A row that ingest has not found yet has no number: it is
looked for in the host's table.
"""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from webhookd.core.rows import RawRow, Rejection
from webhookd.core.text import CUT, printable, printable_bytes
from webhookd.errors import NotFound
from webhookd.store import ranges
from webhookd.store.driver import Connection
from webhookd.store.host_table import quoted
from webhookd.store.outbox import Outbox, Rows

SHOWN: Final = 128
"""Characters of a key that are shown."""

KEY: Final = (
    "SELECT CASE typeof(key) WHEN 'blob' THEN hex(key) ELSE CAST(key AS TEXT) END"
    " FROM webhookd_ledger WHERE number = ?"
)
NUMBER: Final = "SELECT number FROM webhookd_ledger WHERE key = ?"
NO_NUMBER: Final = 0
"""Stands for the number of a row that has none: the ledger begins at 1."""

_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_BYTES: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")


def shown(connection: Connection, number: int) -> str | None:
    """The key of the row with that outbox id, made printable; None where the table has numbers."""
    return named(connection, [number]).get(number)


def named(connection: Connection, numbers: Iterable[int]) -> dict[int, str]:
    """The keys of these rows; nothing of those that have none."""
    text_factory = connection.text_factory
    connection.text_factory = bytes  # it may be no UTF-8
    try:
        found = {one: connection.execute(KEY, (one,)).fetchone() for one in numbers}
    finally:
        connection.text_factory = text_factory
    return {one: printable_bytes(row[0], SHOWN) for one, row in found.items() if row is not None}


def find(connection: Connection, key: str) -> int:
    """The outbox id of the row with that key, as `shown` gives it where that is all of it.

    One that is shown cut or escaped is to be asked for by the outbox id beside it, or written out.

    Raises:
        NotFound: no such key has been seen.
    """
    for value in _meant(key):
        row = connection.execute(NUMBER, (value,)).fetchone()
        if row is not None:
            return int(row[0])
    if key.endswith(CUT):
        raise NotFound(
            f"no outbox row with the key {key!r} has been seen; it is shown cut: name the outbox "
            "id that stands beside it, or the whole key"
        )
    raise NotFound(
        f"no outbox row with the key {key!r} has been seen; the daemon gives each row a number "
        "when it finds it, and forgets that of one that is long gone"
    )


def unnumbered(
    connection: Connection, outbox: Outbox, max_payload: int, key: str
) -> tuple[RawRow | Rejection, str] | None:
    """The row of the host's table with that key, as `find` takes it, and the key as it is shown.

    The row's outbox id is `NO_NUMBER`. None where there is no such row.

    Raises:
        OutboxUnreadable: the table or one of its columns is gone.
    """
    for value in _meant(key):
        if isinstance(value, float) and not math.isfinite(value):
            continue  # SQL has no word for it
        row = _OneRow(connection, outbox, max_payload, value)
        raw, _ = row.batch(connection, NO_NUMBER, NO_NUMBER)
        if raw:
            seen = value.hex().upper() if isinstance(value, bytes) else str(value)
            return raw[0], printable(seen, SHOWN)
    return None


class _OneRow(Outbox):
    """A host's table as if it had but the row with one key, or none."""

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        max_payload: int,
        value: str | float | bytes,
    ) -> None:
        """`value` is of the type that the key has; no other is the same key to the ledger."""
        super().__init__(outbox.path, outbox.table, max_payload, outbox.columns)
        key = f"t.{quoted(outbox.columns.id)}"
        text = connection.execute("SELECT quote(?)", (value,)).fetchone()[0]
        # The first lets an index lead there; the second is how the ledger compares.
        same = f"{key} = {text} AND +{key} = {text} COLLATE BINARY"
        self._rows = Rows(
            f"(SELECT {NO_NUMBER} AS number) AS n CROSS JOIN {quoted(outbox.table)} AS t ON {same}",
            "n.number",
            outbox.columns,
            max_payload,
            f"CAST({key} AS BLOB)",
        )


def _meant(key: str) -> Iterator[str | int | float | bytes]:
    """What was typed, in the types that the host's column may have."""
    yield key
    if _WHOLE.fullmatch(key) and ranges.LOWEST <= int(key) <= ranges.HIGHEST:
        yield int(key)
    with contextlib.suppress(ValueError):
        yield float(key)
    if _BYTES.fullmatch(key):
        yield bytes.fromhex(key)
