"""Reads the file as an outsider does, after each commit: what is new in it since the last look."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation.facts import Event
from webhookd.store.driver import Connection, connect

_EVENTS = (
    "SELECT sequence, outbox_id, event_id, event_type, aggregate_type, aggregate_id, tenant,"
    " payload, occurred_at, ingested_at FROM webhookd_events WHERE sequence > ? ORDER BY sequence"
)
_DELIVERIES = (
    "SELECT id, sequence, event, subscription, number, state, reason, attempts, last_status,"
    " last_error, retry_at, due_at, created_at, since, opened_sequence, finished_at"
    " FROM webhookd_deliveries WHERE sequence > ? ORDER BY sequence"
)


@dataclass
class Seen:
    """What one look found."""

    sequence: int
    cursor: int
    events: list[Event] = field(default_factory=list)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    """Every rejected row there is, when their number has changed; else empty."""
    instructions: dict[int, dict[str, Any]] | None = None
    """Every instruction there is, when any may have changed; else None."""
    states: dict[int, tuple[str, str]] = field(default_factory=dict)
    """State and reason of every subscription, when any may have changed; else empty."""


class Mirror:
    """A connection that only reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sequence = 0
        self._rejected = 0
        self._roll = -1
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """Opened when it is needed."""
        if self._connection is None:
            self._connection = connect(self.path, mode="ro")
        return self._connection

    def close(self) -> None:
        """Until it is needed again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look(self) -> Seen:
        """What has come since the last look."""
        sequence, cursor, rejected, roll = self.connection.execute(
            "SELECT sequence, cursor, rejected, roll FROM webhookd_file"
        ).fetchone()
        seen = Seen(sequence, cursor)
        if sequence != self.sequence:
            found = self.connection.execute(_EVENTS, (self.sequence,)).fetchall()
            seen.events = [Event(*row) for row in found]
            seen.deliveries = self.table(_DELIVERIES, self.sequence)
        if rejected != self._rejected:
            seen.rejected = dict(
                self.connection.execute("SELECT outbox_id, reason FROM webhookd_rejected")
            )
        if roll != self._roll:
            found = self.table("SELECT * FROM webhookd_instructions")
            seen.instructions = {row["key"]: row for row in found}
            seen.states = {
                key: (state, reason)
                for key, state, reason in self.connection.execute(
                    "SELECT key, state, state_reason FROM webhookd_subscriptions"
                )
            }
        self.sequence, self._rejected, self._roll = sequence, rejected, roll
        return seen

    def due_at(self, delivery: int) -> str | None:
        """When the file says that a delivery is due."""
        found = self.connection.execute(
            "SELECT due_at FROM webhookd_deliveries WHERE id = ?", (delivery,)
        ).fetchone()
        return None if found is None else found[0]

    def table(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """What a query finds, by the names of its columns."""
        cursor = self.connection.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
