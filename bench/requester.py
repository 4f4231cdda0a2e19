"""`python -m bench.requester PORT REQUESTS CONNECTIONS FILE`: the reference for `drain`.

The least that a program on trio can do: it sends the ready-made bytes of FILE over kept raw
sockets and reads each answer. No rendering, no signing, no parser, no deadline, no database. Writes
the seconds from the first request to the last answer to stdout.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio
import trio.socket

CHUNK: Final = 65_536
END_OF_HEAD: Final = b"\r\n\r\n"


async def connected(port: int) -> trio.socket.SocketType:
    """A connection to the receiver, without Nagle's delay."""
    found = trio.socket.socket()
    await found.connect(("127.0.0.1", port))
    found.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    return found


async def ask(sock: trio.socket.SocketType, wire: bytes, turns: Iterator[int]) -> None:
    """Send requests over one connection, one after the other, until the turns are used up."""
    for _ in turns:
        sent = await sock.send(wire)
        while sent < len(wire):
            sent += await sock.send(wire[sent:])
        answer = b""
        while END_OF_HEAD not in answer:
            received = await sock.recv(CHUNK)
            if not received:
                raise ConnectionError("the receiver hung up")
            answer += received
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"the receiver answered {answer[:40]!r}")


async def run(port: int, requests: int, connections: int, wire: bytes) -> float:
    """Seconds from the first request to the last answer."""
    sockets = [await connected(port) for _ in range(connections)]
    turns = iter(range(requests))
    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for sock in sockets:
            nursery.start_soon(ask, sock, wire, turns)
    took = time.perf_counter() - begun
    for sock in sockets:
        sock.close()
    return took


if __name__ == "__main__":
    port, requests, connections = map(int, sys.argv[1:4])
    print(trio.run(run, port, requests, connections, Path(sys.argv[4]).read_bytes()))
