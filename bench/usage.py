"""What a process uses, as Linux tells of it."""

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import ENVIRONMENT
from bench.report import ROOT, BenchFailed

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
UTIME: Final = 11
"""Of `/proc/PID/stat`, counted from behind the name; system time stands next to it."""


def cpu_seconds(pid: int) -> float:
    """CPU time so far, of all its threads and in the system too; counted by ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[UTIME]) + int(fields[UTIME + 1])) * TICK


def rss_bytes(pid: int) -> int:
    """Memory that it has in RAM, with its share of what others have too."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchFailed(f"process {pid} has no memory: it has ended")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a command from its start to its end, in seconds."""

    wall: float
    cpu: float


def cost(command: Sequence[str], *, expects: str, codes: Sequence[int] = (0,)) -> Cost:
    """Run it. Raises BenchFailed unless `expects` stands in what it says, and its code is right."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if expects not in done.stdout or done.returncode not in codes:
        raise BenchFailed(
            f"{command[2]}: exit code {done.returncode}: {done.stdout or done.stderr}"
        )
    return Cost(wall, after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime)
