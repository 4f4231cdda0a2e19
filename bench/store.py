"""What recording a batch of outcomes costs, by the way in which it reaches SQLite.

Ours is measured as it is: the rows are read and what becomes of them is worked out before the lock
is taken, `SqliteStore.record` writes it on the main thread, and `COMMIT` is in a worker thread.
Beside it stand bare writes of the same rows, worked out beforehand and without any of that: on the
main thread, row by row in a worker thread, and as one statement a table in a worker thread. So they
show what the way costs, and what a way could save at most.

Each is measured while the event loop has nothing else to do, and while it is busy with Python work
like that of HTTP. How long the loop stands still, and how much of its time is lost, is told by a
task that runs beside them.
"""

import base64
import hmac
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import trio
import trio.to_thread

from bench import fixture
from bench.chart import Chart
from bench.figures import ratios
from bench.report import BenchFailed, Result, Scale
from bench.writing import recording
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, DeliveryState
from webhookd.core.storage import AttemptNote, Record
from webhookd.core.times import to_text
from webhookd.daemon.recorder import BATCH
from webhookd.daemon.run import SWITCH_INTERVAL
from webhookd.store.book import INSERT_ATTEMPT, UPDATE
from webhookd.store.driver import Connection, connect
from webhookd.store.sqlite import SqliteStore

PYTHONS_OWN_INTERVAL: Final = 0.005
FIRST_SEQUENCE: Final = 1 << 40
"""Of the bare writes: far above all that ours gives out, so that the two never meet."""

UPDATE_ALL: Final = """
UPDATE webhookd_deliveries SET sequence = j.sequence, state = 'delivered', reason = '',
    attempts = 1, tries = 1, last_status = j.status, last_error = '',
    first_attempt_at = j.started_at, finished_at = j.started_at, due_at = NULL,
    next_attempt_at = NULL, retry_at = NULL, body_hash = CAST(j.body_hash AS BLOB),
    ended_sequence = j.sequence
FROM (
    SELECT json_extract(value, '$[0]') AS sequence, json_extract(value, '$[1]') AS id,
        json_extract(value, '$[2]') AS started_at, json_extract(value, '$[3]') AS duration_ms,
        json_extract(value, '$[4]') AS status, json_extract(value, '$[5]') AS body_hash
    FROM json_each(?)
) AS j
WHERE webhookd_deliveries.id = j.id
"""
INSERT_ALL: Final = """
INSERT INTO webhookd_attempts
    (delivery, number, started_at, duration_ms, status, error_class, error, note, excerpt)
SELECT json_extract(value, '$[1]'), 1, json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), '', '', '', x''
FROM json_each(?)
"""
COUNT: Final = (
    "UPDATE webhookd_counters SET pending = pending - ?1, delivered = delivered + ?1,"
    " last_status = 200, last_attempt_at = ?2, last_success_at = ?2"
)


@dataclass(frozen=True, slots=True)
class Batch:
    """The outcomes that one transaction writes, in the form that each way takes."""

    records: list[Record]
    updates: list[tuple[object, ...]]
    attempts: list[tuple[object, ...]]
    packed: list[tuple[object, ...]]
    now: int

    @classmethod
    def of(cls, deliveries: list[DeliveryId], now: int) -> "Batch":
        """All of `deliveries` have succeeded at their first attempt."""
        text, body_hash = to_text(now), sha256(b"body").digest()
        note = AttemptNote(1, now, 3, 200, "", "", "", b"", body_hash)
        move = Move(Happening.SUCCEEDED, now, attempted_at=now, status=200)
        sequences = [FIRST_SEQUENCE + delivery for delivery in deliveries]
        state = DeliveryState.DELIVERED
        return cls(
            records=[Record(delivery, move, note) for delivery in deliveries],
            updates=[
                (
                    *(sequence, state, "", 1, 1, 200, "", text, text, None, None, None, body_hash),
                    *(None, sequence, key),
                )
                for sequence, key in zip(sequences, deliveries, strict=True)
            ],
            attempts=[(key, 1, text, 3, 200, "", "", "", b"") for key in deliveries],
            packed=[
                (sequence, key, text, 3, 200, body_hash.hex())
                for sequence, key in zip(sequences, deliveries, strict=True)
            ],
            now=now,
        )


