"""What the daemon costs while nothing happens, and how soon it and `status` are there.

Each stands beside the least that does such a thing: a process of trio's that only sleeps, a daemon
that has nothing to look back on, and a program that asks the file one question.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import filling, fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, ratios
from bench.processes import READY_WITHIN, Receiver, module, receiver, running, wait_for_line
from bench.report import BenchFailed, Result, Scale
from bench.usage import Cost, cost, cpu_seconds, rss_bytes

SUBSCRIPTIONS: Final = 1_000
SETTLES: Final = 5.0
"""Seconds that a daemon has after its start until the first window begins."""
MIB: Final = 1 << 20

MOST_CPU: Final = 0.3
"""Per cent of a core. The goals, of which all are at most:"""
MOST_RSS: Final = 70.0
"""MiB."""
MOST_START: Final = 1500.0
"""Milliseconds until READY=1."""
MOST_STATUS: Final = 200.0
"""Milliseconds of wall time."""

SLEEPER: Final = "import trio; trio.run(trio.sleep_forever)"
ASKER: Final = (
    "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1])"
    ".execute('SELECT sum(pending) FROM webhookd_counters').fetchone())"
)
NOT_RUNNING: Final = 6
"""What `status` ends with where no daemon runs."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    windows: int
    seconds: float
    """Of a window in which the daemon is watched doing nothing."""
    pending: int
    starts: int
    looks: int
    """Runs of `status`."""


SIZES: Final = {
    Scale.FULL: Size(windows=3, seconds=30.0, pending=1_000_000, starts=7, looks=11),
    Scale.QUICK: Size(windows=3, seconds=5.0, pending=100_000, starts=3, looks=5),
}


@dataclass(slots=True)
class Found:
    """All that was measured, round by round."""

    cpu: list[float] = field(default_factory=list)
    """Per cent of a core."""
    rss: list[float] = field(default_factory=list)
    """MiB, as all that follows in pairs: of ours, then of the reference."""
    rss_of_sleeper: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    start_with_nothing: list[float] = field(default_factory=list)
    status: list[Cost] = field(default_factory=list)
    question: list[Cost] = field(default_factory=list)


def measure(scale: Scale) -> Result:
    """Run it all. Raises BenchFailed when a process does not say what it should."""
    size, found = SIZES[scale], Found()
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        folder = Path(name)
        with receiver(folder) as serving:
            empty = _file(folder / "empty", 0, serving)
            full = _file(folder / "full", size.pending, serving)
            _look(found, full, size)
            _watch(found, empty, size)
            with fixture.arriving(full, serving):
                _start(found, full, empty, size)
        fixture.check_so_far(full)
    rows = _rows(found, size)
    return Result(
        settings={
            "subscriptions": SUBSCRIPTIONS,
            "pending": f"{size.pending:,}",
            "windows": f"{size.windows} of {size.seconds:g} s",
            "starts": size.starts,
            "status": size.looks,
        },
        columns=("", "webhookd", "reference", "ratio", "goal"),
        rows=rows,
        figures={
            "cpu_percent": found.cpu,
            "rss_mib": {"webhookd": found.rss, "sleeper": found.rss_of_sleeper},
            "start_ms": {"pending": found.start, "nothing_pending": found.start_with_nothing},
            "status_ms": {
                "wall": [one.wall * 1000 for one in found.status],
                "cpu": [one.cpu * 1000 for one in found.status],
                "question_wall": [one.wall * 1000 for one in found.question],
                "question_cpu": [one.cpu * 1000 for one in found.question],
            },
        },
        remarks=(
            "median (lowest to highest); a ratio is of two runs of the same round",
            "references: of RSS a process of trio's that sleeps, of the start a daemon with none",
            "pending, of status a process that asks the file one question",
            f"{SUBSCRIPTIONS:,} subscriptions everywhere, all enabled",
        ),
        charts=_charts(found, size),
    )


def _file(folder: Path, pending: int, serving: Receiver) -> fixture.Workload:
    folder.mkdir()
    if pending:
        return filling.owed(folder, pending, port=serving.port, endpoints=SUBSCRIPTIONS)
    return fixture.prepare(folder, port=serving.port, endpoints=SUBSCRIPTIONS, events=0)


def _look(found: Found, workload: fixture.Workload, size: Size) -> None:
    """`status` and the question, by turns; the first of each is not counted."""
    status = module("webhookd", "--config", workload.config, "status")
    question = [sys.executable, "-c", ASKER, str(workload.database)]
    for _ in range(size.looks + 1):
        pending = str(workload.events)
        found.status.append(cost(status, expects=f"{pending} pending", codes=[NOT_RUNNING]))
        found.question.append(cost(question, expects=pending))
    del found.status[0], found.question[0]


