"""Looks at the file from outside before SQLite opens it, because opening can do harm.

Opening a WAL database creates `-wal` and `-shm` beside it, owned by whoever opened first. If that
is webhookd and the ERP cannot write to them, the ERP is locked out of its own database. So what
would happen is judged first, from owners and modes alone, and refused with the remedy.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webhookd.errors import DatabaseError

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "vboxsf", "afs", "ceph", "fuse.sshfs"}
)
"""File systems whose locks cannot be trusted between machines (or at all)."""


_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How mountinfo writes a blank, a tab, a line break and a backslash."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What stat(2) says of a file or directory."""

    path: str
    uid: int
    gid: int
    mode: int


def look(path: Path) -> Owned | None:
    """The owner and mode of `path`; None if it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatabaseError(
            f"{path}: {error.strerror}; check the rights of its directory"
        ) from None
    return Owned(str(path), found.st_uid, found.st_gid, found.st_mode)


def real_path(path: Path) -> Path:
    """The path with every link resolved, so that -wal and the lock file stand beside the real one.

    Raises:
        DatabaseError: its directory is missing, or it is no regular file.
    """
    real = Path(os.path.realpath(path))
    try:
        if not real.parent.is_dir():
            raise DatabaseError(f"{real}: the directory {real.parent} does not exist")
        if real.exists() and not real.is_file():
            raise DatabaseError(f"{real}: not a regular file; name the database file")
    except OSError as error:
        raise DatabaseError(
            f"{real}: {error.strerror}; check the rights of its directory"
        ) from None
    return real


def check(path: Path) -> None:
    """Refuse what would go wrong after opening `path` (a real path).

    Raises:
        DatabaseError: missing, on a network file system, or with owners that would lock out
            either webhookd or the host.
    """
    database = look(path)
    if database is None:
        raise DatabaseError(
            f"{path}: no such file; `webhookd init` creates one, or name another with --database"
        )
    check_file_system(path)
    directory = look(path.parent)
    if directory is None:
        raise DatabaseError(f"{path.parent}: no such directory")
    sides = [look(path.with_name(path.name + suffix)) for suffix in ("-wal", "-shm", "-journal")]
    fault = judge_owners(
        database,
        directory,
        [side for side in sides if side],
        os.geteuid(),
        os.getegid(),
        frozenset(os.getgroups()),
    )
    if fault:
        raise DatabaseError(fault)


def check_file_system(path: Path) -> None:
    """Refuse a path on a file system that SQLite cannot be trusted on. Raises DatabaseError."""
    kind = file_system(path, Path("/proc/self/mountinfo"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise DatabaseError(
            f"{path}: on a network file system ({kind}), where SQLite's locks cannot be trusted; "
            "run webhookd on the machine that has the disk"
        )


def judge_owners(
    database: Owned,
    directory: Owned,
    sides: list[Owned],
    uid: int,
    gid: int,
    groups: frozenset[int],
) -> str | None:
    """What would go wrong if user `uid` (group `gid`, also in `groups`) opened the database.

    Returns one line with the remedy, or None. Root is never refused: SQLite gives what root
    creates to the owner of the database.
    """
    if uid == 0:
        return None
    ours = groups | {gid}
    for side in [database, *sides]:
        if not _writable(side, uid, ours):
            return (
                f"{side.path}: user {uid} cannot write it (owner {side.uid}, group {side.gid}, "
                f"mode {stat.S_IMODE(side.mode):o}); remedy: "
                f"chgrp a group that webhookd and the ERP share, and chmod g+rw {side.path}"
            )
    if not _writable(directory, uid, ours):
        return (
            f"{directory.path}: user {uid} cannot create files in it, and SQLite must; remedy: "
            f"chgrp a group that webhookd and the ERP share, and chmod g+rwxs {directory.path}"
        )
    if len(sides) >= 2 or database.mode & stat.S_IWOTH:
        return None
    # New side files get this user, the mode of the database, and the directory's group where it
    # is setgid, else this user's own. Whoever writes the database by its group must keep that.
    new_group = directory.gid if directory.mode & stat.S_ISGID else gid
    by_group = bool(database.mode & stat.S_IWGRP)
    if new_group == database.gid and (by_group or uid == database.uid):
        return None
    if uid == database.uid and not by_group:
        return None
    return (
        f"{database.path}: opening it as user {uid} would create -wal and -shm files that its "
        f"owner (user {database.uid}) or its group cannot write, and lock the ERP out; remedy: "
        f"chgrp {database.gid} {directory.path} && chmod g+ws {directory.path} "
        f"&& chmod g+rw {database.path}"
    )


def _writable(owned: Owned, uid: int, groups: frozenset[int]) -> bool:
    if owned.uid == uid:
        return bool(owned.mode & stat.S_IWUSR)
    if owned.gid in groups:
        return bool(owned.mode & stat.S_IWGRP)
    return bool(owned.mode & stat.S_IWOTH)


def file_system(path: Path, mountinfo: Path) -> str:
    """The type of the file system that `path` is on; `''` where that cannot be told."""
    try:
        lines = os.fsdecode(mountinfo.read_bytes()).split("\n")
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, after = left.split(), right.split()
        if len(fields) < 5 or not after:
            continue
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after[0]
    return kind
