"""httpx over the rooms of the direct path: for everything that is not the hot path.

An `httpx.AsyncClient(transport=DirectTransport(sender))` obeys the egress policy, the one deadline
and the bounds just as a delivery does, and never uses a connection twice. What it does not do, on
purpose: inflate bodies, stream, or follow an environment's proxies.
"""

import re
from typing import Final

import httpx
import trio

from webhookd.core.model import PLAIN, Fault, FaultKind, Millis, Phase, Terms
from webhookd.core.urls import UrlError, parse
from webhookd.errors import WebhookdError
from webhookd.http.channel import Sender
from webhookd.http.faults import fault
from webhookd.http.limits import Limits
from webhookd.http.proxied import Fetched, fetch
from webhookd.http.reader import Reader

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"host"})
"""Headers that this transport writes itself, so that they are true."""
_NOT_PASSED_ON: Final = frozenset({b"content-encoding", b"transfer-encoding", b"content-length"})
"""Of an answer: httpx would inflate by the first, and the others are no longer true of the body."""
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})


class NoAnswer(WebhookdError):
    """A request that got no answer. Its text is one line; `fault` has the kind and the phase."""

    def __init__(self, found: Fault) -> None:
        super().__init__(f"{found.kind}: {found.detail}")
        self.fault = found


class KeepingReader(Reader):
    """A reader that keeps every header and as much of the body as was read."""

    __slots__ = ("body", "headers")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self.status:
            self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if not self.status:
            self.headers.append((name, value.strip(b" \t")))  # llhttp leaves blanks behind it

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        if not self.done:
            self.body += data[: max(0, self._limits.body - len(self.body))]


class HeadReader(KeepingReader):
    """A reader for the answer to a HEAD request, which has no body whatever it says."""

    __slots__ = ()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.status:
            self.done = True
            self.keep_alive = False


class DirectTransport(httpx.AsyncBaseTransport):
    """One fresh connection a request, closed after it.

    `timeout` (milliseconds) is the deadline over the whole request; httpx's own are not obeyed.
    """

    def __init__(self, sender: Sender, timeout: Millis = 15_000, terms: Terms = PLAIN) -> None:
        self._sender: Final = sender
        self._timeout: Final = timeout
        self._terms: Final = terms

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response with status, headers and a body cut at the sender's limit.

        `extensions["note"]` says what was odd about it, else ''.

        Raises:
            NoAnswer: there was none, or the request's URL is not one that webhookd takes.
            ValueError: the request cannot be written as it is; that is the caller's bug.
        """
        try:
            url = parse(str(request.url))
        except UrlError as error:
            raise NoAnswer(fault(FaultKind.BLOCKED, str(error), Phase.RESOLVE)) from None
        wire = _write(request, url.netloc, url.target, await request.aread())
        proxy = self._sender.proxy(self._terms)
        if proxy is not None:
            route = self._sender.route(proxy, self._terms)
            deadline = trio.current_time() + self._timeout / 1_000
            fetched = await fetch(route, url, wire, deadline, self._timeout)
            if isinstance(fetched, Fault):
                raise NoAnswer(fetched)
            return _response(request, fetched)
        readers: list[KeepingReader] = []

        def make_reader(limits: Limits) -> Reader:
            made = HeadReader(limits) if request.method == "HEAD" else KeepingReader(limits)
            readers.append(made)
            return made

        channel = self._sender.channel(make_reader)
        try:
            result = await channel.send(url, wire, self._timeout, self._terms)
        finally:
            channel.close()
        if isinstance(result, Fault):
            raise NoAnswer(result)
        reader = readers[-1]
        return _response(request, Fetched(result, reader.headers, bytes(reader.body)))


def _response(request: httpx.Request, fetched: Fetched) -> httpx.Response:
    return httpx.Response(
        fetched.answer.status,
        headers=[pair for pair in fetched.headers if pair[0].lower() not in _NOT_PASSED_ON],
        content=fetched.body,
        request=request,
        extensions={"http_version": b"HTTP/1.1", "note": fetched.answer.note},
    )


def _write(request: httpx.Request, host: str, target: str, body: bytes) -> bytes:
    """The request's bytes. Nothing in a header can end it early or begin another."""
    method = request.method.encode("ascii", "replace")
    lines = [b"%s %s HTTP/1.1" % (method, target.encode()), b"Host: %s" % host.encode()]
    for name, value in request.headers.raw:
        if name.lower() in _OURS:
            continue
        if not _TOKEN.match(name) or not _VALUE.match(value):
            raise ValueError(f"the request's header {name!r} is not fit to be sent")
        lines.append(b"%s: %s" % (name, value))
    if not _TOKEN.match(method):
        raise ValueError(f"the request's method {request.method!r} is no token")
    if body or request.method not in _BODILESS:
        lines.append(b"Content-Length: %d" % len(body))
    lines.append(b"Connection: close")
    return b"\r\n".join((*lines, b"", body))
