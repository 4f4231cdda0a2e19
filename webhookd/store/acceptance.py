"""An operator's word that a file which looks odd is meant: moved, restored, or a copy.

Each takes the daemon's lock first, so that no daemon is at work on the file meanwhile. Only what
settles the numbers (restored, copied) writes a new high-water mark.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from webhookd.core.columns import OWN, Columns
from webhookd.core.matching import Matcher
from webhookd.core.model import Millis
from webhookd.core.profiles import BUILT_IN
from webhookd.core.structure import Validation
from webhookd.errors import DatabaseError, Refused
from webhookd.store import deliveries, instructions, lockfile, preflight, ranges, sources
from webhookd.store import file as files
from webhookd.store.driver import Connection
from webhookd.store.host_table import inspect, quoted
from webhookd.store.ingest import judge, take
from webhookd.store.outbox import raise_ids, raising
from webhookd.store.recipients import Terms
from webhookd.store.transaction import Session

BREATH: Final = 0.002
"""Seconds between two transactions of a bulk change: SQLite's lock is unfair, and the host would
starve without them."""


GAPS_AT_ONCE: Final = 1_000
"""Gaps between ingested ranges that one transaction looks into."""

OWED: Final = "SELECT coalesce(sum(pending), 0) FROM webhookd_counters"


@dataclass(frozen=True, slots=True)
class Cloned:
    """What became of a copy."""

    cancelled: int
    """Deliveries that were owed."""
    taken_in: int
    """Outbox rows that waited: events now, owed to nobody."""


class Ids(StrEnum):
    """What becomes of the outbox ids that went back with a restored backup."""

    ABOVE = "above"
    """New rows get none that was seen before."""
    KEYS = "keys"
    """They can come again, and do no harm: events have their ids from the host's own keys."""
    HOSTS = "hosts"
    """They can come again: the table is the host's own."""
    UNKNOWN = "unknown"
    """They can come again: how far they went nobody knows, for no mark of this file says it."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Rows that wait, with ids that rows of before the restore had, too."""

    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Restored:
    """How it goes on from a restored backup."""

    epoch: int
    owed: int
    """Deliveries that are pending in it, and are sent."""
    ids: Ids
    reached: int
    """The highest outbox id known to have been taken in; 0 where none is."""
    above: int
    """New rows get ids above this one; 0 where none were raised: it is not for webhookd to do, not
    known how far, or the outbox is gone or was made anew, which the outlook tells of."""
    table: str
    """The outbox."""
    raising: str
    """The statement that raises its ids, where that is left to a person; '' where there is none."""
    doubtful: Doubtful | None
    """In webhookd's own outbox; None for no such rows, or where nobody knows how far ids went."""


def accept_move(database: Path) -> bool:
    """Make this machine and path the file's home; returns whether it was another one before.

    Whether it is a restored backup as well is another question: the mark beside it stays.

    Raises:
        AnotherDaemon: a daemon runs on it.
        DatabaseError: unusable, or not prepared.
    """
    with _locked(database) as (session, _):
        moved = not _at_home(session)
        if moved:
            with session.write() as transaction:
                files.accept_move(transaction.connection, session.path)
        return moved


def accept_restore(database: Path, *, sure: bool = False) -> Restored | None:
    """Go on from a restored backup, above every number seen so far.

    Does nothing, and returns None, where the mark beside the file bears it out: then a new epoch
    would only send every poller back to 0. `sure`: do it all the same, for a mark that was restored
    too, or lost its last words with the power, says nothing.

    The ids of webhookd's own outbox went back with the file. A new row with the id and the content
    of one that is no longer there would get the event id that receivers know already, and be
    dropped by them: so ids are raised too.

    Raises:
        AnotherDaemon: a daemon runs on it.
        DatabaseError: unusable, or not prepared.
    """
    with _locked(database) as (session, lock):
        mark = lockfile.read(session.path)
        if not sure and _is_borne_out(session, mark):
            return None
        with session.write() as transaction:
            before, connection = transaction.file, transaction.connection
            transaction.file = files.accept_restore(connection, before, mark)
            ids, reached, above = _raise_ids(connection, before, mark)
            needed = reached + lockfile.UNSURE if reached else "N"
            by_hand = raising(connection, before.outbox_table, needed)
            owed = connection.execute(OWED).fetchone()[0]
            doubtful = _doubtful(connection, before, reached) if above else None
        lock.write(pid=None, **files.as_mark(session.file))
        table = before.outbox_table
        return Restored(session.file.epoch, owed, ids, reached, above, table, by_hand, doubtful)


