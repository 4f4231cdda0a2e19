"""The part of the daemon's store that takes in rows, and knows by what rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from webhookd.core.model import Millis
from webhookd.core.profiles import Known
from webhookd.core.rows import RawRow, Rejection
from webhookd.core.storage import Ingested
from webhookd.core.store import Stale, Waiting
from webhookd.core.structure import Validation
from webhookd.store import file as files
from webhookd.store import ingest, ranges, terms
from webhookd.store.driver import Connection, translated
from webhookd.store.file import FileRow
from webhookd.store.housekeeping import Housekeeping
from webhookd.store.outbox import Outbox
from webhookd.store.recipients import Terms
from webhookd.store.transaction import Transaction, snapshot

GAPS_A_SWEEP: Final = 100
"""Gaps between ingested ranges that one transaction of the sweep looks into: some milliseconds."""

NOTHING: Final = Ingested(0, 0, (), (), frozenset(), more=False)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The next rows of the outbox, read and judged while the file was as these say."""

    sequence: int
    cursor: int
    version: int
    """Of the file, as the connection that reads counts them."""
    raw: Sequence[RawRow | Rejection]
    judged: ingest.Judged
    full: bool
    """More may stand behind them."""

    def is_so(self, file: FileRow) -> bool:
        """Whether neither has moved: then no event was taken in since, by anybody."""
        return (self.sequence, self.cursor) == (file.sequence, file.cursor)


class Intake(Housekeeping):
    """What `webhookd.store.sqlite.SqliteStore` does with the outbox."""

    _outbox: Outbox

    def __init__(
        self,
        path: Path,
        *,
        default_tenant: str,
        max_payload: int,
        profiles: Known,
        validation: Validation | None,
    ) -> None:
        super().__init__(path)
        self._default_tenant = default_tenant
        self._max_payload = max_payload
        self._profiles = profiles
        self._validation = validation
        self._transaction: Transaction | None = None
        self._terms: tuple[int, Terms] | None = None
        self._terms_in_doubt = False
        """They were read inside a transaction that is not committed."""
        self._sweep_from = self._swept = ranges.LOWEST

    def fresh(self, now: Millis) -> Waiting | None:
        """Read and judge, ahead of the lock, the rows that `ingest` takes in next.

        None where rows get their numbers under the lock.
        """
        if not self._outbox.has_numbers:
            return None
        with translated(self.path), snapshot(self._reader) as connection:
            file = files.reread(connection, self.path)
            rules = self._terms_of(connection, file.roll)
            return Waiting(self._next(connection, file, rules, now))

    def _is_so(self, found: _Fresh, file: FileRow) -> bool:
        """Whether what was found ahead of the lock is so under it: until a row is an event the host
        may change it, or take it back."""
        if not found.is_so(file):
            return False
        if _version(self._reader) == found.version:
            return True
        raw, _ = self._outbox.fresh(self._writer, found.cursor)
        return raw[: len(found.raw)] == found.raw

    def ingest(self, now: Millis, ahead: Waiting | None = None) -> Ingested:
        """Take in the next batch of outbox rows after the cursor."""
        transaction = self._begun()
        file = transaction.file
        with translated(self.path):
            rules = self._current_terms(transaction)
            if ahead is None:
                found = self._next(self._writer, file, rules, now)
            else:
                found = cast("_Fresh", ahead)
                if not self._is_so(found, file):
                    raise Stale("rows were changed, or taken in, on their way into the file")
            if not found.judged.drafts:
                return NOTHING
            row, done, taken = ingest.take(self._writer, file, rules, found.judged, now)
            transaction.file = replace(row, cursor=found.judged.drafts[taken - 1].outbox_id)
            return replace(done, more=done.more or found.full)

    def sweep(self, now: Millis) -> Ingested:
        """Look into the next gaps below the cursor; goes round from the lowest id again and again.

        `more` says that this round has not come to its end.
        """
        transaction = self._begun()
        with translated(self.path):
            file = transaction.file
            cursor = file.cursor
            found = ranges.gaps(self._writer, self._sweep_from, cursor, GAPS_A_SWEEP)
            for first, last in found:
                raw, full = self._outbox.batch(self._writer, first, last)
                if not raw:
                    continue
                rules = self._current_terms(transaction)
                judged = ingest.judge(self._writer, file.uuid, rules, raw, now)
                transaction.file, done, taken = ingest.take(self._writer, file, rules, judged, now)
                whole = taken == len(raw) and not full
                end = last if whole else raw[taken - 1].outbox_id
                self._sweep_from = end + 1 if end < cursor else ranges.LOWEST
                return replace(done, more=end < cursor)
            more = len(found) == GAPS_A_SWEEP and found[-1][1] < cursor
            self._sweep_from = found[-1][1] + 1 if more else ranges.LOWEST
            return replace(NOTHING, more=more)

    def set_terms(
        self,
        *,
        default_tenant: str,
        max_payload: int,
        validation: Validation | None,
        profiles: Known,
    ) -> None:
        """By what rows and subscriptions are judged from now on."""
        self._default_tenant = default_tenant
        self._max_payload = max_payload
        self._validation = validation
        self._profiles = profiles
        if self._transaction is not None:
            self._transaction.profiles = profiles
        self._outbox = self._outbox.limited(max_payload)
        self._terms = None

    def _next(self, connection: Connection, file: FileRow, rules: Terms, now: Millis) -> _Fresh:
        raw, full = (
            ([], False)
            if file.cursor >= ranges.HIGHEST
            else self._outbox.fresh(connection, file.cursor)
        )
        judged = ingest.judge(connection, file.uuid, rules, raw, now)
        return _Fresh(file.sequence, file.cursor, _version(connection), raw, judged, full)

    def _current_terms(self, transaction: Transaction) -> Terms:
        """The rules of matching as of this transaction: read again whenever `roll` moved."""
        before = self._terms
        found = self._terms_of(self._writer, transaction.file.roll)
        self._terms_in_doubt |= self._terms is not before
        return found

    def _load_terms_ahead(self) -> None:
        """Read changed rules before the write lock is taken: with 10,000 subscriptions it takes
        a third of a second. `_current_terms` makes sure that they are still right."""
        self._terms_of(self._reader, files.reread(self._reader, self.path).roll)

    def _terms_of(self, connection: Connection, roll: int) -> Terms:
        if self._terms is None or self._terms[0] != roll:
            self._terms = (roll, self._load_terms(connection))
        return self._terms[1]

    def _load_terms(self, connection: Connection) -> Terms:
        return terms.load(
            connection,
            default_tenant=self._default_tenant,
            max_payload=self._max_payload,
            profiles=self._profiles,
            validation=self._validation,
        )


def _version(connection: Connection) -> int:
    """Another one once anybody else has committed."""
    found: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return found
