"""Whether ten thousand subscriptions cost an event more than the few that it is for.

Two files: in the crowd an event finds its 1, 10 or 1,000 subscriptions among 10,000; in the other
there are no more than these. Both are at work by turns. Ingest is measured in this process, the
whole delivery with the real daemon. Both have the same subscriptions each time, so that the crowd's
file has neither more rows to change nor more connections to open; in one line of ingest, though,
each event is for others, and what that costs is seen apart.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, ratios
from bench.processes import Receiver, receiver, running, wait_for_line
from bench.progress import Progress, until
from bench.report import BenchFailed, Result, Scale
from bench.usage import cpu_seconds
from webhookd.store.driver import connect

CROWD: Final = 10_000
MATCHES: Final = (1, 10, 1_000)
MOST: Final = 1.1
"""The goal: what a delivery should cost in the crowd at most, as a multiple of that without."""
SPREAD: Final = "ingest, for others each time"
"""It changes the rows of more subscriptions, whatever matching costs, so it has no goal."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    rounds: int
    taken_in: int
    """Deliveries of a round of ingest."""
    delivered: int
    """Of a round of the daemon's."""


SIZES: Final = {
    Scale.FULL: Size(rounds=4, taken_in=4_000, delivered=4_000),
    Scale.QUICK: Size(rounds=2, taken_in=2_000, delivered=2_000),
}


@dataclass(slots=True)
class Found:
    """CPU of a delivery in µs, round by round, by how many subscriptions its event matches."""

    crowd: dict[int, list[float]] = field(default_factory=dict)
    alone: dict[int, list[float]] = field(default_factory=dict)
    crowd_held: dict[int, list[float]] = field(default_factory=dict)
    """Milliseconds with the write lock, batch by batch; only of ingest."""
    alone_held: dict[int, list[float]] = field(default_factory=dict)
    crowd_first: list[float] = field(default_factory=list)
    """CPU of the first event after a start in ms, which reads all subscriptions; of the daemon."""
    alone_first: list[float] = field(default_factory=list)

    def multiples(self) -> dict[int, list[float]]:
        """In the crowd as a multiple of without."""
        return {matches: ratios(self.crowd[matches], self.alone[matches]) for matches in MATCHES}

    def held(self, matches: int) -> tuple[str, str]:
        """The cells of a table's line: the medians, where there are any."""
        both = (self.crowd_held.get(matches), self.alone_held.get(matches))
        first, second = (f"{Spread.of(one).median:.1f}" if one else "" for one in both)
        return first, second


