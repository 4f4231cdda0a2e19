"""The file as a whole: its identity, its counter, and whether it is still the one we knew."""

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from webhookd.core.times import to_text
from webhookd.errors import DatabaseError
from webhookd.store.driver import Connection
from webhookd.store.schema import SCHEMA_VERSION

BEFORE_FIRST: Final = -(2**63)
"""The cursor before any outbox row: lower than every id that SQLite can give."""

ACCEPT: Final = (
    "stop the ERP and run `webhookd check --accept-restore`; start the ERP only after that"
)
"""A row that it writes before can get the id of one that is lost, and is taken for that."""

MACHINE_ID_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclass(frozen=True, slots=True)
class FileRow:
    """The one row of `webhookd_file`; the schema gives the meaning of each field."""

    uuid: str
    epoch: int
    schema_version: int
    sequence: int
    cursor: int
    control: int
    rejected: int
    outbox_table: str
    outbox_ours: int
    machine: str
    path: str
    roll: int = 0
    unannounced: int = 0


_SELECT: Final = (
    "SELECT uuid, epoch, schema_version, sequence, cursor, control, rejected, outbox_table,"
    " outbox_ours, machine, path, roll, unannounced FROM webhookd_file"
)
_SELECT_OLDER: Final = (
    "SELECT uuid, epoch, schema_version, sequence, cursor, control, rejected, outbox_table,"
    " outbox_ours, machine, path FROM webhookd_file"
)
"""The columns that every schema has had."""
_UPDATE: Final = (
    "UPDATE webhookd_file SET sequence = ?, cursor = ?, control = ?, rejected = ?, roll = ?,"
    " unannounced = ? WHERE id = 1"
)


def is_prepared(connection: Connection) -> bool:
    """Whether `init` has been run on this file."""
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'webhookd_file'"
    ).fetchone()
    return found is not None


def read(connection: Connection, path: Path) -> FileRow:
    """The file's row, of a file of this schema or an older one.

    Raises:
        DatabaseError: not prepared by `init`, or by a newer program.
    """
    if not is_prepared(connection):
        raise DatabaseError(f"{path}: not prepared for webhookd; run `webhookd init`")
    older = connection.execute(_SELECT_OLDER).fetchone()
    if older is not None and older[2] < SCHEMA_VERSION:
        return FileRow(*older)
    return reread(connection, path)


def reread(connection: Connection, path: Path) -> FileRow:
    """The file's row, of a file that is known to be prepared: the cheap form of `read`."""
    row = connection.execute(_SELECT).fetchone()
    if row is None:
        raise DatabaseError(
            f"{path}: webhookd_file is empty; restore the file from a backup that has it"
        )
    found = FileRow(*row)
    if found.schema_version > SCHEMA_VERSION:
        raise DatabaseError(
            f"{path}: its schema is version {found.schema_version}, and this webhookd knows "
            f"{SCHEMA_VERSION}; install the newer webhookd"
        )
    return found


def check_schema(row: FileRow, path: Path) -> None:
    """Refuse a file whose schema is older: a command does not change it in passing.

    Raises:
        DatabaseError: it is older.
    """
    if row.schema_version < SCHEMA_VERSION:
        raise DatabaseError(
            f"{path}: its schema is version {row.schema_version}, and this webhookd works with "
            f"{SCHEMA_VERSION}; `webhookd init --existing` upgrades it, and so does `webhookd run`"
        )


def create(connection: Connection, path: Path, *, table: str, ours: bool, now: int) -> None:
    """Write the first row: a new identity, with nothing given out."""
    connection.execute(
        "INSERT INTO webhookd_file (id, uuid, epoch, schema_version, sequence, cursor, control,"
        " rejected, outbox_table, outbox_ours, machine, path, created_at)"
        " VALUES (1, ?, 1, ?, 0, ?, 0, 0, ?, ?, ?, ?, ?)",
        (
            uuid.uuid4().hex,
            SCHEMA_VERSION,
            BEFORE_FIRST,
            table,
            int(ours),
            machine_id(),
            str(path),
            to_text(now),
        ),
    )


