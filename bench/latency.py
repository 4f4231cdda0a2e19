"""From the host's COMMIT to the first byte at the receiver: at a steady pace, and after silence.

The reference is the least that would carry an event there (`bench.forwarder`). Under steady load
the two have their turn on fresh files; after silence several files of each wait side by side, and
their lone events come one after the other.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final

from bench import fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, percentile, ratios
from bench.journey import Carrier, Traffic, delays
from bench.processes import free_port
from bench.report import Result, Scale
from webhookd.daemon.inotify import Watch

PER_SECOND: Final = 100
MOST_P50: Final = 3.0
MOST_P99: Final = 15.0
"""The goals, in milliseconds; of a lone event the p50 alone has one."""
APART: Final = 1.0
"""Seconds from the start of one file's silence to that of the next."""

Carriers = Callable[[fixture.Workload, int], Carrier]
"""What carries the events of a file to a port."""
CARRIERS: Final[dict[str, Carriers]] = {
    "bare loop": Carrier.forwarder,
    "webhookd": lambda workload, _: Carrier.daemon(workload),
}
BARE, OURS = CARRIERS


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    rounds: int
    events: int
    """At a steady pace, of a round."""
    lone: int
    """Files of each carrier, with one lone event each."""
    silence: float
    """Seconds."""


SIZES: Final = {
    Scale.FULL: Size(rounds=4, events=1_000, lone=11, silence=60.0),
    Scale.QUICK: Size(rounds=3, events=300, lone=5, silence=15.0),
}

Delays = dict[str, list[list[float]]]
"""Milliseconds by carrier, round by round."""


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when an event did not arrive exactly once."""
    size = SIZES[scale]
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        places = _Places(Path(name))
        steady: Delays = {label: [] for label in CARRIERS}
        for _ in range(size.rounds):
            for label in CARRIERS:
                steady[label].append(places.run(label, Traffic(size.events, PER_SECOND)))
        lone = _lone(places, size)
        has_inotify = _has_inotify(Path(name))
    measured = {
        label: {
            "p50": [percentile(one, 0.5) for one in steady[label]],
            "p99": [percentile(one, 0.99) for one in steady[label]],
            "longest": [max(one) for one in steady[label]],
        }
        for label in CARRIERS
    }
    silence = f"{size.silence:g} s of silence"
    return Result(
        settings={
            "per_second": PER_SECOND,
            "events": size.events,
            "rounds": size.rounds,
            "silence_s": size.silence,
            "lone_events": size.lone,
            "inotify": "yes" if has_inotify else "no",
        },
        columns=("commit to first byte, ms", OURS, BARE, "ratio", "goal"),
        rows=(
            _row("steady: p50", measured[OURS]["p50"], measured[BARE]["p50"], MOST_P50),
            _row("steady: p99", measured[OURS]["p99"], measured[BARE]["p99"], MOST_P99),
            _row("steady: longest", measured[OURS]["longest"], measured[BARE]["longest"], None),
            _row(f"lone, after {silence}", lone[OURS], lone[BARE], MOST_P50),
        ),
        figures={"steady_ms": steady, "lone_ms": lone},
        remarks=(
            "median (lowest to highest) of the rounds, and of the lone events",
            "from right before the host's COMMIT, so what that takes is in it",
            "a ratio is of two runs of the same round, or of two lone events that were neighbours",
            "after silence the daemon has to open a connection, the bare loop has kept its own",
            *(() if scale is Scale.FULL else (f"the full run is silent for a minute: {silence}",)),
        ),
        charts=(
            _chart("Steady, 100 events a second: p50, ms", measured, "p50", MOST_P50),
            _chart("Steady, 100 events a second: p99, ms", measured, "p99", MOST_P99),
            Chart.of(
                f"A lone event after {silence}, ms",
                {label: lone[label] for label in reversed(CARRIERS)},
                goal=Goal(f"p50 at most {MOST_P50:g}", MOST_P50),
                decimals=1,
            ),
        ),
    )


class _Places:
    """Runs, each with a file and a receiver of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def run(self, label: str, traffic: Traffic) -> list[float]:
        """The delays of one run."""
        place = self._folder / str(next(self._numbers))
        place.mkdir()
        port = free_port()
        workload = fixture.prepare(place, port=port, endpoints=1, events=0)
        found = delays(workload, port, CARRIERS[label](workload, port), traffic)
        if label == OURS:
            fixture.check_delivered(replace(workload, events=traffic.events))
        return found


def _lone(places: _Places, size: Size) -> dict[str, list[float]]:
    """Of each file the delay of its second event, which comes after the silence."""
    labels = [label for _ in range(size.lone) for label in CARRIERS]
    traffic = Traffic(events=2, per_second=1 / size.silence)
    with ThreadPoolExecutor(len(labels)) as pool:
        waiting = []
        for label in labels:
            waiting.append(pool.submit(places.run, label, traffic))
            time.sleep(APART)
        found: dict[str, list[float]] = {label: [] for label in CARRIERS}
        for label, one in zip(labels, waiting, strict=True):
            found[label].append(one.result()[1])
    return found


def _row(label: str, ours: list[float], bare: list[float], goal: float | None) -> tuple[str, ...]:
    return (
        label,
        *(Spread.of(values).text(2) for values in (ours, bare, ratios(ours, bare))),
        "" if goal is None else f"at most {goal:g}",
    )


def _chart(
    title: str, measured: dict[str, dict[str, list[float]]], figure: str, goal: float
) -> Chart:
    bars = {label: measured[label][figure] for label in reversed(CARRIERS)}
    return Chart.of(title, bars, goal=Goal(f"at most {goal:g}", goal), decimals=1)


def _has_inotify(folder: Path) -> bool:
    watch = Watch.open(folder / "host.db")
    if watch is None:
        return False
    watch.close()
    return True
