"""Which event of an aggregate is its newest of some kind: found step by step, within a budget.

A bulk change asks this of each aggregate that it meets. The answer is mostly the newest event or
one near it. But an aggregate may have 100,000 events of which none will do, and to walk through
them is more than one transaction may do. So a walk that is long is broken off and gone on with in
the next step, and its answer is kept for the steps to come: all of that in the instruction's own
options, for whoever takes the next step.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from webhookd.store.driver import Connection
from webhookd.store.transaction import BULK_ROWS

A_CHANGE: Final = 10
"""Looks at a row that cost as much as one change of a row."""
A_GLANCE: Final = 4
A_LOOK: Final = 250
"""Events read at once: few at first, because mostly the newest will do."""
ANSWERS: Final = 100
"""Answers that took long and are kept from step to step."""

_WALK: Final = (
    "SELECT e.sequence, {will_do} FROM webhookd_events AS e INDEXED BY webhookd_events_aggregate"
    " LEFT JOIN webhookd_deliveries AS d ON d.event = e.sequence AND d.subscription = ?1"
    " WHERE e.aggregate = ?2 AND e.aggregate <> 0 AND e.sequence > ?3 AND e.sequence < ?4"
    " ORDER BY e.sequence DESC LIMIT ?5"
)
DELIVERED: Final = _WALK.format(will_do="d.state = 'delivered'")
"""The newest that was delivered."""
WAS_PENDING: Final = _WALK.format(
    will_do="d.id <= ?6 AND d.opened_sequence <= ?6"
    " AND (d.state = 'pending' OR d.ended_sequence > ?6)"
)
"""The newest whose delivery was pending when sequence ?6 was reached: it was opened before, and has
not ended before. `sequence` would not tell, because late outcomes move it on rows that ended.

One that was re-opened since counts for nothing, also where it was pending then: it stays, and what
is older is not cancelled for its sake."""


@dataclass(slots=True)
class Budget:
    """What one transaction may still do, in looks at a row: some milliseconds of the write lock."""

    left: int = BULK_ROWS * A_CHANGE

    @property
    def is_spent(self) -> bool:
        """The rest is for the next step."""
        return self.left <= 0

    @property
    def changes(self) -> int:
        """Rows that may still be changed; at least one, so that every step comes further."""
        return max(1, self.left // A_CHANGE)

    def look(self, count: int = 1) -> None:
        """So many rows were looked at."""
        self.left -= count

    def change(self, count: int = 1) -> None:
        """So many rows were changed."""
        self.left -= count * A_CHANGE


@dataclass(slots=True)
class Newest:
    """Answers of one step, with those that were kept of the steps before."""

    connection: Connection
    sql: str
    """`DELIVERED` or `WAS_PENDING`."""
    subscription: int
    budget: Budget
    before: int
    """Events from there on are not looked at."""
    extra: tuple[int, ...] = ()
    kept: dict[str, int] = field(default_factory=dict)
    """By the aggregate: answers that took long."""
    walk: list[int] | None = None
    """An aggregate that has been looked through down to that event, in vain so far."""
    _found: dict[int, int] = field(default_factory=dict)

    def find(self, aggregate: int, above: int) -> int | None:
        """The newest event of `aggregate` above that one that will do; 0 where there is none.

        None when the budget has run out before it is known.
        """
        known = self._found.get(aggregate, self.kept.get(str(aggregate)))
        if known is not None:
            return known if known > above else 0
        below = self.before
        if self.walk is not None and self.walk[0] == aggregate:
            below = self.walk[1]
        size, looked = A_GLANCE, 0
        while True:
            page = self.connection.execute(
                self.sql, (self.subscription, aggregate, above, below, size, *self.extra)
            ).fetchall()
            self.budget.look(len(page))
            looked += len(page)
            answer = next((event for event, will_do in page if will_do), None)
            if answer is not None or len(page) < size:
                break
            below = page[-1][0]
            if self.budget.is_spent:
                self.walk = [aggregate, below]
                return None
            size = A_LOOK
        return self._know(aggregate, answer or 0, long=looked > A_LOOK)

    def state(self) -> dict[str, Any]:
        """What is to be kept for the next step: the arguments `kept` and `walk`."""
        return {"kept": self.kept, "walk": self.walk}

    def _know(self, aggregate: int, answer: int, *, long: bool) -> int:
        self._found[aggregate] = answer
        if self.walk is not None and self.walk[0] == aggregate:
            self.walk = None
            long = True
        if long:
            if len(self.kept) >= ANSWERS:
                del self.kept[next(iter(self.kept))]
            self.kept[str(aggregate)] = answer
        return answer
