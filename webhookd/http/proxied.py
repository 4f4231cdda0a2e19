"""One request by way of an HTTP proxy, over httpx: CONNECT for https, the whole URL for http.

The proxy's own address is resolved, judged and dialled as it is; what it then connects to is known
to it alone (see `webhookd.core.egress`). Each request has a pool and a connection of its own,
closed after it: httpx would take what comes unasked on a kept connection for the next answer.

Whose fault something is shows in how far it had come. Up to the tunnel it is the proxy's (`proxy`);
TLS within the tunnel, and all that comes after, is the receiver's. Through http there is no tunnel:
a 407 is the proxy's, and a 502 of the proxy's cannot be told from one of the receiver's.

No iteration over a body is ever left: async generators that are not used up are a mess under trio.
What is to end early is made to end, by the deadline or by closing the socket under it.
"""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, cast

import httpx
import trio

from webhookd.core import proxies
from webhookd.core.egress import EgressPolicy, judge_proxied, judge_proxy
from webhookd.core.model import Answer, Fault, FaultKind, Millis, Phase, Proxy, Url
from webhookd.core.redact import redact, redact_text
from webhookd.core.text import printable
from webhookd.http.address import Resolver, is_literal
from webhookd.http.connection import CHUNK
from webhookd.http.dial import connect, is_own
from webhookd.http.faults import MAX_DETAIL, fault, from_os_error, overdue, tls_reason
from webhookd.http.limits import Limits
from webhookd.http.tls import make_ssl_context

