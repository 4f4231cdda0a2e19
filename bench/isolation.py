"""Whether 49 healthy endpoints feel what the fiftieth does: it is healthy too, or it hangs.

One that hangs takes connections and never answers; its attempts time out after a second, and when
the measurement begins it has failed often enough to be probed alone. All fifty have a host of their
own and an equal share of the events.
Looked at are the 49 in both cases: how soon events of a steady host arrive, and how fast a backlog
is worked off. The two cases go by turns.
"""

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from bench import fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, percentile, ratios
from bench.journey import Carrier, Traffic, delays
from bench.processes import (
    Receiver,
    addresses,
    free_port,
    receiver,
    running,
)
from bench.report import BenchFailed, Result, Scale
from webhookd.core.times import from_text
from webhookd.store.driver import Connection, connect

ENDPOINTS: Final = 50
HOSTS: Final = addresses(ENDPOINTS)
PER_SECOND: Final = 100
WITHIN: Final = 0.05
"""The goal: beside one that hangs, p99 and rate are within this share of those without."""
DONE_WITHIN: Final = 120.0
"""Seconds that a backlog may take."""
LOOK_EVERY: Final = 0.05
TIMEOUT: Final = 1_000
"""Milliseconds of an attempt, everywhere: short, so that many are over while it is measured."""
FIRST: Final = 8
"""Attempts at the fiftieth before the measurement: they fail where it hangs."""
CONFIG: Final = '[delivery]\nshutdown_grace = "1s"\n'
"""What hangs at the end need not be waited for."""

CASES: Final = {"50 healthy": 0, "49 healthy, 1 hangs": 1}
"""How many hang."""
HEALTHY, HANGING = CASES

ATTEMPTS: Final = (
    "SELECT count(*), count(*) FILTER (WHERE error_class = 'timeout') FROM webhookd_attempts"
    " WHERE delivery IN (SELECT id FROM webhookd_deliveries WHERE subscription = ?)"
)
"""All, and those that failed as they should where it hangs."""

