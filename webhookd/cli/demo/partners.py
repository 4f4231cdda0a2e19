"""The demo's receivers: they verify, remember, and fail as their part has it."""

import json
import time
from dataclasses import dataclass, field
from typing import Final

import trio

from webhookd.cli.demo.checks import Arrival
from webhookd.cli.demo.console import Console
from webhookd.core.profiles import BUILT_IN
from webhookd.core.verify import verify
from webhookd.http.receiver import Received, Reply, serve_on

HOST: Final = "127.0.0.1"
BACKLOG: Final = 64
"""Connections that may wait to be accepted."""


@dataclass(slots=True)
class Partner:
    """One receiver, on a port of its own."""

    name: str
    profile: str
    path: str
    console: Console
    memory: list[Arrival]
    """Of all partners together, in the order in which requests came."""
    fail_each: int = 0
    """Every so many requests one is answered with 500; 0: none."""
    secret: str = field(default="", init=False, repr=False)
    """As `subscriptions add` showed it."""
    up: trio.Event = field(default_factory=trio.Event, init=False)
    """Set to bring it up."""
    _count: int = field(default=0, init=False)

    async def exist(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold a port, closed until `up`, and serve on it until cancelled.

        `task_status` gets the URL. A port that nobody listens on refuses connections, and while it
        is held nobody else can take it.
        """
        with trio.socket.socket() as socket:
            await socket.bind((HOST, 0))
            task_status.started(f"http://{HOST}:{socket.getsockname()[1]}{self.path}")
            await self.up.wait()
            socket.listen(BACKLOG)
            await serve_on(self.receive, [trio.SocketListener(socket)])

    def receive(self, received: Received) -> Reply:
        """Judge, remember, tell and answer one request."""
        self._count += 1
        headers = {name.lower(): value for name, value in received.headers}
        now = time.time_ns() // 1_000_000
        verdict = verify(BUILT_IN.get(self.profile), self.secret, headers, received.body, now)
        status = 204 if verdict.ok else 401
        if self.fail_each and self._count % self.fail_each == 0:
            status = 500
        event_type, data = _read(received.body)
        attempt = headers.get("webhookd-attempt", "")
        arrival = Arrival(
            partner=self.name,
            event_id=headers.get("webhook-id", ""),
            event_type=event_type,
            attempt=int(attempt) if attempt.isdecimal() else 0,
            flaw=verdict.detail,
            status=status,
            body=received.body,
        )
        self.memory.append(arrival)
        self._tell(arrival, data)
        return Reply(status)

    def _tell(self, arrival: Arrival, data: str) -> None:
        sign = self.console.sign("✗" if arrival.flaw else "✓")
        arrow = self.console.sign("→")
        again = f"attempt {arrival.attempt}" if arrival.attempt != 1 else ""
        self.console.piece(
            f"{arrow} {self.name:<9}  {arrival.event_type:<16}  {sign} signature  "
            f"{arrow} {arrival.status}  {again:<9}",
            data,
        )


def _read(body: bytes) -> tuple[str, str]:
    """The event's type, and its data as it came; `''` and the body where it is no event."""
    try:
        said = json.loads(body)
        event_type = said.get("type") or said["event"]
    except (ValueError, AttributeError, KeyError):
        return "", body.decode("utf-8", "replace")
    # Both formats have the data last.
    return str(event_type), body.partition(b'"data":')[2][:-1].decode()
