"""Whether the daemon makes progress: what a watchdog is fed by.

Each part counts its turns. A part that has something to do and has not turned for `PATIENCE` is
stuck: that is a bug, and nothing but another start mends it. To wait for others is no lack of
progress: for a receiver within its timeout, for a file that the host has locked or that is full,
for a disk that writes a commit. A loop that does not turn at all is noticed by whoever waits for
its signs of life, since they come out of the same loop.
"""

from collections.abc import Callable, Mapping
from typing import Final

import trio

from webhookd.core.model import Millis
from webhookd.daemon.clock import LONGEST_WAIT
from webhookd.daemon.outage import WITNESS_WAIT

PATIENCE: Final = 2 * LONGEST_WAIT
"""Seconds without a turn after which a part is stuck; no part's own wait is half as long."""

AFTERWARDS: Final = 5 * WITNESS_WAIT
"""Seconds that an attempt may take beyond its timeout: a fault that may be ours waits for a witness
then. Where many wait so in turn there is always one that does, and nothing is wrong."""


class UnderWay:
    """Attempts under way, and by when each must have ended."""

    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        self._begun = 0
        self._ended = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    @property
    def turns(self) -> int:
        """Grows with each attempt that begins or ends."""
        return self._begun + self._ended

    @property
    def is_overdue(self) -> bool:
        """Whether one is under way for longer than it can be."""
        now = trio.current_time()
        return any(deadline < now for deadline in self._deadlines.values())

    def begin(self, timeout: Millis) -> int:
        """An attempt begins, to be over soon after `timeout`; the number to `end` it by."""
        self._begun += 1
        self._deadlines[self._begun] = trio.current_time() + timeout / 1000 + AFTERWARDS
        return self._begun

    def end(self, number: int) -> None:
        """It has ended, whatever came of it."""
        del self._deadlines[number]
        self._ended += 1


Turns = Callable[[], int | None]
"""A number that differs after each turn; None while there is nothing to do but to wait."""


class Progress:
    """Judges whether each part turns."""

    def __init__(self, parts: Mapping[str, Turns], is_excused: Callable[[], bool]) -> None:
        """Args:
        parts: by the name that people know them by.
        is_excused: whether all may stand still now, because they wait for what is not theirs.
        """
        self._parts = parts
        self._is_excused = is_excused
        self._seen: dict[str, tuple[int | None, float]] = {}
        """The turns of each part when they were last others, and when that was."""

    def stuck(self) -> dict[str, float]:
        """The parts that are stuck, and for how many seconds they have not turned.

        To be asked every few seconds: what happens in between is seen at the next time.
        """
        now, excused, found = trio.current_time(), self._is_excused(), dict[str, float]()
        for name, count in self._parts.items():
            turns = count()
            before = self._seen.get(name)
            if before is None or excused or turns is None or turns != before[0]:
                self._seen[name] = (turns, now)
            elif now - before[1] > PATIENCE:
                found[name] = now - before[1]
        return found
