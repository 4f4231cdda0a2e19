"""`python -m bench.forwarder DATABASE PORT`: the reference for `latency`.

The least that a program on trio can do between a host's commit and a receiver: it waits for
inotify, reads the new rows of the outbox and sends each over one kept raw socket. Nothing is
signed, parsed, kept in order or written down. It says `ready` on stderr, and runs until it is
ended.
"""

import sqlite3
import sys
from pathlib import Path
from typing import Final

import trio

from bench.requester import END_OF_HEAD, connected, receive, send
from webhookd.daemon.inotify import Watch

NEW: Final = "SELECT id, event_id, payload FROM outbox WHERE id > ? ORDER BY id"
WIRE: Final = (
    "POST /webhooks/00 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\nwebhook-id: {}\r\n\r\n{}"
)
LOOK_EVERY: Final = 0.1
"""Seconds, where no hint comes."""
LOOKS: Final = 20
"""After a hint: it comes before the row can be seen. Where none came, one look will do."""
PAUSE: Final = 0.0005
"""Seconds between them."""


async def run(database: Path, port: int) -> None:
    """Forward all that comes. Raises OSError where there is no inotify."""
    connection = sqlite3.connect(database, isolation_level=None)
    watch = Watch.open(database)
    if watch is None:
        raise OSError("no inotify here")
    sock = await connected(port)
    done = 0
    print("ready", file=sys.stderr, flush=True)
    hinted = True
    while True:
        for _ in range(LOOKS if hinted else 1):
            rows = connection.execute(NEW, (done,)).fetchall()
            for number, event, payload in rows:
                await send(sock, WIRE.format(len(payload), event, payload).encode())
                answer = b""
                while END_OF_HEAD not in answer:
                    answer += await receive(sock)
                done = number
            if rows:
                break
            await trio.sleep(PAUSE)
        with trio.move_on_after(LOOK_EVERY) as waiting:
            await watch.wait()
        hinted = not waiting.cancelled_caught


if __name__ == "__main__":
    trio.run(run, Path(sys.argv[1]), int(sys.argv[2]))