class Ways:
    """The ways, on one file: ours on the store's own connection, the others on one of theirs.

    Each gives the milliseconds for which it held the write lock.
    """

    def __init__(self, store: SqliteStore, connection: Connection) -> None:
        self._store = store
        self._connection = connection
        self._since = 0

    async def ours(self, batch: Batch) -> float:
        """The daemon's own code."""
        _, commit = recording(self._store, batch.records, batch.now)
        return await trio.to_thread.run_sync(commit)

    async def bare_inline(self, batch: Batch) -> float:
        """Bare statements on the main thread, the commit in a worker thread."""
        self._begin()
        self._row_by_row(batch)
        return await trio.to_thread.run_sync(self._commit, batch)

    async def rows_in_thread(self, batch: Batch) -> float:
        """Everything in a worker thread, `executemany` over the rows."""

        def work() -> float:
            self._begin()
            self._row_by_row(batch)
            return self._commit(batch)

        return await trio.to_thread.run_sync(work)

    async def set_in_thread(self, batch: Batch) -> float:
        """Everything in a worker thread, one statement a table over `json_each`."""

        def work() -> float:
            packed = json.dumps(batch.packed)
            self._begin()
            self._connection.execute(UPDATE_ALL, (packed,))
            self._connection.execute(INSERT_ALL, (packed,))
            return self._commit(batch)

        return await trio.to_thread.run_sync(work)

    def _begin(self) -> None:
        self._since = time.perf_counter_ns()
        self._connection.execute("BEGIN IMMEDIATE")

    def _row_by_row(self, batch: Batch) -> None:
        self._connection.executemany(UPDATE, batch.updates)
        self._connection.executemany(INSERT_ATTEMPT, batch.attempts)

    def _commit(self, batch: Batch) -> float:
        self._connection.execute(COUNT, (len(batch.updates), to_text(batch.now)))
        self._connection.execute("COMMIT")
        return (time.perf_counter_ns() - self._since) / 1e6


Way = Callable[[Batch], Awaitable[float]]


@dataclass(slots=True)
class Measured:
    """One way under one load, batch by batch."""

    took: list[float] = field(default_factory=list)
    """Milliseconds from the start to the end of the commit."""
    held: list[float] = field(default_factory=list)
    """Of these, with the write lock."""
    stood_still: list[float] = field(default_factory=list)
    """Milliseconds for which nothing else ran, at the longest."""
    lost: list[float] = field(default_factory=list)
    """Milliseconds of the loop's time that were gone for other work; only where it was busy."""

    def texts(self) -> tuple[str, ...]:
        """The cells of a table's line."""
        took = statistics.median(self.took)
        return (
            f"{took:.1f} / {max(self.took):.1f}",
            f"{took * 1000 / BATCH:.0f}",
            f"{statistics.median(self.held):.1f} / {max(self.held):.1f}",
            f"{statistics.median(self.stood_still):.1f} / {max(self.stood_still):.1f}",
            f"{statistics.median(self.lost):.1f}" if self.lost else "",
        )


class Neighbour:
    """A task beside the one that is measured: it works all the time, or only looks at the clock."""

    NAP: Final = 0.001

    def __init__(self, *, busy: bool) -> None:
        self._busy = busy
        self._slice = 0.0
        self._turns = 0
        self._longest = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            begun = time.perf_counter()
            if self._busy:
                like_http()
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(self.NAP)
            self._longest = max(self._longest, time.perf_counter() - begun)
            self._turns += 1

    async def settle(self) -> None:
        """Learn how long a turn takes when nothing else runs."""
        self._turns, begun = 0, time.perf_counter()
        await trio.sleep(0.2)
        self._slice = (time.perf_counter() - begun) / max(1, self._turns)

    async def watch(self, way: Way, batch: Batch, into: Measured) -> None:
        """Measure one batch."""
        await trio.sleep(0.01)
        self._turns, self._longest, begun = 0, 0.0, time.perf_counter()
        held = await way(batch)
        took = time.perf_counter() - begun
        turns = self._turns
        await trio.lowlevel.checkpoint()
        if not self._busy:
            await trio.sleep(2 * self.NAP)  # the nap that was under way ends
        into.took.append(took * 1000)
        into.held.append(held)
        into.stood_still.append(max(0.0, self._longest - self._slice) * 1000)
        if self._busy:
            into.lost.append(max(0.0, took - turns * self._slice) * 1000)


def like_http() -> None:
    """Some 50 µs of what a delivery does in Python: join a head, sign it, take an answer apart."""
    fields = [(f"webhook-field-{number}", str(number * 7919)) for number in range(12)]
    head = "".join([f"{name}: {value}\r\n" for name, value in fields]).encode()
    signature = base64.b64encode(hmac.digest(b"key", head, "sha256")).decode()
    for line in (head + signature.encode()).split(b"\r\n"):
        name, _, value = line.partition(b": ")
        name.lower(), value.strip()