_TOO_LARGE: Final = 413
_AUTHENTICATION: Final = 407
_SWITCHING: Final = 101
_MAX_SHOWN: Final = 2_000
"""Characters kept of a header that is only ever shown."""
_CLOSE_WITHIN: Final = 1.0
"""Seconds that httpx gets to put its things away; the socket is closed in any case."""
_HEAD_AT_ONCE: Final = 4_096
"""Bytes of a head that httpx is given at once: h11 takes 50 µs for each 1xx among them."""
_OPENED: Final = frozenset(
    {
        "connection.connect_tcp.complete",
        "connection.start_tls.complete",
        "proxy.start_tls.complete",
    }
)
"""What httpx says when it has a new stream."""
_MOST_PROXIES: Final = 64
"""Proxies by https whose TLS context is kept."""
_UNLIMITED: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Route:
    """A way through a proxy."""

    proxy: Proxy
    context: ssl.SSLContext
    """For TLS with the receiver."""
    egress: EgressPolicy
    resolver: Resolver
    limits: Limits


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, with what `Answer` leaves out."""

    answer: Answer
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


async def fetch(
    route: Route, url: Url, wire: bytes, deadline: float, span: Millis
) -> Fetched | Fault:
    """Sends `wire`, a whole request for `url`, and reads the answer; the outside raises nothing.

    `span` is what ends at `deadline`, a moment on trio's clock.
    """
    exchange = _Exchange(route, url)
    result: Fetched | Fault | None = None
    with trio.move_on_at(deadline):
        result = await exchange.run(wire)
    if result is None:
        result = exchange.overdue(span)
    needles = proxies.confidential(route.proxy)
    if isinstance(result, Fault):
        return replace(result, detail=redact_text(result.detail, needles))
    answer = result.answer
    return replace(result, answer=replace(answer, excerpt=redact(answer.excerpt, needles)))


class _Exchange:
    """One request and its answer. Use it once."""

    def __init__(self, route: Route, url: Url) -> None:
        self._route = route
        self._url = url
        self._phase = Phase.RESOLVE
        self._is_proxys = True
        """What goes wrong now is the proxy's doing."""
        self._sockets: list[trio.socket.SocketType] = []
        self._response: httpx.Response | None = None
        self._body = bytearray()
        self._note = ""
        self._head_room = 0
        """Bytes that may still come until a head is complete; meaningless after that."""
        self._in_head = False

    async def run(self, wire: bytes) -> Fetched | Fault:
        route, limits = self._route, self._route.limits
        # A name is the proxy's to resolve.
        own = is_literal(self._url.host) and is_own(self._url.host)
        blocked = judge_proxied(self._url, route.egress, is_own=own)
        if blocked is not None:
            await trio.lowlevel.checkpoint()
            return _blocked(blocked)
        address = await self._address()
        if isinstance(address, Fault):
            return address
        transport = _transport(route, address)
        try:
            self._response = await transport.handle_async_request(self._request(wire))
            if self._refused_by_proxy(self._response.status_code):
                return self._refused(f"{_AUTHENTICATION} {self._response.reason_phrase}")
            if self._response.status_code == _SWITCHING:
                text = "status 101: the receiver switches to another protocol"
                return fault(FaultKind.PROTOCOL, text, Phase.HEAD)
            self._phase = Phase.BODY
            with trio.move_on_after(limits.body_time / 1_000) as scope:
                await self._read(self._response, limits.body)
            if scope.cancelled_caught:
                self._note = f"body cut after {limits.body_time / 1_000:g} s"
            return self._fetched(self._response)
        except httpx.ProxyError as error:
            return self._refused(str(error))
        except (_HeadTooLong, httpx.HTTPError, ssl.SSLError) as error:
            return self._broken(error)
        finally:
            self._close()
            with trio.move_on_after(_CLOSE_WITHIN) as closing, suppress(Exception):
                closing.shield = True
                await transport.aclose()

    def overdue(self, span: Millis) -> Fetched | Fault:
        """What it came to at the deadline."""
        if self._response is not None:
            self._note = f"body cut at the deadline of {span / 1_000:g} s"
            return self._fetched(self._response)
        found = overdue(span, self._phase)
        if not self._is_proxys:
            return found
        text = f"{self._route.proxy.shown}: {found.detail}"
        return fault(FaultKind.PROXY, text, self._phase, may_be_ours=True)

    async def _address(self) -> str | Fault:
        """Of the proxy, one that it can be reached at."""
        route = self._route
        proxy = route.proxy
        found = await route.resolver.resolve(proxy.host)
        if isinstance(found, Fault):
            text = f"{proxy.shown}: {found.detail}"
            return fault(FaultKind.PROXY, text, Phase.RESOLVE, may_be_ours=True)
        for address in found:
            blocked = judge_proxy(address, proxy, route.egress)
            if blocked is not None:
                return _blocked(blocked)
        self._phase = Phase.CONNECT
        if len(found) == 1:
            return found[0]
        # httpx dials one address. Which of them answers is found out with a connection that is not
        # used any further.
        connected = await connect(found, proxy.port, route.limits)
        if isinstance(connected, Fault):
            text = f"{proxy.shown}: {connected.detail}"
            return fault(FaultKind.PROXY, text, Phase.CONNECT, may_be_ours=True)
        with connected:
            try:
                return str(connected.getpeername()[0])
            except OSError as error:  # it has hung up already
                text = from_os_error(error, Phase.CONNECT, proxy.shown).detail
                return fault(FaultKind.PROXY, text, Phase.CONNECT, may_be_ours=True)

    def _request(self, wire: bytes) -> httpx.Request:
        """The request of those bytes, for httpx to put together again as it was."""
        head, _, body = wire.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, target, _ = first.split(b" ")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        request = httpx.Request(
            method.decode(),
            httpx.URL(scheme=self._url.scheme, host=self._url.host, port=self._url.port),
            headers=headers,
            stream=_Body(body),
            extensions={"trace": self._trace},
        )
        request.url = url = _Url(request.url)
        url.target = target
        return request

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpx how far it has come."""
        if event in _OPENED:
            self._bound(info["return_value"])
        if event == "connection.connect_tcp.complete":
            self._sockets.append(info["return_value"].get_extra_info("socket"))
        elif event == "proxy.start_tls.started":
            self._is_proxys, self._phase = False, Phase.TLS
        elif event == "http11.send_request_headers.started":
            if self._url.scheme == "http":
                self._is_proxys = False
            if not self._is_proxys:
                self._phase = Phase.SEND
        elif event == "http11.receive_response_headers.started":
            self._in_head, self._head_room = True, self._route.limits.head
            if not self._is_proxys:
                self._phase = Phase.HEAD
        elif event == "http11.receive_response_headers.complete":
            self._in_head = False

    def _bound(self, stream: Any) -> None:
        """Bound what is read from httpx's stream, which takes any number of 1xx before a head."""
        read = stream.read

        async def bounded(max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
            most = _HEAD_AT_ONCE if self._in_head else CHUNK
            data: bytes = await read(min(max_bytes, most), timeout)
            if self._in_head:
                self._head_room -= len(data)
                if self._head_room < 0:
                    raise _HeadTooLong(f"the head is longer than {self._route.limits.head} bytes")
            return data

        stream.read = bounded

    async def _read(self, response: httpx.Response, most: int) -> None:
        async for part in cast("httpx.AsyncByteStream", response.stream):
            # One read may hold thousands of parts. A cancellation waits for the next one: where it
            # met the iteration from outside, that would be left.
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._body += part[: most - len(self._body)]
            if len(self._body) >= most and not self._note:
                self._note = f"body cut at {most} bytes"
                self._close()

    def _fetched(self, response: httpx.Response) -> Fetched:
        headers = response.headers
        answer = Answer(
            response.status_code,
            headers.get("retry-after", "")[:_MAX_SHOWN],
            headers.get("location", "")[:_MAX_SHOWN],
            bytes(self._body[: self._route.limits.excerpt]),
            self._note,
            headers.get("date", "")[:_MAX_SHOWN],
        )
        return Fetched(answer, headers.raw, bytes(self._body))

    def _refused_by_proxy(self, status: int) -> bool:
        return status == _AUTHENTICATION and self._url.scheme == "http"

    def _refused(self, said: str) -> Fault:
        """The proxy answered, and not with a tunnel. Who cannot be reached it alone knows."""
        text = f"{self._route.proxy.shown} refuses: {said}"
        own = said.startswith(str(_AUTHENTICATION))
        return fault(FaultKind.PROXY, text, Phase.CONNECT, may_be_ours=own)

    def _broken(self, error: Exception) -> Fetched | Fault:
        found = _read_error(error, self._phase)
        if self._is_proxys:
            text = f"{self._route.proxy.shown}: {found.detail}"
            return fault(FaultKind.PROXY, text, self._phase, may_be_ours=True)
        if self._response is None:
            return found
        if self._note:  # we closed it ourselves
            return self._fetched(self._response)
        status = self._response.status_code
        if 200 <= status < 300 or status == _TOO_LARGE:
            self._note = printable(f"body broken: {found.detail}", MAX_DETAIL)
            return self._fetched(self._response)
        return fault(found.kind, f"{found.detail} (after status {status})", Phase.BODY)

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()


class _HeadTooLong(Exception):
    """More came before the end of a head than any head needs."""


class _Url(httpx.URL):
    """A URL whose target stays as it is: httpx's own escapes what it holds for unfit.

    Its `target` extension is no way out: CONNECT would be sent with it too.
    """

    target = b"/"

    @property
    def raw_path(self) -> bytes:
        return self.target


class _Body(httpx.AsyncByteStream):
    """A body in one piece. No generator: see the head of this file."""

    def __init__(self, body: bytes) -> None:
        self._rest = [body]

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        return self._rest.pop()


class _NamedContext(ssl.SSLContext):
    """For TLS with a proxy that is dialled by its address: the certificate is held to its name."""

    host = ""

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**options, "server_hostname": self.host})


