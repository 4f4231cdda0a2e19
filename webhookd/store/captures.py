"""Captures: triggers on a table of the host's that write ID-only rows into the outbox.

They run in the host's own transaction, with the host's own and possibly old SQLite: an event is
there exactly when the change is. So they are plain SQL of SQLite 3.8.3, call no function but
`strftime`, and can fail in one way only: the outbox is gone.

A row whose id (or tenant) changes is another aggregate from then on: the old one was deleted, the
new one created. A row whose id is NULL is none, and nothing is said of it. One whose id is empty
makes a row that ingest rejects: to ingest no text at all means that the host has no id to give, and
an event without one would be sent and tell nobody anything.

What was asked for stands in `webhookd_captures`, because a host that makes a table anew (and that
is how most tools change one) drops its triggers with the old one: `repair` makes them again.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from webhookd.core.capture import Action, Capture, fault
from webhookd.core.findings import Finding, Level
from webhookd.core.model import Millis
from webhookd.core.rows import EMPTY_ID
from webhookd.core.times import to_text
from webhookd.errors import NotFound, Refused, UsageError
from webhookd.store import host_table
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.host_table import quoted, same
from webhookd.store.outbox import literal
from webhookd.store.transaction import Transaction

PREFIX: Final = "webhook_capture_"
"""How the names of all triggers begin."""
CHANGED_ID: Final = "moved"
"""The last part of the name of the trigger for a row whose id changes."""

_ALL: Final = (
    "SELECT key, table_name, event_prefix, id_column, tenant_column, columns, actions, created_at"
    " FROM webhookd_captures ORDER BY key"
)
_INSERT: Final = (
    "INSERT INTO webhookd_captures (table_name, event_prefix, id_column, tenant_column, columns,"
    " actions, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_TRIGGERS: Final = (
    "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    " AND substr(name, 1, ?) = ?"
)
_EMPTY: Final = f"x'{EMPTY_ID.hex()}'"
_NOW: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


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


@dataclass(frozen=True, slots=True)
class Standing:
    """A capture, and what has become of it."""

    stored: Stored
    triggers: tuple[str, ...]
    """Those that are there, by name."""
    fault: str
    """What is wrong with it, in words; `''` for nothing."""
    repairable: bool
    """Whether `repair` mends that."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What `repair` did for one capture."""

    table: str
    made: tuple[str, ...]
    """Triggers that it made, or made anew."""
    fault: str
    """What it could not mend; `''` for nothing."""


def add(transaction: Transaction, wanted: Capture, now: Millis) -> Stored:
    """Put the triggers on the table.

    Raises:
        Refused: the outbox is the host's own table, or the table cannot be watched.
        UsageError: the capture makes no sense.
        NotFound: there is no such table or column.
    """
    file, connection = transaction.file, transaction.connection
    if wrong := fault(wanted):
        raise UsageError(f"capture: {wrong}")
    if not file.outbox_ours:
        raise Refused(
            f"{file.outbox_table}: is the host's own table, so webhookd lets nothing be written "
            "into it; captures need the outbox that `webhookd init` makes"
        )
    if host_table.inspect(connection, file.outbox_table) is None:
        raise Refused(
            f"{file.outbox_table}: the outbox is gone, and each change of {wanted.table} would "
            "fail; `webhookd init` makes it again"
        )
    capture = _fitted(connection, file, wanted)
    for one in load(connection):
        if same(one.capture.table, capture.table):
            raise Refused(
                f"{capture.table}: is captured already; `webhookd capture remove {capture.table}` "
                "first, to capture it otherwise"
            )
    made = connection.execute(
        _INSERT,
        (
            capture.table,
            capture.event_prefix,
            capture.id_column,
            capture.tenant_column,
            json.dumps(capture.columns, ensure_ascii=False),
            json.dumps(capture.actions),
            to_text(now),
        ),
    ).lastrowid
    if made is None:
        raise RuntimeError("an INSERT into a table with an integer key gave no id")
    stored = Stored(made, capture, to_text(now))
    # Left over where the record was lost and they were not.
    _drop(connection, [name for name, _, _ in _triggers(connection, stored.trigger_prefix)])
    for sql in statements(connection, file.outbox_table, stored).values():
        connection.execute(sql)
    return stored


