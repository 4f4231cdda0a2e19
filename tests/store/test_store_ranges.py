"""The ranges of ids that are done with, against a plain set."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.conftest import Box
from webhookd.store import ranges
from webhookd.store.driver import Connection, sqlite3

LOW, HIGH = ranges.LOWEST, ranges.HIGHEST
TABLE = (
    "CREATE TABLE webhookd_ranges (first INTEGER PRIMARY KEY,"
    " last INTEGER NOT NULL CHECK (last >= first))"
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute(TABLE)
    yield made
    made.close()


def kept(connection: Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT first, last FROM webhookd_ranges ORDER BY first").fetchall()


def test_runs() -> None:
    assert ranges.runs([]) == []
    assert ranges.runs([3, 4, 7]) == [(3, 4), (7, 7)]
    assert ranges.runs([LOW, LOW + 1, -1, 0, HIGH]) == [(LOW, LOW + 1), (-1, 0), (HIGH, HIGH)]


NEAR_THE_ENDS = st.sampled_from([*range(30), *range(LOW, LOW + 5), *range(HIGH - 4, HIGH + 1)])


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.sets(NEAR_THE_ENDS, max_size=8)), max_size=12),
    start=NEAR_THE_ENDS,
    cursor=NEAR_THE_ENDS,
    limit=st.integers(1, 6),
)
def test_they_are_the_set_that_they_stand_for(
    steps: list[tuple[bool, set[int]]], start: int, cursor: int, limit: int
) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(TABLE)
    done: set[int] = set()
    for adds, numbers in steps:
        if adds:
            for first, last in ranges.runs(sorted(numbers - done)):
                ranges.add(connection, first, last)
            done |= numbers
        else:
            for number in numbers:
                ranges.remove(connection, number)
            done -= numbers
        # Neither touching nor overlapping: exactly the runs of the set.
        assert kept(connection) == ranges.runs(sorted(done))

    gaps = ranges.gaps(connection, start, cursor, limit)
    everything: list[tuple[int, int]] = []
    position = start
    for first, last in ranges.runs(sorted(done)):
        if last < position:
            continue
        if first > position and position <= cursor:
            everything.append((position, min(first - 1, cursor)))
        position = max(position, last + 1)
    if position <= cursor:
        everything.append((position, cursor))
    assert gaps == everything[:limit]
    connection.close()


def test_the_whole_of_all_ids(connection: Connection) -> None:
    assert ranges.gaps(connection, LOW, HIGH, 10) == [(LOW, HIGH)]
    ranges.add(connection, LOW, HIGH)
    assert ranges.gaps(connection, LOW, HIGH, 10) == []
    ranges.remove(connection, 0)
    assert ranges.gaps(connection, LOW, HIGH, 10) == [(0, 0)]
    ranges.remove(connection, 0)
    assert kept(connection) == [(LOW, -1), (1, HIGH)]


def test_a_far_start_does_not_walk_through_all_that_lies_before_it(
    connection: Connection,
) -> None:
    connection.execute(
        "INSERT INTO webhookd_ranges WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
        " SELECT i + 1 FROM n WHERE i < 200000) SELECT 2 * i, 2 * i FROM n"
    )
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 100)
    assert ranges.gaps(connection, 390_001, 400_000, 3) == [
        (390_001, 390_001), (390_003, 390_003), (390_005, 390_005),
    ]  # fmt: skip
    assert steps < 20


def test_A10_what_hosts_are_told_to_delete_is_done_with(box: Box) -> None:
    """Row 2 was inserted late: no event is made of it yet, though its id is low."""
    told = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    script = told[told.index("DELETE FROM outbox WHERE id < ") :]
    box.put(id=1)
    box.put("bad type", id=3)
    box.put(id=5)
    box.put(id=7)
    box.ingest_all()
    box.host.execute("DELETE FROM webhookd_events WHERE outbox_id < 7")
    box.put(id=2)
    box.host.execute(script[: script.index(";")])
    assert box.rows("SELECT id FROM outbox ORDER BY id") == [(2,), (3,), (7,)]
    box.store.begin()
    assert box.store.sweep(box.now).events == 1
    box.store.commit()
