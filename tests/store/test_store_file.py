"""The file's identity: restored, moved, cloned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.errors import AnotherDaemon, DatabaseError, OutboxUnreadable, Refused
from webhookd.store import acceptance, lockfile, ranges, schema, status
from webhookd.store import file as files
from webhookd.store.file import FileRow
from webhookd.store.transaction import open_session

ROW = FileRow("u", 3, 1, 100, 50, 0, 0, "outbox", 1, "m", "/srv/erp.db")
MARK = {"uuid": "u", "epoch": 3, "sequence": 100, "outbox_id": 50}
HERE = Path("/srv/erp.db")


@pytest.mark.parametrize(
    "mark",
    [
        None, {}, {"pid": 1}, {"uuid": ""}, MARK, MARK | {"sequence": 99}, MARK | {"epoch": 2},
        MARK | {"outbox_id": None}, {"uuid": "u"}, MARK | {"sequence": "many"},
    ],
)  # fmt: skip
def test_B9_a_file_that_is_not_behind(mark: dict[str, Any] | None) -> None:
    files.check_mark(ROW, HERE, mark)


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (MARK | {"sequence": 101}, "its sequence is 100, but 101 was reached before"),
        (MARK | {"epoch": 4}, "its epoch is 3, but 4 was reached before"),
        (MARK | {"outbox_id": 51}, "its outbox_id is 50, but 51 was reached before"),
        (MARK | {"uuid": "other"}, "another database than the one that ran here before"),
    ],
)
def test_B9_a_file_that_is_behind(mark: dict[str, Any], text: str) -> None:
    with pytest.raises(DatabaseError, match=text) as caught:
        files.check_mark(ROW, HERE, mark)
    assert "check --accept-restore" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "machine", "text"),
    [
        (ROW, "m", None),
        (ROW, "", None),
        (replace(ROW, machine=""), "m", None),
        (ROW, "other", "was prepared on another machine"),
        (replace(ROW, path="/old/erp.db"), "m", "was prepared at /old/erp.db"),
    ],
)
def test_E25_a_file_that_is_not_at_home(row: FileRow, machine: str, text: str | None) -> None:
    if text is None:
        files.check_home(row, HERE, machine)
        return
    with pytest.raises(DatabaseError, match=text) as caught:
        files.check_home(row, HERE, machine)
    assert "--accept-move" in str(caught.value)
    assert "--accept-clone" in str(caught.value)


def test_the_machines_id(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert files.machine_id((first, second)) == ""
    second.write_text("0123456789abcdef\n")
    found = files.machine_id((first, second))
    assert len(found) == 32
    assert "0123456789abcdef" not in found, "machine-id(5): not to be shown as it is"
    first.write_text(" \n")
    assert files.machine_id((first, second)) == found
    first.write_bytes(b"\xff")
    assert files.machine_id((first, second)) == found
    first.write_text("another\n")
    assert files.machine_id((first, second)) not in {"", found}


def test_inodes(tmp_path: Path) -> None:
    assert files.inode(tmp_path / "none") is None
    assert files.inode(tmp_path) == (tmp_path.stat().st_dev, tmp_path.stat().st_ino)


def backed_up(box: Box, copy: Path) -> None:
    """A backup while the second row waits, and life goes on: its event, and two outcomes."""
    box.subscribe()
    box.put(aggregate_id="S-1")
    box.ingest()
    box.put(aggregate_id="S-2")
    box.host.execute("VACUUM INTO ?", (str(copy),))
    box.ingest()
    box.succeed(2)
    box.succeed(4)


def test_B9_a_restored_backup_from_refusal_to_a_new_epoch(box: Box, tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    backed_up(box, copy)
    mark = box.store.mark()
    assert mark["sequence"] == 6
    first = box.rows("SELECT outbox_id, event_id FROM webhookd_events ORDER BY 1")
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**mark)
    lock.release()
    box.close()
    for suffix in ("-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    copy.replace(box.path)

    with pytest.raises(DatabaseError, match="a restored backup: its sequence is 2, but 6"):
        Box(box.path, known_mark=lockfile.read(box.path))
    with pytest.raises(DatabaseError, match="a restored backup"):
        open_session(box.path, write=True)
    open_session(box.path, write=False).connection.close()

    done = accepted(box.path)
    assert (done.epoch, done.owed) == (2, 1)
    assert lockfile.read(box.path)["sequence"] == 6
    again = Box(box.path, known_mark=lockfile.read(box.path))
    again.ingest()
    assert again.one("SELECT max(sequence) FROM webhook_events") == 7, "above all ever seen"
    assert again.rows("SELECT outbox_id, event_id FROM webhookd_events ORDER BY 1") == first
    assert again.rows("SELECT DISTINCT epoch FROM webhook_feeds") == [(2,)]
    again.close()


def accepted(path: Path, *, sure: bool = False) -> acceptance.Restored:
    done = acceptance.accept_restore(path, sure=sure)
    assert done is not None
    return done


def test_B9_a_restore_is_accepted_only_where_there_was_one(box: Box) -> None:
    box.put()
    box.ingest()
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**box.store.mark())
    lock.release()
    before = lockfile.read(box.path), box.rows("SELECT * FROM webhookd_file")
    ids = box.one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
    assert acceptance.accept_restore(box.path) is None
    assert (lockfile.read(box.path), box.rows("SELECT * FROM webhookd_file")) == before
    assert box.one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'") == ids
    assert accepted(box.path, sure=True).epoch == 2


def restored(box: Box, copy: Path) -> acceptance.Restored:
    """The backup in the file's place, and the operator's word that it is meant."""
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**box.store.mark())
    lock.release()
    box.close()
    for suffix in ("-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    copy.replace(box.path)
    return accepted(box.path)


@pytest.mark.parametrize("begun", [False, True], ids=["without a row", "with a row"])
def test_B9_a_new_row_after_a_restore_is_a_new_event(box: Box, tmp_path: Path, begun: bool) -> None:
    """Receivers drop an event id that they know: no new row may get the id of one that is lost."""
    if begun:
        box.put(aggregate_id="S-0")
        box.ingest()
    copy = tmp_path / "backup.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    box.put(aggregate_id="S-1")
    box.ingest()
    (lost,) = box.rows("SELECT event_id FROM webhookd_events WHERE outbox_id = ?", 1 + begun)
    done = restored(box, copy)
    assert (done.ids, done.reached, done.table) == (acceptance.Ids.ABOVE, 1 + begun, "outbox")
    assert done.above == done.reached + lockfile.UNSURE
    again = Box(box.path, known_mark=lockfile.read(box.path))
    assert again.put(aggregate_id="S-1") == done.above + 1
    again.ingest()
    assert lost not in again.rows("SELECT event_id FROM webhookd_events")
    again.close()
    assert acceptance.accept_restore(box.path) is None, "nothing was restored"
    assert accepted(box.path, sure=True).epoch == 3
    again = Box(box.path, known_mark=lockfile.read(box.path))
    assert again.put() > done.above + 1, "ids never go down"
    again.close()


def test_B9_the_second_of_two_restores_in_a_row_gives_no_id_out_again(
    box: Box, tmp_path: Path
) -> None:
    """The first backup was the wrong one: an older one is put in its place at once."""
    copies = tmp_path / "older.db", tmp_path / "newer.db"
    for copy in copies:
        box.host.execute("VACUUM INTO ?", (str(copy),))
        box.put(aggregate_id="S-1")
        box.ingest()
    lost = box.rows("SELECT event_id FROM webhookd_events")
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**box.store.mark())
    lock.release()
    box.close()
    for copy in reversed(copies):
        for suffix in ("-wal", "-shm"):
            box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
        copy.replace(box.path)
        done = accepted(box.path)
        assert (done.ids, done.reached) == (acceptance.Ids.ABOVE, 2)
    again = Box(box.path, known_mark=lockfile.read(box.path))
    assert again.put(aggregate_id="S-1") > 2
    again.ingest()
    (made,) = again.rows("SELECT event_id FROM webhookd_events")
    assert made not in lost
    again.close()


@pytest.mark.parametrize("at_once", [False, True], ids=["at last", "at once"])
def test_B9_a_restore_takes_an_id_away_above_which_there_is_none(
    box: Box, tmp_path: Path, at_once: bool
) -> None:
    """Raised above that one, nobody could insert: it is what the restore was made for."""
    copy = tmp_path / "backup.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    mark = lockfile.LockFile.acquire(box.path)
    if not at_once:
        box.put()
        box.ingest()
        mark.write(**box.store.mark())
    box.host.execute("INSERT INTO outbox (id, event_type) VALUES (?, 'a.b')", (ranges.HIGHEST,))
    box.ingest()
    mark.release()
    done = restored(box, copy)
    assert (done.ids, done.reached) == (
        (acceptance.Ids.UNKNOWN, 0) if at_once else (acceptance.Ids.ABOVE, 1)
    )
    again = Box(box.path, known_mark=lockfile.read(box.path))
    assert 1 <= again.put() < lockfile.MOST
    again.close()


def test_B9_a_mark_that_lost_its_last_words_with_the_power_still_keeps_ids_apart(
    box: Box, tmp_path: Path
) -> None:
    """It is not synced: the disk has the one of before the last two commits."""
    copy = tmp_path / "backup.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**box.store.mark())
    lock.release()
    for _ in range(2):
        box.put(aggregate_id="S-1")
        box.ingest()
    lost = box.rows("SELECT event_id FROM webhookd_events")
    box.close()
    for suffix in ("-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    copy.replace(box.path)
    assert acceptance.accept_restore(box.path) is None, "the mark shows nothing of it"
    assert accepted(box.path, sure=True).ids is acceptance.Ids.ABOVE
    again = Box(box.path, known_mark=lockfile.read(box.path))
    again.put(aggregate_id="S-1")
    again.ingest()
    (made,) = again.rows("SELECT event_id FROM webhookd_events")
    assert made not in lost
    again.close()


def test_a_restore_without_its_mark_knows_nothing_of_ids(box: Box) -> None:
    box.put()
    box.ingest()
    done = accepted(box.path)
    assert (done.ids, done.reached) == (acceptance.Ids.UNKNOWN, 0)


def test_a_restore_of_an_outbox_that_is_gone_is_accepted(box: Box) -> None:
    box.host.execute("DROP TABLE outbox")
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**{**box.store.mark(), "outbox_id": 9})
    lock.release()
    done = accepted(box.path)
    assert (done.epoch, done.above) == (2, 0)
    assert box.rows("SELECT * FROM sqlite_sequence WHERE name = 'outbox'") == []


def test_a_restore_hides_no_outbox_that_was_made_anew(box: Box) -> None:
    for _ in range(3):
        box.put()
    box.ingest_all()
    box.host.execute("DROP TABLE outbox")
    box.host.execute(schema.OUTBOX.format(table="outbox"))
    box.put("supplier.lost")
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**{**box.store.mark(), "outbox_id": 9})
    lock.release()
    assert accepted(box.path).above == 0
    assert "made anew, its ids begin again at 1" in box.store.outlook().unreadable


def test_a_restore_of_another_file_takes_nothing_from_its_mark(box: Box) -> None:
    with open_session(box.path, write=True) as session, session.write() as transaction:
        after = files.accept_restore(
            transaction.connection, transaction.file, {"uuid": "other", "sequence": 9, "epoch": 9}
        )
        transaction.file = after
    assert (after.epoch, after.sequence, after.control) == (2, 0, 1)
    assert box.one("SELECT epoch FROM webhookd_file") == 2


def test_E25_a_move_is_accepted(box: Box, tmp_path: Path) -> None:
    box.close()
    moved = tmp_path / "elsewhere.db"
    box.path.rename(moved)
    with pytest.raises(DatabaseError, match="was prepared at"):
        Box(moved)
    assert acceptance.accept_move(moved)
    assert not acceptance.accept_move(moved)
    again = Box(moved)
    assert again.store.mark()["sequence"] == 0
    again.close()


def test_B9_accepting_a_move_does_not_accept_a_restored_backup(box: Box, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.db"
    backed_up(box, moved)
    mark = box.store.mark()
    lock = lockfile.LockFile.acquire(moved)  # the lock file was taken along
    lock.write(**mark)
    lock.release()
    with pytest.raises(DatabaseError, match="a restored backup"):
        Box(moved, known_mark=lockfile.read(moved))
    assert acceptance.accept_move(moved)
    with pytest.raises(DatabaseError, match="a restored backup"):
        Box(moved, known_mark=lockfile.read(moved))
    assert accepted(moved).epoch == 2
    assert lockfile.read(moved)["sequence"] == mark["sequence"]
    Box(moved, known_mark=lockfile.read(moved)).close()


def test_E25_what_is_at_home_is_no_copy(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    with pytest.raises(Refused, match="it is no copy; nothing was cancelled"):
        acceptance.accept_clone(box.path, default_tenant="", max_payload=1_000, now=NOW)
    assert {row["state"] for row in box.results()} == {"pending"}


def test_another_outbox_than_the_one_it_was_prepared_with_is_refused(box: Box) -> None:
    with pytest.raises(DatabaseError, match=r"prepared with the outbox outbox, not events;"):
        Box(box.path, table="events")


def test_status_says_that_run_would_refuse_the_file(box: Box) -> None:
    box.host.execute("UPDATE webhookd_file SET machine = 'another'")
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**{**box.store.mark(), "sequence": 99})
    lock.release()
    session = open_session(box.path, write=False)
    moved, restored = False, False
    for refusal in status.facts(session.connection, session.file, box.path, now=box.now).refusals:
        restored |= "a restored backup" in refusal
        moved |= "was prepared on another machine" in refusal
    session.connection.close()
    assert (moved, restored) == (True, True)


def test_E25_a_clone_owes_nobody_anything(box: Box, tmp_path: Path) -> None:
    box.subscribe()
    for _ in range(3):
        box.put(aggregate_id="S-1")
    box.ingest()
    box.put(aggregate_id="S-2")
    copy = tmp_path / "clone.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    with pytest.raises(DatabaseError, match="--accept-clone"):
        Box(copy)
    done = acceptance.accept_clone(copy, default_tenant="", max_payload=1_000, now=NOW)
    assert (done.cancelled, done.taken_in) == (3, 1)
    clone = Box(copy, known_mark=lockfile.read(copy))
    assert clone.store.mark()["uuid"] != box.store.mark()["uuid"]
    assert {row["state"] for row in clone.results()} == {"cancelled"}
    assert clone.due(1, NOW + 10**9) == []
    clone.put(aggregate_id="S-3")
    assert clone.ingest().deliveries == 1, "what is new is sent again"
    clone.close()
    assert {row["state"] for row in box.results()} == {"pending"}


def test_a_clone_whose_outbox_is_gone_is_not_accepted(box: Box) -> None:
    box.put()
    box.host.execute("UPDATE webhookd_file SET machine = 'another'")
    box.host.execute("ALTER TABLE outbox RENAME TO away")
    before = box.store.mark()
    with pytest.raises(OutboxUnreadable):
        acceptance.accept_clone(box.path, default_tenant="", max_payload=1_000, now=NOW)
    assert box.one("SELECT uuid FROM webhookd_file") == before["uuid"]
    lockfile.LockFile.acquire(box.path).release()


def test_nothing_is_accepted_beside_a_daemon(box: Box) -> None:
    lock = lockfile.LockFile.acquire(box.path)
    for accept in (acceptance.accept_move, acceptance.accept_restore):
        with pytest.raises(AnotherDaemon):
            accept(box.path)
    lock.release()


def test_a_clone_with_the_highest_id(box: Box) -> None:
    box.put(id=2**63 - 1)
    box.host.execute("UPDATE webhookd_file SET machine = 'another'")
    done = acceptance.accept_clone(box.path, default_tenant="", max_payload=1_000, now=NOW)
    assert (done.cancelled, done.taken_in) == (0, 1)
