"""kill -9 at any step of any task and beside any commit, then a new start: G1 to G4 hold.

Each run is a process of its own (a fork), so nothing is tidied up when it dies. What it sent is
known from a file that it writes to before and after each request.
"""

import json
import os
import random
import shutil
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from webhookd.logs.actions import Action
from webhookd.store.sqlite import SqliteStore

POINTS = 40
"""Crashes a seed."""
KILLED, FAILED = 9, 3
ROWS = 24


class Killer(trio.abc.Instrument):
    """Ends the process at its `at`th step; a step is a task's, or a side of a commit."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        self.left -= 1
        if self.left == 0:
            os._exit(KILLED)

    def before_task_step(self, task: object) -> None:
        self.step()


def _replies(world, seed: int, log: int):
    """Receivers with moods of their own; every request is written down as it comes and goes."""

    def script(seen):
        dice = random.Random(f"{seed} {seen.who} {seen.n} {seen.attempt}")
        good = seen.attempt >= 3 or dice.random() < 0.6
        line = [
            *(seen.who, seen.n, seen.aggregate, seen.attempt, seen.id),
            sha256(seen.body).hexdigest(),
        ]
        os.write(log, json.dumps(line).encode() + b"\n")
        return world.after(round(dice.random() * 3, 3), world.ok if good else world.down)

    return script


async def _run(world, seed: int, seconds: float) -> None:
    dice = random.Random(seed)
    async with world.running(seed=seed):
        while world.rows < ROWS:
            world.insert(f"x{dice.randrange(4)}")
            await trio.sleep(dice.random() / 2)
        await trio.sleep(seconds)


def _first_run(world, seed: int, at: int, log: Path) -> int:
    """The exit code of a process that works on the file and is killed at its `at`th step."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        killer = Killer(at)
        real = SqliteStore.commit

        def commit(self):
            killer.step()
            real(self)
            killer.step()

        SqliteStore.commit = commit
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        world.sender.script = _replies(world, seed, descriptor)
        clock = MockClock(autojump_threshold=0)
        trio.run(_run, world, seed, 40.0, clock=clock, instruments=[killer])
        log.with_suffix(".steps").write_text(str(killer.steps))
    except BaseException:  # noqa: BLE001 - nothing of the parent's is to run in the child
        os._exit(FAILED)
    os._exit(0)


def _check(world, lines: list[list], recorded: set[tuple[str, int, int]], done: set) -> None:
    """What is promised, seen from the receivers' side and in the file."""
    ids = [row["id"] for row in world.table("SELECT id FROM outbox ORDER BY id")]
    events = world.table(
        "SELECT outbox_id FROM webhookd_events WHERE event_type NOT LIKE 'webhookd.%'"
        " ORDER BY sequence"
    )
    assert [row["outbox_id"] for row in events] == ids  # G1
    results = world.deliveries()
    assert len(results) == 2 * len(ids)
    assert {row["state"] for row in results} == {"delivered"}  # G2
    sent = Counter((who, n, attempt) for who, n, _, attempt, _, _ in lines)
    same = defaultdict(set)
    line_at: dict[tuple[str, str], int] = {}
    before = Counter()
    for who, n, aggregate, attempt, event_id, body in lines:
        same[n].add((event_id, body))
        assert n >= line_at.get((who, aggregate), 0), "out of order"  # G4
        line_at[who, aggregate] = n
        before[who, n] = max(before[who, n], attempt)
    assert all(len(kinds) == 1 for kinds in same.values())  # G3
    assert {(who, n) for who, n, _ in sent} == {(w, n) for w in ("a", "b") for n in ids}
    for (who, n, attempt), count in sent.items():
        assert count == 1 or (count == 2 and (who, n, attempt) not in recorded)
    for row in results:
        assert row["attempts"] == before[row["subscription_name"], row["outbox_id"]]
    assert world.table("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert done <= {(row["subscription_name"], row["outbox_id"]) for row in results}


def _recorded(world) -> tuple[set, set]:
    """What the file knows of at the crash: attempts made, and deliveries that are done."""
    rows = world.table(
        "SELECT d.subscription_name AS who, e.outbox_id AS n, a.number AS attempt, d.state AS state"
        " FROM webhookd_attempts AS a JOIN webhookd_deliveries AS d ON d.id = a.delivery"
        " JOIN webhookd_events AS e ON e.sequence = d.event"
    )
    done = {(row["who"], row["n"]) for row in rows if row["state"] == "delivered"}
    return {(row["who"], row["n"], row["attempt"]) for row in rows}, done


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_E2_B27_killed_anywhere_nothing_is_lost_or_out_of_order(
    world, tmp_path, seed, warnings
) -> None:
    dice = random.Random(seed)
    for name in ("a", "b"):
        world.subscribe(name, concurrency=3, retry_delays=[1_000] * 9)
    for _ in range(ROWS // 2):
        world.insert(f"x{dice.randrange(4)}")
    prepared_rows, world_file = world.rows, tmp_path / "prepared.db"
    world.host.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    world.close()
    shutil.copy(world.path, world_file)

    def again(at: int, log: Path) -> int:
        for suffix in ("", "-wal", "-shm"):
            world.path.with_name(world.path.name + suffix).unlink(missing_ok=True)
        shutil.copy(world_file, world.path)
        world.rows = prepared_rows
        world.clock.offset = 0
        return _first_run(world, seed, at, log)

    log = tmp_path / "whole"
    assert again(0, log) == 0
    steps = int(log.with_suffix(".steps").read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    _check(world, lines, *_recorded(world))
    world.close()
    for point in range(POINTS):
        # A fifth of the points lies in the start, the others where most is going on.
        at = dice.randrange(1, 60) if point % 5 == 0 else dice.randrange(60, steps * 2 // 3)
        log = tmp_path / f"killed{point}"
        assert again(at, log) == KILLED, (seed, at)
        begun = log.read_text().splitlines() if log.exists() else []
        recorded, done = _recorded(world)
        world.close()
        world.rows = ROWS
        world.clock.offset = 3_600_000
        with log.open("a") as appended:
            world.sender.script = _replies(world, seed, appended.fileno())
            clock = MockClock(autojump_threshold=0)
            trio.run(_run, world, seed, 40.0, clock=clock)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        later = {(who, n) for who, n, *_ in lines[len(begun) :]}
        assert not later & done, (seed, at)  # what was recorded as delivered is not sent again
        try:
            _check(world, lines, recorded, done)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, killed at step {at}") from error
        world.close()
    assert warnings().keys() <= {Action.SUBSCRIPTION_FAILING}
