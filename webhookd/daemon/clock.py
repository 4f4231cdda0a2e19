"""The two clocks: wall time for what is written down, Trio's time for every wait.

A wall clock may jump; nothing ever sleeps by it. Due times are compared with it, and no wait is
longer than `LONGEST_WAIT` before they are compared again.
"""

import time
from typing import Final, Protocol

from webhookd.core.model import Millis

LONGEST_WAIT: Final = 30.0
"""Seconds: after a jump of the wall clock nothing due is held up for longer."""


class Clock(Protocol):
    """Where moments come from."""

    def now(self) -> Millis:
        """The wall time."""


class SystemClock:
    """The machine's own wall clock."""

    def now(self) -> Millis:
        """The wall time."""
        return time.time_ns() // 1_000_000
