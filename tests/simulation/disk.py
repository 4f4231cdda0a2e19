"""What a power cut leaves of the file: the model of durability, at the granularity of WAL frames.

A power cut takes every process at once and what no sync has brought to the disk. In WAL mode only
two things are ever written:

- Frames at the end of `-wal`. A connection with `synchronous` FULL or EXTRA syncs the whole `-wal`
  at each commit, hence also the frames of others that lie before its own. One with NORMAL or OFF
  syncs nothing at a commit. What is behind the last synced frame may be on the disk or not; because
  each frame's checksum goes on from the one before it, only an unbroken prefix of it counts after
  the restart, and a transaction only with its commit frame. So a cut keeps the synced frames and a
  random number of those behind them: none, all, or some.
- Pages of the database, by a checkpoint. It syncs the `-wal` before and the database behind
  (NORMAL and up), so it never makes less durable; a cut in its middle finds the whole `-wal`. In
  the simulation no connection checkpoints by itself; the host does it as an action of its own, and
  the daemon's janitor, which counts as a sync of everything.

What is synced is not assumed: `synchronous` is asked of the very connection that committed. The
simulated disk does not reorder what was synced, does not lie about syncs and does not tear a page
within a synced frame; rollback journals are not modelled, so every file is in WAL mode.
"""

import random
from pathlib import Path
from typing import Final

from webhookd.store.driver import Connection

WAL_HEADER: Final = 32
FRAME_HEADER: Final = 24
SYNCED_FROM: Final = 2
"""`PRAGMA synchronous`: FULL and EXTRA sync at each commit."""


class Disk:
    """Knows up to where the `-wal` is synced, and what would be left if the power went now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wal = path.with_name(path.name + "-wal")
        self._salt = b""
        self._end = 0
        self._synced = 0

    def end(self) -> int:
        """Where the valid frames of the `-wal` end, in bytes."""
        try:
            with self.wal.open("rb") as file:
                head = file.read(WAL_HEADER)
                if len(head) < WAL_HEADER:
                    self._salt, self._end, self._synced = b"", 0, 0
                    return 0
                salt, page = head[16:24], int.from_bytes(head[8:12], "big")
                if salt != self._salt:
                    # It begins again after a checkpoint; SQLite syncs the new header itself.
                    self._salt, self._end, self._synced = salt, WAL_HEADER, WAL_HEADER
                file.seek(self._end)
                while len(frame := file.read(FRAME_HEADER)) == FRAME_HEADER:
                    if frame[8:16] != salt:
                        break
                    self._end += FRAME_HEADER + page
                    file.seek(self._end)
        except FileNotFoundError:
            self._salt, self._end, self._synced = b"", 0, 0
        return self._end

    def committed(self, connection: Connection) -> bool:
        """`connection` has committed; returns whether all that lies in the file is synced now."""
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        end = self.end()
        if level >= SYNCED_FROM:
            self._synced = end
        return self._synced == end

    def checkpointed(self) -> None:
        """A checkpoint has ended: everything is synced."""
        self._synced = self.end()

    def cut(self, dice: random.Random) -> tuple[int, bytes, bytes]:
        """The power goes: up to where frames survive, the database's bytes, the `-wal`'s bytes."""
        end = self.end()
        at = dice.choice((self._synced, end, dice.randint(self._synced, end)))
        wal = self.wal.read_bytes()[:at] if self.wal.exists() else b""
        return at, self.path.read_bytes(), wal

    def restore(self, database: bytes, wal: bytes) -> None:
        """The power is back; every connection must be closed by now."""
        for name in (self.path, self.wal, self.path.with_name(self.path.name + "-shm")):
            name.unlink(missing_ok=True)
        self.path.write_bytes(database)
        if wal:
            self.wal.write_bytes(wal)
        self._salt, self._end, self._synced = b"", 0, 0
        self._synced = self.end()
