"""Whether what webhookd does costs more in a file that has grown: a hundred times the rows.

Two files, one with few and one with many finished events, are at work by turns in one process, so
that what else the machine does falls on both alike. The rows that are taken in meanwhile are of
aggregates that are there already: spread over the whole file, or among those that are newest in it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench import filling, fixture
from bench.chart import Chart, Goal
from bench.figures import Spread, ratios
from bench.report import BenchFailed, Result, Scale
from bench.store import Batch
from bench.writing import ingesting, recording
from webhookd.core.model import DeliveryId
from webhookd.daemon import recorder
from webhookd.store.driver import Connection, connect
from webhookd.store.outbox import BATCH_ROWS
from webhookd.store.sqlite import SqliteStore
from webhookd.store.status import facts
from webhookd.store.transaction import Session

SMALL: Final = 10_000
GOAL: Final = 1.2
"""What anything should cost in the large file at most, as a multiple of the small one."""
PAGE: Final = 1_000
"""Rows of a poll."""
STRIDE: Final = 7_919
"""From one aggregate to the next, as the host goes through them: a prime, so it meets them all."""
WARM: Final = 3
"""Rounds beforehand that are not counted."""

POLL: Final = "SELECT * FROM webhook_results WHERE sequence > ? ORDER BY sequence LIMIT ?"
"""As docs/contract.md has it."""


@dataclass(slots=True)
class Cost:
    """Of one kind of work on one file, round by round, in microseconds."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    """Milliseconds with the write lock; of what only reads there are none."""
    pages: list[float] = field(default_factory=list)
    """Pages that it changed; of what only reads there are none."""


class File:
    """One of the two, with everything that is done to it. Every method does a piece of work."""

    def __init__(self, workload: fixture.Workload, events: int, stack: ExitStack) -> None:
        self.events = events
        self._workload = workload
        self._done = 0
        self._rows = 0
        self._store: SqliteStore = stack.enter_context(closing(fixture.open_store(workload)))
        self._host: Connection = stack.enter_context(
            closing(connect(workload.database, mode="rw", wait=1.0))
        )

    def status(self) -> None:
        """What `webhookd status` reads, on a connection of its own."""
        with Session(self._workload.database, write=False) as session, session.read() as found:
            told = facts(found, session.file, session.path, now=_now())
        if told.totals["delivered"] != self.events + self._done:
            raise BenchFailed(f"status tells of {told.totals}")

    def poll_near_the_end(self) -> None:
        """The last page of those that were there at first."""
        self._poll(filling.STEPS * (self.events - PAGE))

    def poll_near_the_beginning(self) -> None:
        """The second page."""
        self._poll(filling.STEPS * PAGE)

    def pages(self) -> int:
        """Those in the `-wal` that wait for a checkpoint."""
        return self._store.wal_pages()

    def checkpoint(self) -> None:
        """Bring them into the file, as the daemon does behind its commits."""
        self._store.checkpoint(truncate=False)
        if self.pages():
            raise BenchFailed(f"{self.pages()} pages stay in the -wal")

    def ingest(self) -> float:
        """A full batch, committed; the milliseconds with the lock."""
        done, commit = ingesting(self._store, _now())
        held = commit()
        if done.deliveries != BATCH_ROWS:
            raise BenchFailed(f"{done.deliveries} deliveries of a batch of {BATCH_ROWS} rows")
        return held

    def fill_outbox(self, newest: int | None) -> None:
        """What `ingest` takes in, of so many newest aggregates (None: of all); not measured."""
        among = newest or self.events
        rows = range(self._rows, self._rows + BATCH_ROWS)
        self._host.execute("BEGIN IMMEDIATE")
        fixture.insert(self._host, [self.events - 1 - row * STRIDE % among for row in rows])
        self._host.execute("COMMIT")
        self._rows += BATCH_ROWS

    def owed(self) -> Iterator[Batch]:
        """All that is owed, as successes, in the daemon's batches."""
        found = self._host.execute(
            "SELECT id FROM webhookd_deliveries WHERE subscription = 1 AND state = 'pending'"
            " ORDER BY id"
        ).fetchall()
        ids = [DeliveryId(row[0]) for row in found]
        for at in range(0, len(ids), recorder.BATCH):
            yield Batch.of(ids[at : at + recorder.BATCH], _now())

    def record(self, batch: Batch) -> float:
        """A batch of outcomes, committed; the milliseconds with the lock."""
        done, commit = recording(self._store, batch.records, batch.now)
        held = commit()
        self._done += len(done.standings)
        return held

    def check(self) -> None:
        """Raises BenchFailed unless all that was taken in was of aggregates that were there."""
        aggregates = self._host.execute("SELECT count(*) FROM webhookd_aggregates").fetchone()[0]
        if aggregates != self.events:
            raise BenchFailed(f"{aggregates} aggregates in a file that began with {self.events}")

    def _poll(self, cursor: int) -> None:
        found = self._host.execute(POLL, (cursor, PAGE)).fetchall()
        if len(found) != PAGE:
            raise BenchFailed(f"{len(found)} rows of a page of {PAGE}")


Costs = dict[str, tuple[Cost, Cost]]
"""By the kind of work: of the small file, and of the large one."""

