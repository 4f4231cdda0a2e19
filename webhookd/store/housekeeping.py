"""The part of the daemon's store that makes room: rows, free pages, and the write-ahead log."""

from pathlib import Path
from typing import Final

from webhookd.core.model import Millis
from webhookd.core.retention import Retention, Work
from webhookd.core.storage import NO_STEP, Checkpointed, Pruned, Step
from webhookd.errors import StoreBusy
from webhookd.store import retention, sizes
from webhookd.store.driver import (
    Connection,
    connect,
    has_wal_reset_bug,
    tells_of_wal,
    translated,
)
from webhookd.store.file import FileRow
from webhookd.store.forgetting import Forgetting
from webhookd.store.transaction import Transaction

KEPT_FREE: Final = 1_000
"""Free pages that stay in the file: what comes next needs them again."""
PAGES: Final = 25
"""Pages that one transaction gives back, in some milliseconds: each is moved, and so is what points
to it."""

READERS_WAIT: Final = 50
"""Milliseconds that a TRUNCATE waits for others, with the write lock. Of readers that overlap
without a pause there is always one; those that begin once all is in the file are not in its way."""

INCREMENTAL: Final = 2
"""What `PRAGMA auto_vacuum` says of a file that can give pages back bit by bit."""


class Housekeeping:
    """What `webhookd.store.sqlite.SqliteStore` does beside deliveries."""

    _writer: Connection
    _reader: Connection
    _known: FileRow

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keeper: Connection | None = None
        """For checkpoints alone, which run in a thread while the others are at work."""
        self._forgetting = Forgetting()

    def _begun(self) -> Transaction:
        raise NotImplementedError

    def check_file(self) -> None:
        """Raise DatabaseError when the path no longer leads to the file that was opened."""
        raise NotImplementedError

    def prune(self, work: Work, kept: Retention, now: Millis) -> Pruned:
        """Take away a batch of what is kept no longer: see `webhookd.store.retention`."""
        with translated(self.path):
            return retention.prune(self._begun(), work, kept, now)

    def may_prune(self, work: Work, kept: Retention, now: Millis) -> bool:
        """Whether `prune` would find anything."""
        ours = bool(self._known.outbox_ours)
        with translated(self.path):
            return retention.may_prune(self._reader, work, kept, now, outbox_ours=ours)

    def forget_keys(self) -> Step:
        """Forget a batch of keys in the ledger: see `webhookd.store.forgetting`."""
        with translated(self.path):
            return self._forgetting.forget(self._begun().connection)

    def may_forget_keys(self) -> bool:
        """Whether the next stretch of the ledger has any to forget."""
        with translated(self.path):
            return self._forgetting.look(self._reader)

    def give_back(self) -> Step:
        """Give a batch of free pages back to the file system."""
        with translated(self.path):
            pages = min(PAGES, _spare(self._begun().connection))
            if pages <= 0:
                return NO_STEP
            # One row for each page: it goes on only as they are read.
            self._writer.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            return Step(pages, more=_spare(self._writer) > 0)

    def can_give_back(self) -> bool:
        """Whether the file can give pages back, and has more free ones than it needs."""
        with translated(self.path):
            return _spare(self._reader) > 0

    def wal_bytes(self) -> int:
        """What the write-ahead log takes on disk."""
        return sizes.wal_bytes(self.path)

    def wal_pages(self) -> int:
        """Pages of the write-ahead log that wait for a checkpoint; 0 where commits see to it.

        They do, as is SQLite's own habit, where it cannot tell. To be asked between transactions.
        """
        if not tells_of_wal():
            return 0
        with translated(self.path):
            _, pages, done = self._writer.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        return int(pages - done)

    def leave_checkpoints(self) -> None:
        """Make no commit wait for a checkpoint, where `wal_pages` tells when one is due."""
        if tells_of_wal():
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")

    def checkpoint(self, *, truncate: bool) -> Checkpointed | None:
        """Bring the write-ahead log into the database file, as far as nobody is in the way.

        None with a library that could damage the file by it, and outside WAL mode. Blocks for the
        disk; may run in a thread while the other connections are at work, but not twice at once.

        Raises:
            StoreBusy: somebody else does it just then.
        """
        if has_wal_reset_bug():
            return None
        with translated(self.path):
            if self._keeper is None:
                self.check_file()
                self._keeper = connect(self.path, mode="rw")
                self._keeper.execute("PRAGMA wal_autocheckpoint = 0")
            mode = "TRUNCATE" if truncate else "PASSIVE"
            # PASSIVE waits for no lock: who is in the way now is out of it the next time.
            self._keeper.execute(f"PRAGMA busy_timeout = {READERS_WAIT if truncate else 0}")
            busy, log, done = self._keeper.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        if log < 0 and busy:
            raise StoreBusy(f"{self.path}: another connection checkpoints; try again")
        if log < 0:
            return None
        left = log - done
        return Checkpointed(sizes.wal_bytes(self.path), left, is_whole=not (busy or left))

    def close(self) -> None:
        """Close the connection for checkpoints."""
        if self._keeper is not None:
            self._keeper.close()


def _spare(connection: Connection) -> int:
    """Free pages that may be given back."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
        return 0
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return free - KEPT_FREE