PENDING: Final = "SELECT sum(pending) FROM webhookd_counters WHERE subscription <= ?"
STATES: Final = (
    "SELECT state, attempts, count(*) FROM webhookd_deliveries WHERE subscription <= ?"
    " GROUP BY state, attempts"
)
SPAN: Final = (
    "SELECT min(started_at), max(started_at) FROM webhookd_attempts"
    " WHERE delivery IN (SELECT id FROM webhookd_deliveries WHERE subscription <= ?)"
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    rounds: int
    events: int
    """Of the steady host."""
    backlog: int


SIZES: Final = {
    Scale.FULL: Size(rounds=4, events=1_500, backlog=10_000),
    Scale.QUICK: Size(rounds=3, events=400, backlog=2_000),
}


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when a healthy endpoint did not get what it was owed."""
    size, numbers = SIZES[scale], count()
    p50: dict[str, list[float]] = {case: [] for case in CASES}
    p99: dict[str, list[float]] = {case: [] for case in CASES}
    rate: dict[str, list[float]] = {case: [] for case in CASES}
    with (
        tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name,
        _hanging() as nowhere,
    ):
        folder = Path(name)
        with receiver(folder, endpoints=ENDPOINTS) as serving:
            for _ in range(size.rounds):
                for case, hanging in CASES.items():
                    place = folder / str(next(numbers))
                    found = _delays(place, size.events, nowhere if hanging else None)
                    p50[case].append(percentile(found, 0.5))
                    p99[case].append(percentile(found, 0.99))
                for case, hanging in CASES.items():
                    place = folder / str(next(numbers))
                    port = nowhere if hanging else None
                    rate[case].append(_rate(place, serving, size.backlog, port))
    figures = {"p50, ms": p50, "p99, ms": p99, "deliveries a second": rate}
    shares = {label: ratios(found[HANGING], found[HEALTHY]) for label, found in figures.items()}
    goals = {"p99, ms": 1 + WITHIN, "deliveries a second": 1 - WITHIN}
    return Result(
        settings={
            "endpoints": ENDPOINTS,
            "rounds": size.rounds,
            "events": size.events,
            "per_second": PER_SECOND,
            "backlog": size.backlog,
            "timeout_ms": TIMEOUT,
            "failed_before": FIRST,
            "receiver_of_the_backlog": serving.name,
        },
        columns=("of the 49", *CASES, "ratio", "goal"),
        rows=tuple(
            (
                label,
                *(Spread.of(found[case]).text(2) for case in CASES),
                Spread.of(shares[label]).text(3),
                _goal(goals[label]) if label in goals else "",
            )
            for label, found in figures.items()
        ),
        figures={**figures, "ratios": shares},
        remarks=(
            "median (lowest to highest) of the rounds; a ratio is of two runs of the same round",
            "p50 and p99: from right before the host's COMMIT to the first byte at the receiver",
            "deliveries a second: from the first attempt at any of the 49 to the last one",
        ),
        charts=tuple(
            Chart.of(
                f"{label}: beside one that hangs, as a multiple of without",
                {"49 healthy endpoints": shares[label]},
                goal=Goal(_goal(goal), goal),
                decimals=3,
            )
            for label, goal in goals.items()
        ),
    )


def _goal(value: float) -> str:
    return f"at {'most' if value > 1 else 'least'} {value:g}"


@contextmanager
def _hanging() -> Iterator[int]:
    """The port of an endpoint whose kernel takes connections and requests, and nobody answers."""
    with socket.create_server((HOSTS[-1], 0), backlog=1_000) as server:
        port: int = server.getsockname()[1]
        yield port


def _prepare(place: Path, port: int, nowhere: int | None) -> fixture.Workload:
    """A file with events for the last endpoint alone, for it to fail with."""
    place.mkdir()
    ports = [port] * (ENDPOINTS - 1) + [nowhere or port]
    workload = fixture.prepare_for(
        place,
        [
            fixture.Endpoint(at, _tenant(number), address=host, policy={"timeout": TIMEOUT})
            for number, (at, host) in enumerate(zip(ports, HOSTS, strict=True))
        ],
    )
    with workload.config.open("a", encoding="utf-8") as config:
        config.write(CONFIG)
    rows = [(at, "supplier.created", _tenant(ENDPOINTS - 1)) for at in range(FIRST)]
    _commit(workload, lambda host: fixture.insert_rows(host, rows))
    return workload


def _tenant(number: int) -> str:
    return f"tenant-{number:02d}"


def _commit(workload: fixture.Workload, insert: Callable[[Connection], None]) -> None:
    with closing(connect(workload.database, mode="rw", wait=10.0)) as host:
        host.execute("BEGIN IMMEDIATE")
        insert(host)
        host.execute("COMMIT")


def _tried(workload: fixture.Workload) -> tuple[int, int]:
    """Attempts at the last endpoint, and how many of them timed out."""
    with closing(connect(workload.database, mode="ro")) as connection:
        attempts, failed = connection.execute(ATTEMPTS, (ENDPOINTS,)).fetchone()
    return attempts, failed


def _wait_until_tried(workload: fixture.Workload) -> None:
    """Return once the last endpoint is as it will be: it has answered, or is in trouble."""
    until = time.monotonic() + DONE_WITHIN
    while _tried(workload)[0] < FIRST:
        if time.monotonic() > until:
            raise BenchFailed(f"the last endpoint was not tried {FIRST} times in {DONE_WITHIN:g} s")
        time.sleep(LOOK_EVERY)


def _delays(place: Path, events: int, nowhere: int | None) -> list[float]:
    """Milliseconds of each event of the 49's."""
    port = free_port()
    workload = _prepare(place, port, nowhere)
    traffic = Traffic(events, PER_SECOND, ENDPOINTS, elsewhere=1)
    found = delays(
        *(workload, port, Carrier.daemon(workload), traffic),
        first=lambda: _wait_until_tried(workload),
    )
    _check(workload, events, nowhere, tried=FIRST + 1)
    shutil.rmtree(place)
    return found


def _rate(place: Path, serving: Receiver, events: int, nowhere: int | None) -> float:
    """Deliveries a second to the 49 together."""
    workload = _prepare(place, serving.port, nowhere)
    here = ENDPOINTS if nowhere is None else ENDPOINTS - 1
    with (
        fixture.arriving(workload, serving, last=here),
        running(workload.command(), place / "daemon.log"),
    ):
        _wait_until_tried(workload)
        _commit(workload, lambda host: fixture.insert(host, range(events), ENDPOINTS))
        _wait_until_delivered(workload, events)
    _check(workload, events, nowhere, tried=FIRST)  # it may be over before the next probe is
    connection = connect(workload.database, mode="ro")
    try:
        first, last = connection.execute(SPAN, (ENDPOINTS - 1,)).fetchone()
    finally:
        connection.close()
    shutil.rmtree(place)
    return _of_the_49(events) / (from_text(last) - from_text(first)) * 1000


def _of_the_49(events: int) -> int:
    """How many of the events are theirs: the last endpoint's turn comes last."""
    return events - events // ENDPOINTS


def _wait_until_delivered(workload: fixture.Workload, events: int) -> None:
    """Raises BenchFailed when the 49 do not get theirs."""
    until = time.monotonic() + DONE_WITHIN
    connection = connect(workload.database, mode="ro")
    try:
        while time.monotonic() < until:
            taken_in = connection.execute("SELECT cursor FROM webhookd_file").fetchone()[0]
            pending = connection.execute(PENDING, (ENDPOINTS - 1,)).fetchone()[0]
            if taken_in >= FIRST + events and not pending:
                return
            time.sleep(LOOK_EVERY)
    finally:
        connection.close()
    raise BenchFailed(f"not delivered after {DONE_WITHIN:g} s: {pending} of {events} are pending")


def _check(workload: fixture.Workload, events: int, nowhere: int | None, *, tried: int) -> None:
    """Raises BenchFailed unless the 49 got all that was theirs, each with one attempt.

    And unless at least `tried` attempts at the last one failed where it hangs, and there alone.
    """
    attempts, failed = _tried(workload)
    if failed != (0 if nowhere is None else attempts) or attempts < tried:
        raise BenchFailed(f"{failed} of {attempts} attempts at the last endpoint timed out")
    connection = connect(workload.database, mode="ro")
    try:
        states = connection.execute(STATES, (ENDPOINTS - 1,)).fetchall()
    finally:
        connection.close()
    if states != [("delivered", 1, _of_the_49(events))]:
        raise BenchFailed(f"{events} events, but the file says {states} (state, attempts, count)")
