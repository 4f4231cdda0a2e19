"""Whether a delivery costs more when a hundred times as many are owed.

Files with so many pending deliveries each, to one endpoint, are filled with SQL. By turns a daemon
works on each for a bounded number of deliveries, and is ended. The file with few is the reference.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import filling, fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, ratios
from bench.processes import Receiver, receiver, running
from bench.progress import Progress, until
from bench.report import Result, Scale
from bench.usage import cpu_seconds, rss_bytes

MIB: Final = 1 << 20
WITHIN: Final = 0.1
"""The goal for the rate and the CPU: flat within this share of the reference."""
MOST_RSS: Final = 120.0
"""The goal for RSS, in MiB."""
WARM: Final = 1_000
"""Deliveries until the measurement begins: connections, caches, the process's start."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    rounds: int
    pending: tuple[int, ...]
    """The first is the reference."""
    deliveries: int
    """Of a round; with `WARM` fewer than the least that is pending."""


SIZES: Final = {
    Scale.FULL: Size(rounds=5, pending=(10_000, 100_000, 1_000_000), deliveries=8_000),
    Scale.QUICK: Size(rounds=3, pending=(10_000, 100_000), deliveries=3_000),
}


@dataclass(slots=True)
class Found:
    """Of one size, round by round."""

    rate: list[float] = field(default_factory=list)
    """Deliveries a second."""
    cpu: list[float] = field(default_factory=list)
    """Microseconds a delivery."""
    rss: list[float] = field(default_factory=list)
    """MiB at the end."""


FIGURES: Final[dict[str, Callable[[Found], list[float]]]] = {
    "deliveries a second": lambda found: found.rate,
    "CPU a delivery, µs": lambda found: found.cpu,
    "RSS, MiB": lambda found: found.rss,
}
GOALS: Final = {
    "deliveries a second": Goal(f"at least {1 - WITHIN:g}", 1 - WITHIN),
    "CPU a delivery, µs": Goal(f"at most {1 + WITHIN:g}", 1 + WITHIN),
}


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when a delivery is not as it should be."""
    size = SIZES[scale]
    found = {pending: Found() for pending in size.pending}
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        folder = Path(name)
        with receiver(folder) as serving:
            files = _Files(folder, serving)
            for _ in range(size.rounds):
                for pending, one in found.items():
                    workload = files.get(pending)
                    with fixture.arriving(workload, serving):
                        _run(workload, size.deliveries, one)
    few = found[size.pending[0]]
    multiples = {
        label: {
            f"{pending:,} pending": ratios(of(one), of(few))
            for pending, one in found.items()
            if one is not few
        }
        for label, of in FIGURES.items()
    }
    return Result(
        settings={
            "rounds": size.rounds,
            "deliveries": size.deliveries,
            "before_them": WARM,
            "receiver": serving.name,
        },
        columns=("", *FIGURES, *GOALS),
        rows=tuple(_row(pending, one, few) for pending, one in found.items()),
        figures={
            "measured": {
                pending: {label: of(one) for label, of in FIGURES.items()}
                for pending, one in found.items()
            },
            "multiples": multiples,
        },
        remarks=(
            "median (lowest to highest) of the rounds; the last columns are multiples of the first",
            f"row's figure in the same round. Goals: {', '.join(_goals())}",
        ),
        charts=(
            *(
                Chart.of(
                    f"{label}: as a multiple of that with {size.pending[0]:,} pending",
                    multiples[label],
                    goal=goal,
                    decimals=2,
                )
                for label, goal in GOALS.items()
            ),
            Chart.of(
                "RSS, MiB",
                {f"{pending:,} pending": one.rss for pending, one in found.items()},
                goal=Goal(f"below {MOST_RSS:g}", MOST_RSS),
            ),
        ),
    )


def _goals() -> list[str]:
    return [
        *(f"{label} {goal.text}" for label, goal in GOALS.items()),
        f"RSS below {MOST_RSS:g} MiB",
    ]


def _row(pending: int, one: Found, few: Found) -> tuple[str, ...]:
    return (
        f"{pending:,} pending",
        *(Spread.of(of(one)).text() for of in FIGURES.values()),
        *(
            ""
            if one is few
            else Spread.of(ratios(FIGURES[label](one), FIGURES[label](few))).text(2)
            for label in GOALS
        ),
    )


class _Files:
    """One of each size, made anew once a tenth of it is gone."""

    def __init__(self, folder: Path, serving: Receiver) -> None:
        self._folder = folder
        self._serving = serving
        self._files: dict[int, fixture.Workload] = {}

    def get(self, pending: int) -> fixture.Workload:
        """One with so many pending, or a few less."""
        found = self._files.get(pending)
        if found is not None and Progress.of(found).pending > 0.9 * pending:
            return found
        place = self._folder / str(pending)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        self._files[pending] = filling.owed(place, pending, port=self._serving.port)
        return self._files[pending]


def _run(workload: fixture.Workload, deliveries: int, into: Found) -> None:
    """Have a daemon make some deliveries of the many."""
    done = Progress.of(workload).delivered + WARM
    with running(workload.command(), workload.database.with_name("daemon.log")) as daemon:
        begun = until(workload, lambda progress: progress.delivered >= done)
        used = cpu_seconds(daemon.pid)
        ended = until(workload, lambda progress: progress.delivered >= begun.delivered + deliveries)
        used = cpu_seconds(daemon.pid) - used
        into.rss.append(rss_bytes(daemon.pid) / MIB)
    fixture.check_so_far(workload)
    made = ended.delivered - begun.delivered
    into.rate.append(made / (ended.at - begun.at))
    into.cpu.append(used / made * 1e6)