INGESTS: Final[dict[str, int | None]] = {
    f"ingest of {BATCH_ROWS} rows, of the newest": SMALL,
    f"ingest of {BATCH_ROWS} rows, of all": None,
}
"""Of how many aggregates."""
CHECKPOINT: Final = ", and its checkpoint"
RECORD: Final = f"recording of {recorder.BATCH} outcomes"
READS: Final[dict[str, Callable[[File], None]]] = {
    "status": File.status,
    f"poll of {PAGE}, near the end": File.poll_near_the_end,
    f"poll of {PAGE}, near the beginning": File.poll_near_the_beginning,
}


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when a file does not say what it should."""
    events, rounds = (1_000_000, 60) if scale is Scale.FULL else (100_000, 30)
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name, ExitStack() as stack:
        files, sizes, seconds = [], [], 0.0
        for count in (SMALL, events):
            place = Path(name) / str(count)
            place.mkdir()
            begun = time.perf_counter()
            workload = filling.finished(place, count)
            seconds = time.perf_counter() - begun
            sizes.append(workload.database.stat().st_size)
            files.append(File(workload, count, stack))
        _rounds(files, WARM)
        costs = _rounds(files, rounds)
        for file in files:
            file.check()
    return Result(
        settings={
            "events": f"{events:,} against {SMALL:,}",
            "rounds": rounds,
            "file_mib": f"{sizes[1] / (1 << 20):.0f} against {sizes[0] / (1 << 20):.0f}",
            "filled_in_s": f"{seconds:.1f}",
        },
        columns=(
            *("", "CPU µs, small", "large", "wall µs, small", "large", "CPU ratio", "wall"),
            *("lock ms, small", "large", "pages, small", "large"),
        ),
        rows=tuple(_row(label, *both) for label, both in costs.items()),
        figures={
            label: {
                "cpu_us": {"small": small.cpu, "large": large.cpu},
                "wall_us": {"small": small.wall, "large": large.wall},
                "lock_held_ms": {"small": small.held, "large": large.held},
                "pages": {"small": small.pages, "large": large.pages},
                "cpu_ratio_of_means": sum(large.cpu) / sum(small.cpu),
                "wall_ratio_of_means": sum(large.wall) / sum(small.wall),
            }
            for label, (small, large) in costs.items()
        },
        remarks=(
            "medians of the rounds; a ratio is of the two medians",
            "in brackets the ratio of the means",
            "its checkpoint: one behind each batch; the daemon has one behind two or three of them",
            f"goal: none over {GOAL:g}",
            "lock: how long a batch holds the write lock, from its BEGIN to its COMMIT's end",
            f"of the newest: rows of the {SMALL:,} newest aggregates; of all: of any in the file",
            "status: opening the file and all that it reads; the start of a process is not in it",
        ),
        charts=(
            Chart(
                f"CPU with {events:,} events, as a multiple of {SMALL:,}; the middle half",
                {
                    label: _middle(ratios(large.cpu, small.cpu))
                    for label, (small, large) in costs.items()
                },
                Goal(f"at most {GOAL:g}", GOAL),
                2,
            ),
        ),
    )


def _middle(values: list[float]) -> Spread:
    """Without the lowest and the highest quarter: single rounds of a few ms lie far apart."""
    low, middle, high = statistics.quantiles(values, n=4)
    return Spread(middle, low, high)


def _row(label: str, small: Cost, large: Cost) -> tuple[str, ...]:
    texts, ratios = [], []
    for one, other in ((small.cpu, large.cpu), (small.wall, large.wall)):
        low, high = Spread.of(one).median, Spread.of(other).median
        texts += [f"{low:,.0f}", f"{high:,.0f}"]
        ratios.append(f"{high / low:.2f} ({sum(other) / sum(one):.2f})")
    held = (f"{Spread.of(one.held).median:.1f}" if one.held else "" for one in (small, large))
    pages = (f"{Spread.of(one.pages).median:.0f}" if one.pages else "" for one in (small, large))
    return (label, *texts, *ratios, *held, *pages)


def _rounds(files: list[File], rounds: int) -> Costs:
    """Everything on both files, by turns."""
    writes = (part for label in (*INGESTS, RECORD) for part in (label, label + CHECKPOINT))
    costs: Costs = {label: (Cost(), Cost()) for label in (*READS, *writes)}
    for turn in range(rounds):
        # Who comes first takes turns too.
        order = [(at, files[at]) for at in ((0, 1) if turn % 2 else (1, 0))]
        for label, read in READS.items():
            for at, file in order:
                with _Timed(costs[label][at]):
                    read(file)
        for label, newest in INGESTS.items():
            for at, file in order:
                file.fill_outbox(newest)
                _write(file, file.ingest, costs[label][at], costs[label + CHECKPOINT][at])
        for at, file in order:
            for batch in file.owed():
                if len(batch.records) < recorder.BATCH:
                    file.record(batch)
                    continue
                act = partial(file.record, batch)
                _write(file, act, costs[RECORD][at], costs[RECORD + CHECKPOINT][at])
    return costs


def _write(file: File, act: Callable[[], float], cost: Cost, whole: Cost) -> None:
    """Do it, with a log that is empty before, and the checkpoint behind it."""
    file.checkpoint()
    with _Timed(whole):
        with _Timed(cost):
            held = act()
        pages = file.pages()
        file.checkpoint()
    cost.held.append(held)
    cost.pages.append(pages)


class _Timed:
    """A `with` block whose cost is noted."""

    def __init__(self, into: Cost) -> None:
        self._into = into

    def __enter__(self) -> None:
        self._cpu, self._wall = time.process_time_ns(), time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self._into.cpu.append((time.process_time_ns() - self._cpu) / 1000)
        self._into.wall.append((time.perf_counter_ns() - self._wall) / 1000)


def _now() -> int:
    return time.time_ns() // 1_000_000
