"""What the daemon costs its host: how long the host's own commits take, beside it and without it.

A host commits an event at a time, at a steady pace: with no daemon, beside one under light load,
which has these events alone to deliver, and beside one at full load, which delivers what it owes
and takes in a large outbox at the same time. The three go by turns, each on a fresh file with as
many rows in its outbox, and a round is compared within itself.
"""

import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import filling, fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, percentile, ratios
from bench.host import Commit
from bench.processes import Receiver, host_commits, receiver, running, wait_for_line
from bench.progress import LOOK_EVERY, Progress, until
from bench.report import BenchFailed, Result, Scale
from webhookd.store.driver import connect
from webhookd.store.sizes import wal_bytes

PER_SECOND: Final = 100
GOAL: Final = 2.0
"""What the p99 beside a daemon at full load should be at most, as a multiple of that without."""
BACKLOG: Final = 30_000
"""Deliveries that are owed when the daemon starts."""
OUTBOX_PER_SECOND: Final = 10_000
"""Rows in the outbox for each second of the host's: more than any daemon takes in meanwhile."""
A_WAIT: Final = 1.0
"""Milliseconds: what SQLite sleeps first when it finds the lock taken."""


@dataclass(slots=True)
class Run:
    """One run of the host."""

    commits: list[Commit]
    wal: int
    """Bytes of the -wal, at its largest."""
    delivered_per_second: float = 0.0
    taken_in_per_second: float = 0.0

    def took(self) -> list[float]:
        """Milliseconds of each commit."""
        return [one.took / 1e6 for one in self.commits]

    def waited(self) -> list[float]:
        """Milliseconds of each, until it had the lock."""
        return [one.waited / 1e6 for one in self.commits]

    def rest(self) -> list[float]:
        """Milliseconds of each, from then on."""
        return [(one.took - one.waited) / 1e6 for one in self.commits]

    def p50(self) -> float:
        """Milliseconds."""
        return statistics.median(self.took())

    def p99(self) -> float:
        """Milliseconds."""
        return percentile(self.took(), 0.99)


def measure(scale: Scale) -> Result:
    """Run it all. Raises BenchFailed when a delivery is not as it should be."""
    commits, rounds = (1_000, 5) if scale is Scale.FULL else (300, 3)
    runs: dict[str, list[Run]] = {label: [] for label in RUNS}
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        folder = Path(name)
        with receiver(folder) as serving:
            for turn in range(rounds):
                for label, run in RUNS.items():
                    place = folder / str(turn)
                    place.mkdir()
                    runs[label].append(run(place, serving, commits))
                    shutil.rmtree(place)
    base = runs[ALONE]
    multiples = {
        label: {
            "p50": ratios([one.p50() for one in found], [one.p50() for one in base]),
            "p99": ratios([one.p99() for one in found], [one.p99() for one in base]),
        }
        for label, found in runs.items()
        if label != ALONE
    }
    delivered = [one.delivered_per_second for one in runs[LOADED]]
    taken_in = [one.taken_in_per_second for one in runs[LOADED]]
    return Result(
        settings={
            "commits": commits,
            "per_second": PER_SECOND,
            "rounds": rounds,
            "receiver": serving.name,
            "backlog": BACKLOG,
            "outbox": _outbox(commits),
        },
        columns=("", "p50 ms", "p99 ms", "longest", "lock p99", "rest p99", "waited", "-wal MiB"),
        rows=(
            *(_row(label, found) for label, found in runs.items()),
            *(
                (f"{label} / {ALONE}", *(Spread.of(values).text(2) for values in both.values()))
                + ("",) * 5
                for label, both in multiples.items()
            ),
        ),
        figures={"runs": {label: _figures(found) for label, found in runs.items()}}
        | {"ratios": multiples},
        remarks=(
            "median (lowest to highest) of the rounds; a ratio is of two runs of the same round",
            f"goal: p99 at full load at most {GOAL:g} times that with no daemon",
            "lock: until BEGIN IMMEDIATE has it; rest: INSERT and COMMIT, with the disk",
            f"waited: commits that had the lock only after more than {A_WAIT:g} ms",
            f"deliveries a second at full load: {Spread.of(delivered).text()}",
            f"rows taken in a second meanwhile: {Spread.of(taken_in).text()}",
        ),
        charts=(
            Chart.of(
                "p99 of a host's commit, ms",
                {label: [one.p99() for one in found] for label, found in runs.items()},
                decimals=1,
            ),
            Chart.of(
                f"The same, as a multiple of: {ALONE}",
                {label: both["p99"] for label, both in multiples.items()},
                goal=Goal(f"at most {GOAL:g}", GOAL),
                decimals=2,
            ),
        ),
    )


