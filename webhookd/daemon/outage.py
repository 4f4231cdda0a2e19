"""Faults of this machine: told from those of endpoints, and waited out at nobody's expense.

Some faults are this machine's for certain: no descriptors, no memory, no free port. Others look the
same whether the endpoint's network is down or our own: no route, a resolver that does not answer.
Those are ours when they hit across endpoints: a second host with such a fault, and no answer from
anyone in between. So such a result waits a moment for a second witness before it is judged.

While it lasts, each subscription tries again after 1, 2, 4 ... 60 seconds, one request at a time.
The first answer from outside ends it for all: each may try at once. Who then meets such a fault
again waits on by its own pause, for that answer said nothing of what ails it: connections that were
there before go on when no more can be made. But each that had to wait and gets through lets two
others try that wait still, so that all are back soon and none is asked in vain for long. And a host
that others were reached beside often enough has its own trouble, and its attempts count.
"""

import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import trio

from webhookd.core.model import Answer, Fault, FaultKind, SubscriptionKey
from webhookd.logs.actions import Action, log

WITNESS_WAIT: Final = 2.0
"""Seconds that a fault which may be ours waits for a second host to meet one."""
WITNESS_AGE: Final = 90.0
"""Seconds for which a host that met one counts: longer than the longest pause and an attempt."""

DISPROVED: Final = 8
"""Times that others were reached after a host had met one, from which on its faults are its own:
with the pauses between its tries that takes some minutes."""

MOST_DISPROVED: Final = 1_000
"""Hosts of which that is counted before the count begins anew."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries of one subscription while this machine is at fault."""
FORGOTTEN_AFTER: Final = 2 * LONGEST_PAUSE
"""Seconds after the end of its pause from which on a subscription that has not tried again waits no
more, and its next fault is that of a new outage."""

LET_GO: Final = 2
"""Subscriptions that may try at once when one that waited has got through."""


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float
    until: float
    told: float
    """When people were told of it."""
    ended: bool = False
    """Others were reached meanwhile, and it was let go once."""
    called: bool = False
    """It may try before its time: if that fails, it has not waited in vain for longer."""
    over: bool = False
    """An attempt got through. Where descriptors are scarce the next may not, at once."""
    again: bool = False
    """One got through since people were told."""


