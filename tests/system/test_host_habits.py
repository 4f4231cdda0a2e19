"""What hosts do to their file while webhookd works on it: locks, journals, VACUUM, backups."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from webhookd.store.driver import sqlite3

ROWS = 400


def test_B1_write_lock_held_long_holds_up_no_delivery(
    site: Any, receiver: Any, program: Any, until: Any
) -> None:
    receiver.answer(slow={"delay": 0.05})
    site.prepare()
    site.subscribe("slow", receiver.url("/slow"), "--concurrency", "2")
    daemon = site.daemon()
    site.insert(60, aggregates=60)
    receiver.until_count(2)

    locker = program("locker", site.database, 5)
    until(locker.printed, "the lock")
    recorded = site.states().get("delivered", 0)
    assert recorded < 30
    # All are sent while the lock is held; none of it can be written down before it is free.
    receiver.until_count(60, within=4.0)
    assert locker.code is None
    assert site.states().get("delivered", 0) <= recorded + 2
    lock = json.loads((site.database.parent / "erp.db-webhookd.lock").read_text())
    assert lock["pid"] == daemon.pid
    until(lambda: write_wait(site) > 0, "a wait that `status` can show", within=2.0)

    site.until_delivered(61)
    assert receiver.count() == 61
    assert daemon.stop() == 0


def write_wait(site: Any) -> float:
    """What `status` says of the wait for the write lock, in seconds."""
    document = json.loads(site.command("status", "--json", code=None).stdout)
    return float(document["daemon"]["write_wait_seconds"])


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_B19_either_journal_mode_serves_a_busy_host(
    site: Any, receiver: Any, program: Any, mode: str
) -> None:
    site.prepare()
    site.execute(f"PRAGMA journal_mode = {mode}")
    site.subscribe("one", receiver.url("/one"))
    daemon = site.daemon()
    host = program("host", site.database, ROWS, 20, 3.0, 3)
    assert host.wait() == 0, host.said()
    site.until_delivered(ROWS)
    assert sorted(numbers(receiver)) == list(range(1, ROWS + 1))
    assert site.value("PRAGMA journal_mode") == mode
    assert daemon.stop() == 0
    warned = [said for said in daemon.log("store.library") if said.get("journal_mode") == mode]
    assert len(warned) == (mode == "delete")
    assert daemon.complaints() == []
    assert site.intact()


def numbers(receiver: Any) -> list[int]:
    """The host's numbers of what came, in the order of arrival."""
    return [json.loads(request["body"])["data"]["n"] for request in receiver.requests()]


def test_B22_host_that_comes_and_goes(site: Any, receiver: Any) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    wal = site.database.with_name("erp.db-wal")
    for start in range(2):
        # The host was the last one to close, so SQLite has taken the WAL away.
        assert not wal.exists()
        daemon = site.daemon()
        for row in range(30):
            site.insert(1)  # on a connection that is opened and closed again
            site.until_delivered(start * 30 + row + 1)
        assert daemon.stop() == 0
        site.rows("SELECT 1")
    assert receiver.count() == 60


def test_B22_wake_up_outlives_a_new_wal(site: Any, receiver: Any, program: Any) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    daemon = site.daemon()
    # While webhookd has it open the host cannot leave WAL mode, and is told so.
    refused = program("admin", site.database, "journal", "delete")
    assert refused.wait() == 0
    assert "locked" in refused.printed()[0]
    site.insert(5)
    site.until_delivered(5)
    assert daemon.stop() == 0

    changed = program("admin", site.database, "journal", "delete")
    assert changed.wait() == 0
    assert changed.printed() == ["delete"]
    site.daemon()
    # From DELETE to WAL it can, and the next commits are in a file that was not there before.
    changed = program("admin", site.database, "journal", "wal")
    assert changed.wait() == 0
    assert changed.printed() == ["wal"]
    for row in range(6, 11):
        begun = time.monotonic()
        site.insert(1)
        site.until_delivered(row)
        assert time.monotonic() - begun < 5
    assert site.intact()


def test_B30_B31_vacuum_and_backups_while_running(
    site: Any, receiver: Any, program: Any, tmp_path: Path
) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    daemon = site.daemon()
    host = program("host", site.database, ROWS * 3, 20, 6.0, 5)
    receiver.until_count(50)
    for number in range(3):
        vacuum = program("admin", site.database, "vacuum")
        assert vacuum.wait() == 0, vacuum.said()
        assert vacuum.printed() == ["done"]
        copy = tmp_path / f"copy-{number}.db"
        backup = program("admin", site.database, "backup", copy)
        assert backup.wait() == 0, backup.said()
        connection = sqlite3.connect(str(copy))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM webhook_results").fetchone()[0] > 0
        connection.close()
    assert host.wait() == 0, host.said()
    site.until_delivered(ROWS * 3)
    assert sorted(numbers(receiver)) == list(range(1, ROWS * 3 + 1))
    assert daemon.stop() == 0
    assert daemon.complaints() == []
    assert site.intact()


def test_B29_page_size_changed_between_runs(site: Any, receiver: Any) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    daemon = site.daemon()
    site.insert(10)
    site.until_delivered(10)
    daemon.stop()
    connection = site.open()
    for statement in (
        "PRAGMA journal_mode = delete",
        "PRAGMA page_size = 8192",
        "VACUUM",
        "PRAGMA journal_mode = wal",
    ):
        connection.execute(statement).fetchall()
    connection.close()
    assert site.value("PRAGMA page_size") == 8192
    site.daemon()
    site.insert(10)
    site.until_delivered(20)
    assert site.intact()
