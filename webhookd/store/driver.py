"""The one SQLite of this process, and the one place that opens connections and reads its errors.

Everything goes through the same module. Two copies of the library in one process that open the
same file cancel each other's POSIX locks, and so does a plain `open()` and `close()` of the
database or its `-shm`: nothing here touches those files but through SQLite.
"""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from webhookd.errors import DatabaseError, StoreBusy, StoreUnwritable

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = [
    "Connection",
    "connect",
    "has_wal_reset_bug",
    "library_version",
    "sqlite3",
    "tells_of_wal",
    "translated",
]

Connection = sqlite3.Connection

FIXED_WAL_RESET: Final = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""The first releases in which a checkpoint beside a writer cannot corrupt a WAL file."""

STATEMENT_CACHE: Final = 256
"""Prepared statements kept a connection: more than there are in the program."""

CLI_BUSY_SECONDS: Final = 30.0
"""How long a command waits for the host's write lock before it says so."""


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite can corrupt a WAL file when one connection checkpoints and one writes."""
    return not any(
        version >= fixed and (version[:2] == fixed[:2] or fixed == FIXED_WAL_RESET[0])
        for fixed in FIXED_WAL_RESET
    )


def tells_of_wal(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether `PRAGMA wal_checkpoint(NOOP)` tells how long the log is, and does no more.

    An older SQLite takes it for PASSIVE; 3.51.0 knows it, but must not checkpoint at all.
    """
    return version >= FIXED_WAL_RESET[0]


def library_version() -> str:
    """The version of the SQLite library in use, whatever module brought it."""
    return sqlite3.sqlite_version


def connect(path: Path, *, mode: str, wait: float = 0.0) -> Connection:
    """A connection with manual transactions that any thread may use, one at a time.

    Args:
        path: the real path of the file.
        mode: `rw` (never creates the file), `rwc` (creates it) or `ro`.
        wait: seconds that SQLite itself waits for a lock; 0 in the daemon, which never blocks.

    Raises:
        DatabaseError: missing, not a database, or not to be opened by this user.
    """
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
    with translated(path):
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=wait,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENT_CACHE,
        )
        try:
            # The first statement that reads the file: what is no database fails here.
            connection.execute("SELECT count(*) FROM sqlite_master LIMIT 1").fetchone()
            if mode == "ro":
                connection.execute("PRAGMA query_only = 1")
            else:
                # A number that a poller has seen must survive a power cut: in WAL mode EXTRA is
                # FULL, in DELETE mode it syncs the directory too.
                connection.execute("PRAGMA synchronous = EXTRA")
                if has_wal_reset_bug():
                    connection.execute("PRAGMA wal_autocheckpoint = 0")
        except BaseException:
            connection.close()
            raise
    return connection


_BUSY: Final = {5, 6, 15}  # SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL (a race for the WAL)
_READONLY: Final = 8
_UNWRITABLE: Final = {_READONLY, 13}  # SQLITE_FULL
_IOERR: Final = 10
_CORRUPT: Final = 11
_CANTOPEN: Final = 14
_NOTADB: Final = 26


class translated:  # noqa: N801 - a context, named like those of contextlib
    """Turn SQLite's errors into webhookd's own; what is none of them passes as the bug it is.

    Raises:
        StoreBusy: locked by another connection.
        StoreUnwritable: full disk or read-only file.
        DatabaseError: all else that a person must look at.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise explain(error, self._path) from error


def explain(error: Exception, path: Path) -> Exception:
    """What an SQLite error means to the people who run this; the error itself if it is a bug."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    text = str(error)
    if primary in _BUSY:
        return StoreBusy(f"{path}: another program holds the write lock; try again")
    if primary == _READONLY and not path.exists():
        return DatabaseError(
            f"{path}: was moved or deleted while it was open; put it back, then start again"
        )
    if primary in _UNWRITABLE:
        return StoreUnwritable(
            f"{path}: cannot be written ({text}); free space or rights are needed"
        )
    if primary == _NOTADB:
        return DatabaseError(f"{path}: not an SQLite database (or an encrypted one)")
    if primary == _CORRUPT:
        return DatabaseError(
            f"{path}: damaged ({text}); stop writing to it, keep a copy, "
            "and restore a backup or use sqlite3's .recover"
        )
    if primary == _CANTOPEN and _out_of_descriptors():
        return StoreBusy(f"{path}: this process is out of file descriptors; raise LimitNOFILE")
    if primary == _CANTOPEN:
        return DatabaseError(f"{path}: cannot be opened ({text}); check that it exists and rights")
    if primary == _IOERR:
        return DatabaseError(f"{path}: input/output error ({text}); check the disk")
    # A view whose table has gone names it with its schema.
    gone = text.replace(": main.", ": ")
    if "no such table: webhook" in gone or "no such column: webhookd_" in gone:
        return DatabaseError(f"{path}: {text}; run `webhookd init` to prepare the file")
    return error


def _out_of_descriptors() -> bool:
    """Whether it was that which kept SQLite from opening a journal: it says only "cannot open"."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
