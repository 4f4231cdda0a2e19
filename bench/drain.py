"""How many deliveries a second the real daemon makes, as a multiple of what else could make them.

The references are a bare loop and one with h11 (`bench.requester`), two programs that somebody
would write in place of webhookd (`bench.scripts`), and `wrk` where there is one. In each round all
have their turn, so that what else the machine does falls on all alike; the loops run right before
each daemon. A daemon's figure is compared with those of the same round.
"""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, ratios
from bench.processes import Receiver, module, output, receiver
from bench.report import ROOT, BenchFailed, Result, Scale
from webhookd.core.times import from_text

ENDPOINTS: Final = (1, 50)
CONNECTIONS: Final = 8
"""Of the references: as many as a subscription's default concurrency."""
REQUESTS: Final = 50_000
"""Of one run of the bare loop: about a second's worth."""
SECONDS_OF_WRK: Final = 2
BARE: Final = "bare loop"
H11: Final = "h11 loop"
WRK: Final = "wrk"
SCRIPTS: Final = {"asyncio + httpx": "asyncio_httpx", "huey on SQLite": "huey_worker"}
LEAST: Final = {BARE: 0.3, H11: 1.0, **dict.fromkeys(SCRIPTS, 5.0)}
"""The goals: what the daemon should be at least, as a multiple of each."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    rounds: int
    deliveries: int
    requests_by_h11: int
    scripts: int
    """Deliveries of each script: they are slow, and do not get faster with time."""


SIZES: Final = {
    Scale.FULL: Size(rounds=3, deliveries=50_000, requests_by_h11=20_000, scripts=3_000),
    Scale.QUICK: Size(rounds=3, deliveries=3_000, requests_by_h11=5_000, scripts=500),
}


Shares = dict[str, dict[int, list[float]]]
"""The daemon as a multiple of each reference, by the number of its endpoints."""


@dataclass(slots=True)
class Found:
    """Rates of all rounds, of the daemon by the number of its endpoints."""

    daemon: dict[int, list[float]] = field(default_factory=dict)
    before: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """Of what is run right before each daemon, and compared with that one alone."""
    once: dict[str, list[float]] = field(default_factory=dict)
    """Of what is run once a round, and compared with all daemons of it."""

    def precede(self, label: str, endpoints: int, rate: float) -> None:
        """Add to `before`."""
        self.before.setdefault(label, {}).setdefault(endpoints, []).append(rate)

    def reference(self, label: str) -> list[float]:
        """All rates of one reference."""
        if label in self.once:
            return self.once[label]
        return [rate for rates in self.before[label].values() for rate in rates]

    def shares(self) -> Shares:
        """The daemon as a multiple of each reference."""
        compared = self.before | {
            label: dict.fromkeys(ENDPOINTS, rates) for label, rates in self.once.items()
        }
        return {
            label: {number: ratios(self.daemon[number], rates) for number, rates in by.items()}
            for label, by in compared.items()
        }


class Course:
    """What is run in one place, against one receiver. Each method gives a rate a second."""

    def __init__(self, folder: Path, serving: Receiver) -> None:
        self._folder = folder
        self._serving = serving
        self._places = 0
        place = self._place()
        workload = fixture.prepare(place, port=serving.port, endpoints=1, events=1)
        self.wire = folder / "request.http"
        self.wire.write_bytes(fixture.request(workload).wire())

    def loop(self, requests: int, *options: str) -> float:
        """Of the requester."""
        command = module(
            "bench.requester", self._serving.port, requests, CONNECTIONS, self.wire, *options
        )
        return requests / float(output(command, self._folder / "requester.log"))

    def script(self, name: str, events: int) -> float:
        """Of one of `bench.scripts`."""
        place = self._place()
        workload = fixture.prepare(place, port=self._serving.port, endpoints=1, events=events)
        url = f"http://127.0.0.1:{self._serving.port}/webhooks/00"
        command = module(f"bench.scripts.{name}", workload.database, url)
        with self._serving.expecting(lambda: events):
            took = float(output(command, place / "script.log"))
        fixture.check_sent(workload)
        shutil.rmtree(place)
        return events / took

    def wrk(self, program: str) -> float:
        """Of `wrk`, on one thread."""
        command = [
            *(program, "--script", str(ROOT / "bench" / "wrk.lua"), "--threads", "1"),
            *("--connections", str(CONNECTIONS), "--duration", f"{SECONDS_OF_WRK}s"),
            *(f"http://127.0.0.1:{self._serving.port}/", "--", str(self.wire)),
        ]
        told = output(command, self._folder / "wrk.log")
        rate = re.search(r"^Requests/sec:\s+([0-9.]+)$", told, re.MULTILINE)
        if rate is None or "Non-2xx" in told or "Socket errors" in told:
            raise BenchFailed(f"wrk says {told!r}")
        return float(rate[1])

    def daemon(self, endpoints: int, deliveries: int) -> float:
        """Of the daemon."""
        place = self._place()
        workload = fixture.prepare(
            place, port=self._serving.port, endpoints=endpoints, events=deliveries, apart=True
        )
        log = place / "daemon.log"
        with self._serving.expecting(lambda: deliveries):
            output(workload.command("--drain"), log)
        fixture.check_delivered(workload)
        begun = from_text(fixture.first_attempt_at(workload))
        took = _stopped_at(log) - begun
        shutil.rmtree(place)
        return deliveries / took * 1000

    def _place(self) -> Path:
        self._places += 1
        place = self._folder / str(self._places)
        place.mkdir()
        return place


def measure(scale: Scale) -> Result:
    """Run it all. Raises BenchFailed when a delivery is not as it should be."""
    size, found, program = SIZES[scale], Found(), shutil.which("wrk")
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        folder = Path(name)
        with receiver(folder, endpoints=max(ENDPOINTS)) as serving:
            course = Course(folder, serving)
            for _ in range(size.rounds):
                for endpoints in ENDPOINTS:
                    found.precede(BARE, endpoints, course.loop(REQUESTS))
                    found.precede(H11, endpoints, course.loop(size.requests_by_h11, "--h11"))
                    rate = course.daemon(endpoints, size.deliveries)
                    found.daemon.setdefault(endpoints, []).append(rate)
                for label, script in SCRIPTS.items():
                    rate = course.script(script, size.scripts)
                    found.once.setdefault(label, []).append(rate)
                if program is not None:
                    found.once.setdefault(WRK, []).append(course.wrk(program))
            request_bytes = course.wire.stat().st_size
    shares = found.shares()
    return Result(
        settings={
            "deliveries": size.deliveries,
            "deliveries_of_a_script": size.scripts,
            "rounds": size.rounds,
            "receiver": serving.name,
            "request_bytes": request_bytes,
            "connections_of_a_reference": CONNECTIONS,
        },
        columns=("", "per second", *(f"{_label(number)} / this" for number in ENDPOINTS), "goal"),
        rows=_rows(found, shares),
        figures={
            "daemon_per_second": {_label(number): rates for number, rates in found.daemon.items()},
            "reference_per_second": found.once | _by_name(found.before),
            "daemon_as_multiple": _by_name(shares),
        },
        remarks=(
            "median (lowest to highest); a multiple is of the reference of the same round",
            "a daemon's time is from its first request until all is recorded and it has stopped:",
            "most of the ingest is in it, the start of the process is not",
            *(() if program else ("wrk is not installed here, so nothing is compared with it",)),
        ),
        charts=_charts(found, shares),
    )


def _rows(found: Found, shares: Shares) -> tuple[tuple[str, ...], ...]:
    daemon = [
        (_label(number), Spread.of(rates).text(), "", "", "")
        for number, rates in found.daemon.items()
    ]
    references = []
    for label, by in shares.items():
        multiples = (Spread.of(by[number]).text(3) for number in ENDPOINTS)
        goal = f"at least {LEAST[label]:g}" if label in LEAST else ""
        references.append((label, Spread.of(found.reference(label)).text(), *multiples, goal))
    return (*daemon, *references)


def _charts(found: Found, shares: Shares) -> tuple[Chart, ...]:
    rates = {f"webhookd, {_label(number)}": rates for number, rates in found.daemon.items()} | {
        label: found.reference(label) for label in shares if label != WRK
    }
    return (
        Chart.of("Deliveries or requests a second", rates),
        *(
            Chart.of(
                f"webhookd as a multiple of: {label}",
                {_label(number): values for number, values in shares[label].items()},
                goal=Goal(f"at least {least:g}", least),
                decimals=2,
            )
            for label, least in LEAST.items()
        ),
    )


def _by_name(measured: Shares) -> dict[str, list[float]]:
    return {
        f"{label}, {_label(number)}": values
        for label, by in measured.items()
        for number, values in by.items()
    }


def _label(endpoints: int) -> str:
    return "1 endpoint" if endpoints == 1 else f"{endpoints} endpoints"


def _stopped_at(log: Path) -> int:
    """When the daemon said that it had stopped, everything recorded."""
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    if last["action"] != "daemon.stopped":
        raise BenchFailed(f"the daemon's last line is {last['action']}")
    return from_text(last["time"])
