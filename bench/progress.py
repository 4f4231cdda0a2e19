"""How far a daemon has come, by its file."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from bench.fixture import Workload
from bench.report import BenchFailed
from webhookd.store.driver import connect

LOOK_EVERY: Final = 0.005
GETS_THERE_WITHIN: Final = 120.0
"""Seconds within which a daemon has come as far as is waited for."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the daemon had come at a moment."""

    at: float
    delivered: int
    pending: int
    taken_in: int

    @classmethod
    def of(cls, workload: Workload) -> Self:
        """At this moment."""
        connection = connect(workload.database, mode="ro")
        try:
            delivered, pending = connection.execute(
                "SELECT sum(delivered), sum(pending) FROM webhookd_counters"
            ).fetchone()
            return cls(time.monotonic(), delivered, pending, delivered + pending)
        finally:
            connection.close()


def until(workload: Workload, far_enough: Callable[[Progress], bool]) -> Progress:
    """How far the daemon is once it is far enough. Raises BenchFailed when it never is."""
    over = time.monotonic() + GETS_THERE_WITHIN
    while time.monotonic() < over:
        progress = Progress.of(workload)
        if far_enough(progress):
            return progress
        time.sleep(LOOK_EVERY)
    raise BenchFailed(f"after {GETS_THERE_WITHIN:g} s no more than {progress.delivered} delivered")
