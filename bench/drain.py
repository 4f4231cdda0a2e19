"""How many deliveries a second the real daemon makes, as a share of the bare reference.

Each round is reference, one endpoint, reference, fifty endpoints, so that what else the machine
does falls on all alike. A daemon's figure is a share of the reference that ran just before it.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import fixture
from bench.processes import Receiver, module, output, receiver
from bench.report import BenchFailed, Result, Scale, Spread
from webhookd.core.times import from_text

ENDPOINTS: Final = (1, 50)
CONNECTIONS: Final = 8
"""Of the reference: as many as a subscription's default concurrency."""
REQUESTS: Final = 50_000
"""Of one run of the reference: about a second's worth."""
REFERENCE: Final = "reference"


def measure(scale: Scale) -> Result:
    """Run it all. Raises BenchFailed when a delivery is not as it should be."""
    deliveries, rounds = (20_000, 3) if scale is Scale.FULL else (3_000, 3)
    rates: dict[str, list[float]] = {REFERENCE: []}
    shares: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        folder = Path(name)
        with receiver(folder) as serving:
            wire = _request_file(folder, serving)
            for turn in range(rounds):
                for endpoints in ENDPOINTS:
                    reference = _reference(folder, serving, wire)
                    place = folder / f"{turn}-{endpoints}"
                    place.mkdir()
                    daemon = _daemon(place, serving, endpoints, deliveries)
                    rates[REFERENCE].append(reference)
                    rates.setdefault(_label(endpoints), []).append(daemon)
                    shares.setdefault(_label(endpoints), []).append(daemon / reference)
        settings = {
            "deliveries": deliveries,
            "rounds": rounds,
            "receiver": serving.name,
            "request_bytes": wire.stat().st_size,
            "reference_connections": CONNECTIONS,
            "reference_requests": REQUESTS,
        }
    return Result(
        settings=settings,
        columns=("", "per second", "share of the reference"),
        rows=tuple(_row(label, measured, shares.get(label)) for label, measured in rates.items()),
        figures={"per_second": rates, "share_of_reference": shares},
        remarks=(
            "median (lowest to highest); a share is of the reference run just before",
            "a daemon's time is from its first request until all is recorded and it has stopped:",
            "most of the ingest is in it, the start of the process is not",
        ),
    )


def _label(endpoints: int) -> str:
    return "1 endpoint" if endpoints == 1 else f"{endpoints} endpoints"


def _row(label: str, rates: Sequence[float], shares: Sequence[float] | None) -> tuple[str, ...]:
    share = "" if shares is None else Spread.of(shares).text(3)
    return label, Spread.of(rates).text(), share


def _request_file(folder: Path, serving: Receiver) -> Path:
    """The bytes of one of the daemon's own requests."""
    place = folder / "request"
    place.mkdir()
    workload = fixture.prepare(place, port=serving.port, endpoints=1, events=1)
    path = folder / "request.http"
    path.write_bytes(fixture.request(workload).wire())
    return path


def _reference(folder: Path, serving: Receiver, wire: Path) -> float:
    """Requests a second of the bare loop."""
    command = module("bench.requester", serving.port, REQUESTS, CONNECTIONS, wire)
    return REQUESTS / float(output(command, folder / "requester.log"))


def _daemon(place: Path, serving: Receiver, endpoints: int, deliveries: int) -> float:
    """Deliveries a second of the daemon."""
    workload = fixture.prepare(place, port=serving.port, endpoints=endpoints, events=deliveries)
    log = place / "daemon.log"
    output(workload.command("--drain"), log)
    fixture.check_delivered(workload)
    begun = from_text(fixture.first_attempt_at(workload))
    return deliveries / (_stopped_at(log) - begun) * 1000


def _stopped_at(log: Path) -> int:
    """When the daemon said that it had stopped, everything recorded."""
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    if last["action"] != "daemon.stopped":
        raise BenchFailed(f"the daemon's last line is {last['action']}")
    return from_text(last["time"])
