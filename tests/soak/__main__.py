"""`python -m tests.soak --minutes 30`: the real daemon, for a long time, among faults.

A host that never rests, receivers that are well, slow, flaky, hanging, refusing and gone, a
program that keeps the host's lock, reloads, and kill -9. Meanwhile it is measured; at the end
nothing may be lost, out of order or larger than it should be. Exits with 1 if anything is.
"""

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.soak.processes import Daemon, Refused, command, program, unused_port

SAMPLE_EVERY = 2.0
ROWS_A_SECOND = 20
AGGREGATES = 200
LOCKED_FOR = 4.0
"""Seconds for which the lock is kept, once in a life of the daemon."""

SETTLED_AFTER = 10.0
"""Seconds after a start from which on memory counts: all is imported and cached by then."""

MOST_MEMORY = 120.0
MOST_GROWTH = 20.0
"""MiB: in all, and from the first half of a life to its last tenth."""
MOST_DESCRIPTORS = 150
MOST_THREADS = 12
MOST_WAL = 32.0
"""MiB."""
MOST_LAG = 60 * ROWS_A_SECOND
"""Rows that wait to be taken in: a minute's; without daemon or lock it is some seconds."""
LAST_WAIT = 120.0
"""Seconds in which those that can be delivered to have all, once the host is done."""

RULES = {
    "/good": {},
    "/flaky": {"status": 503, "fail_rate": 0.3},
    "/slow": {"delay": 0.5},
    "/hang": {"delay": 3600},
    "/refuse": {"status": 400},
}
WELL = ("good", "flaky")
"""Subscriptions that must have everything in the end."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment."""

    life: int
    at: float
    """Seconds since the start of this life."""
    memory: float
    descriptors: int
    threads: int
    wal: float
    lag: int


def main(minutes: float) -> int:
    """Run for so long, print the table, and say what is wrong with it."""
    seconds = minutes * 60
    life = max(45.0, seconds / 6)
    with tempfile.TemporaryDirectory(prefix="webhookd-soak-") as folder, ExitStack() as stack:
        site = Path(folder)
        database = prepare(site, stack)
        host = stack.enter_context(
            program("host", database, round(seconds * ROWS_A_SECOND), AGGREGATES, seconds, 1)
        )
        samples: list[Sample] = []
        number = 0
        while host.poll() is None:
            number += 1
            with Daemon.running(site) as daemon:
                samples += live(daemon, database, number, life, lambda: host.poll() is not None)
                daemon.kill()  # -9: what is owed must survive it
        with Daemon.running(site) as daemon:
            faults = drained(database)
            if daemon.stop() != 0:
                faults.append(f"the last daemon ended with {daemon.code}")
        faults += judged(samples) + lost(database, site / "received.jsonl")
    table(samples)
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    print("soak: " + (f"{len(faults)} faults" if faults else "all held"))
    return 1 if faults else 0


def prepare(site: Path, stack: ExitStack) -> Path:
    """The database with its subscriptions, and the receivers that they lead to."""
    database, log, script = site / "erp.db", site / "received.jsonl", site / "script.json"
    log.touch()
    script.write_text(json.dumps(RULES), encoding="utf-8")
    receiver = stack.enter_context(program("receiver", log, script))
    assert receiver.stdout is not None
    port = int(receiver.stdout.readline())
    (site / "config.toml").write_text(
        f'database = "{database}"\n[egress]\nallow = ["127.0.0.1"]\n', encoding="utf-8"
    )
    command(site, "init")
    delays = ",".join(["200ms", "500ms", *["1s"] * 40])
    for name in (*(path[1:] for path in RULES), "gone"):
        url = f"http://127.0.0.1:{unused_port() if name == 'gone' else port}/{name}"
        command(
            site, "subscriptions", "add", url, "--name", name,
            "--retry-delays", delays, "--timeout", "2s",
        )  # fmt: skip
    return database


