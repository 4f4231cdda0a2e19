"""What a subscription did in the last hour: counts over five minutes each, and a few classes.

A count by classes of duration stands for the durations themselves, so that the figures of an hour
take the same small space whether ten requests were made in it or a million.
"""

from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis

SPAN: Final = 5 * 60_000
"""What one slot counts."""
SLOTS: Final = 13
"""Twelve make an hour; the thirteenth is the one that is being filled."""

SHORTEST: Final = 3
"""The first class is of durations below 2 ** 3 ms; each further one goes twice as far."""
CLASSES: Final = 16
"""The last one is of all durations from 2 ** 17 ms (131 s) on."""


@dataclass(frozen=True, slots=True)
class Recent:
    """The figures of a span of time."""

    delivered: int = 0
    failed: int = 0
    """Deliveries that ended so in it."""
    durations: tuple[int, ...] = (0,) * CLASSES
    """Attempts that ended in it, by the class of their duration."""

    @property
    def attempts(self) -> int:
        """Requests made, whatever came of them."""
        return sum(self.durations)

    def quantile(self, share: float) -> Millis | None:
        """The duration that `share` of the attempts did not exceed; None where there were none.

        Within its class it is an estimate, as if that class were filled evenly.
        """
        rank = share * self.attempts
        passed = 0
        for number, count in enumerate(self.durations):
            if count and passed + count >= rank:
                below, above = bounds(number)
                return round(below + (above - below) * (rank - passed) / count)
            passed += count
        return None


IDLE: Final = Recent()
"""Nothing was done."""


def class_of(duration: Millis) -> int:
    """The number of the class that a duration belongs to."""
    return min(max(duration.bit_length() - SHORTEST, 0), CLASSES - 1)


def bounds(number: int) -> tuple[Millis, Millis]:
    """From where to where a class goes; the last one is taken to go twice as far as it begins."""
    upper = 1 << (number + SHORTEST)
    return (upper >> 1 if number else 0), upper


def slot_of(now: Millis) -> tuple[int, int]:
    """The slot that `now` is counted in, and the number of its five minutes since the epoch."""
    period = now // SPAN
    return period % SLOTS, period
