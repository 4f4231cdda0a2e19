"""`python -m bench.host DATABASE EVENTS PER_SECOND`: a host that commits one event at a time.

It has its own SQLite, Python's, as any host would. When all are in, it writes a line an event to
stdout: the moment at which COMMIT returned (nanoseconds of CLOCK_MONOTONIC) and the event's id.
"""

import sqlite3
import sys
import time


def run(database: str, events: int, per_second: float) -> list[tuple[int, str]]:
    """The moment and the id of each event that was committed."""
    connection = sqlite3.connect(database, isolation_level=None)
    committed = []
    for number in range(events):
        event = f"bench-{number}"
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO outbox (event_type, aggregate_id, payload, event_id)"
            " VALUES ('supplier.created', ?, '{\"name\":\"Ada\"}', ?)",
            (f"V{number}", event),
        )
        connection.execute("COMMIT")
        committed.append((time.monotonic_ns(), event))
        time.sleep(1 / per_second)
    connection.close()
    return committed


if __name__ == "__main__":
    for moment, event in run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])):
        print(moment, event)
