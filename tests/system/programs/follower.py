"""A host that follows all three feeds without rest, as the contract tells it to.

    follower.py DATABASE COPY LIMIT

It reads LIMIT rows a page. What it knows is in COPY, a database of its own: the copy of each feed
and where it was, moved in one transaction a page, so that it can be killed at any moment; what each
sequence was ever seen to mean; and how often it began. Faults are written there too.
"""

import json
import sqlite3
import sys
import time
from typing import Any

FEEDS = {
    "results": ("delivery_id",),
    "changes": ("tenant", "aggregate_type", "aggregate_id"),
    "events": ("sequence",),
}
"""Each feed, and what its rows are about."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS places (feed PRIMARY KEY, cursor, epoch, floor, begun);
CREATE TABLE IF NOT EXISTS copies (feed, key, row, PRIMARY KEY (feed, key));
CREATE TABLE IF NOT EXISTS meanings (feed, sequence, row, PRIMARY KEY (feed, sequence));
CREATE TABLE IF NOT EXISTS faults (feed, said);
"""
HEAD = "SELECT epoch, minimum_cursor, maximum_sequence FROM webhook_feeds WHERE feed = ?"


def begin(source: Any, copy: Any, feed: str) -> None:
    """From 0, with nothing."""
    head = source.execute(HEAD, (feed,)).fetchone()
    copy.execute("BEGIN")
    copy.execute("DELETE FROM copies WHERE feed = ?", (feed,))
    copy.execute(
        "INSERT OR REPLACE INTO places VALUES"
        " (?1, 0, ?2, ?3, 1 + ifnull((SELECT begun FROM places WHERE feed = ?1), 0))",
        (feed, head["epoch"], head["maximum_sequence"]),
    )
    copy.execute("COMMIT")


def poll(source: Any, copy: Any, feed: str, limit: int) -> bool:
    """One page of one feed; whether there was anything in it."""
    place = copy.execute("SELECT cursor, epoch, floor FROM places WHERE feed = ?", (feed,))
    cursor, epoch, floor = place.fetchone() or (0, 0, 0)
    # The page first, and then the row that says whether it can be gone on with.
    page = source.execute(
        f"SELECT * FROM webhook_{feed} WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (cursor, limit),
    ).fetchall()
    head = source.execute(HEAD, (feed,)).fetchone()
    if epoch != head["epoch"] or max(cursor, floor) < head["minimum_cursor"]:
        begin(source, copy, feed)
        return True
    if not page:
        return False
    copy.execute("BEGIN")
    for row in page:
        keep(copy, feed, row)
    last = page[-1]["sequence"]
    if last > head["maximum_sequence"]:
        copy.execute("INSERT INTO faults VALUES (?, ?)", (feed, f"{last} is over the maximum"))
    copy.execute("UPDATE places SET cursor = ? WHERE feed = ?", (last, feed))
    copy.execute("COMMIT")
    return True


def keep(copy: Any, feed: str, row: Any) -> None:
    """One row: a sequence means now what it has always meant."""
    sequence, text = row["sequence"], json.dumps(dict(row))
    key = json.dumps([row[name] for name in FEEDS[feed]])
    before = copy.execute(
        "SELECT row FROM meanings WHERE feed = ? AND sequence = ?", (feed, sequence)
    ).fetchone()
    if before is not None and before[0] != text:
        copy.execute("INSERT INTO faults VALUES (?, ?)", (feed, f"was {before[0]}, is {text}"))
    copy.execute("INSERT OR IGNORE INTO meanings VALUES (?, ?, ?)", (feed, sequence, text))
    copy.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (feed, key, text))


def main(database: str, path: str, limit: int) -> None:
    """Poll until the process is ended."""
    copy = sqlite3.connect(path, timeout=60, isolation_level=None)
    copy.execute("PRAGMA journal_mode = WAL")
    copy.execute("PRAGMA synchronous = OFF")
    copy.executescript(SCHEMA)
    source = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)
    source.row_factory = sqlite3.Row
    while True:
        if not sum([poll(source, copy, feed, limit) for feed in FEEDS]):
            time.sleep(0.002)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
