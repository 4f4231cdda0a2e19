"""What a benchmark gives back, as a table for people and as JSON for the next comparison."""

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from importlib.metadata import version
from pathlib import Path
from typing import Final

from webhookd import __version__
from webhookd.core.times import to_text
from webhookd.store.driver import library_version

RESULTS: Final = Path(__file__).parent / "results"


class BenchFailed(Exception):
    """What was measured was not right, so its figures mean nothing: one line says what."""


class Scale(Enum):
    """How much is done."""

    FULL = auto()
    QUICK = auto()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one benchmark."""

    settings: dict[str, object]
    """What it was run with."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The table's lines, each with a text for each column."""
    figures: dict[str, object]
    """All that was measured, for machines."""
    remarks: tuple[str, ...] = ()
    """What a reader of the table must know, one line each."""


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


def machine() -> dict[str, object]:
    """Where this runs, as far as it bears on figures."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Of all that the figures depend on."""
    return {
        "webhookd": __version__,
        "python": platform.python_version(),
        "sqlite": library_version(),
        **{name: version(name) for name in ("trio", "httptools")},
    }


def table(name: str, result: Result) -> str:
    """The lines that people read."""
    lines = [result.columns, *result.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(result.columns))]
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    return "\n".join(
        [
            f"{name}: {settings}",
            *(
                "  "
                + "  ".join(
                    f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)
                ).rstrip()
                for line in lines
            ),
            *(f"  - {remark}" for remark in result.remarks),
        ]
    )


def save(name: str, result: Result) -> Path:
    """Write the JSON; returns where it lies."""
    RESULTS.mkdir(exist_ok=True)
    now = time.time_ns() // 1_000_000
    path = RESULTS / f"{name}-{to_text(now).replace(':', '')[:17]}.json"
    document = {
        "bench": name,
        "at": to_text(now),
        "command": sys.argv[1:],
        "machine": machine(),
        "versions": versions(),
        "settings": result.settings,
        "figures": result.figures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
