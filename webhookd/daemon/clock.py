"""The two clocks: wall time for what is written down, Trio's time for every wait.

A wall clock may jump; nothing ever sleeps by it. Due times are compared with it, and no wait is
longer than `LONGEST_WAIT` before they are compared again.
"""

import time
from typing import Final, Protocol

import trio

from webhookd.core.model import Millis

LONGEST_WAIT: Final = 30.0
"""Seconds: after a jump of the wall clock nothing due is held up for longer."""


JUMP: Final = 2_000
"""Milliseconds by which the wall clock may stray from Trio's between two looks: more was a jump."""

DOUBT: Final = 60.0
"""Seconds for which a wall clock that has jumped ahead is doubted."""


def next_tick(every: float) -> float:
    """The next moment of Trio's clock that is a multiple of `every` seconds.

    Who looks at something again and again does so then: one wake-up serves them all.
    """
    return (trio.current_time() // every + 1) * every


class Clock(Protocol):
    """Where moments come from."""

    def now(self) -> Millis:
        """The wall time."""


class SystemClock:
    """The machine's own wall clock."""

    def now(self) -> Millis:
        """The wall time."""
        return time.time_ns() // 1_000_000


class Steadiness:
    """Notices when the wall clock jumps, by Trio's, which does not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drift: Millis | None = None
        self._doubted_until = float("-inf")

    @property
    def is_trusted(self) -> bool:
        """Whether what can never be undone may be done by the wall clock.

        Not for a minute after it has jumped ahead: it may be put right yet.
        """
        return self._strayed < JUMP and trio.current_time() >= self._doubted_until

    def jumped(self) -> Millis:
        """By how much it has jumped since this was asked last, and begun with; 0 for not at all.

        What it strays by less than `JUMP` from one call to the next is no jump: it is set right.
        """
        by, self._drift = self._strayed, self._measured()
        if by >= JUMP:
            self._doubted_until = trio.current_time() + DOUBT
        return by if abs(by) >= JUMP else 0

    @property
    def _strayed(self) -> Millis:
        drift = self._measured()
        if self._drift is None:
            self._drift = drift
        return drift - self._drift

    def _measured(self) -> Millis:
        return self._clock.now() - round(trio.current_time() * 1000)