def accept_clone(
    database: Path,
    *,
    default_tenant: str,
    max_payload: int,
    now: Millis,
    validation: Validation | None = None,
    columns: Columns = OWN,
) -> Cloned:
    """Make a copy a file of its own, to which nobody is owed what the original owes.

    Its new identity comes last: one that was interrupted is still refused by `run`.

    Raises:
        AnotherDaemon: a daemon runs on it.
        Refused: the file is at home here, so it is no copy.
        DatabaseError: unusable, or not prepared.
        OutboxUnreadable: the outbox is not as it was agreed.
    """
    terms = Terms(Matcher(()), {}, BUILT_IN, default_tenant, max_payload, validation)
    with _locked(database, columns) as (session, lock):
        if _at_home(session):
            raise Refused(
                f"{session.path}: was prepared on this machine and at this path, so it is no copy; "
                "nothing was cancelled. Name the copy with --database"
            )
        with session.write() as transaction:
            instructions.drop(transaction)  # what the original was to send is not the copy's
        taken_in = _take_in(session, terms, now)
        cancelled = cancel_in_batches(session, now, everything=True)
        with session.write() as transaction:
            transaction.file = files.accept_clone(
                transaction.connection, transaction.file, session.path
            )
        lock.write(pid=None, **files.as_mark(session.file))
        return Cloned(cancelled, taken_in)


def cancel_in_batches(session: Session, now: Millis, *, everything: bool = False) -> int:
    """Cancel what removed subscriptions (or all) are owed, a short transaction at a time.

    A daemon may run meanwhile. Returns how many were cancelled here.
    """
    cancel = deliveries.cancel_all if everything else deliveries.cancel_removed
    total = 0
    while True:
        with session.write() as transaction:
            done = cancel(transaction, now)
        if not done:
            return total
        total += done
        time.sleep(BREATH)


def _raise_ids(
    connection: Connection, file: files.FileRow, mark: Mapping[str, object]
) -> tuple[Ids, int, int]:
    """Keep new rows from ids that were taken in before; also the highest of those, and `above`."""
    highest = lockfile.highest_id(mark, of=file.uuid)
    known, reached = highest != lockfile.BELOW_ALL, max(highest, 0)
    if not file.outbox_ours:
        if sources.read(connection).kind == "ledger":
            return Ids.KEYS, 0, 0
        return Ids.HOSTS, reached, 0
    if not known:
        return Ids.UNKNOWN, 0, 0
    above = reached + lockfile.UNSURE
    raised = raise_ids(connection, file.outbox_table, file.cursor, above)
    return Ids.ABOVE, reached, above if raised else 0


def _doubtful(connection: Connection, file: files.FileRow, reached: int) -> Doubtful | None:
    """The rows of webhookd's own outbox above the cursor, up to the highest id known."""
    facts = inspect(connection, file.outbox_table)
    if facts is None or not facts.has(sources.OWN_KEY):
        return None
    found = connection.execute(
        f"SELECT count(*), min(id), max(id) FROM {quoted(file.outbox_table)}"
        " WHERE id > ? AND id <= ?",
        (file.cursor, reached),
    ).fetchone()
    return Doubtful(*found) if found[0] else None


def _take_in(session: Session, terms: Terms, now: Millis) -> int:
    """Make events of the outbox rows that wait, for no subscription; returns how many rows.

    Those below the cursor too, that no sweep has found yet: a sweep of the copy's would send them.
    """
    with session.write() as transaction:
        connection, file, columns = transaction.connection, transaction.file, session.columns
        sources.check(connection, session.path, file, columns)
        outbox = sources.open_outbox(connection, session.path, file, columns, terms.max_payload)
        outbox.adopt(connection)
    total, position = 0, ranges.LOWEST
    while True:
        with session.write() as transaction:
            connection, file = transaction.connection, transaction.file
            taken = 0
            found = ranges.gaps(connection, position, ranges.HIGHEST, GAPS_AT_ONCE)
            for first, last in found:
                raw, full = outbox.batch(connection, first, last)
                judged = judge(connection, file.uuid, terms, raw, now)
                row, _, taken = take(connection, file, terms, judged, now)
                if taken:
                    highest = raw[taken - 1].outbox_id
                    transaction.file = replace(row, cursor=max(row.cursor, highest))
                position = raw[taken - 1].outbox_id if full or taken < len(raw) else last
                if taken:
                    break
        total += taken
        if not found or position == ranges.HIGHEST:
            return total
        position += 1
        time.sleep(BREATH)


@contextlib.contextmanager
def _locked(database: Path, columns: Columns = OWN) -> Iterator[tuple[Session, lockfile.LockFile]]:
    """A session on a file that no daemon can start on."""
    path = preflight.real_path(database)
    preflight.check(path)
    lock = lockfile.LockFile.acquire(path)
    try:
        with Session(path, write=True, columns=columns) as session:
            session.marks = False
            yield session, lock
    finally:
        lock.release()


def _is_borne_out(session: Session, mark: dict[str, object]) -> bool:
    """Whether there is a mark, and nothing in it says that the file was restored."""
    if not mark.get("uuid"):
        return False
    try:
        files.check_mark(session.file, session.path, mark)
    except DatabaseError:
        return False
    return True


def _at_home(session: Session) -> bool:
    try:
        files.check_home(session.file, session.path, files.machine_id())
    except DatabaseError:
        return False
    return True
