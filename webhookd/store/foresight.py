"""What retention would take away: counted for a dry run, and for the length of a bar.

Nothing is locked, and no state of the file is held on to: it is read in pages, and what changes
meanwhile is counted as it is met.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from webhookd.core.model import Millis
from webhookd.core.retention import FINISHED, Retention, before
from webhookd.core.rows import OWN_TYPES
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.host_table import inspect, quoted

PAGE: Final = 2_000
"""Rows read at once: some milliseconds."""

NEXT_DELIVERIES: Final = (
    "SELECT finished_at, id FROM webhookd_deliveries INDEXED BY webhookd_deliveries_finished"
    " WHERE state = ?1 AND finished_at IS NOT NULL AND finished_at <= ?2"
    " AND (finished_at, id) > (?3, ?4) ORDER BY finished_at, id LIMIT ?5"
)
NEXT_ATTEMPTS: Final = (
    "SELECT a.started_at, a.delivery, a.number, d.state, d.finished_at FROM webhookd_attempts AS a"
    " INDEXED BY webhookd_attempts_started"
    " CROSS JOIN webhookd_deliveries AS d ON d.id = a.delivery"
    " WHERE a.started_at <= ?1 AND (a.started_at, a.delivery, a.number) > (?2, ?3, ?4)"
    " ORDER BY a.started_at, a.delivery, a.number LIMIT ?5"
)
COUNT_ATTEMPTS: Final = "SELECT count(*) FROM webhookd_attempts WHERE delivery = ?"
NEXT_REJECTED: Final = (
    "SELECT rejected_at, outbox_id FROM webhookd_rejected INDEXED BY webhookd_rejected_at"
    " WHERE rejected_at <= ?1 AND (rejected_at, outbox_id) > (?2, ?3)"
    " ORDER BY rejected_at, outbox_id LIMIT ?4"
)
NEXT_EVENTS: Final = (
    "SELECT sequence, ingested_at, outbox_id, event_type FROM webhookd_events"
    " WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
NEXT_CHANGES: Final = (
    "SELECT sequence, changed_at, key FROM webhookd_aggregates"
    " INDEXED BY webhookd_aggregates_sequence WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
REFERRING: Final = "SELECT state, finished_at FROM webhookd_deliveries WHERE event = ?"
EVENTS_OF: Final = (
    "SELECT sequence, ingested_at FROM webhookd_events INDEXED BY webhookd_events_aggregate"
    " WHERE aggregate = ? AND aggregate <> 0"
)


def foresee(
    connection: Connection, file: FileRow, kept: Retention, now: Millis
) -> Iterator[Counter[str]]:
    """What would go, by the keys of `[retention]`: a page of it at a time."""
    look = _Look(connection, file, kept, now)
    yield from look.deliveries()
    yield from look.attempts()
    yield from look.events()
    yield from look.changes()
    yield from look.rejected()


class _Look:
    """One dry run."""

    def __init__(self, connection: Connection, file: FileRow, kept: Retention, now: Millis) -> None:
        self._connection = connection
        self._file = file
        self._kept = kept
        self._now_text = before(0, now) or ""
        self._cutoffs = {state.value: before(kept.of(state), now) for state in FINISHED}
        self._attempts = before(kept.attempts, now)
        self._events = before(kept.events, now)
        self._changes = before(kept.changes, now)
        self._rejected = before(kept.rejected, now)
        self._outbox = before(kept.outbox, now) if file.outbox_ours else None
        if self._outbox is not None and inspect(connection, file.outbox_table) is None:
            # It is gone, and until it is back the events stay by which its rows are found.
            self._outbox = self._events = None
        self._has_row = f"SELECT 1 FROM {quoted(file.outbox_table)} WHERE id = ?"

    def deliveries(self) -> Iterator[Counter[str]]:
        """Finished deliveries, and the attempts that go with them."""
        for state, cutoff in self._cutoffs.items():
            if cutoff is None:
                continue
            for page in self._pages(NEXT_DELIVERIES, (state, cutoff), ("", 0)):
                attempts = sum(self._one(COUNT_ATTEMPTS, number) for _, number in page)
                yield Counter({state: len(page), "attempts": attempts})

    def attempts(self) -> Iterator[Counter[str]]:
        """Old attempts of deliveries that stay."""
        if self._attempts is None:
            return
        for page in self._pages(NEXT_ATTEMPTS, (self._attempts,), ("", 0, 0)):
            yield Counter(attempts=sum(not self._goes(*row[3:]) for row in page))

    def events(self) -> Iterator[Counter[str]]:
        """Events that nothing refers to that stays, and outbox rows that are events."""
        for page in self._pages(NEXT_EVENTS, (), (0,)):
            found: Counter[str] = Counter()
            for sequence, at, number, event_type in page:
                found["events"] += self._event_goes(sequence, at)
                own = event_type.startswith(OWN_TYPES)
                found["outbox"] += self._is_old(at, self._outbox) and not own and self._has(number)
            yield found
            if page[-1][1] <= self._now_text and not any(
                self._is_old(page[-1][1], cutoff) for cutoff in (self._events, self._outbox)
            ):
                return  # what comes behind is younger still

    def changes(self) -> Iterator[Counter[str]]:
        """Aggregates of which no event stays."""
        if self._changes is None:
            return
        for page in self._pages(NEXT_CHANGES, (), (0,)):
            going = sum(
                self._is_old(at, self._changes)
                and all(self._event_goes(*row) for row in self._rows(EVENTS_OF, key))
                for _, at, key in page
            )
            yield Counter(changes=going)

    def rejected(self) -> Iterator[Counter[str]]:
        """Rejected rows, and their rows in the outbox."""
        if self._rejected is None:
            return
        for page in self._pages(NEXT_REJECTED, (self._rejected,), ("", -(2**63))):
            rows = self._outbox is not None and sum(self._has(number) for _, number in page)
            yield Counter(rejected=len(page), outbox=int(rows))

    def _event_goes(self, sequence: int, at: str) -> bool:
        return self._is_old(at, self._events) and all(
            self._goes(*row) for row in self._rows(REFERRING, sequence)
        )

    def _goes(self, state: str, finished_at: str | None) -> bool:
        return self._is_old(finished_at, self._cutoffs.get(state))

    @staticmethod
    def _is_old(at: str | None, cutoff: str | None) -> bool:
        return at is not None and cutoff is not None and at <= cutoff

    def _has(self, number: int) -> bool:
        return bool(self._rows(self._has_row, number))

    def _one(self, sql: str, *values: object) -> int:
        return int(self._connection.execute(sql, values).fetchone()[0])

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def _pages(
        self, sql: str, terms: tuple[Any, ...], position: tuple[Any, ...]
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Page by page; the first columns of a row are the position behind it."""
        while page := self._rows(sql, *terms, *position, PAGE):
            yield page
            position = page[-1][: len(position)]