Files = Callable[[str], tuple[fixture.Workload, dict[int, fixture.Workload]]]
"""Makes in a folder of that name the crowd's file, and one for each number of matches."""


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when a delivery is not as it should be."""
    size = SIZES[scale]
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        folder = Path(name)
        with receiver(folder) as serving:

            def files(part: str) -> tuple[fixture.Workload, dict[int, fixture.Workload]]:
                return _crowd(folder / part, serving), _alone(folder / part, serving)

            found = {
                "ingest": _ingest(files, size, spread=False),
                SPREAD: _ingest(files, size, spread=True),
                "whole delivery": _deliver(files, size, serving),
            }
    lines = [(part, matches) for part in found for matches in MATCHES]
    multiples = {part: one.multiples() for part, one in found.items()}
    whole = found["whole delivery"]
    firsts = (
        f"{Spread.of(whole.crowd_first).text()} ms of CPU of {CROWD:,},"
        f" {Spread.of(whole.alone_first).text()} of no more"
    )
    return Result(
        settings={
            "subscriptions": CROWD,
            "rounds": size.rounds,
            "deliveries_taken_in": size.taken_in,
            "deliveries_made": size.delivered,
            "receiver": serving.name,
        },
        columns=(
            "CPU a delivery, µs",
            "an event matches",
            f"of {CROWD:,}",
            "of no more",
            "ratio",
            "goal",
            f"lock ms, of {CROWD:,}",
            "of no more",
        ),
        rows=tuple(
            (
                part,
                f"{matches:,}",
                Spread.of(found[part].crowd[matches]).text(),
                Spread.of(found[part].alone[matches]).text(),
                Spread.of(multiples[part][matches]).text(2),
                "" if part == SPREAD else f"at most {MOST:g}",
                *found[part].held(matches),
            )
            for part, matches in lines
        ),
        figures={
            part: {
                "crowd_us": one.crowd,
                "alone_us": one.alone,
                "multiples": multiples[part],
                "crowd_lock_held_ms": one.crowd_held,
                "alone_lock_held_ms": one.alone_held,
                "crowd_first_event_ms": one.crowd_first,
                "alone_first_event_ms": one.alone_first,
            }
            for part, one in found.items()
        },
        remarks=(
            "median (lowest to highest) of the rounds; a ratio is of two runs of the same round",
            "the same event type again and again; for others each time: each event has another one",
            "lock: how long a batch of ingest holds it, from BEGIN to COMMIT's end, the median",
            "the CPU of an event is shared among its deliveries, so ingest is dearest for one",
            f"the first event after a start, which reads all subscriptions, is not in it: {firsts}",
            "a whole delivery to 1,000 subscriptions makes few over each connection, and is dearer",
        ),
        charts=tuple(
            Chart.of(
                f"{part}: CPU a delivery among {CROWD:,} subscriptions, as a multiple of without",
                {f"matches {matches:,}": values for matches, values in multiples[part].items()},
                goal=None if part == SPREAD else Goal(f"at most {MOST:g}", MOST),
                decimals=2,
            )
            for part in found
        ),
    )


def _crowd(folder: Path, serving: Receiver) -> fixture.Workload:
    """Subscription n is for the events of the nth single, of a ten and of a thousand."""
    place = folder / "crowd"
    place.mkdir(parents=True)
    return fixture.prepare_for(
        place,
        [
            fixture.Endpoint(
                serving.port,
                patterns=tuple(_kind(matches, number // matches) for matches in MATCHES),
            )
            for number in range(CROWD)
        ],
    )


def _alone(folder: Path, serving: Receiver) -> dict[int, fixture.Workload]:
    """Every event is for all of them."""
    found = {}
    for matches in MATCHES:
        place = folder / str(matches)
        place.mkdir()
        endpoint = fixture.Endpoint(serving.port, patterns=(f"of.{matches}.*",))
        found[matches] = fixture.prepare_for(place, [endpoint] * matches)
    return found


def _kind(matches: int, group: int) -> str:
    return f"of.{matches}.{group}"


def _ingest(files: Files, size: Size, *, spread: bool) -> Found:
    """What it costs to take events in; `spread`: each is for other subscriptions of the crowd."""
    crowd, alone = files(f"ingest-{spread}")
    found = Found()
    for _ in range(size.rounds):
        for matches in MATCHES:
            groups = CROWD // matches if spread else 1
            # One more, as the first is not counted.
            kinds = [_kind(matches, at % groups) for at in range(size.taken_in // matches + 1)]
            for workload, into, with_lock in (
                (crowd, found.crowd, found.crowd_held),
                (alone[matches], found.alone, found.alone_held),
            ):
                cost, held = _take_in(workload, kinds, matches)
                into.setdefault(matches, []).append(cost)
                with_lock.setdefault(matches, []).extend(held)
    return found


def _take_in(
    workload: fixture.Workload, kinds: list[str], matches: int
) -> tuple[float, list[float]]:
    """CPU of a delivery in µs, and the milliseconds that each batch held the lock."""
    before = Progress.of(workload).taken_in
    with closing(fixture.open_store(workload)) as store:
        _commit(workload, kinds[:1])
        fixture.take_in(store)  # that reads the subscriptions
        _commit(workload, kinds[1:])
        used = time.process_time()
        held = fixture.take_in(store)
        used = time.process_time() - used
    taken = Progress.of(workload).taken_in - before
    if taken != len(kinds) * matches:
        raise BenchFailed(f"{len(kinds)} events for {matches} each made {taken} deliveries")
    return used / (taken - matches) * 1e6, held


def _deliver(files: Files, size: Size, serving: Receiver) -> Found:
    """What it costs to take them in, deliver them and record that."""
    crowd, alone = files("delivery")
    found = Found()
    for _ in range(size.rounds):
        for matches in MATCHES:
            # One more, as the first is counted by itself.
            kinds = [_kind(matches, 0)] * (size.delivered // matches + 1)
            for workload, into, firsts in (
                (crowd, found.crowd, found.crowd_first),
                (alone[matches], found.alone, found.alone_first),
            ):
                with fixture.arriving(workload, serving):
                    cost, first = _by_daemon(workload, kinds, matches)
                into.setdefault(matches, []).append(cost)
                firsts.append(first)
    for workload in (crowd, *alone.values()):
        fixture.check_so_far(workload)
    return found


def _by_daemon(workload: fixture.Workload, kinds: list[str], matches: int) -> tuple[float, float]:
    """CPU of a delivery in µs; and in ms that of the first event, which is not among them."""
    log = workload.database.with_name("daemon.log")
    before = Progress.of(workload).delivered
    deliveries = len(kinds) * matches

    def deliver(kinds: list[str], up_to: int) -> float:
        used = cpu_seconds(daemon.pid)
        _commit(workload, kinds)
        until(workload, lambda progress: progress.delivered >= before + up_to)
        return cpu_seconds(daemon.pid) - used

    with running(workload.command(), log) as daemon:
        wait_for_line(daemon, log, '"daemon.ready"')
        first = deliver(kinds[:1], matches)
        used = deliver(kinds[1:], deliveries)
    made = Progress.of(workload).delivered - before
    if made != deliveries:
        raise BenchFailed(f"{deliveries} deliveries were owed, but {made} were made")
    return used / (deliveries - matches) * 1e6, first * 1e3


def _commit(workload: fixture.Workload, kinds: list[str]) -> None:
    """Put an event of each kind into the outbox, as a host would, all at once."""
    connection = connect(workload.database, mode="rw", wait=10.0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        fixture.insert_rows(connection, ((at, kind, "") for at, kind in enumerate(kinds)))
        connection.execute("COMMIT")
    finally:
        connection.close()