@lru_cache(_MOST_PROXIES)
def _named_context(host: str) -> _NamedContext:
    """Shared by all that go through the proxy of that name: to make it takes some 20 ms."""
    context = make_ssl_context(_NamedContext)
    context.host = host
    return context


def _transport(route: Route, address: str) -> httpx.AsyncHTTPTransport:
    proxy = route.proxy
    context = _named_context(proxy.host) if proxy.scheme == "https" else None
    auth = (proxy.user, proxy.password) if proxy.user or proxy.password else None
    return httpx.AsyncHTTPTransport(
        verify=route.context,
        trust_env=False,
        limits=_UNLIMITED,
        proxy=httpx.Proxy(
            httpx.URL(scheme=proxy.scheme, host=address, port=proxy.port),
            ssl_context=context,
            auth=auth,
        ),
    )


def _blocked(reason: str) -> Fault:
    return fault(FaultKind.BLOCKED, reason.removeprefix("blocked: "), Phase.RESOLVE)


def _read_error(error: Exception, phase: Phase) -> Fault:
    """What an exception of httpx's means: the error of the socket or of TLS behind it, if any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return fault(FaultKind.TLS, tls_reason(cause), phase)
        if isinstance(cause, OSError) and cause.errno:
            return from_os_error(cause, phase)
        if isinstance(cause, BaseExceptionGroup):  # trio's, of one connect to each address
            cause = cause.exceptions[0]
        else:
            cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "disconnected" in text or "closed connection" in text:
        return fault(FaultKind.CLOSED, "closed without an answer", phase)
    if isinstance(error, httpx.ProtocolError | _HeadTooLong):
        return fault(FaultKind.PROTOCOL, text, phase)
    return fault(FaultKind.CLOSED, text or "closed", phase)
