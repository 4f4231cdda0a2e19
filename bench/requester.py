"""`python -m bench.requester PORT REQUESTS CONNECTIONS FILE [--h11]`: the reference for `drain`.

The least that a program on trio can do: it sends the ready-made bytes of FILE over kept raw
sockets and reads each answer. No rendering, no signing, no parser, no deadline, no database. Writes
the seconds from the first request to the last answer to stdout.

With `--h11` the bytes go through h11's state machine, which makes them of a ready-made request and
takes the answer apart: what a program that speaks HTTP in Python pays at the least.
"""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import h11
import trio
import trio.socket

CHUNK: Final = 65_536
END_OF_HEAD: Final = b"\r\n\r\n"

Ask = Callable[[trio.socket.SocketType, bytes, Iterator[int]], Awaitable[None]]


async def connected(port: int) -> trio.socket.SocketType:
    """A connection to the receiver, without Nagle's delay."""
    found = trio.socket.socket()
    await found.connect(("127.0.0.1", port))
    found.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    return found


async def send(sock: trio.socket.SocketType, wire: bytes) -> None:
    """Send all of it."""
    sent = await sock.send(wire)
    while sent < len(wire):
        sent += await sock.send(wire[sent:])


async def receive(sock: trio.socket.SocketType) -> bytes:
    """What has come. Raises ConnectionError when nothing will come any more."""
    received = await sock.recv(CHUNK)
    if not received:
        raise ConnectionError("the receiver hung up")
    return received


async def ask(sock: trio.socket.SocketType, wire: bytes, turns: Iterator[int]) -> None:
    """Send requests over one connection, one after the other, until the turns are used up."""
    for _ in turns:
        await send(sock, wire)
        answer = b""
        while END_OF_HEAD not in answer:
            answer += await receive(sock)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"the receiver answered {answer[:40]!r}")


async def ask_by_h11(sock: trio.socket.SocketType, wire: bytes, turns: Iterator[int]) -> None:
    """The same with h11 between."""
    request, body = parsed(wire)
    connection = h11.Connection(h11.CLIENT)
    for _ in turns:
        sent = (connection.send(event) for event in (request, body, h11.EndOfMessage()))
        joined = b"".join(part or b"" for part in sent)
        if joined != wire:
            raise ValueError("h11 makes other bytes of it")
        await send(sock, joined)
        async for event in events(sock, connection):
            if isinstance(event, h11.Response) and event.status_code != 200:
                raise ConnectionError(f"the receiver answered {event.status_code}")
        connection.start_next_cycle()


async def events(
    sock: trio.socket.SocketType, connection: h11.Connection
) -> AsyncIterator[h11.Event]:
    """What h11 makes of the answer, up to its end."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await receive(sock))
        elif isinstance(event, h11.EndOfMessage):
            return
        elif isinstance(event, h11.Event):
            yield event


def parsed(wire: bytes) -> tuple[h11.Request, h11.Data]:
    """The request as h11 is given it."""
    head, _, body = wire.partition(END_OF_HEAD)
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return h11.Request(method=method, target=target, headers=headers), h11.Data(data=body)


async def run(ask: Ask, port: int, requests: int, connections: int, wire: bytes) -> float:
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
    way = ask_by_h11 if "--h11" in sys.argv else ask
    wire = Path(sys.argv[4]).read_bytes()
    print(trio.run(run, way, port, requests, connections, wire))