def _watch(found: Found, workload: fixture.Workload, size: Size) -> None:
    """A daemon and a sleeper, side by side and left alone."""
    log = workload.database.with_name("daemon.log")
    sleeper = [sys.executable, "-c", SLEEPER]
    with running(workload.command(), log) as daemon, running(sleeper, Path(os.devnull)) as other:
        wait_for_line(daemon, log, '"daemon.ready"')
        time.sleep(SETTLES)
        for _ in range(size.windows):
            used, begun = cpu_seconds(daemon.pid), time.perf_counter()
            time.sleep(size.seconds)
            used = cpu_seconds(daemon.pid) - used
            found.cpu.append(used / (time.perf_counter() - begun) * 100)
            found.rss.append(rss_bytes(daemon.pid) / MIB)
            found.rss_of_sleeper.append(rss_bytes(other.pid) / MIB)


def _start(found: Found, full: fixture.Workload, empty: fixture.Workload, size: Size) -> None:
    """With much pending and with nothing, by turns; the first of each is not counted."""
    for _ in range(size.starts + 1):
        found.start.append(_until_ready(full))
        found.start_with_nothing.append(_until_ready(empty))
    del found.start[0], found.start_with_nothing[0]


def _until_ready(workload: fixture.Workload) -> float:
    """Milliseconds from the start of the process until it told its service manager READY=1."""
    with _service_manager(workload.database.parent) as manager:
        environment = {"NOTIFY_SOCKET": manager.getsockname()}
        log = workload.database.with_name("daemon.log")
        begun = time.perf_counter()
        with running(workload.command(), log, environment):
            try:
                while b"READY=1" not in manager.recv(4096).splitlines():
                    pass
            except TimeoutError:
                raise BenchFailed(f"not ready after {READY_WITHIN:g} s") from None
            return (time.perf_counter() - begun) * 1000


@contextmanager
def _service_manager(folder: Path) -> Iterator[socket.socket]:
    """A socket as systemd has one."""
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(path))
        found.settimeout(READY_WITHIN)
        yield found
    path.unlink()


def _rows(found: Found, size: Size) -> tuple[tuple[str, ...], ...]:
    status = [one.wall * 1000 for one in found.status]
    question = [one.wall * 1000 for one in found.question]
    cpu = [one.cpu * 1000 for one in found.status]
    cpu_of_question = [one.cpu * 1000 for one in found.question]
    return (
        ("idle: CPU, % of a core", Spread.of(found.cpu).text(2), "", "", f"below {MOST_CPU:g}"),
        _row("idle: RSS, MiB", found.rss, found.rss_of_sleeper, f"below {MOST_RSS:g}"),
        _row(
            f"start with {size.pending:,} pending, ms",
            found.start,
            found.start_with_nothing,
            f"below {MOST_START:g}",
        ),
        _row("status, ms", status, question, f"below {MOST_STATUS:g}"),
        _row("status: CPU, ms", cpu, cpu_of_question, ""),
    )


def _row(label: str, ours: list[float], reference: list[float], goal: str) -> tuple[str, ...]:
    multiples = Spread.of(ratios(ours, reference)).text(2)
    return label, Spread.of(ours).text(), Spread.of(reference).text(), multiples, goal


def _charts(found: Found, size: Size) -> tuple[Chart, ...]:
    return (
        Chart.of(
            "Idle: CPU, per cent of a core",
            {"webhookd": found.cpu},
            goal=Goal(f"below {MOST_CPU:g}", MOST_CPU),
            decimals=2,
        ),
        Chart.of(
            "Idle: RSS, MiB",
            {"webhookd": found.rss, "trio, asleep": found.rss_of_sleeper},
            goal=Goal(f"below {MOST_RSS:g}", MOST_RSS),
        ),
        Chart.of(
            "From start to ready, ms",
            {f"{size.pending:,} pending": found.start, "none": found.start_with_nothing},
            goal=Goal(f"below {MOST_START:g}", MOST_START),
        ),
        Chart.of(
            f"status with {size.pending:,} pending, ms",
            {
                "webhookd status": [one.wall * 1000 for one in found.status],
                "of that CPU": [one.cpu * 1000 for one in found.status],
                "one question": [one.wall * 1000 for one in found.question],
            },
            goal=Goal(f"below {MOST_STATUS:g}", MOST_STATUS),
        ),
    )