def live(
    daemon: Daemon, database: Path, number: int, seconds: float, is_over: Callable[[], bool]
) -> Iterator[Sample]:
    """One life: measured all the time, locked out in the middle of it, reloaded now and then."""
    begun = time.monotonic()
    with ExitStack() as stack:
        locked = False
        while (at := time.monotonic() - begun) < seconds and not is_over():
            if at > seconds / 2 and not locked:
                locked = True
                stack.enter_context(program("locker", database, LOCKED_FOR))
                daemon.reload()
            yield Sample(number, at, *daemon.figures(), *of_file(database))
            time.sleep(SAMPLE_EVERY)


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def of_file(database: Path) -> tuple[float, int]:
    """MiB of the WAL, and rows that are no events yet."""
    wal = database.with_name(database.name + "-wal")
    size = wal.stat().st_size / 2**20 if wal.exists() else 0.0
    with opened(database) as connection:
        (lag,) = connection.execute(
            "SELECT (SELECT coalesce(max(id), 0) FROM outbox)"
            " - (SELECT coalesce(max(outbox_id), 0) FROM webhook_events)"
        ).fetchone()
    return size, max(0, lag)


def drained(database: Path) -> list[str]:
    """Wait until those that are well have everything; what is wrong if they do not get it."""
    until = time.monotonic() + LAST_WAIT
    marks = ", ".join("?" * len(WELL))
    sql = (
        "SELECT count(*) FROM webhook_results WHERE state <> 'delivered'"
        f" AND subscription_name IN ({marks})"
    )
    while True:
        with opened(database) as connection:
            (owed,) = connection.execute(sql, WELL).fetchone()
        if not owed and not of_file(database)[1]:
            return []
        if time.monotonic() > until:
            return [f"{owed} deliveries are still owed to {' and '.join(WELL)}"]
        time.sleep(0.5)


def lost(database: Path, received: Path) -> list[str]:
    """What was committed and is no event, or came late to the one that is always well."""
    with opened(database) as connection:
        committed = {n for (n,) in connection.execute("SELECT n FROM business")}
        (events,) = connection.execute(
            "SELECT count(*) FROM webhook_events"
            " WHERE event_type IN ('order.changed', 'supplier.changed')"
        ).fetchone()
    seen: set[int] = set()
    newest: dict[str, int] = {}
    disordered = 0
    with received.open(encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            if request["path"] != "/good":
                continue
            event = json.loads(request["body"])
            if event["type"] == "lock.released":
                continue
            data = event["data"]
            if data["n"] not in seen:
                disordered += data["n"] < newest.get(data["aggregate"], 0)
                newest[data["aggregate"]] = data["n"]
            seen.add(data["n"])
    found = []
    if events != len(committed):
        found.append(f"{len(committed)} rows were committed, and there are {events} events")
    if seen != committed:
        found.append(
            f"/good lacks {len(committed - seen)}, and has {len(seen - committed)} of none"
        )
    if disordered:
        found.append(f"/good got {disordered} events after a later one of their aggregate")
    print(f"soak: {len(committed)} rows, {events} events, {len(seen)} seen by /good")
    return found


def judged(samples: Sequence[Sample]) -> list[str]:
    """Figures that are beyond their bounds."""
    bounds = {
        "memory": MOST_MEMORY,
        "descriptors": MOST_DESCRIPTORS,
        "threads": MOST_THREADS,
        "wal": MOST_WAL,
        "lag": MOST_LAG,
    }
    found = []
    for name, bound in bounds.items():
        most = max(getattr(sample, name) for sample in samples)
        if most > bound:
            found.append(f"{name}: {most:.1f}, and {bound} is the most")
    for life in sorted({sample.life for sample in samples}):
        of_life = [one for one in samples if one.life == life and one.at >= SETTLED_AFTER]
        if len(of_life) >= 10:
            first = median(one.memory for one in of_life[: len(of_life) // 2])
            last = median(one.memory for one in of_life[-max(1, len(of_life) // 10) :])
            if last - first > MOST_GROWTH:
                found.append(f"memory of life {life} grew from {first:.1f} to {last:.1f} MiB")
    return found


def table(samples: Sequence[Sample]) -> None:
    """One line a life: the most of each figure."""
    print("life  seconds  samples  memory MiB  descriptors  threads  WAL MiB  lag rows")
    for life in sorted({sample.life for sample in samples}):
        of_life = [one for one in samples if one.life == life]
        most = [
            max(getattr(one, name) for one in of_life)
            for name in ("at", "memory", "descriptors", "threads", "wal", "lag")
        ]
        print(
            f"{life:4}  {most[0]:7.0f}  {len(of_life):7}  {most[1]:10.1f}  {most[2]:11}  "
            f"{most[3]:7}  {most[4]:7.1f}  {most[5]:8}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30)
    try:
        sys.exit(main(parser.parse_args().minutes))
    except Refused as refused:
        sys.exit(f"soak: {refused}")
