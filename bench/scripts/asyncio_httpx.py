"""Delivers with asyncio and httpx: a few workers over one client. See `bench.scripts`."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator

import httpx

from bench.scripts.common import AT_ONCE, TRIES, Row, headers, opened, record, unsent


async def work(
    client: httpx.AsyncClient, url: str, connection: sqlite3.Connection, rows: Iterator[Row]
) -> None:
    """Deliver rows until there are no more."""
    for row, payload in rows:
        body = payload.encode()
        for wait in range(TRIES):
            try:
                answer = await client.post(url, content=body, headers=headers(row, body))
            except httpx.TransportError:
                await asyncio.sleep(2**wait)
                continue
            if answer.is_success:
                record(connection, row, answer.status_code)
                break
            await asyncio.sleep(2**wait)


async def run(database: str, url: str) -> float:
    """Deliver everything; returns the seconds that it took."""
    connection = opened(database)
    rows = iter(unsent(connection))
    async with httpx.AsyncClient(timeout=15) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(work(client, url, connection, rows) for _ in range(AT_ONCE)))
        took = time.perf_counter() - begun
    connection.close()
    return took


if __name__ == "__main__":
    print(asyncio.run(run(sys.argv[1], sys.argv[2])))
