"""The one small file beside the database: who runs, how it is doing, and how far it ever came.

It is locked with flock(2) for the daemon's life, so the kernel frees it at a crash. It holds one
JSON line, written in place. It is not synced: the newest of the high-water mark may be lost with
the power, and then it is lower than the truth; it can never be higher. Whoever goes by it to give
out nothing twice leaves room for that (`webhookd.store.acceptance`).
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from webhookd.core.holding import Daemon, seen
from webhookd.errors import AnotherDaemon, DatabaseError
from webhookd.store import ranges

SUFFIX: Final = "-webhookd.lock"

SIZE: Final = 1024
"""Bytes written each time: one page's worth, so that a reader sees one whole line."""

MARK: Final = ("uuid", "epoch", "sequence", "outbox_id")
"""What a file is held against: the high-water mark. A restore that is accepted lowers it."""

HEAD: Final = 256
"""Bytes at the front that the mark has to itself, so that a commit writes no more than them: what
the daemon says of itself can be long."""

HIGHEST_ID: Final = "highest_outbox_id"
"""The highest outbox id that this file ever took in. No restore lowers it: what was lost by one
restore must not come again after the next."""

KEPT: Final = (*MARK, HIGHEST_ID)
"""The fields that outlive the daemon that wrote them."""

LOCK_TRIES: Final = 5
LOCK_PAUSE: Final = 0.01
"""Seconds between two tries: `is_held` holds the lock for microseconds."""

MOST: Final = ranges.HIGHEST - (1 << 40)
"""The highest outbox id that counts as reached. One above it is a slip: with ids raised to there no
row could be inserted any more."""

UNSURE: Final = 1_000_000
"""Ids that are passed over above the highest known: the mark is not synced, and after a loss of
power it tells of a state of half a minute before."""

BELOW_ALL: Final = -(2**63) - 1
"""Lower than any number that a mark can have."""

READ_TRIES: Final = 5
"""A reader that meets a half-written line looks again this often."""


def beside(database: Path) -> Path:
    """The lock file of a database (its real path)."""
    return database.with_name(database.name + SUFFIX)


