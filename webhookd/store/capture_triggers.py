"""The triggers of captures, as SQL: how they are made, and what names stand in those of the file.

What they say, and when, is in `webhookd.store.captures`.

SQLite renames in them what the host renames in its schema, so they know a table and its columns by
the names of today, whatever was written down when they were made.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from webhookd.core.capture import Action, Capture
from webhookd.core.rows import EMPTY_ID
from webhookd.store import host_table
from webhookd.store.driver import Connection
from webhookd.store.host_table import quoted, same
from webhookd.store.outbox import literal

PREFIX: Final = "webhook_capture_"
"""How the names of all triggers begin."""
CHANGED_ID: Final = "moved"
"""The last part of the name of the trigger for a row whose id changes."""

Trigger = tuple[str, str, str]
"""Its name, its table, its SQL."""

_TRIGGERS: Final = (
    "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    " AND substr(name, 1, ?) = ?"
)
_EMPTY: Final = f"x'{EMPTY_ID.hex()}'"
_NOW: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_DIFFERS: Final = re.compile(r'NEW\.("(?:[^"]|"")*") IS NOT OLD\.\1 COLLATE BINARY')
"""What `_differs` makes."""
_INTO: Final = re.compile(r'INSERT INTO ("(?:[^"]|"")*")')
"""How `_row` begins."""
A_GROUP: Final = 100
"""Conditions that stand side by side; more stand in groups."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A capture as it stands in the file."""

    key: int
    capture: Capture
    created_at: str

    @property
    def trigger_prefix(self) -> str:
        """How the names of its triggers begin."""
        return f"{PREFIX}{self.key}_"


def in_file(connection: Connection, prefix: str) -> list[Trigger]:
    """Those whose names begin so: name, table and SQL of each."""
    return connection.execute(_TRIGGERS, (len(prefix), prefix)).fetchall()


def drop(connection: Connection, names: Iterable[str]) -> None:
    """Take triggers away."""
    for name in names:
        connection.execute(f"DROP TRIGGER {quoted(name)}")


def by_todays_names(connection: Connection, stored: Stored, there: list[Trigger]) -> Capture:
    """The capture as its triggers, which are `there`, name its table and columns.

    As it was written down where they do not tell: they are not there, or not as they are made now.
    """
    capture = stored.capture
    tables = {table for _, table, _ in there}
    if len(tables) == 1 and not host_table.kind_of(connection, capture.table):
        capture = replace(capture, table=tables.pop())
    compared = {name.removeprefix(stored.trigger_prefix): _compared(sql) for name, _, sql in there}
    before = _keys(capture)
    keys = compared.get(CHANGED_ID, [])
    if len(keys) != len(before):
        return capture
    others = compared.get(Action.UPDATE, [])[len(keys) :]
    watched = [name for name in capture.columns if not _is_among(name, before)]
    known = dict(zip(before, keys, strict=True))
    if len(others) == len(watched):
        known |= zip(watched, others, strict=True)
    return replace(
        capture,
        id_column=keys[0],
        tenant_column=keys[1] if capture.tenant_column else "",
        columns=tuple(_renamed(name, known) for name in capture.columns),
    )


def _renamed(name: str, known: dict[str, str]) -> str:
    return next((now for before, now in known.items() if same(before, name)), name)


def _compared(sql: str) -> list[str]:
    """The columns whose values before and after a change a trigger compares, in its order."""
    return [_unquoted(found) for found in _DIFFERS.findall(sql)]


def outbox_of(there: Iterable[Trigger]) -> str:
    """The table that triggers put their rows into, by its name of today; `''` for none."""
    return next((_unquoted(into) for _, _, sql in there for into in _INTO.findall(sql)), "")


def _unquoted(name: str) -> str:
    """What `quoted` was made of."""
    return name[1:-1].replace('""', '"')


def _keys(capture: Capture) -> list[str]:
    """The columns that say whose change it is."""
    return [name for name in (capture.id_column, capture.tenant_column) if name]


def _is_among(name: str, names: Iterable[str]) -> bool:
    return any(same(name, other) for other in names)


def statements(connection: Connection, outbox: str, stored: Stored) -> dict[str, str]:
    """The triggers of a capture, by name, as they are to be created."""
    capture = stored.capture
    facts = host_table.inspect(connection, capture.table)
    if facts is None:
        raise RuntimeError(f"there is no table {capture.table}")
    watched = capture.columns or host_table.plain_columns(connection, capture.table)
    keys = _keys(capture)
    others = [name for name in watched if not _is_among(name, keys)]
    changed = _any([_differs(name) for name in others])
    moved = " OR ".join(_differs(name) for name in keys)
    made: dict[str, tuple[str, str, list[str]]] = {}
    on = capture.actions

    def say(action: Action, row: str) -> str:
        return _row(outbox, capture, action, row)

    if Action.INSERT in on:
        made[Action.INSERT] = ("INSERT", _has_id(capture, "NEW"), [say(Action.INSERT, "NEW")])
    if Action.UPDATE in on and others:
        when = f"{_has_id(capture, 'NEW')} AND NOT ({moved}) AND ({changed})"
        made[Action.UPDATE] = ("UPDATE", when, [say(Action.UPDATE, "NEW")])
    if Action.DELETE in on:
        made[Action.DELETE] = ("DELETE", _has_id(capture, "OLD"), [say(Action.DELETE, "OLD")])
    told = [say(Action.DELETE, "OLD")] if Action.DELETE in on else []
    if Action.INSERT in on or Action.UPDATE in on:
        new = Action.INSERT if Action.INSERT in on else Action.UPDATE
        told.append(say(new, "NEW"))
    made[CHANGED_ID] = ("UPDATE", moved, told)
    return {
        f"{stored.trigger_prefix}{name}": (
            f"CREATE TRIGGER {stored.trigger_prefix}{name} AFTER {event}"
            f" ON {quoted(capture.table)} WHEN {when} BEGIN {' '.join(body)} END"
        )
        for name, (event, when, body) in made.items()
    }


def _any(conditions: list[str]) -> str:
    # An expression of SQLite's may be a thousand deep, and a table have twice as many columns.
    if len(conditions) > A_GROUP:
        groups = range(0, len(conditions), A_GROUP)
        conditions = [f"({' OR '.join(conditions[at : at + A_GROUP])})" for at in groups]
    return " OR ".join(conditions)


def _differs(column: str) -> str:
    # By its bytes, whatever the column's own collation takes for equal, and NULL like any value.
    return f"NEW.{quoted(column)} IS NOT OLD.{quoted(column)} COLLATE BINARY"


def _has_id(capture: Capture, row: str) -> str:
    return f"{row}.{quoted(capture.id_column)} IS NOT NULL"


def _row(outbox: str, capture: Capture, action: Action, row: str) -> str:
    tenant = f"{row}.{quoted(capture.tenant_column)}" if capture.tenant_column else "NULL"
    own = f"{row}.{quoted(capture.id_column)}"
    number = f"CASE WHEN {own} COLLATE BINARY IN ('', x'') THEN {_EMPTY} ELSE {own} END"
    return (
        f"INSERT INTO {quoted(outbox)} (event_type, aggregate_id, tenant, occurred_at)"
        f" SELECT {literal(capture.event_type(action))}, {number},"
        f" {tenant}, {_NOW} WHERE {_has_id(capture, row)};"
    )
