"""Receivers on loopback that do as they are told, and a sender that may reach them."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
import trustme

from tests.http.proxying import Proxying
from webhookd.core.egress import parse_policy
from webhookd.core.model import Proxy, Terms, Url
from webhookd.core.urls import parse
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits

LIMITS = Limits(body_time=150, stagger=100, lookup_time=150, idle=60_000)
"""Waits scaled down; the rest as it is."""


@dataclass
class Peer:
    """One connection as a receiver sees it."""

    stream: trio.abc.Stream
    number: int
    """Of the connection, from 1."""
    rest: bytes = b""

    async def request(self) -> bytes:
        """The next whole request; empty if none comes."""
        data = self.rest
        while b"\r\n\r\n" not in data:
            received = await self.stream.receive_some(65536)
            if not received:
                return b""
            data += received
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            received = await self.stream.receive_some(65536)
            if not received:
                return b""
            body += received
        self.rest = body[length:]
        return head + b"\r\n\r\n" + body[:length]

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def drip(self, data: bytes, every: float = 0.02) -> None:
        for at in range(len(data)):
            await self.say(data[at : at + 1])
            await trio.sleep(every)

    @property
    def raw(self) -> trio.SocketStream:
        """What TLS is spoken over, where it is."""
        stream = self.stream
        if isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        assert isinstance(stream, trio.SocketStream)
        return stream

    async def reset(self) -> None:
        """Ends the connection with a RST."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.raw.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
        self.raw.socket.close()


Behaviour = Callable[[Peer], Awaitable[object]]


@dataclass
class Receiver:
    """Something that listens, and what it has seen."""

    port: int
    scheme: str = "http"
    host: str = "127.0.0.1"
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> Url:
        return parse(f"{self.scheme}://{self.host}:{self.port}/in?q=1")

    def wire(self, body: bytes = b"{}") -> bytes:
        return (
            b"POST /in?q=1 HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n"
            % (self.url.netloc.encode(), len(body))
        ) + body


Serve = Callable[..., Awaitable[Receiver]]


async def _swallow(behaviour: Behaviour, peer: Peer) -> None:
    """A receiver's own trouble with a sender that hangs up is not the test's."""
    try:
        await behaviour(peer)
    except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
        pass
    finally:
        await trio.aclose_forcefully(peer.stream)


@pytest.fixture
async def serve(nursery: trio.Nursery) -> Serve:
    """`await serve(behaviour)` listens on a port of its own until the test ends."""

    async def start(
        behaviour: Behaviour, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> Receiver:
        receiver: Receiver | None = None

        async def connected(stream: trio.SocketStream) -> None:
            assert receiver is not None
            receiver.connections += 1
            chosen: trio.abc.Stream = stream
            if context is not None:
                chosen = trio.SSLStream(stream, context, server_side=True)
            await _swallow(behaviour, Peer(chosen, receiver.connections))

        listeners = await nursery.start(partial(trio.serve_tcp, connected, 0, host=host))
        port = listeners[0].socket.getsockname()[1]
        receiver = Receiver(port, "http" if context is None else "https")
        return receiver

    return start


@pytest.fixture
def saying() -> Callable[..., Behaviour]:
    """`saying(answer, ...)` reads one request for each answer and says it."""

    def make(*answers: bytes, then_close: bool = True) -> Behaviour:
        async def behave(peer: Peer) -> None:
            for answer in answers:
                if await peer.request():
                    await peer.say(answer)
            if not then_close:
                await trio.sleep_forever()

        return behave

    return make


@pytest.fixture
def sender() -> Sender:
    return Sender(parse_policy(["127.0.0.0/8", "::1"], []), limits=LIMITS)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def proxying():
    return Proxying()


@pytest.fixture
def through(serve, sender, proxying):
    """`await through(receiver, ...)` sends to it by way of the proxy, and returns the result."""
    begun = []

    async def send(receiver, body=b"{}", span=3_000, terms=None, **own):
        if not begun:
            begun.append(await serve(proxying))
        proxying.leads = receiver.port
        receiver.host = "partner.example"
        own = {"user": "", "password": "", **own}
        proxy = Proxy("http", "proxy.example", begun[0].port, **own)
        channel = sender.channel()
        try:
            return await channel.send(
                receiver.url, receiver.wire(body), span, terms or Terms(proxy=proxy)
            )
        finally:
            await channel.aclose()

    return send
