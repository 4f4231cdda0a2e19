"""A file that is not the one it was: replaced, deleted, restored, moved or copied."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

SIDES = ("", "-wal", "-shm")
FEED = "SELECT maximum_sequence, epoch FROM webhook_feeds WHERE feed = 'results'"


def beside(database: Path, suffix: str) -> Path:
    """The database with `suffix` behind its name."""
    return database.with_name(database.name + suffix)


def exit_line(daemon: Any) -> str:
    """The one line for a person with which a daemon ends with exit code 4."""
    assert daemon.wait() == 4, daemon.said()
    (line,) = daemon.complaints()
    assert line.startswith("webhookd: ")
    return str(line)


@pytest.mark.parametrize("fate", ["replaced", "deleted"])
def test_B7_B8_file_replaced_or_deleted_while_running(
    site: Any, receiver: Any, tmp_path: Path, fate: str
) -> None:
    receiver.answer(slow={"delay": 3})
    site.prepare()
    site.subscribe("slow", receiver.url("/slow"))
    site.execute(f"VACUUM INTO '{tmp_path / 'other.db'}'")
    daemon = site.daemon()
    site.insert(1)
    receiver.until_count(1)
    # Links keep the dead file within reach.
    dead = tmp_path / "dead.db"
    for suffix in ("", "-wal"):
        os.link(beside(site.database, suffix), beside(dead, suffix))

    for suffix in SIDES:
        beside(site.database, suffix).unlink()
    if fate == "replaced":
        (tmp_path / "other.db").rename(site.database)
    line = exit_line(daemon)
    assert str(site.database) in line
    assert f"was {fate}" in line
    assert [said["detail"] for said in daemon.log("daemon.failed")] == [
        line.removeprefix("webhookd: ")
    ]

    # The attempt that was under way was not written into the dead file, and is owed there.
    site.database = dead
    assert site.rows("SELECT state, attempts FROM webhook_results") == [("pending", 0)]
    assert receiver.count() == 1


def test_B9_restored_backup_is_refused_until_it_is_accepted(
    site: Any, receiver: Any, tmp_path: Path
) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    site.insert(20)
    backup = tmp_path / "backup.db"
    site.execute(f"VACUUM INTO '{backup}'")
    daemon = site.daemon()
    site.until_delivered(20)
    assert daemon.stop() == 0
    seen, epoch = site.rows(FEED)[0]

    for suffix in SIDES:
        beside(site.database, suffix).unlink(missing_ok=True)
    shutil.copy(backup, site.database)
    line = site.refused()
    assert "restored" in line
    assert f" {seen} " in line
    assert " 0," in line, "where the file stands now"
    assert "check --accept-restore" in line
    # A command that writes would give numbers out again, so it is refused as well.
    refused = site.command(
        "subscriptions", "add", receiver.url("/two"), "--secret", "env:X", code=4
    )
    assert "--accept-restore" in refused.stderr
    assert receiver.count() == 20

    site.command("check", "--accept-restore")
    site.daemon()
    site.until_delivered(20)
    first, again = receiver.requests()[:20], receiver.requests()[20:]
    assert identities(first) == identities(again)
    highest, new_epoch = site.rows(FEED)[0]
    assert new_epoch == epoch + 1
    assert site.value("SELECT min(sequence) FROM webhook_results") > seen
    assert highest > seen


def test_B9_backup_taken_while_running(site: Any, receiver: Any, tmp_path: Path) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    daemon = site.daemon()
    site.insert(20)
    site.until_delivered(20)
    backup = tmp_path / "backup.db"
    site.execute(f"VACUUM INTO '{backup}'")
    site.insert(5)
    site.until_delivered(25)
    daemon.kill()

    for suffix in SIDES:
        beside(site.database, suffix).unlink(missing_ok=True)
    shutil.copy(backup, site.database)
    assert "--accept-restore" in site.refused()
    site.command("check", "--accept-restore")
    site.daemon()
    # What was delivered before the backup is not sent again; what the host does anew is.
    site.insert(3)
    site.until_delivered(23)
    assert receiver.count() == 28


def test_E25_moved_file_goes_on_once_that_is_accepted(site: Any, receiver: Any) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    site.insert(5)
    before = site.database
    move(site)
    assert str(before) in site.refused()
    assert receiver.count() == 0

    site.command("check", "--accept-move")
    site.daemon()
    site.until_delivered(5)


def test_E25_copy_owes_nothing_once_it_is_accepted(site: Any, receiver: Any) -> None:
    receiver.answer(down={"status": 503})
    site.prepare()
    site.subscribe("up", receiver.url("/up"))
    site.subscribe("down", receiver.url("/down"))
    daemon = site.daemon()
    site.insert(450)
    site.until_delivered_by("up", 450)
    daemon.stop()
    site.insert(3)  # which no daemon has taken in
    move(site)
    line = site.refused()
    assert "--accept-clone" in line
    sent = receiver.count()

    site.command("check", "--accept-clone")
    receiver.answer()
    daemon = site.daemon()
    site.insert(2)
    site.until_delivered_by("up", 452)
    site.until_delivered_by("down", 2)
    assert daemon.stop() == 0
    assert site.states() == {"delivered": 454, "cancelled": 450}
    assert receiver.count() == sent + 4


def identities(requests: list[Any]) -> dict[str, tuple[str, str]]:
    """By id, what must be the same whenever the event is sent."""
    return {
        one["headers"]["webhook-id"]: (json.loads(one["body"])["data"], one["path"])
        for one in requests
    }


def move(site: Any) -> None:
    """The database, and nothing else, is in another directory now."""
    elsewhere = site.database.parent / "elsewhere"
    elsewhere.mkdir()
    site.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    site.database.rename(elsewhere / "erp.db")
    site.database = elsewhere / "erp.db"
    site.configure()
