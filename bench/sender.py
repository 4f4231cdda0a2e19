"""How fast the sender alone is, as a share of a bare loop over raw sockets in the same process.

Rounds alternate within one process (`bench.sending`), so that whatever else the machine does falls
on both alike. Both keep the same number of warm connections to the same receiver, one row over
plain TCP and one over TLS.
"""

import json
import tempfile
from pathlib import Path
from typing import Final

import trustme

from bench.chart import Chart
from bench.figures import Spread, ratios
from bench.processes import module, output, receiver
from bench.report import Result, Scale

CONNECTIONS: Final = 16
ROWS: Final = ("plain", "tls")


def measure(scale: Scale) -> Result:
    """Run it all. Raises BenchFailed when an answer is not as it should be."""
    requests, rounds = (20_000, 5) if scale is Scale.FULL else (5_000, 3)
    rates: dict[str, dict[str, list[float]]] = {}
    name = ""
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as temporary:
        folder = Path(temporary)
        authority = trustme.CA()
        bundle, identity = folder / "authority.pem", folder / "server.pem"
        authority.cert_pem.write_to_path(bundle)
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(identity)
        for row in ROWS:
            place = folder / row
            place.mkdir()
            with receiver(place, identity if row == "tls" else None) as serving:
                name = serving.name
                trust = [bundle] if row == "tls" else []
                command = module("bench.sending", serving.port, requests, rounds, *trust)
                rates[row] = json.loads(output(command, place / "sending.log"))
    shares = {row: ratios(found["ours"], found["bare"]) for row, found in rates.items()}
    by_cpu = {row: ratios(found["bare_cpu"], found["ours_cpu"]) for row, found in rates.items()}
    return Result(
        settings={
            "requests": requests,
            "rounds": rounds,
            "connections": CONNECTIONS,
            "receiver": name,
        },
        columns=("", "bare loop, per second", "sender, per second", "share", "share by CPU time"),
        rows=tuple(
            (
                row,
                Spread.of(rates[row]["bare"]).text(),
                Spread.of(rates[row]["ours"]).text(),
                Spread.of(shares[row]).text(2),
                Spread.of(by_cpu[row]).text(2),
            )
            for row in ROWS
        ),
        figures={"measured": rates, "share": shares, "share_by_cpu": by_cpu},
        remarks=(
            "median (lowest to highest); a share is of the bare round just before",
            "by CPU time: what the bare loop's process used a request, to what the sender's did;",
            "other work on the machine moves it less",
        ),
        charts=(
            Chart.of("Requests a second, as a share of the bare loop", shares, decimals=2),
            Chart.of("The same by CPU time", by_cpu, decimals=2),
        ),
    )
