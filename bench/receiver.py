"""`python -m bench.receiver PORT [--stamps=FILE] [--certificate=PEM] [--addresses=A,B]`.

It answers 200 to everything, at 127.0.0.1 or where `--addresses` says.
At `/count` it tells how many there were, in the form of nginx's stub_status. With `--certificate`
it speaks TLS.

With `--stamps` it writes a line a request to that file: the moment of its first byte (nanoseconds
of CLOCK_MONOTONIC, which all processes of a Linux machine share) and its `webhook-id`.
"""

import asyncio
import ssl
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final, TextIO

import httptools

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
COUNT: Final = "Active connections: 0\nserver accepts handled requests\n 0 0 {} \n"


class Receiving(asyncio.Protocol):
    """One connection."""

    requests = 0
    """Over all connections."""

    def __init__(self, stamps: TextIO | None) -> None:
        self._stamps = stamps
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._first_byte = 0
        self._event = b""
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._first_byte:
            self._first_byte = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"webhook-id":
            self._event = value

    def on_message_complete(self) -> None:
        Receiving.requests += 1
        if self._transport is not None:
            self._transport.write(_told() if self._url == b"/count" else ANSWER)
        if self._stamps is not None:
            print(self._first_byte, self._event.decode(), file=self._stamps, flush=True)
        self._first_byte = 0


def _told() -> bytes:
    body = COUNT.format(Receiving.requests).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def serve(addresses: list[str], port: int, stamps: TextIO | None, certificate: str) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await loop.create_server(lambda: Receiving(stamps), addresses, port, ssl=context)
    await server.serve_forever()


def option(name: str) -> str:
    """What the command line gives under that name; `''` for nothing."""
    prefix = f"--{name}="
    return next((text.removeprefix(prefix) for text in sys.argv if text.startswith(prefix)), "")


if __name__ == "__main__":
    path = option("stamps")
    with Path(path).open("w", encoding="utf-8") if path else nullcontext() as file:
        places = (option("addresses") or "127.0.0.1").split(",")
        asyncio.run(serve(places, int(sys.argv[1]), file, option("certificate")))
