"""From addresses that have been judged to one open connection: happy eyeballs, then TLS.

The addresses are dialled as they are, nothing is resolved again: what was judged is what is
connected to. The certificate is checked against the host of the URL.
"""

import errno
import os
import socket
import ssl
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import trio

from webhookd.core.model import Fault, FaultKind, Phase, Url
from webhookd.http.connection import TlsConnection
from webhookd.http.faults import fault, from_os_error
from webhookd.http.limits import Limits

_TELLING: Final = (
    FaultKind.REFUSED,
    FaultKind.RESET,
    FaultKind.TIMEOUT,
    FaultKind.LOCAL,
    FaultKind.UNREACHABLE,
)
"""From what says most about the receiver to what says least."""

_ANY_PORT: Final = 9
_NOBODYS: Final = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation, of each family: no machine has them."""


def is_own(address: str) -> bool:
    """Whether `address` is one of this machine's own, at this moment.

    The kernel is asked, and nothing is sent: for an address of its own, and for no other, it would
    send from that very address; and for one within a range that a route declares to be local it
    lets a socket be bound to it (which says nothing where it may be bound to just anything). So
    this holds for every interface, alias and address that comes and goes. It cannot know what an
    outer router leads back to this machine.
    """
    if _sends_from(address):
        return True
    return _can_bind(address) and not _can_bind(_NOBODYS[":" in address])


def _sends_from(address: str) -> bool:
    try:
        with _datagram_socket(address) as asking:
            asking.connect((address, _ANY_PORT))
            return bool(asking.getsockname()[0] == asking.getpeername()[0])
    except OSError:
        return False  # no way leads there, so what is dialled is not this machine


def _can_bind(address: str) -> bool:
    try:
        with _datagram_socket(address) as asking:
            asking.bind((address, 0))
            return True
    except OSError:
        return False


def _datagram_socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


async def connect(addresses: Sequence[str], port: int, limits: Limits) -> socket.socket | Fault:
    """A TCP connection to the first of `addresses` that takes one.

    Cancelled at any point, it leaves no socket behind.
    """
    ordered = interleave(addresses)[: limits.addresses]
    race = _Race()
    try:
        if len(ordered) == 1:
            await _try(ordered[0], port, race)
        else:
            await _run(race, ordered, port, limits.stagger / 1_000)
    except BaseException:
        if race.winner is not None:  # it won in the very moment of the cancellation
            race.winner.close()
        raise
    if race.winner is not None:
        return race.winner
    return _sum_up([race.faults[address] for address in ordered])


async def start_tls(
    connected: socket.socket, url: Url, context: ssl.SSLContext
) -> TlsConnection | Fault:
    """TLS for `url` over `connected`, which is closed unless that succeeds.

    Cancelled at any point, it leaves no socket behind.
    """
    try:
        connection = TlsConnection(connected, context, url.host)
    except BaseException:
        connected.close()
        raise
    try:
        await connection.handshake()
    except OSError as error:
        connection.close()
        return from_os_error(error, Phase.TLS)
    except BaseException:
        connection.close()
        raise
    return connection


def interleave(addresses: Sequence[str]) -> list[str]:
    """The addresses in the order to try them: the families by turns, the first one's first.

    So that a machine whose IPv6 (or IPv4) is broken comes to the other at the second try.
    """
    distinct = list(dict.fromkeys(addresses))
    first_is_6 = ":" in distinct[0]
    ours = [address for address in distinct if (":" in address) is first_is_6]
    others = [address for address in distinct if (":" in address) is not first_is_6]
    ordered: list[str] = []
    for one, other in zip_longest(ours, others):
        ordered += [address for address in (one, other) if address is not None]
    return ordered


class _Race:
    """Connects under way to several addresses; the first one to succeed wins."""

    def __init__(self) -> None:
        self.winner: socket.socket | None = None
        self.faults: dict[str, Fault] = {}


async def _run(race: _Race, ordered: Sequence[str], port: int, stagger: float) -> None:
    async with trio.open_nursery() as nursery:
        for address in ordered:
            over = trio.Event()
            nursery.start_soon(_compete, address, port, race, over, nursery.cancel_scope)
            with trio.move_on_after(stagger):
                await over.wait()


async def _compete(
    address: str, port: int, race: _Race, over: trio.Event, scope: trio.CancelScope
) -> None:
    await _try(address, port, race)
    if race.winner is not None:
        scope.cancel()
    over.set()


async def _try(address: str, port: int, race: _Race) -> None:
    """Connects to `address`; the outcome goes to `race`."""
    place = f"{address} port {port}"
    immediate = True
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connecting = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        race.faults[address] = from_os_error(error, Phase.CONNECT, place)
        return
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = connecting.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            immediate = False
            await trio.lowlevel.wait_writable(connecting)
            code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        code = error.errno or errno.EINVAL
    except BaseException:
        connecting.close()
        raise
    if code == 0 and race.winner is None:
        race.winner = connecting
        return
    connecting.close()
    if code:
        no_network = code == errno.ENETUNREACH and immediate and family == socket.AF_INET
        race.faults[address] = (
            fault(FaultKind.LOCAL, f"{place}: this machine has no network", Phase.CONNECT)
            if no_network
            else from_os_error(OSError(code, os.strerror(code)), Phase.CONNECT, place)
        )


def _sum_up(faults: Sequence[Fault]) -> Fault:
    """One fault for all addresses: the kind that says most, and what each of them said."""
    kinds = {one.kind for one in faults}
    kind = next((kind for kind in _TELLING if kind in kinds), faults[0].kind)
    return fault(kind, "; ".join(one.detail for one in faults), Phase.CONNECT)
