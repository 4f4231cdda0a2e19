"""`python -m bench [NAME...] [--quick]`: a table each on stdout, JSON and SVG in results/."""

import argparse
import sys
from collections.abc import Callable
from typing import Final

from bench import (
    backlog,
    drain,
    growth,
    guest,
    idle,
    isolation,
    latency,
    report,
    sender,
    store,
    subscriptions,
)
from bench.report import BenchFailed, Result, Scale

BENCHES: Final[dict[str, Callable[[Scale], Result]]] = {
    "drain": drain.measure,
    "latency": latency.measure,
    "isolation": isolation.measure,
    "backlog": backlog.measure,
    "subscriptions": subscriptions.measure,
    "idle": idle.measure,
    "guest": guest.measure,
    "growth": growth.measure,
    "sender": sender.measure,
    "store": store.measure,
}


def main() -> int:
    """Run what was asked for, or everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="less of everything: a rough look")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in BENCHES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(BENCHES)}")
    scale = Scale.QUICK if chosen.quick else Scale.FULL
    measured = report.code()
    for name in chosen.names or BENCHES:
        try:
            result = BENCHES[name](scale)
        except BenchFailed as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            return 1
        print(report.table(name, result))
        print("written to", *report.save(name, result, scale, measured), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