class LockFile:
    """The daemon's hold on its database. Made by `acquire`; `release` or death lets go."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._found = _content(path)
        # Until a new mark is written the old one must not be lost, whatever else is.
        self._content: dict[str, Any] = {
            name: value for name, value in self._found.items() if name in KEPT
        }
        self._room = 0
        """Bytes at the front that a new mark may be written over; 0 before the rest is there."""

    @classmethod
    def acquire(cls, database: Path, *, tries: int = LOCK_TRIES) -> "LockFile":
        """Take the lock at once or not at all.

        Raises:
            AnotherDaemon: it is held; the text names the holder's pid.
            DatabaseError: the lock file cannot be created or written.
        """
        path = beside(database)
        while True:
            try:
                fault = unusable(database)
                descriptor = -1 if fault else _open(database, path)
            except OSError as error:
                fault = f"{path}: {error.strerror}; webhookd needs to write in {path.parent}"
            if fault:
                raise DatabaseError(fault)
            if not _lock(descriptor, tries):
                os.close(descriptor)
                holder = read(database).get("pid", "unknown")
                raise AnotherDaemon(
                    f"{database}: another webhookd (pid {holder}) runs on this file; stop it first"
                )
            if _leads_to(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)  # `release` took it away in between

    def write(self, **changes: object) -> None:
        """Change some of the fields; costs one system call. A new mark alone is written alone.

        A disk that cannot be written stops no delivery: the heartbeat grows old, and that says it.
        """
        if "outbox_id" in changes:
            # Of another file no number says anything.
            same = changes.get("uuid", self._content.get("uuid")) == self._content.get("uuid")
            before = highest_id(self._content) if same else BELOW_ALL
            changes[HIGHEST_ID] = max(before, highest_id(changes))
        self._content.update(changes)
        mark: dict[str, object] = {
            name: self._content[name] for name in KEPT if name in self._content
        }
        head = _dumped(mark)[:-1]
        with contextlib.suppress(OSError):
            if changes.keys() <= mark.keys() and len(head) <= self._room:
                os.pwrite(self._descriptor, head.ljust(self._room), 0)
                return
            rest = _dumped({name: one for name, one in self._content.items() if name not in mark})
            front = head.ljust(HEAD) if mark else head
            line = front + (b"," if mark and len(rest) > len(b"{}") else b"") + rest[1:]
            self._room = 0
            os.pwrite(self._descriptor, line.ljust(SIZE - 1) + b"\n", 0)
            self._room = len(front) if mark else 0

    def is_behind(self, mark: Mapping[str, object]) -> bool:
        """Whether `mark` is of this file and above the one that is written here."""
        if self._content.get("uuid", mark["uuid"]) != mark["uuid"]:
            return False
        return any(
            int(self._content.get(name, BELOW_ALL)) < int(str(mark[name]))
            for name in MARK
            if name != "uuid"
        )

    def raise_to(self, mark: Mapping[str, object]) -> None:
        """Write a mark that is above the one found here, and leave all else as it was."""
        self._content = self._found
        self.write(**mark)

    def is_ours(self) -> bool:
        """Whether the path still leads to the file that is locked here, as far as can be seen."""
        try:
            return _leads_to(self.path, self._descriptor)
        except OSError:
            return True  # not to be looked at just now says nothing of who holds it

    def release(self) -> None:
        """Let go; what is written stays, for the next start and for `status`.

        A file that nothing was ever written to is taken away again.
        """
        if not os.fstat(self._descriptor).st_size:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _dumped(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def highest_id(mark: Mapping[str, object], *, of: str | None = None) -> int:
    """The highest outbox id, up to `MOST`, of a mark; `BELOW_ALL` where it tells of none.

    `of`: the uuid of a file; a mark of another one tells of none.
    """
    if of is not None and mark.get("uuid") != of:
        return BELOW_ALL
    ids = (mark.get(HIGHEST_ID), mark.get("outbox_id"))
    return max((one for one in ids if isinstance(one, int) and one <= MOST), default=BELOW_ALL)


def unusable(database: Path) -> str | None:
    """Why this user cannot lock the database, in one line with the remedy; None if it can."""
    path = beside(database)
    if path.is_symlink():
        return f"{path}: is a link, and webhookd writes through none; remove it"
    if not path.exists():
        if os.access(path.parent, os.W_OK | os.X_OK):
            return None
        return f"{path}: cannot be created; webhookd needs to write in {path.parent}"
    if path.is_file() and os.access(path, os.R_OK | os.W_OK):
        return None
    return (
        f"{path}: cannot be written; it was left by user {path.stat().st_uid}: "
        "chown it to the user that webhookd runs as"
    )


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open(database: Path, path: Path) -> int:
    """Open the lock file; a new one gets the owner and mode that SQLite gives to a -wal."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    descriptor = os.open(path, flags | os.O_CREAT, 0o644)
    with contextlib.suppress(OSError):
        owner = database.stat()
        os.fchmod(descriptor, owner.st_mode & 0o666)
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _lock(descriptor: int, tries: int) -> bool:
    """Take the lock, in spite of a `status` that looks at it in this instant."""
    for attempt in range(tries):
        if attempt:
            time.sleep(LOCK_PAUSE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE)
        else:
            return True
    return False


def raise_mark(database: Path, mark: Mapping[str, object]) -> None:
    """Note how far a command has taken the numbers, so that a backup from before is noticed.

    Does nothing while a daemon holds the lock, or where the lock file cannot be written: the
    command itself has succeeded.
    """
    with contextlib.suppress(AnotherDaemon, DatabaseError, OSError):
        lock = LockFile.acquire(database, tries=1)
        try:
            if lock.is_behind(mark):
                lock.raise_to(mark)
        finally:
            lock.release()


def read(database: Path) -> dict[str, Any]:
    """What the lock file says; empty where there is none or it is no longer readable."""
    return _content(beside(database))


def _content(path: Path) -> dict[str, Any]:
    for _ in range(READ_TRIES):
        try:
            # A shorter line than before leaves the end of the longer one behind it.
            content = json.loads(path.read_bytes().partition(b"\n")[0])
        except OSError:
            return {}
        except ValueError:
            continue
        return content if isinstance(content, dict) else {}
    return {}


def look(database: Path) -> Daemon:
    """What can be seen of the daemon; what one that is gone has left says nothing of now."""
    return seen(read(database), held=is_held(database))


def is_held(database: Path) -> bool:
    """Whether a daemon holds the lock now; asked by trying a shared one for an instant."""
    try:
        descriptor = os.open(beside(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
