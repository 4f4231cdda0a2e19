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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from webhookd.core.capture import Action, Capture, fault
from webhookd.core.findings import Finding, Level
from webhookd.core.model import Millis
from webhookd.core.times import to_text
from webhookd.errors import NotFound, Refused, UsageError
from webhookd.store import capture_triggers, host_table
from webhookd.store.capture_triggers import PREFIX, Stored, Trigger
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.host_table import quoted, same
from webhookd.store.transaction import Transaction

_ALL: Final = (
    "SELECT key, table_name, event_prefix, id_column, tenant_column, columns, actions, created_at"
    " FROM webhookd_captures ORDER BY key"
)
_INSERT: Final = (
    "INSERT INTO webhookd_captures (table_name, event_prefix, id_column, tenant_column, columns,"
    " actions, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_RENAME: Final = (
    "UPDATE webhookd_captures SET table_name = ?, id_column = ?, tenant_column = ?, columns = ?"
    " WHERE key = ?"
)


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
    """Triggers that it made, or made anew; none where it took over new names alone."""
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
    capture_triggers.drop(
        connection,
        [name for name, _, _ in capture_triggers.in_file(connection, stored.trigger_prefix)],
    )
    for sql in capture_triggers.statements(connection, file.outbox_table, stored).values():
        connection.execute(sql)
    return stored


def doubt(connection: Connection, stored: Stored) -> str:
    """What a person should know of its id column, in one line; `''` for nothing."""
    capture = stored.capture
    facts = host_table.inspect(connection, capture.table)
    columns = [name for name in (capture.id_column, capture.tenant_column) if name]
    if facts is None or facts.is_unique(*columns):
        return ""
    return (
        f"{capture.table}.{capture.id_column} is neither PRIMARY KEY nor UNIQUE: rows with the same"
        " id make events of one aggregate, and nobody can tell which row changed"
    )


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
    """The capture of that table, by the name that was written down or today's. Raises NotFound."""
    known = load(connection)
    for one in known:
        if same(one.capture.table, table):
            return one
    for one in known:
        there = capture_triggers.in_file(connection, one.trigger_prefix)
        if same(capture_triggers.by_todays_names(connection, one, there).table, table):
            return one
    raise NotFound(f"{table}: is not captured; `webhookd capture list` shows what is")


def made(connection: Connection, stored: Stored) -> list[str]:
    """The SQL of its triggers, as they are in the file."""
    return [sql for _, _, sql in capture_triggers.in_file(connection, stored.trigger_prefix)]


def standing(connection: Connection, file: FileRow, stored: Stored) -> Standing:
    """What has become of a capture."""
    there = capture_triggers.in_file(connection, stored.trigger_prefix)
    names = tuple(name for name, _, _ in there)
    today = capture_triggers.by_todays_names(connection, stored, there)
    wrong = _unfit(connection, file, today, there)
    is_renamed = not same(today.table, stored.capture.table)
    if not wrong and is_renamed and _is_known(connection, today.table):
        wrong = f"the host has renamed the table to {today.table}, which another capture is for"
    if wrong:
        return Standing(stored, names, wrong, repairable=False)
    elsewhere = sorted({table for _, table, _ in there if not same(table, today.table)})
    if any(_is_known(connection, table) for table in elsewhere):
        wrong = f"its triggers are on {elsewhere[0]}, which another capture is for"
        return Standing(stored, names, wrong, repairable=False)
    wanted = capture_triggers.statements(
        connection, file.outbox_table, replace(stored, capture=today)
    )
    have = {name: sql for name, _, sql in there}
    lost = [name for name in wanted if name not in have]
    if elsewhere:
        wrong = f"its triggers are on {elsewhere[0]}: perhaps the host has made the table anew"
    elif lost:
        wrong = (
            f"lost {len(lost)} of its {len(wanted)} triggers: perhaps the host has made the table"
            " anew"
        )
    elif today != stored.capture:
        renamed = ", ".join(_renamed(stored.capture, today))
        wrong = f"the host has renamed {renamed}, and events still come"
    elif wanted != have:
        wrong = "its triggers are not those of today's columns, or of this webhookd"
    return Standing(stored, names, wrong, repairable=bool(wrong))


def _is_known(connection: Connection, table: str) -> bool:
    """Whether a capture of that table is written down."""
    return any(same(one.capture.table, table) for one in load(connection))


def _renamed(before: Capture, today: Capture) -> Iterator[str]:
    """What a host has given other names, in words."""
    if before.table != today.table:
        yield f"the table to {today.table}"
    olds = (before.id_column, before.tenant_column, *before.columns)
    news = (today.id_column, today.tenant_column, *today.columns)
    for old, new in dict(zip(olds, news, strict=True)).items():
        if old != new:
            yield f"its column {old} to {new}"


