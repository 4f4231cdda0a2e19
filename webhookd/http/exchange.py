"""One request on one open connection, and what it came to.

The request goes out in one write. If the socket does not take all of it at once, answers are
looked for while the rest goes out: a receiver that refuses a body does so before it has read it.

When an answer counts
=====================

- A 2xx counts as soon as its head is complete: the receiver has the event, however its body ends.
- Any other status can end a delivery for good, so an answer that carries one must be whole; one
  that breaks off is a fault, and is asked for again. Except where breaking off is what follows
  from refusing our body: a 413, and whatever comes before our request was all sent.
- A body that is merely too long or too slow is cut by us, and its answer counts.

The deadline is the whole attempt's, a moment on trio's clock.
"""

import ssl
from typing import Final

import trio

from webhookd.core.model import Answer, Fault, FaultKind, Millis, Phase
from webhookd.core.text import printable
from webhookd.http.connection import Connection
from webhookd.http.faults import MAX_DETAIL, PeerClosed, fault, from_os_error, overdue
from webhookd.http.limits import Limits
from webhookd.http.reader import Reader

_TOO_LARGE: Final = 413
_EARLY: Final = "answered before the request was all sent"


class Exchange:
    """One request and its answer. Use it once."""

    __slots__ = ("_connection", "_early", "_limits", "_phase", "reader")

    def __init__(self, connection: Connection, reader: Reader, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._phase = Phase.SEND
        self._early = False
        """The answer came before the request had been sent: the rest of it never will be."""
        self.reader = reader

    async def run(self, wire: bytes, deadline: float, span: Millis) -> Answer | Fault:
        """Sends `wire`, the whole request, and reads the answer; raises nothing for the outside.

        `span` is what ends at `deadline`, for whoever reads that it has passed.
        """
        reader, connection = self.reader, self._connection
        try:
            sent = connection.write(wire)
            if sent:
                # A near receiver answers within one turn of the loop. Nothing here can wait for
                # it, so nothing needs the scope of a deadline, which costs as much as the parser.
                self._phase = Phase.HEAD
                await trio.lowlevel.checkpoint()
                data = connection.read_now()
                if data is not None:
                    self._take_in(data)
            if not (reader.done or reader.fault):
                with trio.move_on_at(deadline) as scope:
                    await self._finish(sent=sent)
                if scope.cancelled_caught:
                    return self._overdue(span)
        except OSError as error:
            found = from_os_error(error, self._phase)
            return self._salvage(found) if self._phase is Phase.SEND else self._broken(found)
        if reader.fault:
            return self._broken(fault(FaultKind.PROTOCOL, reader.fault, self._phase))
        return reader.answer()

    @property
    def may_live(self) -> bool:
        """Whether the connection is fit for another request."""
        reader = self.reader
        return (
            reader.done and reader.keep_alive and not (reader.extra or reader.fault or self._early)
        )

    async def _finish(self, *, sent: bool) -> None:
        reader, connection = self.reader, self._connection
        if not sent:
            await self._push()
            self._phase = Phase.HEAD
        while not (reader.status or reader.fault):
            self._take_in(await connection.read())
        if not (reader.done or reader.fault):
            self._phase = Phase.BODY
            await self._read_body()

    def _take_in(self, data: bytes) -> None:
        if data:
            self.reader.feed(data)
        elif not self.reader.status:
            begun = self.reader.begun
            raise PeerClosed("closed within the head" if begun else "closed without an answer")
        elif not self.reader.end():
            raise PeerClosed("closed before the body was complete")

    async def _push(self) -> None:
        """Sends the rest of the request, unless an answer comes first."""
        reader, connection = self.reader, self._connection
        while not await connection.push():
            data = connection.read_now()
            if data is None:
                continue
            self._take_in(data)
            if reader.status or reader.fault:
                self._early = True
                reader.note = _EARLY
                return

    def _salvage(self, found: Fault) -> Answer | Fault:
        """What a receiver that hung up on our request had said before, else `found`."""
        reader = self.reader
        self._early = True
        try:
            while not (reader.done or reader.fault) and reader.body_size < self._limits.body:
                data = self._connection.read_now()
                if not data:
                    break
                reader.feed(data)
        except ssl.SSLError as error:  # an alert says more than a broken pipe
            if found.kind is not FaultKind.TLS:
                found = from_os_error(error, self._phase)
        except OSError:
            pass
        if reader.status:
            reader.note = _EARLY
            return reader.answer()
        return fault(FaultKind.PROTOCOL, reader.fault, self._phase) if reader.fault else found

    def _overdue(self, span: Millis) -> Answer | Fault:
        """What it came to at the deadline."""
        if not self.reader.status:
            return overdue(span, self._phase)
        self.reader.note = f"body cut at the deadline of {span / 1_000:g} s"
        return self.reader.answer()

    def _broken(self, found: Fault) -> Answer | Fault:
        """What an exchange that broke off came to: see the head of this file."""
        reader = self.reader
        if not reader.status:
            return found
        lenient = reader.is_success or self._early or reader.status == _TOO_LARGE
        if lenient or (found.kind is FaultKind.RESET and reader.end()):
            reader.note = printable(f"body broken: {found.detail}", MAX_DETAIL)
            return reader.answer()
        return fault(found.kind, f"{found.detail} (after status {reader.status})", Phase.BODY)

    async def _read_body(self) -> None:
        reader, limits = self.reader, self._limits
        with trio.move_on_after(limits.body_time / 1_000) as scope:
            while not (reader.done or reader.fault):
                if reader.body_size >= limits.body:
                    reader.note = f"body cut at {limits.body} bytes"
                    return
                self._take_in(await self._connection.read())
        if scope.cancelled_caught:
            reader.note = f"body cut after {limits.body_time / 1_000:g} s"
