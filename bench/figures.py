"""What many measurements of the same thing come to."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of several measurements and how far they lie apart."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, decimals: int = 0) -> str:
        """`median (lowest to highest)`."""
        middle, low, high = (
            f"{value:,.{decimals}f}" for value in (self.median, self.lowest, self.highest)
        )
        return f"{middle} ({low} to {high})"


def percentile(values: Sequence[float], share: float) -> float:
    """The lowest of the values that at least `share` of them do not exceed; of at least one."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratios(measured: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Each figure as a multiple of the reference of the same round."""
    return [one / other for one, other in zip(measured, reference, strict=True)]