def _row(label: str, runs: Sequence[Run]) -> tuple[str, ...]:
    waited = [value for one in runs for value in one.waited()]
    return (
        label,
        Spread.of([one.p50() for one in runs]).text(2),
        Spread.of([one.p99() for one in runs]).text(2),
        f"{max(max(one.took()) for one in runs):.1f}",
        Spread.of([percentile(one.waited(), 0.99) for one in runs]).text(2),
        Spread.of([percentile(one.rest(), 0.99) for one in runs]).text(2),
        f"{sum(value > A_WAIT for value in waited) / len(waited):.1%}",
        f"{max(one.wal for one in runs) / (1 << 20):.1f}",
    )


def _figures(runs: Sequence[Run]) -> list[dict[str, object]]:
    return [
        {
            "took_ms": one.took(),
            "waited_ms": one.waited(),
            "wal_bytes": one.wal,
            "delivered_per_second": one.delivered_per_second,
            "taken_in_per_second": one.taken_in_per_second,
        }
        for one in runs
    ]


def _alone(place: Path, serving: Receiver, commits: int) -> Run:
    """No daemon."""
    return _host(filling.finished(place, _rows_before(commits), port=serving.port), commits)


def _beside(place: Path, serving: Receiver, commits: int) -> Run:
    """A daemon that has only the host's events to deliver."""
    before = _rows_before(commits)
    workload = filling.finished(place, before, port=serving.port)
    with (
        fixture.arriving(workload, serving),
        running(workload.command(), _log(workload)) as daemon,
    ):
        wait_for_line(daemon, _log(workload), '"daemon.ready"')
        run = _host(workload, commits)
        until(workload, lambda progress: progress.delivered == before + commits)
    fixture.check_delivered(replace(workload, events=before + commits))
    return run


def _loaded(place: Path, serving: Receiver, commits: int) -> Run:
    """A daemon that has more to deliver and to take in than it can while the host is at work."""
    workload = fixture.prepare(place, port=serving.port, endpoints=1, events=BACKLOG)
    store = fixture.open_store(workload)
    fixture.take_in(store)
    store.close()
    connection = connect(workload.database, mode="rw")
    connection.execute("BEGIN IMMEDIATE")
    fixture.insert(connection, range(BACKLOG, _rows_before(commits)))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    # Ready it is before anything of this is delivered.
    with fixture.arriving(workload, serving), running(workload.command(), _log(workload)):
        before = until(workload, lambda progress: progress.delivered > 0)
        run = _host(workload, commits)
        after = Progress.of(workload)
    # What the host has added stands behind all this, and may not be reached at all.
    if not after.pending or after.taken_in >= _rows_before(commits):
        raise BenchFailed(f"the load was over before the host was: {after}")
    fixture.check_so_far(workload)
    seconds = after.at - before.at
    run.delivered_per_second = (after.delivered - before.delivered) / seconds
    run.taken_in_per_second = (after.taken_in - before.taken_in) / seconds
    return run


ALONE: Final = "no daemon"
LOADED: Final = "full load"
RUNS: Final[dict[str, Callable[[Path, Receiver, int], Run]]] = {
    ALONE: _alone,
    "light load": _beside,
    LOADED: _loaded,
}


def _outbox(commits: int) -> int:
    return OUTBOX_PER_SECOND * commits // PER_SECOND


def _rows_before(commits: int) -> int:
    """Of the outbox when the host begins, in each of the three files."""
    return BACKLOG + _outbox(commits)


def _log(workload: fixture.Workload) -> Path:
    return workload.database.with_name("daemon.log")


def _host(workload: fixture.Workload, commits: int) -> Run:
    """The host's run, and the -wal meanwhile."""
    largest, over = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not over.wait(LOOK_EVERY):
            largest = max(largest, wal_bytes(workload.database))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        committed = host_commits(workload.database, commits, PER_SECOND)
    finally:
        over.set()
        watching.join()
    return Run(committed, largest)
