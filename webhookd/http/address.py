"""From the host of a URL to the addresses that may be dialled: resolve, then judge every answer.

A lookup blocks a thread for as long as the system's resolver pleases. So lookups have a small
number of threads of their own, and no caller waits longer than its deadline: the thread goes on
alone, keeps its place among the few, and what it finds in the end is there for the next caller.

An answer that has grown old still serves for a while when no newer one can be had in time: every
thread is taken by dead zones, or the resolver is silent. It is judged again like any other, and the
search for a newer one goes on behind it. A resolver that says no is believed.
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from webhookd.core.egress import EgressPolicy, judge_address
from webhookd.core.model import Fault, FaultKind, Millis, Phase, Url
from webhookd.http.dial import is_own
from webhookd.http.faults import fault, from_lookup_error
from webhookd.http.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from outcome import Outcome

Found = tuple[str, ...] | Fault

Lookup = Callable[[str], Sequence[str]]
"""Blocks, and returns every address of a host in order of preference; raises `OSError`."""


def system_lookup(host: str) -> list[str]:
    """The addresses that this machine's resolver has for `host`.

    Raises:
        OSError: there are none, or it cannot say.
    """
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))


async def find_addresses(url: Url, policy: EgressPolicy, resolver: "Resolver") -> Found:
    """The addresses to dial for `url`, in order; a fault if there are none or one is blocked.

    One blocked answer blocks them all: a name that resolves to the inside as well is no accident.
    """
    found = await resolver.resolve(url.host)
    if isinstance(found, Fault):
        return found
    for address in found:
        reason = judge_address(address, url, policy, is_own=is_own(address))
        if reason is not None:
            text = reason.removeprefix("blocked: ")  # the kind says it already
            return fault(FaultKind.BLOCKED, text, Phase.RESOLVE)
    return found


class Resolver:
    """Looks names up in threads, each name once at a time, and remembers answers for a while.

    It lives in one run of trio.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS, lookup: Lookup = system_lookup) -> None:
        self._limits: Final = limits
        self._lookup: Final = lookup
        self._threads = trio.CapacityLimiter(self._limits.lookups)
        self._zones: dict[str, _Zone] = {}
        self._flights: dict[str, _Flight] = {}
        self._renewals: dict[str, _Renewal] = {}
        self._cache: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def resolve(self, host: str) -> Found:
        """Every address of `host`, at least one, or why there is none. An address is its own."""
        known = (host,) if is_literal(host) else self._remembered(host)
        if known is not None:
            await trio.lowlevel.checkpoint()
            return known
        old = self._remembered(host, self._limits.stale_time)
        if old is not None:
            return await self._renewed(host, old)
        with trio.move_on_after(self._limits.lookup_time / 1_000):
            return await self._resolve(host)
        seconds = self._limits.lookup_time / 1_000
        text = f"{host}: the resolver did not answer within {seconds:g} s"
        return fault(FaultKind.DNS, text, Phase.RESOLVE)

    async def _renewed(self, host: str, old: tuple[str, ...]) -> Found:
        """A newer answer if it comes soon, else the old one."""
        renewal = self._renewals.get(host)
        if renewal is None:
            renewal = self._renewals[host] = _Renewal()
            # Its place among those who wait for a thread must not end with the first caller.
            trio.lowlevel.spawn_system_task(self._renew, host, renewal, name=f"renew {host}")
        with trio.move_on_after(self._limits.stale_wait / 1_000):
            await renewal.over.wait()
        if renewal.crash is not None:
            raise RuntimeError(str(renewal.crash)) from renewal.crash.__cause__
        found = renewal.found
        if found is None or (isinstance(found, Fault) and _is_silence(found)):
            return old
        return found

    async def _renew(self, host: str, renewal: "_Renewal") -> None:
        try:
            renewal.found = await self._resolve(host)
        except RuntimeError as error:
            renewal.crash = error
        finally:
            del self._renewals[host]
            renewal.over.set()

    def _remembered(self, host: str, past: Millis = 0) -> tuple[str, ...] | None:
        expires, addresses = self._cache.get(host, (0.0, None))
        return addresses if trio.current_time() < expires + past / 1_000 else None

    async def _resolve(self, host: str) -> Found:
        flight = self._flights.get(host)
        if flight is None:
            flight = _Flight(host)
            await self._make_room(flight)
            known = self._remembered(host)
            other = self._flights.get(host)
            if known is not None or other is not None:  # found or begun while this one waited
                self._release(flight)
            if known is not None:
                return known
            if other is None:
                self._take_off(flight)
            else:
                flight = other
        await flight.landed.wait()
        if flight.found is None:
            raise RuntimeError(f"the lookup of {host} crashed") from flight.crash
        return flight.found

    async def _make_room(self, flight: "_Flight") -> None:
        zone = self._zones.setdefault(flight.zone, _Zone(self._limits.zone_lookups))
        zone.users += 1
        try:
            await zone.limiter.acquire_on_behalf_of(flight)
            try:
                await self._threads.acquire_on_behalf_of(flight)
            except BaseException:
                zone.limiter.release_on_behalf_of(flight)
                raise
        except BaseException:
            self._leave_zone(flight)
            raise

    def _take_off(self, flight: "_Flight") -> None:
        self._flights[flight.host] = flight
        token = trio.lowlevel.current_trio_token()

        def work() -> None:
            flight.found = self._look_up(flight.host)

        def deliver(result: "Outcome[None]") -> None:
            try:
                result.unwrap()
            except Exception as error:  # noqa: BLE001 - raised again, in everyone who waits
                flight.crash = error
            with suppress(trio.RunFinishedError):  # ended while the resolver was still at it
                token.run_sync_soon(self._land, flight)

        # Not `to_thread.run_sync`: the lookup belongs to everyone who waits for the name, and
        # must neither end with the first caller's deadline nor be started again beside itself.
        try:
            trio.lowlevel.start_thread_soon(work, deliver, name=f"dns {flight.host}")
        except RuntimeError as error:  # "can't start new thread": TasksMax, or ulimit -u
            flight.found = fault(FaultKind.LOCAL, str(error), Phase.RESOLVE)
            self._land(flight)

    def _look_up(self, host: str) -> Found:
        """In the thread."""
        try:
            addresses = tuple(self._lookup(host))
        except (OSError, UnicodeError) as error:
            return from_lookup_error(error, host)
        return addresses or fault(FaultKind.DNS, f"{host} has no address", Phase.RESOLVE)

    def _land(self, flight: "_Flight") -> None:
        del self._flights[flight.host]
        self._release(flight)
        if not (isinstance(flight.found, Fault) and _is_silence(flight.found)):
            self._cache.pop(flight.host, None)
        if isinstance(flight.found, tuple):
            while len(self._cache) >= self._limits.cache_names:
                del self._cache[next(iter(self._cache))]
            expires = trio.current_time() + self._limits.cache_time / 1_000
            self._cache[flight.host] = expires, flight.found
        flight.landed.set()

    def _release(self, flight: "_Flight") -> None:
        self._threads.release_on_behalf_of(flight)
        self._zones[flight.zone].limiter.release_on_behalf_of(flight)
        self._leave_zone(flight)

    def _leave_zone(self, flight: "_Flight") -> None:
        zone = self._zones[flight.zone]
        zone.users -= 1
        if not zone.users:
            del self._zones[flight.zone]


