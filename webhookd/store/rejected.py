"""Outbox rows that could not become events, ingested again once the host has mended them.

A row is read anew and judged by the rules of ingest, with the terms of the daemon. One that passes
is an event like any other, taken in now: its sequences are new, and its deliveries stand behind
those that are in line already. Its id was done with before and stays so; the cursor does not move.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from webhookd.core.model import Millis
from webhookd.core.rows import RawRow, Rejection
from webhookd.core.storage import DoubtedRow, RejectedRow
from webhookd.core.structure import Validation
from webhookd.store import file as files
from webhookd.store import ranges, sources, terms
from webhookd.store.acceptance import BREATH
from webhookd.store.driver import Connection, translated
from webhookd.store.ingest import judge, take
from webhookd.store.outbox import BATCH_BYTES
from webhookd.store.recipients import Terms
from webhookd.store.transaction import Session, Transaction

AT_ONCE: Final = 200
"""Rows that one transaction looks at: some milliseconds of the write lock."""

NEXT_PAGE: Final = (
    "SELECT outbox_id FROM webhookd_rejected WHERE outbox_id >= ? AND outbox_id <= ?"
    " ORDER BY outbox_id LIMIT ?"
)
HIGHEST: Final = "SELECT max(outbox_id) FROM webhookd_rejected"
IS_REJECTED: Final = "SELECT 1 FROM webhookd_rejected WHERE outbox_id = ?"
FORGET: Final = "DELETE FROM webhookd_rejected WHERE outbox_id = ?"


@dataclass(frozen=True, slots=True)
class Retried:
    """What one transaction made of rejected rows."""

    events: tuple[int, ...] = ()
    """Outbox ids of rows that are events now."""
    deliveries: int = 0
    """How many deliveries those events owe."""
    rejected: tuple[RejectedRow, ...] = ()
    """Rows that are rejected still, with the reason of now."""
    gone: tuple[int, ...] = ()
    """Ids of rows that the host has deleted; they stay rejected, with the old reason."""
    forgotten: tuple[int, ...] = ()
    """Ids of rows that the host has deleted, and that are no longer listed."""
    unknown: tuple[int, ...] = ()
    """Ids that were asked for and are no rejected row's."""
    guessed_times: tuple[int, ...] = ()
    """Of `events`, those whose `occurred_at` could not be read: the time of now stands in."""
    doubted: tuple[DoubtedRow, ...] = ()
    """Of `events`, those whose payload is not made as their type says."""


