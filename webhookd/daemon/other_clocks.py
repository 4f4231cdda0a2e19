"""What receivers' answers say of our clock: one answer a host and minute is looked at."""

import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

import trio

from webhookd.core import other_clocks
from webhookd.core.model import Millis
from webhookd.daemon.clock import Clock, Steadiness
from webhookd.daemon.outage import tells
from webhookd.logs.actions import Action, log

LOOK_EVERY: Final = 60.0
"""Seconds in which one answer of a host is looked at; all others cost a look-up."""

FORGOTTEN_AFTER: Final = 3_600.0
"""Seconds after which what a host said counts no more."""

TOLD_EVERY: Final = 3_600.0
"""Seconds between two lines in the log about a clock that stays wrong."""

MOST_HOSTS: Final = 100
"""Hosts that are heard: more would tell nothing new."""


@dataclass(frozen=True, slots=True)
class _Heard:
    at: float
    ahead: Millis | None
    """None: it said nothing that counts."""
    told: bool
    """Whether the log tells already that it is at odds with us."""


class OtherClocks:
    """Hears what receivers say the time is, and tells when our clock is wrong."""

    def __init__(self, clock: Clock, steadiness: Steadiness) -> None:
        self._clock = clock
        self._steadiness = steadiness
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        """By host, the longest ago first."""
        self._told_at = float("-inf")

    def hear(self, host: str, date: str) -> None:
        """An answer of `host` has just come, and says that it is `date`."""
        moment = trio.current_time()
        before = self._heard.get(host)
        if before is not None and moment < before.at + LOOK_EVERY:
            return
        if before is None and len(self._heard) >= MOST_HOSTS:
            longest_ago = next(iter(self._heard.values()))
            if moment < longest_ago.at + LOOK_EVERY:
                return
            self._heard.popitem(last=False)
        # After a sleep of the machine, an answer may be from before it.
        trusted = self._steadiness.is_trusted and tells(host)
        ahead = other_clocks.ahead_by(date, self._clock.now()) if trusted else None
        self._heard[host] = _Heard(moment, ahead, before is not None and before.told)
        self._heard.move_to_end(host)
        said = self._said()
        verdict = other_clocks.judge(said)
        if verdict is not None:
            self._tell(*verdict)
        elif before is not None:
            # Not at its first word: another one's, a moment later, may tell who is wrong.
            self._tell_of_odds(host, said)

    def forget(self) -> None:
        """Our clock was set: what was heard was said of another one."""
        self._heard.clear()
        self._told_at = float("-inf")

    @property
    def problems(self) -> list[str]:
        """What a person should look at, one line each."""
        verdict = other_clocks.judge(self._said())
        return [] if verdict is None else [other_clocks.told(*verdict)]

    def _said(self) -> dict[str, Millis]:
        """How far we are ahead of each host that was heard lately."""
        since = trio.current_time() - FORGOTTEN_AFTER
        return {
            host: one.ahead
            for host, one in self._heard.items()
            if one.ahead is not None and one.at > since
        }

    def _tell(self, by: Millis, hosts: list[str]) -> None:
        moment = trio.current_time()
        if moment < self._told_at + TOLD_EVERY:
            return
        self._told_at = moment
        log(
            Action.CLOCK_WRONG,
            logging.WARNING,
            ahead_ms=by,
            hosts=hosts[: other_clocks.MOST_NAMED],
            detail=other_clocks.told(by, hosts),
        )

    def _tell_of_odds(self, host: str, said: dict[str, Millis]) -> None:
        """Once for each host: too little for a verdict, and all that one partner alone can say."""
        heard = self._heard[host]
        if heard.told or host not in said or not other_clocks.nobody_agrees(said):
            return
        self._heard[host] = replace(heard, told=True)
        by = said[host]
        (detail,) = other_clocks.at_odds({host: by})
        log(Action.CLOCK_DIFFERS, logging.WARNING, ahead_ms=by, hosts=[host], detail=detail)
