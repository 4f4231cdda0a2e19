"""A host that keeps the write lock for too long: `locker.py DATABASE SECONDS`.

It prints a line once it has the lock, inserts a row at the end, and commits.
"""

import sqlite3
import sys
import time


def main(database: str, seconds: float) -> None:
    """Hold the lock for `seconds`."""
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(seconds)
    connection.execute("INSERT INTO outbox (event_type) VALUES ('lock.released')")
    connection.execute("COMMIT")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