class Retry:
    """A command that ingests rejected rows again; the daemon may be at work meanwhile."""

    def __init__(
        self,
        session: Session,
        *,
        default_tenant: str,
        max_payload: int,
        ids_never_reused: bool,
        clock: Callable[[], Millis],
        validation: Validation | None = None,
        forget_gone: bool = False,
    ) -> None:
        """Prepare to work on a session that writes.

        Args:
            session: open until the last row.
            default_tenant: as in ingest.
            max_payload: as in ingest.
            ids_never_reused: the host vouches for a key that is no AUTOINCREMENT.
            clock: gives the time of each transaction.
            validation: as in ingest.
            forget_gone: take rows that the host has deleted off the list.

        Raises:
            DatabaseError: the outbox's ids can come back, so a row may be another one.
        """
        path, file, columns = session.path, session.file, session.columns
        with session.read() as connection:
            sources.check_ready(connection, path, file, columns, ids_never_reused=ids_never_reused)
            self._outbox = sources.open_outbox(connection, path, file, columns, max_payload)
        self._session = session
        self._default_tenant = default_tenant
        self._max_payload = max_payload
        self._clock = clock
        self._validation = validation
        self._forget_gone = forget_gone
        self._terms: tuple[int, Terms] | None = None

    def these(self, ids: Sequence[int]) -> Iterator[Retried]:
        """Ingest these rows again, lowest id first: one result a transaction.

        Raises:
            StoreBusy: the host held the lock for long; what was yielded before is done.
            DatabaseError: the file is unusable.
            OutboxUnreadable: the outbox is not as it was agreed.
        """
        rest = sorted(set(ids))
        while rest:
            done, count = self._some(rest[:AT_ONCE])
            yield done
            rest = rest[count:]
            if rest:
                time.sleep(BREATH)

    def all(self) -> Iterator[Retried]:
        """The same for every row that is rejected when this begins. Raises as `these` does."""
        with self._session.read() as connection:
            highest = connection.execute(HIGHEST).fetchone()[0]
        position = ranges.LOWEST
        while highest is not None and position <= highest:
            with self._session.read() as connection:
                page = connection.execute(NEXT_PAGE, (position, highest, AT_ONCE)).fetchall()
            if not page:  # taken away meanwhile
                return
            yield from self.these([number for (number,) in page])
            position = page[-1][0] + 1
            time.sleep(BREATH)

    def _some(self, ids: list[int]) -> tuple[Retried, int]:
        """One transaction; returns what it did, and how many of `ids` (ascending) it dealt with."""
        with translated(self._session.path):
            self._load_terms_ahead()
        with self._session.write() as transaction:
            connection, before = transaction.connection, transaction.file
            # An outbox that was made anew has other rows under the same ids.
            self._outbox.end(connection, before.cursor)
            known = [one for one in ids if connection.execute(IS_REJECTED, (one,)).fetchone()]
            raw, end = self._read(connection, known)
            rules = self._current_terms(transaction)
            now = self._clock()
            judged = judge(connection, before.uuid, rules, raw, now)
            row, done, taken = take(connection, before, rules, judged, now, again=True)
            if taken < len(raw):
                end = raw[taken - 1].outbox_id
            there = {one.outbox_id for one in raw[:taken]}
            made = sorted(there - {one.outbox_id for one in done.rejected})
            looked_at = [one for one in ids if end is None or one <= end]
            was_known = set(known)
            gone = [one for one in looked_at if one in was_known and one not in there]
            forgotten = gone if self._forget_gone else []
            for number in (*made, *forgotten):
                connection.execute(FORGET, (number,))
            # What `take` counts as rejected was counted, and announced, when it was at first.
            rejected = before.rejected - len(made) - len(forgotten)
            transaction.file = replace(before, sequence=row.sequence, rejected=rejected)
            if made:
                transaction.bump()
        retried = Retried(
            events=tuple(made),
            deliveries=done.deliveries,
            rejected=done.rejected,
            gone=() if self._forget_gone else tuple(gone),
            forgotten=tuple(forgotten),
            unknown=tuple(one for one in looked_at if one not in was_known),
            guessed_times=done.guessed_times,
            doubted=done.doubted,
        )
        return retried, len(looked_at)

    def _read(
        self, connection: Connection, ids: list[int]
    ) -> tuple[list[RawRow | Rejection], int | None]:
        """Those of the rows that are still there, and up to which id; None where it is up to all.

        Stops at `BATCH_BYTES`: what is odd enough to be rejected may be large.
        """
        found: list[RawRow | Rejection] = []
        size = 0
        for first, last in ranges.runs(ids):
            raw, full = self._outbox.batch(connection, first, last)
            found += raw
            size += sum(map(_weight, raw))
            if full:
                return found, raw[-1].outbox_id
            if size >= BATCH_BYTES:
                return found, last
        return found, None

    def _current_terms(self, transaction: Transaction) -> Terms:
        """The rules of this transaction: read again where subscriptions have changed."""
        roll = transaction.file.roll
        if self._terms is None or self._terms[0] != roll:
            self._terms = (roll, self._load_terms(transaction.connection))
        return self._terms[1]

    def _load_terms_ahead(self) -> None:
        """Read changed rules before the write lock is taken, as the daemon does."""
        connection = self._session.connection
        roll = files.reread(connection, self._session.path).roll
        if self._terms is None or self._terms[0] != roll:
            self._terms = (roll, self._load_terms(connection))

    def _load_terms(self, connection: Connection) -> Terms:
        return terms.load(
            connection,
            default_tenant=self._default_tenant,
            max_payload=self._max_payload,
            profiles=self._session.profiles,
            validation=self._validation,
        )


def _weight(row: RawRow | Rejection) -> int:
    """Bytes that are held in memory for a row."""
    if isinstance(row, Rejection):
        return 0
    texts = (
        row.event_type,
        row.aggregate_type,
        row.aggregate_id,
        row.tenant,
        row.payload,
        row.occurred_at,
        row.event_id,
    )
    return sum(len(text) for text in texts if text)
