"""When a write-ahead log has grown too large, why, and what to do about it.

While the daemon runs it knows why, and tells; while it does not, `status` sees the size alone.
"""

from enum import Enum
from typing import Final

LARGE: Final = 64 << 20
"""Over so many bytes people are told: what is at work empties it long before."""

IS_LARGE: Final = f"the file's -wal is over {LARGE >> 20} MiB"

_FIND: Final = "find it with `fuser`, and end it"


class Why(Enum):
    """What keeps the log from being emptied."""

    READ = (
        f"{IS_LARGE} and cannot be emptied: some program keeps a read transaction open, or several "
        f"read so that one always does; {_FIND}, or let readers pause"
    )
    LIBRARY = (
        f"{IS_LARGE} and nobody empties it: webhookd must not with this SQLite; install pysqlite3, "
        "or let the host run `PRAGMA wal_checkpoint(TRUNCATE)`"
    )
    NO_DAEMON = (
        f"{IS_LARGE} and no daemon is at work to empty it; if it stays so with one, some program "
        f"keeps a read transaction open: {_FIND}"
    )
