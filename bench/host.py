"""`python -m bench.host DATABASE EVENTS PER_SECOND ENDPOINTS`: a host that commits event by event.

It has its own SQLite, Python's, as any host would, and waits for the write lock as the recipes
say. The events are for the endpoints by turns, each a tenant. When all are in, it writes a line an
event to stdout: see `Commit`.
"""

import sqlite3
import sys
import time
from dataclasses import dataclass
from typing import Final

PATIENCE: Final = 30.0
"""Seconds that it waits for the write lock: as docs/recipes.md has it."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One event's transaction. All spans are in nanoseconds."""

    event: str
    at: int
    """Right before COMMIT, by CLOCK_MONOTONIC: nobody can see the event earlier."""
    took: int
    """From BEGIN IMMEDIATE until COMMIT returned."""
    waited: int
    """Of that, until BEGIN IMMEDIATE returned with the write lock."""

    def line(self) -> str:
        """What is written to stdout."""
        return f"{self.event} {self.at} {self.took} {self.waited}"

    @classmethod
    def parse(cls, line: str) -> "Commit":
        """What `line` made."""
        event, at, took, waited = line.split()
        return cls(event, int(at), int(took), int(waited))


def run(database: str, events: int, per_second: float, endpoints: int) -> list[Commit]:
    """Commit one event after the other, each at its time; one that is late does not wait."""
    connection = sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)
    committed = []
    start = time.monotonic()
    for number in range(events):
        event = f"bench-{number}"
        time.sleep(max(0.0, start + number / per_second - time.monotonic()))
        begun = time.monotonic_ns()
        connection.execute("BEGIN IMMEDIATE")
        locked = time.monotonic_ns()
        connection.execute(
            "INSERT INTO outbox (event_type, aggregate_id, tenant, payload, event_id)"
            " VALUES ('supplier.created', ?, ?, '{\"name\":\"Ada\"}', ?)",
            (f"V{number}", f"tenant-{number % endpoints:02d}", event),
        )
        at = time.monotonic_ns()
        connection.execute("COMMIT")
        ended = time.monotonic_ns()
        committed.append(Commit(event, at, ended - begun, locked - begun))
    connection.close()
    return committed


if __name__ == "__main__":
    for commit in run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])):
        print(commit.line())