class _Flight:
    """One lookup under way, and everyone who waits for it."""

    __slots__ = ("crash", "found", "host", "landed", "zone")

    def __init__(self, host: str) -> None:
        self.host = host
        self.zone = zone_of(host)
        self.landed = trio.Event()
        self.found: Found | None = None
        """Set before it lands, unless the lookup crashed."""
        self.crash: BaseException | None = None
        """What it crashed with: a bug. Everyone who waits hears of it."""


class _Renewal:
    """The search for a newer answer than the one that is remembered."""

    __slots__ = ("crash", "found", "over")

    def __init__(self) -> None:
        self.over = trio.Event()
        self.found: Found | None = None
        self.crash: RuntimeError | None = None


class _Zone:
    """The lookups of one zone: those under way and those that wait for room."""

    __slots__ = ("limiter", "users")

    def __init__(self, lookups: int) -> None:
        self.limiter = trio.CapacityLimiter(lookups)
        self.users = 0


def zone_of(host: str) -> str:
    """Roughly, the part of a name that one party's name servers answer for: `example.co.uk`.

    Two labels, or three where the last two look like a country's registry. Where it is too
    coarse, strangers share a few threads; where it is too fine, one party has a few more.
    """
    labels = host.split(".")
    country = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if country else labels[-2:])


def _is_silence(found: Fault) -> bool:
    """Whether the resolver said nothing of the name: it is down, or we are."""
    return found.may_be_ours or found.kind is FaultKind.LOCAL


def is_literal(host: str) -> bool:
    """Whether the host of a judged URL is an address."""
    return ":" in host or host.rpartition(".")[2].isdigit()
