"""What the file takes on disk."""

from pathlib import Path

from webhookd.store.driver import Connection


def file_bytes(path: Path) -> int:
    """Its bytes; none where it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def wal_bytes(path: Path) -> int:
    """The size of the write-ahead log beside the database at `path`; 0 where there is none."""
    return file_bytes(path.with_name(f"{path.name}-wal"))


def free_bytes(connection: Connection) -> int:
    """What the file holds free for what comes: from its first page, without a look at others."""
    pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    return int(pages) * int(size)
