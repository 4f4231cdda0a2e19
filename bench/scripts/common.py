"""What both scripts need: the host's rows, a signature, and a table of what was sent."""

import base64
import hmac
import sqlite3
import time
from typing import Final

from bench.fixture import SECRET

AT_ONCE: Final = 8
"""Requests under way at most: as many as a subscription's default concurrency."""
TRIES: Final = 5
KEY: Final = base64.b64decode(SECRET.removeprefix("whsec_"))
SENT: Final = (
    "CREATE TABLE IF NOT EXISTS sent"
    " (outbox_id INTEGER PRIMARY KEY, status INTEGER NOT NULL, sent_at REAL NOT NULL)"
)

Row = tuple[int, str]
"""The id in the outbox, and the payload."""


def opened(database: str) -> sqlite3.Connection:
    """A connection that commits each statement; the file is in WAL mode already."""
    return sqlite3.connect(database, timeout=30, isolation_level=None)


def unsent(connection: sqlite3.Connection) -> list[Row]:
    """All that is to be sent, in order; it makes the table of what was sent."""
    connection.execute(SENT)
    return connection.execute(
        "SELECT id, payload FROM outbox WHERE id NOT IN (SELECT outbox_id FROM sent) ORDER BY id"
    ).fetchall()


def headers(row: int, body: bytes) -> dict[str, str]:
    """As standardwebhooks.com has them."""
    stamp = str(int(time.time()))
    signed = hmac.digest(KEY, f"{row}.{stamp}.".encode() + body, "sha256")
    return {
        "content-type": "application/json",
        "webhook-id": str(row),
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def record(connection: sqlite3.Connection, row: int, status: int) -> None:
    """Write an outcome down; it is on the disk when this returns."""
    connection.execute("INSERT INTO sent VALUES (?, ?, ?)", (row, status, time.time()))