def measure(scale: Scale) -> Result:
    """Run it. Raises BenchFailed when a way did not write what it should have."""
    rounds = 20 if scale is Scale.FULL else 5
    with tempfile.TemporaryDirectory(prefix="webhookd-bench-") as name:
        measured = trio.run(_measure, Path(name), rounds)
    return Result(
        settings={"rows": BATCH, "batches_each": rounds},
        columns=(
            "the loop is",
            "way",
            "ms a batch",
            "µs a row",
            "with the lock, ms",
            "loop stands still, ms",
            "lost, ms",
        ),
        rows=tuple((*label, *found.texts()) for label, found in measured.items()),
        figures={
            " / ".join(label): {
                "ms": found.took,
                "lock_held_ms": found.held,
                "stood_still_ms": found.stood_still,
                "lost_ms": found.lost,
            }
            for label, found in measured.items()
        },
        remarks=(
            "median / highest of the batches; with the lock: from its BEGIN to its COMMIT's end",
            "standing still: of the longest time in each batch",
            "lost: of the loop's time in one batch, what the busy task could not use",
            "bare: neither reads a row nor decides anything; only ours does the daemon's work",
        ),
        charts=tuple(
            Chart.of(
                f"A batch of {BATCH} outcomes, ms, as a multiple of ours: the loop is {loop}",
                {
                    way: ratios(found.took, next(iter(_of(measured, loop).values())).took)
                    for way, found in _of(measured, loop).items()
                },
                decimals=2,
            )
            for loop in dict.fromkeys(loop for loop, _ in measured)
        ),
    )


def _of(measured: dict[tuple[str, str], Measured], loop: str) -> dict[str, Measured]:
    return {way: found for (one, way), found in measured.items() if one == loop}


async def _measure(folder: Path, rounds: int) -> dict[tuple[str, str], Measured]:
    total = 2 * rounds * BATCH * 6
    workload = fixture.prepare(folder, port=9, endpoints=1, events=total)
    store = fixture.open_store(workload)
    connection = connect(workload.database, mode="rw")
    try:
        batches = _batches(store, connection)
        ways = Ways(store, connection)
        measured: dict[tuple[str, str], Measured] = {}
        for busy in (False, True):
            neighbour = Neighbour(busy=busy)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(neighbour.run)
                await neighbour.settle()
                for _ in range(rounds):
                    for name, way, interval in _ways(ways):
                        found = measured.setdefault(("busy" if busy else "idle", name), Measured())
                        with _switch_interval(interval):
                            await neighbour.watch(way, next(batches), found)
                nursery.cancel_scope.cancel()
        _check(connection, total)
    finally:
        connection.close()
        store.close()
    return measured


def _ways(ways: Ways) -> tuple[tuple[str, Way, float], ...]:
    """What is compared, with the switch interval of each."""
    ours, theirs = SWITCH_INTERVAL, PYTHONS_OWN_INTERVAL
    return (
        (f"ours: inline, commit in a thread, {ours * 1000:g} ms", ways.ours, ours),
        (f"bare: inline, commit in a thread, {ours * 1000:g} ms", ways.bare_inline, ours),
        (f"bare: executemany in a thread, {theirs * 1000:g} ms", ways.rows_in_thread, theirs),
        (f"bare: executemany in a thread, {ours * 1000:g} ms", ways.rows_in_thread, ours),
        (f"bare: json_each in a thread, {theirs * 1000:g} ms", ways.set_in_thread, theirs),
        (f"bare: json_each in a thread, {ours * 1000:g} ms", ways.set_in_thread, ours),
    )


def _batches(store: SqliteStore, connection: Connection) -> Iterator[Batch]:
    """Ingests everything, then gives one batch after the other."""
    fixture.take_in(store)
    now = time.time_ns() // 1_000_000
    found = connection.execute("SELECT id FROM webhookd_deliveries ORDER BY id").fetchall()
    ids = [DeliveryId(row[0]) for row in found]
    return iter([Batch.of(ids[at : at + BATCH], now) for at in range(0, len(ids), BATCH)])


@contextmanager
def _switch_interval(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _check(connection: Connection, total: int) -> None:
    """Every way has written all of its rows."""
    states = connection.execute(
        "SELECT state, attempts, count(*) FROM webhookd_deliveries GROUP BY state, attempts"
    ).fetchall()
    counted = connection.execute("SELECT delivered FROM webhookd_counters").fetchone()[0]
    attempts = connection.execute("SELECT count(*) FROM webhookd_attempts").fetchone()[0]
    if states != [("delivered", 1, total)] or not counted == attempts == total:
        raise BenchFailed(f"{total} outcomes, but the file says {states}, {attempts} attempts")
