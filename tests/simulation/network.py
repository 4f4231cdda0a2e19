"""The receivers, and the sender between: every answer and every way of dying, by a script.

A receiver's life is a row of spells. In each of them it behaves in one of the ways of `WAYS`; a
new way is one more row of that table. What a receiver saw is kept by the model, not here.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.kinds import Spells
from webhookd.core.model import Answer, Fault, FaultKind, Phase, Url

if TYPE_CHECKING:
    from tests.simulation.machine import Life
    from tests.simulation.world import World


def is_ours(result: Answer | Fault) -> bool:
    """Whether it is, or may be, a fault of the daemon's own machine."""
    return isinstance(result, Fault) and (result.kind is FaultKind.LOCAL or result.may_be_ours)


THOUGHT_OVER: Final = 2_100
"""Milliseconds within which a fault that may be this machine's own is judged."""


class Planted(RuntimeError):
    """A bug of the sender's, put there on purpose."""


@dataclass(frozen=True)
class Reply:
    """What comes of one request."""

    after: float
    """Seconds until our side knows; more than the deadline is a timeout."""
    result: Answer | Fault
    arrives: bool = True
    """Whether the receiver gets to see the request."""
    accepted: bool = False
    """Whether the receiver took the event, whatever our side hears of it."""


def _ok(dice: random.Random, after: float) -> Reply:
    return Reply(after, Answer(dice.choice((200, 200, 201, 202, 204))), accepted=True)


def _status(*statuses: int) -> Callable[[random.Random], Reply]:
    return lambda dice: Reply(dice.uniform(0, 0.2), Answer(dice.choice(statuses)))


def _throttles(dice: random.Random) -> Reply:
    wish = dice.choice(("1", "7", "90", "-3", "soon", ""))
    return Reply(0.01, Answer(dice.choice((429, 503)), retry_after=wish))


def _unreached(dice: random.Random) -> Reply:
    kind = dice.choice((FaultKind.REFUSED, FaultKind.DNS, FaultKind.UNREACHABLE))
    return Reply(dice.uniform(0, 0.5), Fault(kind, "nobody there", Phase.CONNECT), arrives=False)


def _resets(dice: random.Random) -> Reply:
    return Reply(
        dice.uniform(0, 0.5),
        Fault(FaultKind.RESET, "reset by the receiver", Phase.SEND),
        arrives=dice.random() < 0.5,
    )


def _loses(dice: random.Random) -> Reply:
    fault = Fault(FaultKind.CLOSED, "closed before the answer", Phase.HEAD)
    return Reply(dice.uniform(0, 1), fault, accepted=True)


def _no_route(dice: random.Random) -> Reply:
    """It looks as if our own network were down."""
    kind = dice.choice((FaultKind.DNS, FaultKind.UNREACHABLE))
    fault = Fault(kind, "no route", Phase.CONNECT, may_be_ours=True)
    return Reply(dice.uniform(0, 0.5), fault, arrives=False)


def _no_sockets(dice: random.Random) -> Reply:
    return Reply(0.0, Fault(FaultKind.LOCAL, "too many open files", Phase.CONNECT), arrives=False)


MACHINE_FAULTS: Final[dict[str, Callable[[random.Random], Reply]]] = {
    "no network": _no_route,
    "no sockets": _no_sockets,
}
"""What becomes of every request while this machine is at fault."""
WAYS: Final[dict[str, Callable[[random.Random], Reply]]] = {
    "fast": lambda dice: _ok(dice, dice.uniform(0, 0.02)),
    "at once": lambda dice: _ok(dice, 0.0),
    "slow": lambda dice: _ok(dice, dice.uniform(0.3, 4)),
    "late": lambda dice: _ok(dice, 1_000.0),
    "breaks": _status(500, 500, 502, 503, 504),
    "refuses": _status(400, 401, 404, 410, 413, 422),
    "redirects": _status(301, 302, 307),
    "odd": _status(199, 600, 999),
    "throttles": _throttles,
    "hangs": lambda _: Reply(1_000.0, Answer(500)),
    "unreached": _unreached,
    "resets": _resets,
    "no route": _no_route,
    "is gone": _status(410),
    "loses": _loses,
    "meets a bug": lambda _: Reply(0.1, Fault(FaultKind.INTERNAL, "Planted", Phase.SEND)),
}
"""Every way in which a receiver can behave towards one request."""


