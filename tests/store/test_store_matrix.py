"""What the store leaves alone, and what it costs to begin: large outboxes, odd file times."""

import os
from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
from webhookd.errors import DatabaseError
from webhookd.store import create, driver


def test_A26_no_trigger_is_installed(path: Path) -> None:
    connection = driver.connect(path, mode="ro")
    assert connection.execute("SELECT * FROM sqlite_master WHERE type = 'trigger'").fetchall() == []
    connection.close()


def big(path: Path, rows: int) -> Path:
    """A host's file with as many rows of long ago in an outbox of its own."""
    connection = driver.sqlite3.connect(str(path), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    columns = "event_type, aggregate_type, aggregate_id, tenant, payload, occurred_at, event_id"
    connection.execute(f"CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
    connection.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)"
        " INSERT INTO outbox (event_type) SELECT 'a.b' FROM n",
        (rows,),
    )
    connection.close()
    create.prepare(
        path, table="outbox", start=None, ids_never_reused=False, may_create=False, now=NOW
    )
    return path


def test_A27_to_begin_costs_the_same_with_any_number_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of SQLite's own machine counts, from the opening to the end of the first sweep."""
    counted = []
    right = driver.connect
    for rows in (1_000, 100_000):
        path = big(tmp_path / f"{rows}.db", rows)
        steps = 0

        def tick() -> int:
            nonlocal steps
            steps += 1
            return 0

        def connect(*given: object, **more: object) -> driver.Connection:
            connection = right(*given, **more)  # type: ignore[arg-type]
            connection.set_progress_handler(tick, 1)  # type: ignore[attr-defined]
            return connection

        with monkeypatch.context() as patched:
            patched.setattr("webhookd.store.sqlite.connect", connect)
            box = Box(path)
            assert box.ingest().events == 0
            assert [one.events for one in box.sweep_all()] == [0]
            box.put()
            assert box.ingest().events == 1
            box.close()
        counted.append(steps)
    few, many = counted
    assert few > 100
    assert many <= few * 1.05


def test_B12_a_damaged_index_is_told_of_and_not_mended(path: Path) -> None:
    box = Box(path)
    key = box.subscribe().key
    box.put(aggregate_id="S-1")
    box.ingest()
    box.close()
    connection = driver.connect(path, mode="rw")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root, size = connection.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master"
        " WHERE name = 'webhookd_deliveries_first'"
    ).fetchone()
    connection.close()
    whole = bytearray(path.read_bytes())
    whole[(root - 1) * size : root * size] = b"\xee" * size
    path.write_bytes(whole)
    box = Box(path)
    with pytest.raises(DatabaseError, match=r"damaged .*keep a copy.*\.recover"):
        box.store.due(key, NOW, 10, ())
    with pytest.raises(DatabaseError, match=r"damaged .*keep a copy.*\.recover"):
        box.succeed(2)
    box.store.rollback()
    box.close()
    assert path.read_bytes()[(root - 1) * size : root * size] == b"\xee" * size


@pytest.mark.parametrize("moment", [0, 4_000_000_000])
def test_B28_the_times_of_the_file_mean_nothing(box: Box, path: Path, moment: int) -> None:
    """They may stand still, lie ahead, or go back."""
    box.subscribe()
    for number in range(3):
        box.put(aggregate_id=f"S-{number}")
        for one in (path, path.with_name(f"{path.name}-wal")):
            os.utime(one, (moment - number if moment else 0, moment - number if moment else 0))
        assert box.store.outlook().outbox_end is not None
        assert box.ingest().events == 1
        box.store.check_file()
    assert len(box.store.due(1, NOW, 10, ())) == 3