def load(connection: Connection) -> list[Stored]:
    """All captures, the oldest first."""
    return [
        Stored(
            row[0],
            Capture(
                row[1],
                row[2],
                row[3],
                row[4],
                tuple(json.loads(row[5])),
                tuple(map(Action, json.loads(row[6]))),
            ),
            row[7],
        )
        for row in connection.execute(_ALL).fetchall()
    ]


def find(connection: Connection, table: str) -> Stored:
    """The capture of that table. Raises NotFound."""
    for one in load(connection):
        if same(one.capture.table, table):
            return one
    raise NotFound(f"{table}: is not captured; `webhookd capture list` shows what is")


def made(connection: Connection, stored: Stored) -> list[str]:
    """The SQL of its triggers, as they are in the file."""
    return [sql for _, _, sql in _triggers(connection, stored.trigger_prefix)]


def standing(connection: Connection, file: FileRow, stored: Stored) -> Standing:
    """What has become of a capture."""
    there = _triggers(connection, stored.trigger_prefix)
    names = tuple(name for name, _, _ in there)
    renamed = _renamed(connection, stored.capture, there)
    if renamed:
        wrong = f"the host has renamed the table: it is {renamed} now"
        return Standing(stored, names, wrong, repairable=True)
    wrong = _unfit(connection, file, stored)
    if wrong:
        return Standing(stored, names, wrong, repairable=False)
    capture = stored.capture
    elsewhere = sorted({table for _, table, _ in there if not same(table, capture.table)})
    if elsewhere:
        return Standing(
            stored,
            names,
            f"its triggers are on {elsewhere[0]}: perhaps the host has made the table anew",
            repairable=True,
        )
    wanted = statements(connection, file.outbox_table, stored)
    have = {name: sql for name, _, sql in there}
    lost = [name for name in wanted if name not in have]
    if lost:
        return Standing(
            stored,
            names,
            f"lost {len(lost)} of its {len(wanted)} triggers: perhaps the host has made the table"
            " anew",
            repairable=True,
        )
    if wanted != have:
        wrong = "its triggers are not those of today's columns, or of this webhookd"
        return Standing(stored, names, wrong, repairable=True)
    return Standing(stored, names, "", repairable=False)


def remove(transaction: Transaction, table: str) -> int:
    """Take the triggers off the table again; returns how many there were. Raises NotFound."""
    stored = find(transaction.connection, table)
    names = [name for name, _, _ in _triggers(transaction.connection, stored.trigger_prefix)]
    _drop(transaction.connection, names)
    transaction.connection.execute("DELETE FROM webhookd_captures WHERE key = ?", (stored.key,))
    return len(names)


def remove_all(transaction: Transaction) -> int:
    """Take off every trigger of webhookd's, recorded or not; returns how many there were."""
    names = [name for name, _, _ in _triggers(transaction.connection, PREFIX)]
    _drop(transaction.connection, names)
    transaction.connection.execute("DELETE FROM webhookd_captures")
    return len(names)


def repair(transaction: Transaction) -> list[Repaired]:
    """Make the triggers of every capture as they should be; those that are so stay untouched."""
    connection, file = transaction.connection, transaction.file
    done = []
    for stored in load(connection):
        before = standing(connection, file, stored)
        if not before.fault:
            continue
        if not before.repairable:
            done.append(Repaired(stored.capture.table, (), before.fault))
            continue
        renamed = _renamed(connection, stored.capture, _triggers(connection, stored.trigger_prefix))
        if renamed:
            connection.execute(
                "UPDATE webhookd_captures SET table_name = ? WHERE key = ?", (renamed, stored.key)
            )
            stored = replace(stored, capture=replace(stored.capture, table=renamed))
            if wrong := _unfit(connection, file, stored):
                done.append(Repaired(renamed, (), wrong))
                continue
        _drop(connection, before.triggers)
        wanted = statements(connection, file.outbox_table, stored)
        for sql in wanted.values():
            connection.execute(sql)
        done.append(Repaired(stored.capture.table, tuple(wanted), ""))
    return done


def findings(connection: Connection, file: FileRow) -> Iterator[Finding]:
    """What `check` says of captures; nothing where there are none, and never were."""
    if host_table.kind_of(connection, "webhookd_captures") != "table":
        return
    known = load(connection)
    for stored in known:
        found = standing(connection, file, stored)
        place = f"capture {stored.capture.table}"
        if found.fault:
            if found.repairable:
                remedy = "`webhookd capture repair` mends it"
            else:
                remedy = _remedy(connection, file, stored)
            yield Finding(Level.FAULT, place, f"{found.fault}; {remedy}")
        else:
            yield Finding(Level.OK, place, f"{len(found.triggers)} triggers are in place")
    prefixes = tuple(one.trigger_prefix for one in known)
    for name, table, _ in _triggers(connection, PREFIX):
        if not name.startswith(prefixes):
            yield Finding(
                Level.FAULT,
                f"capture {table}",
                f"the trigger {name} belongs to no capture; "
                "`webhookd capture remove --all` takes off every one of webhookd's",
            )


