"""A token bucket: how often something may be done, with a burst of one second's worth."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left to spend, and as of when."""

    tokens: float
    at: float
    """Seconds on a clock that only moves forward."""

    def wait(self, rate: float, now: float) -> float:
        """Seconds from `now` until one token is there; 0 if one is."""
        missing = 1.0 - self._filled(rate, now)
        # A rounding error must not make anyone wait for a moment that never comes.
        return missing / rate if missing > _EPSILON else 0.0

    def take(self, rate: float, now: float) -> "Bucket":
        """One token less. `wait` has to be 0."""
        return Bucket(max(0.0, self._filled(rate, now) - 1.0), now)

    def _filled(self, rate: float, now: float) -> float:
        return min(capacity(rate), self.tokens + max(0.0, now - self.at) * rate)


_EPSILON = 1e-9


def capacity(rate: float) -> float:
    """The tokens that a bucket holds at most: one second's worth, and at least one."""
    return max(1.0, rate)


def started(now: float) -> Bucket:
    """A bucket with one token: after a restart nobody gets a second burst."""
    return Bucket(1.0, now)
