"""`python -m tests.simulation --seeds 1-2000`: lives through seeds and judges them."""

import argparse
import sys
import time

from tests.simulation import runner
from tests.simulation.defects import DEFECTS


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=_seeds("1-100"), help="N or FIRST-LAST")
    parser.add_argument("--jobs", type=int, default=runner.default_jobs(), help="processes")
    parser.add_argument("--trace", action="store_true", help="tell the story of each seed")
    parser.add_argument("--digest", action="store_true", help="a hash of each seed's story")
    parser.add_argument("--defect", choices=DEFECTS, default="", help="with this bug switched on")
    parser.add_argument(
        "--defects", type=int, metavar="N", help="catch every seeded defect within N seeds"
    )
    return parser.parse_args()


def main() -> int:
    """Exit code 0: all promises held (or all defects were caught)."""
    wanted = _arguments()
    if wanted.defects:
        return _catch(wanted.defects, wanted.jobs)
    if wanted.trace or wanted.defect or wanted.digest:
        return _tell(wanted)
    began, done, requests, lives, failed = time.monotonic(), 0, 0, 0, 0
    for verdict in runner.judge_all(wanted.seeds, wanted.jobs):
        done += 1
        requests += verdict.requests
        lives += verdict.lives
        if verdict.violations:
            failed += 1
            print(f"seed {verdict.seed}: {verdict.violations[0][:600]}")
            print(f"    {runner.replay(verdict.seed)}", flush=True)
        if done % 500 == 0:
            print(f"{done} seeds, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    print(
        f"{done} seeds, {failed} with violations; {lives} lives of the daemon, "
        f"{requests} requests, {took:.0f} s"
    )
    return 1 if failed else 0


def _tell(wanted: argparse.Namespace) -> int:
    failed = False
    for seed in wanted.seeds:
        verdict = runner.judge(seed, wanted.defect, trace=True)
        if wanted.trace:
            print("\n".join(verdict.trace))
        print(f"seed {seed}: {verdict.digest}: {verdict.violations or 'no violation'}")
        failed |= bool(verdict.violations)
    return 1 if failed else 0


def _catch(limit: int, jobs: int) -> int:
    missed = False
    print(f"{'defect':42} seeds needed")
    for defect, needed in runner.catch_all(limit, jobs):
        print(f"{defect:42} {needed or f'not within {limit}'}", flush=True)
        missed |= needed is None
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
