"""How old the things are that came in the order of their sequences, and how far retention has come.

See `webhookd.store.retention`.
"""

from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis
from webhookd.core.retention import Retention, Span, Work, before
from webhookd.core.times import to_text
from webhookd.store.driver import Connection

EVENTS: Final = (
    "SELECT sequence, ingested_at, aggregate, outbox_id, event_type FROM webhookd_events"
    " WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
CHANGES: Final = (
    "SELECT sequence, changed_at, key FROM webhookd_aggregates"
    " INDEXED BY webhookd_aggregates_sequence WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
LAST_EVENT: Final = "SELECT max(sequence) FROM webhookd_events"
LAST_CHANGE: Final = "SELECT max(sequence) FROM webhookd_aggregates"
PRUNED: Final = "SELECT minimum_cursor FROM webhookd_feeds WHERE feed = 'results'"
"""The highest sequence of a delivery that retention took; each is above its event's."""
POSITIONS: Final = "SELECT what, position FROM webhookd_retention"
HIGHEST: Final = 2**63 - 1
"""Above every sequence."""


@dataclass(frozen=True, slots=True)
class Ages:
    """Which of the things that came in the order of their sequences are old enough."""

    connection: Connection
    page: str
    """`EVENTS` or `CHANGES`."""
    last: str
    """The query of the highest sequence of these."""
    cutoff: str | None
    now_text: str

    def is_old(self, sequence: int, at: str | None) -> bool:
        """Whether it may go by its age.

        A moment that lies ahead is a wrong clock's. Such a one came before the next whose moment
        does not, and is as old as that: it must not hold up all that are behind it.
        """
        if self.cutoff is None or at is None:
            return False
        if at <= self.now_text:
            return at <= self.cutoff
        following = self._next_believed(sequence)
        return following is not None and following <= self.cutoff

    def _next_believed(self, sequence: int) -> str | None:
        """The moment of one that came later and does not lie ahead, found by halving."""
        highest = self.connection.execute(self.last).fetchone()[0]
        low, high, found = sequence + 1, highest, None
        while low <= high:
            middle = (low + high) // 2
            row = self.connection.execute(self.page, (middle - 1, 1)).fetchone()
            if row[1] is not None and row[1] <= self.now_text:
                found, high = row[1], middle - 1
            else:
                low = row[0] + 1
        return found


class Terms:
    """What retention goes by in one look or one transaction."""

    def __init__(self, connection: Connection, kept: Retention, now: Millis) -> None:
        self.connection = connection
        self.kept = kept
        self.now = now
        self.positions: dict[str, int] = dict(connection.execute(POSITIONS).fetchall())
        self.events = self.ages(EVENTS, LAST_EVENT, kept.events)
        self.changes = self.ages(CHANGES, LAST_CHANGE, kept.changes)

    def ages(self, page: str, last: str, span: Span) -> Ages:
        """Who is old enough by that span."""
        return Ages(self.connection, page, last, before(span, self.now), to_text(self.now))

    def finds(self, sql: str, span: Span) -> bool:
        """Whether a query by age alone has any result."""
        cutoff = before(span, self.now)
        return (
            cutoff is not None and self.connection.execute(sql, (cutoff, 1)).fetchone() is not None
        )

    def last_event(self, *, outbox_ours: bool) -> int:
        """Up to where events may go: by them the rows of an outbox of ours are found.

        A span may have become another one since the outbox was gone through.
        """
        held = outbox_ours and self.kept.outbox is not None
        return self.positions[Work.OUTBOX] if held else HIGHEST

    def comes_further(
        self, work: Work, page: str, last: str, span: Span, highest: int = HIGHEST
    ) -> bool:
        """Whether what follows the position, and is not above `highest`, is old enough."""
        ages = self.ages(page, last, span)
        if ages.cutoff is None:
            return False
        found = self.connection.execute(page, (self.positions[work], 1)).fetchone()
        return found is not None and found[0] <= highest and ages.is_old(found[0], found[1])
