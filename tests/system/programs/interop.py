"""`interop.py PORT [PEM]`: Python's own `http.server`, which tells what it was sent.

As `interop:application` the same over ASGI.
"""

import hashlib
import http.server
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any


def telling(method: str, target: str, body: bytes) -> bytes:
    """What every receiver of the tests answers."""
    return f"{method} {target} {len(body)} {hashlib.sha256(body).hexdigest()[:16]}".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps connections, as HTTP/1.1 does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Tell what came."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = telling("POST", self.path, body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Nothing."""


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The same as an ASGI application."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    target = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
    told = telling(scope["method"], target, body)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told})


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
