"""The way from ready-made request bytes to an answer or a fault: what lanes send through.

A `Sender` holds what all endpoints share (the policy, the resolver, the TLS contexts). A `Channel`
belongs to one worker of one lane and holds at most one kept-alive connection, so a connection
never serves two subscriptions, and no answer can reach a request of somebody else's.

A kept connection is used again only if its last answer ended cleanly, nothing has come since, it
has not been idle for long, it leads to the same origin, and the policy and the terms are those
that it was dialled under. The server may still close it in the moment it is used again; a request
that met this, with no byte of an answer, is sent once more on a fresh connection, and that is no
second attempt: most likely nobody has read the first one.

Where a proxy is on the way, `webhookd.http.proxied` sends instead, and no connection is kept.
"""

import ssl
from collections.abc import Callable
from typing import Final

import trio

from webhookd.core.egress import EgressPolicy
from webhookd.core.model import PLAIN, Answer, Fault, FaultKind, Millis, Phase, Proxy, Terms, Url
from webhookd.core.proxies import on_the_way
from webhookd.http.address import Resolver, find_addresses
from webhookd.http.connection import Connection
from webhookd.http.dial import connect, start_tls
from webhookd.http.exchange import Exchange
from webhookd.http.faults import overdue
from webhookd.http.limits import DEFAULT_LIMITS, Limits
from webhookd.http.proxied import Route, fetch
from webhookd.http.reader import Reader
from webhookd.http.tls import context_for

_STALE: Final = frozenset({FaultKind.CLOSED, FaultKind.RESET})
"""How a kept connection ends that the server gave up meanwhile."""


class Sender:
    """What all channels share. It lives in one run of trio."""

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        resolver: Resolver | None = None,
        limits: Limits = DEFAULT_LIMITS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`ssl_context` is for those who have no terms of their own; else the system's trust."""
        self.egress = egress
        """The policy in force; `use` changes it."""
        self.limits: Final = limits
        self.resolver: Final = resolver or Resolver(limits)
        self._ssl_context = ssl_context

    def ssl_context(self, terms: Terms) -> ssl.SSLContext:
        """The context for these terms, shared by all who have the same. Raises ValueError."""
        if self._ssl_context is not None and not (terms.ca or terms.identity or terms.pins):
            return self._ssl_context
        return context_for(terms)

    def proxy(self, terms: Terms) -> Proxy | None:
        """The proxy on the way for whoever has these terms."""
        return on_the_way(terms, self.egress.proxy)

    def route(self, proxy: Proxy, terms: Terms) -> Route:
        """The way through that proxy. Raises ValueError as `ssl_context`."""
        return Route(proxy, self.ssl_context(terms), self.egress, self.resolver, self.limits)

    def use(self, egress: EgressPolicy) -> None:
        """Judge by this policy from the next request on.

        What was dialled under another one is not used again, and closed when its channel sends
        next; an exchange under way goes on.
        """
        self.egress = egress

    def channel(self, make_reader: Callable[[Limits], Reader] = Reader) -> "Channel":
        """A new channel; whoever asks for it closes it."""
        return Channel(self, make_reader)


class Channel:
    """Sends one request at a time. Owned by one task."""

    def __init__(self, sender: Sender, make_reader: Callable[[Limits], Reader]) -> None:
        self._sender: Final = sender
        self._make_reader: Final = make_reader
        self._kept: Connection | None = None
        self._kept_until = 0.0
        self._origin = ("", "", 0)
        """Where the newest connection leads."""
        self._judged_by = sender.egress
        """The policy that it was dialled under."""
        self._terms = PLAIN
        """The terms that it was dialled on."""
        self._phase = Phase.RESOLVE
        """How far the opening of a connection has come."""

    async def send(
        self,
        url: Url,
        wire: bytes,
        timeout: Millis,  # noqa: ASYNC109
        terms: Terms = PLAIN,
    ) -> Answer | Fault:
        """Sends `wire`, a whole request (head and body), to the origin of `url`.

        `timeout` is the one deadline over everything, from the name to the end of the body. What
        the outside does is data: nothing is raised but `trio.Cancelled` and what is a bug of ours.
        """
        now = trio.current_time()
        deadline = now + timeout / 1_000
        proxy = self._sender.proxy(terms)
        if proxy is not None:
            self.close()
            route = self._sender.route(proxy, terms)
            fetched = await fetch(route, url, wire, deadline, timeout)
            return fetched if isinstance(fetched, Fault) else fetched.answer
        kept = self._take(url, terms, now)
        if kept is not None:
            result, begun = await self._run(kept, wire, deadline, timeout)
            if begun or isinstance(result, Answer) or result.kind not in _STALE:
                return result
        self._phase = Phase.RESOLVE
        opened: Connection | Fault | None = None
        with trio.move_on_at(deadline):
            opened = await self._open(url, terms)
        if opened is None:
            return overdue(timeout, self._phase)
        if isinstance(opened, Fault):
            return opened
        result, _ = await self._run(opened, wire, deadline, timeout)
        return result

    async def reach(
        self,
        url: Url,
        timeout: Millis,  # noqa: ASYNC109
        terms: Terms = PLAIN,
    ) -> Fault | None:
        """Opens a connection to the origin of `url` as `send` does with no proxy, and closes it.

        Returns:
            What is in the way of it; None where nothing is.
        """
        self._phase = Phase.RESOLVE
        opened: Connection | Fault | None = None
        with trio.move_on_after(timeout / 1_000):
            opened = await self._open(url, terms)
        if opened is None:
            return overdue(timeout, self._phase)
        if isinstance(opened, Fault):
            return opened
        opened.close()
        return None

    async def aclose(self) -> None:
        """Closes the connection if one is kept. The channel can be used again."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same, where nothing may be awaited."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _run(
        self, connection: Connection, wire: bytes, deadline: float, span: Millis
    ) -> tuple[Answer | Fault, bool]:
        """What the exchange came to, and whether any byte of an answer came."""
        limits = self._sender.limits
        reader = self._make_reader(limits)
        exchange = Exchange(connection, reader, limits)
        may_live = False
        try:
            result = await exchange.run(wire, deadline, span)
            may_live = exchange.may_live
        finally:
            reader.release()
            if may_live:
                self._kept = connection
                self._kept_until = trio.current_time() + limits.idle / 1_000
            else:
                connection.close()
        return result, reader.begun

    async def _open(self, url: Url, terms: Terms) -> Connection | Fault:
        sender = self._sender
        self._origin = url.scheme, url.host, url.port
        self._judged_by, self._terms = sender.egress, terms
        addresses = await find_addresses(url, self._judged_by, sender.resolver)
        if isinstance(addresses, Fault):
            return addresses
        # Made before there is a socket that it could leave behind, should it fail.
        context = None if url.scheme == "http" else sender.ssl_context(terms)
        self._phase = Phase.CONNECT
        connected = await connect(addresses, url.port, sender.limits)
        if isinstance(connected, Fault):
            return connected
        if context is None:
            return Connection(connected)
        self._phase = Phase.TLS
        return await start_tls(connected, url, context)

    def _take(self, url: Url, terms: Terms, now: float) -> Connection | None:
        """The kept connection, if it is fit for `url`; otherwise it is closed."""
        kept = self._kept
        if kept is None:
            return None
        if (
            self._origin == (url.scheme, url.host, url.port)
            and self._judged_by is self._sender.egress
            and (self._terms is terms or self._terms == terms)
            and now < self._kept_until
            and kept.is_quiet()
        ):
            self._kept = None
            return kept
        self.close()
        return None
