"""One open connection, plain or TLS: non-blocking writes and reads on a raw socket.

Why not trio's streams: an exchange writes once and then reads, and must be able to do both at
once while a long body is going out (a receiver may answer 413 before it has read it); a layer
less also costs less. And `trio.SSLStream` hides what it has read ahead, so that a second answer
in the same segment would be found only by the next request, which would take it for its own.

Nothing here has a deadline: the caller's cancel scope is the deadline, and after a cancellation
the connection is good for nothing but `close`.
"""

import socket
import ssl
from contextlib import suppress
from typing import Final

import trio

from webhookd.http.faults import PeerClosed
from webhookd.http.tls import WrongCertificate

CHUNK: Final = 16_384
"""Bytes asked of the socket at once."""

MOST_AT_ONCE: Final = 8
"""Chunks of TLS taken in without a look at the others: some hold nothing but TLS's own affairs, and
who sends such without end must not have the whole process to himself."""


class Connection:
    """A plain TCP connection. Owns its socket. One reader and writer at a time."""

    __slots__ = ("_socket", "_unsent")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._unsent: bytes | memoryview = b""

    def write(self, data: bytes) -> bool:
        """Sends what the socket takes now; True if that is everything. `push` sends the rest.

        Raises:
            OSError: the connection is broken.
        """
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self._unsent = memoryview(data)[sent:]
        return False

    async def push(self) -> bool:
        """Waits until the socket can be written to or read from; True once all has been sent.

        Raises:
            OSError: the connection is broken.
        """
        await self._wait_either()
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return False
        self._unsent = self._unsent[sent:]
        return not self._unsent

    async def read(self) -> bytes:
        """Waits for some bytes; empty at the end.

        Raises:
            OSError: the connection is broken.
        """
        # Once round the loop first: a near receiver has answered by then, which saves the poll.
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self._socket.recv(CHUNK)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)

    def read_now(self) -> bytes | None:
        """Some bytes if there are any, empty at the end, None if there is nothing yet.

        Raises:
            OSError: the connection is broken.
        """
        try:
            return self._socket.recv(CHUNK)
        except BlockingIOError:
            return None

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody asked for: bytes, an end, an error."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Closes the socket at once. May be called twice."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def _wait_either(self) -> None:
        async with trio.open_nursery() as nursery:

            async def wait_readable() -> None:
                await trio.lowlevel.wait_readable(self._socket)
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_readable)
            await trio.lowlevel.wait_writable(self._socket)
            nursery.cancel_scope.cancel()


class TlsConnection(Connection):
    """TLS over a connected socket. Call `handshake` first."""

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(connected)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self) -> None:
        """Agrees on keys and checks the certificate.

        Raises:
            OSError: `ssl.SSLError` for what TLS has against it, others for a broken connection.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                received = await super().read()
                if not received:
                    raise PeerClosed("closed within the TLS handshake") from None
                self._incoming.write(received)
            except WrongCertificate:
                raise  # what lies ready now would end the handshake as if all were well
            except ssl.SSLError:
                # The alert that tells the other side why; whether it arrives changes nothing.
                self._push_alert()
                raise
            else:
                return await self._flush()

    def write(self, data: bytes) -> bool:
        self._tls.write(data)
        return super().write(self._outgoing.read())

    async def read(self) -> bytes:
        decrypted = self._decrypt()
        if decrypted is not None:
            await trio.lowlevel.checkpoint()
            return decrypted
        while decrypted is None:
            await self._flush()  # what TLS itself has to say, such as a changed key
            self._take_in(await super().read())
            decrypted = self._decrypt()
        return decrypted

    def read_now(self) -> bytes | None:
        for _ in range(MOST_AT_ONCE):
            decrypted = self._decrypt()
            if decrypted is not None:
                return decrypted
            received = super().read_now()
            if received is None:
                return None
            self._take_in(received)
        return self._decrypt()

    def is_quiet(self) -> bool:
        if not super().is_quiet():
            return False
        if not self._has_more:
            return True
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except ssl.SSLError:
            return False
        return False

    @property
    def _has_more(self) -> bool:
        """Whether TLS may have something to say without more from the socket.

        Asking it costs an exception where it has not, twice a request.
        """
        return bool(self._incoming.pending or self._tls.pending() or self._incoming.eof)

    def _decrypt(self) -> bytes | None:
        if not self._has_more:
            return None
        try:
            return self._tls.read(CHUNK)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # Whether an answer is whole is told by its own framing, with or without a proper end.
            return b""

    def _take_in(self, received: bytes) -> None:
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        data = self._outgoing.read()
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    def _push_alert(self) -> None:
        with suppress(OSError):
            self._socket.send(self._outgoing.read())