@dataclass
class Receiver:
    """One endpoint."""

    dice: random.Random
    spells: Spells
    healed: bool = False
    until: float = 0.0
    ways: tuple[str, ...] = ("fast",)

    def reply(self, now: float) -> tuple[str, Reply]:
        """What it does with the request that comes now."""
        if self.healed:
            return "healed", _ok(self.dice, self.dice.uniform(0, 0.01))
        if now >= self.until:
            self.until = now + self.dice.uniform(1, 20)
            self.ways = self.dice.choice(self.spells) or tuple(WAYS)
        way = self.dice.choice(self.ways)
        return way, WAYS[way](self.dice)


@dataclass(eq=False)
class Request:
    """One request that the daemon made, as the world remembers it."""

    life: "Life"
    who: str
    """The subscription's name: the first label of the URL's host."""
    url: str
    headers: dict[str, str]
    body: bytes
    began: float
    wall: int
    serial: int
    timeout: int
    """Milliseconds that the daemon gives it."""
    delivery: int = 0
    """The delivery that the model takes it for."""
    arrived: bool = False
    result: Answer | Fault | None = None
    """What our side heard; None where it was cut off before."""
    ended: float = 0.0
    ended_wall: int = 0
    recorded_at: float = float("-inf")
    """When the file had its outcome."""
    void: bool = False
    """It met a fault of this machine: it is no attempt."""
    line: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    def was_recorded(self) -> None:
        """The file has it."""
        self.recorded_at = trio.current_time()
        if self in self.life.unrecorded:
            self.life.unrecorded.remove(self)
        self.life.recorded_at = self.recorded_at

    @property
    def recorded(self) -> bool:
        return self.recorded_at >= 0.0

    @property
    def attempt(self) -> int:
        return int(self.headers["webhookd-attempt"])

    @property
    def may_be_ours(self) -> bool:
        """Whether it was not clear whose fault it was."""
        return isinstance(self.result, Fault) and self.result.may_be_ours

    @property
    def judged_by(self) -> int:
        """The wall time by which it was known what it came to."""
        return self.ended_wall + (THOUGHT_OVER if self.may_be_ours else 0)

    @property
    def succeeded(self) -> bool:
        return isinstance(self.result, Answer) and 200 <= self.result.status < 300

    def __str__(self) -> str:
        return f"request {self.serial} ({self.who}, delivery {self.delivery}, {self.attempt})"


class Network:
    """Stands in for `webhookd.http.channel.Sender`: one a life of the daemon."""

    def __init__(self, world: "World", life: "Life") -> None:
        self.world = world
        self.life = life

    def channel(self) -> "SimulatedChannel":
        """A way to a receiver, for one worker."""
        if self.life.dice.random() < self.life.clumsiness:
            self.life.crashed_at = trio.current_time()
            raise Planted("no channel")
        return SimulatedChannel(self)


class SimulatedChannel:
    """Stands in for `webhookd.http.channel.Channel`."""

    def __init__(self, network: Network) -> None:
        self._world = network.world
        self._life = network.life

    async def send(
        self,
        url: Url,
        wire: bytes,
        timeout: int,  # noqa: ASYNC109
        terms: object = None,
    ) -> Answer | Fault:
        """One exchange, in virtual time."""
        world, life = self._world, self._life
        life.check()
        request = take_apart(url, wire, timeout, life, world)
        world.model.on_request(request)
        way, reply = world.receiver(request.who).reply(trio.current_time())
        if world.machine_fault:
            way = world.machine_fault
            reply = MACHINE_FAULTS[way](world.receiver(request.who).dice)
        request.arrived = reply.arrives
        world.trace(f"{request} begins, {way}")
        try:
            result: Answer | Fault = Fault(FaultKind.TIMEOUT, f"{timeout} ms", Phase.HEAD)
            with trio.move_on_after(timeout / 1000):
                await trio.sleep(reply.after)
                result = reply.result
            life.check()
            request.result = result
            request.ended, request.ended_wall = trio.current_time(), world.clock.now()
            world.trace(f"{request} ends, {getattr(result, 'status', 0) or 'fault'}")
            if isinstance(result, Fault) and result.kind is FaultKind.INTERNAL:
                raise Planted(way)
        finally:
            world.model.on_end_of_request(request)
        return result

    async def aclose(self) -> None:
        """Close."""
        await trio.lowlevel.checkpoint()


def take_apart(url: Url, wire: bytes, timeout: int, life: "Life", world: "World") -> Request:
    """A request's bytes as a receiver reads them."""
    head, _, body = wire.partition(b"\r\n\r\n")
    _, *lines = head.decode("ascii").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return Request(
        life=life,
        who=url.host.split(".")[0],
        url=url.text,
        headers=headers,
        body=body,
        began=trio.current_time(),
        wall=world.clock.now(),
        serial=world.next_serial(),
        timeout=timeout,
    )
