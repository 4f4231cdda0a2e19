"""`python -m bench.sending PORT REQUESTS ROUNDS [BUNDLE]`: the process that `sender` measures.

It sends by a bare loop and by webhookd's sender in turns, over 16 connections that were warmed up
before, and writes the rates and CPU times of each to stdout as JSON. With BUNDLE it speaks TLS and
trusts it.

The bare loop is the least that trio and Python's `ssl` can do: no deadline, no parser, no look at
the connection before it is used again, no limit on what comes back.
"""

import json
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio
import trio.socket

from bench.report import BenchFailed
from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer
from webhookd.core.urls import parse
from webhookd.http.channel import Channel, Sender
from webhookd.http.tls import make_ssl_context

CHUNK: Final = 65_536
CONNECTIONS: Final = 16
TIMEOUT: Final = 15_000
END_OF_HEAD: Final = b"\r\n\r\n"
BODY: Final = b'{"type":"supplier.updated","data":{"id":"VENDOR-001","name":"' + b"x" * 200 + b'"}}'

Send = Callable[[], Awaitable[bool]]
"""Sends one request over a connection of its own, and says whether it was answered with 200."""


class Plain:
    """A bare connection."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.socket = sock

    async def send(self) -> bool:
        """Send the request, and read up to the end of the answer's head."""
        await self.socket.send(WIRE)
        answer = await self.socket.recv(CHUNK)
        while END_OF_HEAD not in answer:
            answer += await self.socket.recv(CHUNK)
        return answer.startswith(b"HTTP/1.1 200 ")


class Tls:
    """The same with Python's TLS on top of it."""

    def __init__(self, sock: trio.socket.SocketType, context: ssl.SSLContext) -> None:
        self.socket = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def handshake(self) -> None:
        """Agree on keys."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.socket.send(self.outgoing.read())
                self.incoming.write(await self.socket.recv(CHUNK))
            else:
                await self.socket.send(self.outgoing.read())
                return

    async def send(self) -> bool:
        """As `Plain.send`."""
        self.tls.write(WIRE)
        await self.socket.send(self.outgoing.read())
        answer = b""
        while END_OF_HEAD not in answer:
            self.incoming.write(await self.socket.recv(CHUNK))
            try:
                answer += self.tls.read(CHUNK)
            except ssl.SSLWantReadError:
                continue
        return answer.startswith(b"HTTP/1.1 200 ")


async def bare(context: ssl.SSLContext | None) -> Plain | Tls:
    """A bare connection, ready to send."""
    sock = trio.socket.socket()
    await sock.connect(("127.0.0.1", PORT))
    sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    if context is None:
        return Plain(sock)
    made = Tls(sock, context)
    await made.handshake()
    return made


def ours(channel: Channel) -> Send:
    """One request of the sender's."""

    async def send() -> bool:
        result = await channel.send(URL, WIRE, TIMEOUT)
        return isinstance(result, Answer) and result.status == 200

    return send


async def rate(sends: list[Send], requests: int) -> tuple[float, float]:
    """Requests a second over all connections at once, and the µs of CPU that each took here."""
    turns = iter(range(requests))

    async def work(send: Send, turns: Iterator[int]) -> None:
        for _ in turns:
            if not await send():
                raise BenchFailed("not answered with 200")

    begun, used = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for send in sends:
            nursery.start_soon(work, send, turns)
    used = time.process_time() - used
    return requests / (time.perf_counter() - begun), used / requests * 1e6


async def run(requests: int, rounds: int, context: ssl.SSLContext | None) -> dict[str, list[float]]:
    """The rates and the CPU times of each round."""
    connections = [await bare(context) for _ in range(CONNECTIONS)]
    sender = Sender(parse_policy(["localhost"], []), ssl_context=context)
    channels = [sender.channel() for _ in range(CONNECTIONS)]
    ways: dict[str, list[Send]] = {
        "bare": [one.send for one in connections],
        "ours": [ours(one) for one in channels],
    }
    for sends in ways.values():
        await rate(sends, 20 * CONNECTIONS)
    found: dict[str, list[float]] = {f"{way}{of}": [] for way in ways for of in ("", "_cpu")}
    for _ in range(rounds):
        for way, sends in ways.items():
            per_second, cpu = await rate(sends, requests)
            found[way].append(per_second)
            found[f"{way}_cpu"].append(cpu)
    for channel in channels:
        await channel.aclose()
    for one in connections:
        one.socket.close()
    return found


if __name__ == "__main__":
    PORT = int(sys.argv[1])
    bundle = sys.argv[4] if len(sys.argv) > 4 else None
    URL = parse(f"{'https' if bundle else 'http'}://localhost:{PORT}/in")
    WIRE = (
        f"POST /in HTTP/1.1\r\nHost: localhost:{PORT}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\nUser-Agent: bench\r\nAccept-Encoding: identity\r\n"
        "webhook-id: 0190c2f0-0000-7000-8000-000000000000\r\nwebhook-timestamp: 1780000000\r\n"
        f"webhook-signature: v1,{'x' * 44}\r\n\r\n"
    ).encode() + BODY
    trusting: ssl.SSLContext | None = None
    if bundle is not None:
        trusting = make_ssl_context()
        trusting.load_verify_locations(bundle)
    print(json.dumps(trio.run(run, int(sys.argv[2]), int(sys.argv[3]), trusting)))
