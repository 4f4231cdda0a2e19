"""An ERP in small: each transaction changes business rows and says so in the outbox.

    host.py DATABASE ROWS AGGREGATES SECONDS SEED

The table `business` (made here if need be) is the truth: what is in it was committed. About one
transaction in ten is rolled back; its outbox rows say so in their payload, and must never be seen.
"""

import json
import random
import sqlite3
import sys
import time


def main(database: str, rows: int, aggregates: int, seconds: float, seed: int) -> None:
    """Commit `rows` rows, evenly over `seconds`."""
    dice = random.Random(seed)
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS business (n INTEGER PRIMARY KEY, kind TEXT, aggregate TEXT)"
    )
    begun, done = time.monotonic(), 0
    while done < rows:
        count = min(dice.randint(1, 3), rows - done)
        kept = dice.random() >= 0.1
        connection.execute("BEGIN IMMEDIATE")
        for n in range(done + 1, done + count + 1):
            kind = dice.choice(("order", "supplier"))
            aggregate = f"{kind}-{dice.randrange(aggregates)}"
            connection.execute("INSERT INTO business VALUES (?, ?, ?)", (n, kind, aggregate))
            payload = json.dumps({"n": n, "aggregate": aggregate, "kept": kept})
            connection.execute(
                "INSERT INTO outbox (event_type, aggregate_id, payload) VALUES (?, ?, ?)",
                (f"{kind}.changed", aggregate, payload),
            )
        connection.execute("COMMIT" if kept else "ROLLBACK")
        if kept:
            done += count
        time.sleep(max(0.0, begun + seconds * done / rows - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