def remove(transaction: Transaction, table: str) -> int:
    """Take the triggers off the table again; returns how many there were. Raises NotFound."""
    stored = find(transaction.connection, table)
    names = [
        name
        for name, _, _ in capture_triggers.in_file(transaction.connection, stored.trigger_prefix)
    ]
    capture_triggers.drop(transaction.connection, names)
    transaction.connection.execute("DELETE FROM webhookd_captures WHERE key = ?", (stored.key,))
    return len(names)


def remove_all(transaction: Transaction) -> int:
    """Take off every trigger of webhookd's, recorded or not; returns how many there were."""
    names = [name for name, _, _ in capture_triggers.in_file(transaction.connection, PREFIX)]
    capture_triggers.drop(transaction.connection, names)
    transaction.connection.execute("DELETE FROM webhookd_captures")
    return len(names)


def repair(transaction: Transaction, table: str | None = None) -> list[Repaired]:
    """Make the triggers of every capture, or of the one of `table`, as they should be.

    What the host has renamed is written down. Triggers that are as they should be stay untouched.

    Raises:
        NotFound: no such table is captured.
    """
    connection, file = transaction.connection, transaction.file
    done = []
    for stored in load(connection) if table is None else [find(connection, table)]:
        before = standing(connection, file, stored)
        if not before.fault:
            continue
        if not before.repairable:
            done.append(Repaired(stored.capture.table, (), before.fault))
            continue
        there = capture_triggers.in_file(connection, stored.trigger_prefix)
        today = capture_triggers.by_todays_names(connection, stored, there)
        if today != stored.capture:
            columns = json.dumps(today.columns, ensure_ascii=False)
            names = (today.table, today.id_column, today.tenant_column, columns)
            connection.execute(_RENAME, (*names, stored.key))
            stored = replace(stored, capture=today)
        wanted = capture_triggers.statements(connection, file.outbox_table, stored)
        if wanted == {name: sql for name, _, sql in there}:
            done.append(Repaired(today.table, (), ""))
            continue
        capture_triggers.drop(connection, before.triggers)
        for sql in wanted.values():
            connection.execute(sql)
        done.append(Repaired(today.table, tuple(wanted), ""))
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
    for name, table, _ in capture_triggers.in_file(connection, PREFIX):
        if not name.startswith(prefixes):
            yield Finding(
                Level.FAULT,
                f"capture {table}",
                f"the trigger {name} belongs to no capture; "
                "`webhookd capture remove --all` takes off every one of webhookd's",
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


def _unfit(
    connection: Connection, file: FileRow, capture: Capture, there: Sequence[Trigger]
) -> str:
    """What is gone that a capture needs; `''` for nothing."""
    if host_table.inspect(connection, file.outbox_table) is None:
        strayed = _strayed(connection, there)
        if strayed:
            return (
                f"the host has renamed the outbox table '{file.outbox_table}' to {strayed}, and "
                "what changes is told there, where nobody reads it"
            )
        gone = f"the outbox table '{file.outbox_table}' is gone"
        return f"{gone}, and every change that it watches fails"
    if host_table.inspect(connection, capture.table) is None:
        return "the table is gone"
    have = host_table.all_columns(connection, capture.table)
    for column in (capture.id_column, capture.tenant_column, *capture.columns):
        if column and not any(same(column, name) for name in have):
            lost = "" if there else ", its triggers too, and no event comes"
            return f"its column {column} is gone{lost}"
    return ""


def _strayed(connection: Connection, there: Iterable[Trigger]) -> str:
    """The table that the rows of these triggers go into, if it is there; `''` if not."""
    into = capture_triggers.outbox_of(there)
    return into if into and host_table.inspect(connection, into) is not None else ""


def _remedy(connection: Connection, file: FileRow, stored: Stored) -> str:
    table = stored.capture.table
    if host_table.inspect(connection, file.outbox_table) is None:
        strayed = _strayed(connection, capture_triggers.in_file(connection, stored.trigger_prefix))
        if strayed:
            back = f"ALTER TABLE {quoted(strayed)} RENAME TO {quoted(file.outbox_table)}"
            return f"let the host give it its name again: {back}"
        again = "`webhookd init` makes it again" if file.outbox_ours else "put it back"
        return f"{again}, or `webhookd capture remove {table}` lets the host's changes pass"
    return f"`webhookd capture remove {table}`, then `capture add` with what there is now"
