"""Events on their way: from the host's COMMIT, where it begins, to the first byte at the receiver.

Host, receiver and what is between them are processes of their own; both moments are of
CLOCK_MONOTONIC, which they share.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.fixture import Workload
from bench.processes import addresses, host_commits, module, running, wait_for_line, wait_for_port
from bench.report import BenchFailed

ARRIVES_WITHIN: Final = 30.0
"""Seconds after the last commit within which everything is there."""
LOOK_EVERY: Final = 0.02


@dataclass(frozen=True, slots=True)
class Carrier:
    """What is between the host and the receiver, as a process."""

    command: Sequence[str]
    ready: str
    """What it says on stderr once it is."""

    @classmethod
    def daemon(cls, workload: Workload) -> "Carrier":
        """The real one."""
        return cls(workload.command(), '"daemon.ready"')

    @classmethod
    def forwarder(cls, workload: Workload, port: int) -> "Carrier":
        """The least that would do."""
        return cls(module("bench.forwarder", workload.database, port), "ready")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the host commits."""

    events: int
    per_second: float
    endpoints: int = 1
    """By turns."""
    elsewhere: int = 0
    """So many of the last ones may be at another receiver, and are not looked at."""


def delays(
    workload: Workload,
    port: int,
    carrier: Carrier,
    traffic: Traffic,
    *,
    first: Callable[[], None] = lambda: None,
) -> list[float]:
    """Milliseconds of each event, in the order of their commits.

    `port`: where the receiver is to be. `first`: what is waited for, once the carrier is ready,
    before the host begins.

    Raises:
        BenchFailed: not every event arrived, or one did twice, or before it was there.
    """
    folder = workload.database.parent
    log, stamps = folder / "carrier.log", folder / "stamps"
    serving = module(
        *("bench.receiver", port, f"--stamps={stamps}"),
        f"--addresses={','.join(addresses(traffic.endpoints))}",
    )
    here = traffic.endpoints - traffic.elsewhere
    with running(serving, folder / "receiver.log") as receiver:
        wait_for_port(receiver, port, folder / "receiver.log")
        with running(carrier.command, log) as process:
            wait_for_line(process, log, carrier.ready)
            first()
            committed = host_commits(
                workload.database, traffic.events, traffic.per_second, traffic.endpoints
            )
            looked_at = [one for at, one in enumerate(committed) if at % traffic.endpoints < here]
            expected = {one.event for one in looked_at}
            _wait_for(stamps, expected)
    # What carries has ended, so nothing comes any more.
    moments = _moments(stamps, expected)
    arrived = dict(moments)
    if len(moments) != len(expected) or arrived.keys() != expected:
        raise BenchFailed(f"{len(expected)} events, but {len(moments)} requests arrived")
    found = [(arrived[one.event] - one.at) / 1e6 for one in looked_at]
    if min(found) < 0:
        raise BenchFailed(f"an event arrived {-min(found):.3f} ms before its COMMIT")
    return found


def _moments(stamps: Path, expected: set[str]) -> list[tuple[str, int]]:
    """Of those events: each request's, and when it arrived."""
    whole, _, _ = stamps.read_text(encoding="utf-8").rpartition("\n")
    told = (line.split() for line in whole.splitlines())
    return [(event, int(moment)) for moment, event in told if event in expected]


def _wait_for(stamps: Path, expected: set[str]) -> None:
    until = time.monotonic() + ARRIVES_WITHIN
    while len(_moments(stamps, expected)) < len(expected) and time.monotonic() < until:
        time.sleep(LOOK_EVERY)
