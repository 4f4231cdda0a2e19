"""A small HTTP/1.1 server for `listen`, `demo` and tests: receives whole requests, within bounds.

Made for loopback. It is parsed by llhttp, answers requests in their order, keeps connections, and
gives nobody more memory or time than `Bounds` says.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final

import httptools
import trio

from webhookd.core.model import Millis

CHUNK: Final = 65_536
"""Bytes asked of a socket at once."""
DRAIN: Final = 1_048_576
"""Bytes that are read and dropped behind a refusal, so that it is read before a reset comes."""
DRAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request, whole."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """In their order and case; bytes that are not ASCII as latin-1."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int = 204
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    """Beside `Content-Length` and `Connection`."""


Handler = Callable[[Received], Reply]
"""Called for each request; an exception of its ends the server."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one client can take up; spans are milliseconds, sizes are bytes."""

    body: int = 16 * 1024 * 1024
    head: int = 65_536
    """Of the request line and all headers together."""
    request: Millis = 30_000
    """From a request's first byte until it is answered."""
    idle: Millis = 60_000
    """How long a connection is kept with no request on it."""
    connections: int = 64
    """Served at once; further ones wait."""


async def serve(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    bounds: Bounds = Bounds(),
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. `task_status` gets the port, a free one where `port` is 0.

    Raises:
        OSError: the port cannot be listened on.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    task_status.started(listeners[0].socket.getsockname()[1])
    await serve_on(handler, listeners, bounds)


async def serve_on(
    handler: Handler, listeners: list[trio.SocketListener], bounds: Bounds = Bounds()
) -> None:
    """Serve on sockets that listen already, until cancelled; closes them."""
    places = trio.CapacityLimiter(bounds.connections)
    await trio.serve_listeners(partial(_connection, handler, bounds, places), listeners)


class _Refused(Exception):
    """A request that is not taken; the connection ends with its status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def _connection(
    handler: Handler, bounds: Bounds, places: trio.CapacityLimiter, stream: trio.SocketStream
) -> None:
    async with places, stream:
        try:
            await _requests(handler, bounds, stream)
        except (trio.BrokenResourceError, trio.TooSlowError):
            return  # the client has gone, or takes longer than it may
        except _Refused as refused:
            await _refuse(stream, refused.status)


async def _requests(handler: Handler, bounds: Bounds, stream: trio.SocketStream) -> None:
    """Answer requests until the client, a bound or one of them ends the connection."""
    reader = _Reader(bounds)
    while True:
        with trio.fail_after(bounds.idle / 1000):
            data = await stream.receive_some(CHUNK)
        with trio.fail_after(bounds.request / 1000):
            while data:
                reader.feed(data)
                complete = reader.take()
                for received in complete:
                    keep = received is not reader.last
                    await stream.send_all(_wire(handler(received), received.method, keep=keep))
                if reader.last is not None:
                    return
                if reader.refusal:
                    raise _Refused(reader.refusal)
                if complete or not reader.begun:
                    break
                if reader.take_continue():
                    await stream.send_all(_CONTINUE)
                data = await stream.receive_some(CHUNK)
        if not data:
            return


async def _refuse(stream: trio.SocketStream, status: int) -> None:
    """Say why, and read on for a moment: closing at once would reset what was just said."""
    with trio.move_on_after(DRAIN_SECONDS), suppress(trio.BrokenResourceError):
        await stream.send_all(_wire(Reply(status), "", keep=False))
        await stream.send_eof()
        dropped = 0
        while dropped < DRAIN and (data := await stream.receive_some(CHUNK)):
            dropped += len(data)


_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})


def _wire(reply: Reply, method: str, *, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, '')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    body = reply.body
    if reply.status in _BODILESS:
        body = b""
    else:
        lines.append(f"Content-Length: {len(body)}")
    if not keep:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if method == "HEAD" else head + body


class _Reader:
    """Makes requests of bytes. `feed` raises nothing, whatever it is given."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._parser = httptools.HttpRequestParser(self)
        self._complete: list[Received] = []
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._head_size = 0
        self._head_done = False
        self._keep_alive = True
        self._continue = False
        self.begun = False
        """A request has begun and is not whole yet."""
        self.last: Received | None = None
        """The request behind which the connection ends."""
        self.refusal = 0
        """The status that the connection ends with: what comes is no request, or too large."""

    def feed(self, data: bytes) -> None:
        """Take in what has come."""
        while data and not self.refusal and self.last is None:
            room = len(data)
            if not self._head_done:
                room = self._bounds.head - self._head_size
                self._head_size += min(room, len(data))
            part, data = data[:room], data[room:]
            try:
                self._parser.feed_data(part)
            except httptools.HttpParserUpgrade:
                self.last = self._complete[-1] if self._complete else None
                self.refusal = self.refusal or (0 if self.last else 400)
            except httptools.HttpParserError:
                self.refusal = self.refusal or 400
            if data and not self._head_done and self.begun:
                self.refusal = self.refusal or 431

    def take(self) -> list[Received]:
        """The requests that have become whole since the last call, in their order."""
        complete, self._complete = self._complete, []
        return complete

    def take_continue(self) -> bool:
        """Whether the client waits to be told that it may send its body; true once."""
        asked, self._continue = self._continue, False
        return asked

    # What llhttp calls. None of these may raise: a failure is a flag.

    def on_message_begin(self) -> None:
        self.begun = True
        self._head_done = False
        self._target, self._headers, self._body = b"", [], bytearray()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))
        lowered = name.lower()
        if lowered == b"expect" and value.lower() == b"100-continue":
            self._continue = True
        elif lowered == b"content-length" and len(value) < 20 and value.isdigit():
            too_large = int(value) > self._bounds.body
            self.refusal = self.refusal or (413 if too_large else 0)

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > self._bounds.body:
            self.refusal = self.refusal or 413
        elif not self.refusal:
            self._body += body

    def on_message_complete(self) -> None:
        self.begun = self._head_done = self._continue = False
        self._head_size = 0
        if self.refusal or self.last is not None:
            return
        method = self._parser.get_method().decode("latin-1")
        target = self._target.decode("latin-1")
        received = Received(method, target, tuple(self._headers), bytes(self._body))
        self._complete.append(received)
        if not self._keep_alive:
            self.last = received
