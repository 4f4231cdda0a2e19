"""From the host's commit to the first byte at the receiver, through the real daemon.

Host, daemon and receiver are processes of their own; both moments are of CLOCK_MONOTONIC, which
they share.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Final

from bench import fixture
from bench.figures import percentile
from bench.processes import (
    free_port,
    host_commits,
    module,
    running,
    wait_for_line,
    wait_for_port,
)
from bench.report import BenchFailed, Result, Scale
from webhookd.daemon.inotify import Watch

PER_SECOND: Final = 20


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when an event did not arrive exactly once."""
    events = 50 if scale is Scale.FULL else 20
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        delays = _delays(Path(name), events)
        has_inotify = _has_inotify(Path(name))
    ordered = sorted(delays)
    figures = {
        "p50": statistics.median(ordered),
        "p99": percentile(ordered, 0.99),
        "highest": ordered[-1],
        "first": delays[0],
    }
    return Result(
        settings={
            "events": events,
            "per_second": PER_SECOND,
            "inotify": "yes" if has_inotify else "no",
        },
        columns=("commit to first byte", "ms"),
        rows=tuple((key, f"{value:.2f}") for key, value in figures.items()),
        figures={"ms": figures, "all_ms": delays},
        remarks=("the first event opens the connection; the others find it open",),
    )


def _delays(folder: Path, events: int) -> list[float]:
    """Milliseconds of each event, in the order of their commits."""
    port = free_port()
    workload = fixture.prepare(folder, port=port, endpoints=1, events=0)
    log = folder / "daemon.log"
    with running(module("bench.receiver", port, "--stamps"), folder / "receiver.log") as receiver:
        wait_for_port(receiver, port, folder / "receiver.log")
        with running(workload.command(), log) as daemon:
            wait_for_line(daemon, log, '"daemon.ready"')
            committed = host_commits(workload.database, events, PER_SECOND)
        # The daemon has ended: whatever was under way has arrived.
        receiver.terminate()
        told, _ = receiver.communicate()
    arrived = _stamps(told.decode())
    if len(told.splitlines()) != events or arrived.keys() != {one.event for one in committed}:
        raise BenchFailed(f"{events} events, but {len(told.splitlines())} requests arrived")
    return [(arrived[one.event] - one.at) / 1e6 for one in committed]


def _stamps(text: str) -> dict[str, int]:
    """Moments by event, from the receiver's lines."""
    return {event: int(moment) for moment, event in map(str.split, text.splitlines())}


def _has_inotify(folder: Path) -> bool:
    watch = Watch.open(folder / "host.db")
    if watch is None:
        return False
    watch.close()
    return True
