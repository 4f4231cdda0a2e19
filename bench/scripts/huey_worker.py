"""Delivers with huey on SQLite: a task a row, worked off by threads. See `bench.scripts`.

Its queue is a file beside the host's, as durable as that one. Filling it is not in the time.
"""

import sqlite3
import sys
import threading
import time

import httpx
from huey import SqliteHuey

from bench.scripts.common import AT_ONCE, TRIES, headers, opened, record, unsent

huey = SqliteHuey("webhooks", filename=f"{sys.argv[1]}-queue", fsync=True)
client = httpx.Client(timeout=15)
own = threading.local()


class Progress:
    """How far it is."""

    def __init__(self, rows: int) -> None:
        self.begun = 0.0
        self.left = rows
        self.over = threading.Event()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A request is about to go out."""
        self.begun = self.begun or time.perf_counter()

    def done(self) -> None:
        """One more is recorded."""
        with self._lock:
            self.left -= 1
            if not self.left:
                self.over.set()


def deliver(row: int, payload: str) -> None:
    """One delivery; whatever goes wrong is tried again."""
    progress.begin()
    body = payload.encode()
    answer = client.post(sys.argv[2], content=body, headers=headers(row, body))
    answer.raise_for_status()
    record(connection_of_thread(), row, answer.status_code)
    progress.done()


def connection_of_thread() -> sqlite3.Connection:
    """Each worker has its own."""
    if not hasattr(own, "connection"):
        own.connection = opened(sys.argv[1])
    connection: sqlite3.Connection = own.connection
    return connection


deliver_later = huey.task(retries=TRIES, retry_delay=1)(deliver)


if __name__ == "__main__":
    host = opened(sys.argv[1])
    rows = unsent(host)
    host.close()
    progress = Progress(len(rows))
    for row, payload in rows:
        deliver_later(row, payload)
    consumer = huey.create_consumer(workers=AT_ONCE, worker_type="thread", periodic=False)
    consumer.start()
    progress.over.wait()
    print(time.perf_counter() - progress.begun)
    consumer.stop(graceful=True)