class Outage:
    """Whether this machine is at fault, and who waits for how long because of it."""

    def __init__(self, on_end: Callable[[list[SubscriptionKey]], None]) -> None:
        """`on_end` is told of those that waited, once it is over."""
        self._on_end = on_end
        self._suspects: OrderedDict[str, float] = OrderedDict()
        """When each host last met a fault that may be ours, longest ago first."""
        self._news = trio.Event()
        self._disproved: Counter[str] = Counter()
        self._pauses: dict[SubscriptionKey, _Pause] = {}
        self._to_let_go: dict[SubscriptionKey, None] = {}
        """Those whose outage has not ended, in the order of their waiting."""
        self._waiting: OrderedDict[SubscriptionKey, None] = OrderedDict()
        """Those that were put off and not let go since, longest ago first."""

    @property
    def is_on(self) -> bool:
        """Whether anyone waits for this machine to be well again."""
        now = trio.current_time()
        return any(
            now < one.until + (0.0 if one.ended else FORGOTTEN_AFTER)
            for one in self._pauses.values()
            if not one.over
        )

    def concerns(self, key: SubscriptionKey) -> bool:
        """Whether this subscription's latest attempt met a fault of this machine."""
        pause = self._pauses.get(key)
        return pause is not None and not pause.over

    async def judge(self, host: str, result: Answer | Fault) -> Answer | Fault:
        """The result, as a fault of this machine if it is one; takes a moment in doubt.

        Args:
            host: whom it was about, as in the URL.
            result: what the exchange came to.
        """
        if isinstance(result, Fault) and result.kind is FaultKind.LOCAL:
            return result
        if not isinstance(result, Fault) or not result.may_be_ours:
            if (
                (self._suspects or self._pauses or self._disproved)
                and _came_from_outside(result)
                and tells(host)
            ):
                self._end()
                self._disproved.pop(host, None)
            return result
        if self._disproved[host] >= DISPROVED:
            return result
        self._suspects[host] = trio.current_time()
        self._suspects.move_to_end(host)
        if not self._is_ours():
            with trio.move_on_after(WITNESS_WAIT):
                while not self._is_ours() and host in self._suspects:
                    await self._news.wait()
        else:
            self._tell()
        return replace(result, kind=FaultKind.LOCAL) if self._is_ours() else result

    def put_off(self, key: SubscriptionKey, name: str, fault: Fault) -> bool:
        """Let a subscription wait after a fault of this machine; returns whether that is news.

        The next try is made after 1, 2, 4 ... 60 s.
        """
        now = trio.current_time()
        before = self._pauses.get(key)
        self._waiting[key] = None
        self._waiting.move_to_end(key)
        is_first = before is None or now >= before.until + FORGOTTEN_AFTER
        if before is None or is_first:
            pause = _Pause(FIRST_PAUSE, now + FIRST_PAUSE, now)
        elif before.over:
            pause = _Pause(FIRST_PAUSE, now + FIRST_PAUSE, before.told, again=True)
        elif now >= before.until:
            seconds = before.seconds if before.called else min(2 * before.seconds, LONGEST_PAUSE)
            pause = replace(before, seconds=seconds, until=now + seconds, called=False)
        else:  # another attempt of the same moment
            pause = before
        is_news = is_first or (pause.again and now >= pause.told + LONGEST_PAUSE)
        if is_news:
            pause = replace(pause, told=now, again=False)
        self._pauses[key] = pause
        if not pause.ended:
            self._to_let_go[key] = None
        if is_news:
            log(Action.MACHINE_FAULT, logging.ERROR, subscription=name, fault=fault.detail)
        return is_news

    def wait(self, key: SubscriptionKey) -> float:
        """Seconds that this subscription has to wait; 0 for none."""
        pause = self._pauses.get(key)
        return 0.0 if pause is None else max(0.0, pause.until - trio.current_time())

    def reached(self, key: SubscriptionKey, result: Answer | Fault) -> None:
        """An attempt of this subscription met no fault of this machine: it need not wait longer.

        Where it had to wait and something answered, others that wait may try as well.
        """
        pause = self._pauses.get(key)
        if pause is None or pause.over:
            return
        self.forget(key)
        self._pauses[key] = replace(pause, until=trio.current_time(), over=True)
        if _came_from_outside(result) and self._waiting:
            self._on_end(self._let_go())

    def forget(self, key: SubscriptionKey) -> None:
        """The subscription is gone."""
        self._waiting.pop(key, None)
        self._to_let_go.pop(key, None)
        self._pauses.pop(key, None)

    def _let_go(self) -> list[SubscriptionKey]:
        """End the pauses of the few that wait longest."""
        now, found = trio.current_time(), list[SubscriptionKey]()
        while self._waiting and len(found) < LET_GO:
            key, _ = self._waiting.popitem(last=False)
            if now < self._pauses[key].until:  # else it tries already, or has nothing to send
                self._pauses[key] = replace(self._pauses[key], until=now, called=True)
                found.append(key)
        return found

    def _is_ours(self) -> bool:
        horizon = trio.current_time() - WITNESS_AGE
        while self._suspects and next(iter(self._suspects.values())) < horizon:
            self._suspects.popitem(last=False)
        return len(self._suspects) > 1

    def _end(self) -> None:
        if self._suspects:
            if len(self._disproved) >= MOST_DISPROVED:
                self._disproved.clear()
            self._disproved.update(self._suspects.keys())
            self._suspects.clear()
            self._tell()
        if self._to_let_go:
            waited = list(self._to_let_go)
            self._to_let_go.clear()
            now = trio.current_time()
            for key in waited:
                self._waiting.pop(key, None)
                self._pauses[key] = replace(self._pauses[key], until=now, ended=True)
            log(Action.MACHINE_WELL, logging.INFO, subscriptions=len(waited))
            self._on_end(waited)

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


def tells(host: str) -> bool:
    """Whether an answer from `host` says anything of this machine's network: not from itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _came_from_outside(result: Answer | Fault) -> bool:
    """Whether somebody out there has said something."""
    return isinstance(result, Answer) or result.kind in _FROM_OUTSIDE


_FROM_OUTSIDE: Final = frozenset(
    {FaultKind.REFUSED, FaultKind.RESET, FaultKind.CLOSED, FaultKind.TLS, FaultKind.PROTOCOL}
)
