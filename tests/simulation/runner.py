"""Runs many seeds, over several processes, and says how to run one of them again."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.simulation.defects import DEFECTS, switched_on
from tests.simulation.world import simulate


@dataclass(frozen=True)
class Verdict:
    """What became of one seed, in what crosses from process to process."""

    seed: int
    violations: tuple[str, ...]
    digest: str
    requests: int
    lives: int
    trace: tuple[str, ...] = ()


RAISED = "raised "
"""How the violation begins that is a bug of the simulation, or one that broke it."""


def replay(seed: int) -> str:
    """The one command that runs a seed again."""
    return f"python -m tests.simulation --seeds {seed} --trace"


def judge(seed: int, defect: str = "", *, trace: bool = False) -> Verdict:
    """Run one seed; whatever it raises is a violation too."""
    try:
        with switched_on(defect):
            outcome = simulate(seed)
    except Exception as error:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if trace:
            raise
        return Verdict(seed, (f"{RAISED}{error!r}",), "", 0, 0)
    return Verdict(
        seed,
        outcome.violations,
        outcome.digest,
        outcome.requests,
        outcome.lives,
        outcome.trace if trace else (),
    )


def judge_all(seeds: Iterable[int], jobs: int) -> Iterator[Verdict]:
    """Run all seeds, in order of their ending."""
    if jobs == 1:
        yield from map(judge, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(judge, seeds, chunksize=5)


def seeds_until_caught(defect: str, limit: int) -> int | None:
    """How many seeds, from 1 on, it takes to catch a defect; None if `limit` are not enough."""
    for seed in range(1, limit + 1):
        found = judge(seed, defect).violations
        if found and not found[0].startswith(RAISED):
            return seed
    return None


def catch_all(limit: int, jobs: int) -> Iterator[tuple[str, int | None]]:
    """Every defect, and how many seeds it takes."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = partial(seeds_until_caught, limit=limit)
        yield from zip(DEFECTS, pool.imap(work, DEFECTS, chunksize=1), strict=True)


def default_jobs() -> int:
    """One process a core."""
    return len(os.sched_getaffinity(0))