def statements(connection: Connection, outbox: str, stored: Stored) -> dict[str, str]:
    """The triggers of a capture, by name, as they are to be created."""
    capture = stored.capture
    facts = host_table.inspect(connection, capture.table)
    if facts is None:
        raise RuntimeError(f"there is no table {capture.table}")
    watched = capture.columns or host_table.plain_columns(connection, capture.table)
    keys = [name for name in (capture.id_column, capture.tenant_column) if name]
    others = [name for name in watched if not any(same(name, key) for key in keys)]
    changed = " OR ".join(_differs(name) for name in others)
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


def _fitted(connection: Connection, file: FileRow, wanted: Capture) -> Capture:
    """The capture by the names that the host's table has. Raises as `add` does."""
    table = wanted.table
    wrong = _unwatchable(connection, file, table)
    if wrong:
        raise Refused(f"{table}: {wrong}")
    names = host_table.all_columns(connection, table)
    asked = [wanted.id_column, *wanted.columns]
    asked += [wanted.tenant_column] if wanted.tenant_column else []
    real = {}
    for column in asked:
        found = [name for name in names if same(name, column)]
        if not found:
            raise NotFound(f"{table}: has no column {column}; it has {', '.join(names)}")
        real[column] = found[0]
    return Capture(
        host_table.real_name(connection, table),
        wanted.event_prefix,
        real[wanted.id_column],
        real[wanted.tenant_column] if wanted.tenant_column else "",
        tuple(dict.fromkeys(real[column] for column in wanted.columns)),
        tuple(action for action in Action if action in wanted.actions),
    )


def _unwatchable(connection: Connection, file: FileRow, table: str) -> str:
    """Why a table cannot be captured; `''` if it can."""
    folded = table.lower()
    if same(table, file.outbox_table):
        return "is the outbox itself; name a table that the host keeps its data in"
    if folded.startswith(("webhookd_", "webhook_", "sqlite_")):
        return "is not a table of the host's; name one that it keeps its data in"
    kind = host_table.kind_of(connection, table)
    if not kind:
        return "there is no such table in the file"
    if kind != "table":
        return f"is a {kind}, and triggers see no change of its rows; name the table behind it"
    return ""


def _unfit(connection: Connection, file: FileRow, stored: Stored) -> str:
    """What is gone that a capture needs; `''` for nothing."""
    capture = stored.capture
    if host_table.inspect(connection, file.outbox_table) is None:
        gone = f"the outbox table '{file.outbox_table}' is gone"
        return f"{gone}, and every change that it watches fails"
    if host_table.inspect(connection, capture.table) is None:
        return "the table is gone"
    have = host_table.all_columns(connection, capture.table)
    for column in (capture.id_column, capture.tenant_column, *capture.columns):
        if column and not any(same(column, name) for name in have):
            return f"its column {column} is gone"
    return ""


def _renamed(connection: Connection, capture: Capture, there: list[tuple[str, str, str]]) -> str:
    """The table that its triggers have gone along to, where its own is no more; `''` for none."""
    tables = {table for _, table, _ in there}
    if len(tables) != 1 or host_table.kind_of(connection, capture.table):
        return ""
    return tables.pop()


def _remedy(connection: Connection, file: FileRow, stored: Stored) -> str:
    table = stored.capture.table
    if host_table.inspect(connection, file.outbox_table) is None:
        again = "`webhookd init` makes it again" if file.outbox_ours else "put it back"
        return f"{again}, or `webhookd capture remove {table}` lets the host's changes pass"
    return f"`webhookd capture remove {table}`, then `capture add` with what there is now"


def _triggers(connection: Connection, prefix: str) -> list[tuple[str, str, str]]:
    return connection.execute(_TRIGGERS, (len(prefix), prefix)).fetchall()


def _drop(connection: Connection, names: list[str] | tuple[str, ...]) -> None:
    for name in names:
        connection.execute(f"DROP TRIGGER {quoted(name)}")