def write_back(connection: Connection, row: FileRow) -> None:
    """Put the counters of `row` into the file, in the caller's transaction."""
    connection.execute(
        _UPDATE,
        (row.sequence, row.cursor, row.control, row.rejected, row.roll, row.unannounced),
    )


def machine_id(files: tuple[Path, ...] = MACHINE_ID_FILES) -> str:
    """A hash of this machine's id; `''` where it has none (then it is not compared)."""
    for file in files:
        try:
            text = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text:
            return hashlib.sha256(b"webhookd " + text.encode()).hexdigest()[:32]
    return ""


def check_home(row: FileRow, path: Path, machine: str) -> None:
    """Refuse to work on a copy: production's data on a test machine must not reach partners.

    Raises:
        DatabaseError: the file was prepared on another machine or at another path.
    """
    if row.machine and machine and row.machine != machine:
        moved = "on another machine"
    elif row.path != str(path):
        moved = f"at {row.path}"
    else:
        return
    raise DatabaseError(
        f"{path}: was prepared {moved}; if it has moved here for good run "
        "`webhookd check --accept-move`, if it is a copy `webhookd check --accept-clone`"
    )


def check_outbox(row: FileRow, path: Path, table: str) -> None:
    """Refuse a configuration that names another outbox. Raises DatabaseError."""
    if table != row.outbox_table:
        raise DatabaseError(
            f"{path}: was prepared with the outbox {row.outbox_table}, not {table}; "
            "set `table` in [outbox] back"
        )


def check_mark(row: FileRow, path: Path, mark: dict[str, object] | None) -> None:
    """Hold the file against the high-water mark that was written beside it.

    Raises:
        DatabaseError: the file is behind (a restored backup), or another file altogether.
    """
    if not mark or not mark.get("uuid"):
        return
    if mark["uuid"] != row.uuid:
        raise DatabaseError(
            f"{path}: another database than the one that ran here before (the lock file beside "
            f"it says so); if that is meant {ACCEPT}"
        )
    for name, have in (("epoch", row.epoch), ("sequence", row.sequence), ("outbox_id", row.cursor)):
        seen = mark.get(name)
        if isinstance(seen, int) and have < seen:
            raise DatabaseError(
                f"{path}: a restored backup: its {name} is {have}, but {seen} was reached before; "
                f"to go on from here {ACCEPT}"
            )


def as_mark(row: FileRow) -> dict[str, object]:
    """The high-water mark of this state of the file."""
    return {
        "uuid": row.uuid,
        "epoch": row.epoch,
        "sequence": row.sequence,
        "outbox_id": row.cursor,
    }


def seen_before(row: FileRow, mark: Mapping[str, object], name: str) -> int:
    """A number of the mark, if that is of this file; else 0."""
    value = mark.get(name)
    return value if mark.get("uuid") == row.uuid and isinstance(value, int) else 0


def accept_move(connection: Connection, path: Path) -> None:
    """Make this machine and path the file's home."""
    connection.execute(
        "UPDATE webhookd_file SET machine = ?, path = ? WHERE id = 1", (machine_id(), str(path))
    )


def accept_restore(connection: Connection, row: FileRow, mark: dict[str, object]) -> FileRow:
    """Go on from a restored backup: above every number ever seen, in a new epoch."""
    after = replace(
        row,
        epoch=max(row.epoch, seen_before(row, mark, "epoch")) + 1,
        sequence=max(row.sequence, seen_before(row, mark, "sequence")),
        control=row.control + 1,
    )
    connection.execute("UPDATE webhookd_file SET epoch = ? WHERE id = 1", (after.epoch,))
    write_back(connection, after)
    return after


def accept_clone(connection: Connection, row: FileRow, path: Path) -> FileRow:
    """Make a copy a file of its own: a new identity and epoch, at home here."""
    accept_move(connection, path)
    after = replace(row, uuid=uuid.uuid4().hex, epoch=row.epoch + 1, control=row.control + 1)
    connection.execute(
        "UPDATE webhookd_file SET uuid = ?, epoch = ? WHERE id = 1", (after.uuid, after.epoch)
    )
    write_back(connection, after)
    return after


def inode(path: Path) -> tuple[int, int] | None:
    """Device and inode of what `path` leads to now; None if nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one system call a poll
    except OSError:
        return None
    return found.st_dev, found.st_ino
