"""What must hold between a reader, a commit's thread, commands and newer programs."""

import os
from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
from webhookd.errors import DatabaseError
from webhookd.store import acceptance, deliveries, lockfile
from webhookd.store import file as files
from webhookd.store.transaction import Session


def test_B9_a_commit_while_the_row_is_read_is_no_restored_backup(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outlook` reads while the commit's thread may be getting ahead of what it read."""
    box.subscribe()
    box.put(aggregate_id="S-1")
    real, reader = files.reread, box.store._reader

    def read_and_then_commit(connection: object, path: Path) -> files.FileRow:
        row = real(connection, path)  # type: ignore[arg-type]
        if connection is reader:
            monkeypatch.setattr(files, "reread", real)
            box.ingest()
        return row

    monkeypatch.setattr(files, "reread", read_and_then_commit)
    assert box.store.outlook().cursor < 1
    assert box.store.outlook().cursor == 1


def test_B9_what_a_command_gave_out_is_not_given_out_again_after_a_restore(
    box: Box, tmp_path: Path
) -> None:
    box.subscribe()
    box.put(aggregate_id="S-1")
    box.ingest()
    before = tmp_path / "backup.db"
    box.host.execute("VACUUM INTO ?", (str(before),))
    box.close()
    with Session(box.path, write=True) as session, session.write() as transaction:
        deliveries.cancel(transaction, 2, NOW)
    reached = lockfile.read(box.path)["sequence"]
    assert reached == 3
    for suffix in ("-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    before.replace(box.path)
    with pytest.raises(DatabaseError, match="a restored backup: its sequence is 2, but 3"):
        Box(box.path, known_mark=lockfile.read(box.path))


def test_a_command_leaves_the_mark_to_a_daemon_that_runs(box: Box) -> None:
    box.subscribe()
    box.put(aggregate_id="S-1")
    box.ingest()
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**box.store.mark())
    box.cancel(2)
    assert lockfile.read(box.path)["sequence"] == 2
    box.store.outlook()
    assert box.store.mark()["sequence"] == 3, "and the daemon sees it"
    lock.release()


def test_a_mark_is_never_lowered_nor_another_files(box: Box) -> None:
    mark = {**box.store.mark(), "sequence": 50}
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**mark)
    lock.release()
    lockfile.raise_mark(box.path, box.store.mark())
    assert lockfile.read(box.path)["sequence"] == 50
    lockfile.raise_mark(box.path, {**mark, "uuid": "other", "sequence": 99})
    assert lockfile.read(box.path)["sequence"] == 50


def test_what_a_newer_program_wrote_of_a_subscription_stops_no_ingest(box: Box) -> None:
    for name, change in (("a", "profile = 'unheard-of'"), ("b", "policy = '{\"unheard_of\": 5}'")):
        box.subscribe(name)
        box.host.execute(f"UPDATE webhookd_subscriptions SET {change} WHERE name = '{name}'")
    box.reopen()
    box.put(aggregate_id="S-1")
    box.put(aggregate_id="S-1")
    assert box.ingest().deliveries == 4
    assert len(box.due(1)) == 1, "in line, by aggregate"


def test_E25_a_clone_takes_in_what_no_sweep_has_found_yet(box: Box, tmp_path: Path) -> None:
    box.subscribe()
    box.put(id=100)
    box.ingest()
    box.put(id=50)
    box.put(id=-7)
    box.put(id=101)
    copy = tmp_path / "clone.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    done = acceptance.accept_clone(copy, default_tenant="", max_payload=1_000, now=NOW)
    assert (done.taken_in, done.cancelled) == (3, 1)
    clone = Box(copy, known_mark=lockfile.read(copy))
    assert [found.events for found in clone.sweep_all() if found.events] == []
    assert clone.ingest().events == 0
    clone.close()


def test_the_lock_file_is_written_through_no_link(box: Box, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, lockfile.beside(box.path))  # noqa: PTH211 - said as the attacker would
    with pytest.raises(DatabaseError, match="is a link"):
        lockfile.LockFile.acquire(box.path)
    lockfile.raise_mark(box.path, box.store.mark())
    assert victim.read_text() == "precious"


def test_G10_a_lock_file_that_is_taken_away_is_noticed(box: Box) -> None:
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(pid=1)
    assert lock.is_ours()
    lockfile.beside(box.path).unlink()
    assert not lock.is_ours()
    lock.release()
