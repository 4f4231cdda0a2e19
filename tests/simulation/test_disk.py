"""The model of durability, held against SQLite itself: what a cut takes, and what it leaves."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.disk import Disk
from webhookd.store.driver import Connection, connect


class _Fate(random.Random):
    """Cuts at the first (0), the second (1) or the third (2) of the places there are."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self._place = place

    def choice(self, places):  # type: ignore[no-untyped-def]
        return places[self._place]

    def randint(self, first: int, last: int) -> int:
        return (first + last) // 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "erp.db"
    connection = connect(made, mode="rwc")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, filler TEXT)")
    connection.close()
    return made


@pytest.fixture
def host(path: Path) -> Iterator[Connection]:
    made = connect(path, mode="rw")
    made.execute("PRAGMA synchronous = NORMAL")
    made.execute("PRAGMA wal_autocheckpoint = 0")
    yield made
    made.close()


@pytest.fixture
def ours(path: Path) -> Iterator[Connection]:
    made = connect(path, mode="rw")
    made.execute("PRAGMA wal_autocheckpoint = 0")
    yield made
    made.close()


def _put(connection: Connection, disk: Disk, n: int) -> bool:
    connection.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 3_000))
    return disk.committed(connection)


def _left(path: Path, disk: Disk, place: int, *open_ones: Connection) -> list[int]:
    _, database, wal = disk.cut(_Fate(place))
    for connection in open_ones:
        connection.close()
    disk.restore(database, wal)
    connection = connect(path, mode="rw")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]
    finally:
        connection.close()


@pytest.mark.parametrize(("place", "left"), [(0, [1, 2]), (1, [1, 2, 3, 4]), (2, [1, 2, 3])])
def test_a_cut_takes_what_was_not_synced(path, host, ours, place, left) -> None:
    disk = Disk(path)
    assert not _put(host, disk, 1)
    assert _put(ours, disk, 2)  # its sync carries the host's frames with it
    assert not _put(host, disk, 3)
    assert not _put(host, disk, 4)
    assert _left(path, disk, place, host, ours) == left


def test_a_cut_in_the_middle_of_a_transactions_frames_takes_it_whole(path, host, ours) -> None:
    disk = Disk(path)
    assert _put(ours, disk, 1)
    host.execute("BEGIN")
    for n in range(2, 9):
        host.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 3_000))
    host.execute("COMMIT")
    disk.committed(host)
    assert _left(path, disk, 2, host, ours) == [1]


def test_a_checkpoint_syncs_everything_and_the_wal_begins_again(path, host, ours) -> None:
    disk = Disk(path)
    assert not _put(host, disk, 1)
    host.execute("PRAGMA wal_checkpoint(RESTART)")
    disk.checkpointed()
    assert not _put(host, disk, 2)
    assert _left(path, disk, 0, host, ours) == [1]
