"""Locks, full disks, damage: what other programs do to the file, and what is said of it."""

import os
import sqlite3 as other_sqlite
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.store.conftest import NOW, Box
from webhookd.errors import DatabaseError, StoreBusy, StoreUnwritable
from webhookd.store import driver
from webhookd.store.transaction import Session, Transaction, undo

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("INSERT INTO outbox (event_type) VALUES ('theirs')")
print("held", flush=True)
sys.stdin.readline()
connection.execute(sys.argv[3])
connection.close()
print("freed", flush=True)
"""


def test_B1_B3_a_write_lock_of_another_connection(box: Box) -> None:
    box.host.execute("BEGIN IMMEDIATE")
    box.put()
    with pytest.raises(StoreBusy, match="another program holds the write lock; try again"):
        box.store.begin()
    assert not box.store._writer.in_transaction
    assert box.store.outlook().outbox_end is None, "who only reads is not held up"
    box.host.execute("COMMIT")
    assert box.ingest().events == 1


def test_B1_a_write_lock_of_another_process(box: Box) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, box.path, "BEGIN IMMEDIATE", "COMMIT"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy):
            box.store.begin()
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "freed\n"
    assert box.ingest().events == 1


def test_B3_every_writing_transaction_is_immediate(box: Box) -> None:
    heard: list[str] = []
    box.store._writer.set_trace_callback(heard.append)
    box.put()
    box.ingest()
    assert heard[0] == "BEGIN IMMEDIATE"
    box.subscribe()
    box.put()
    box.ingest()
    box.succeed(3)
    assert not [sql for sql in heard if sql.startswith("BEGIN") and sql != "BEGIN IMMEDIATE"]


def in_delete_mode(box: Box) -> None:
    box.store.close()
    assert box.one("PRAGMA journal_mode = DELETE") == "delete"
    box.reopen()


def test_B19_delete_mode_is_kept_and_works(box: Box) -> None:
    in_delete_mode(box)
    assert box.store.journal_mode == "delete"
    box.subscribe()
    box.put(aggregate_id="S-1")
    assert box.ingest().deliveries == 1
    box.succeed(2)
    assert box.one("PRAGMA journal_mode") == "delete"


def test_B19_a_reader_holds_up_the_commit_in_delete_mode(box: Box) -> None:
    in_delete_mode(box)
    box.put()
    reading = box.host.execute("SELECT * FROM outbox")
    reading.fetchone()
    box.host.execute("BEGIN")
    box.host.execute("SELECT * FROM outbox").fetchone()
    box.store.begin()
    assert box.store.ingest(NOW).events == 1
    for _ in range(3):
        with pytest.raises(StoreBusy):
            box.store.commit()
    reading.close()
    box.host.execute("COMMIT")
    box.store.commit()
    assert box.one("SELECT count(*) FROM webhookd_events") == 1
    assert box.store.outlook().cursor == 1


def test_B19_a_writer_holds_up_readers_in_delete_mode(box: Box) -> None:
    in_delete_mode(box)
    box.host.execute("BEGIN EXCLUSIVE")
    for read in (box.store.outlook, lambda: box.store.due(1, NOW, 1, ()), box.store.subscriptions):
        with pytest.raises(StoreBusy):
            read()
    box.host.execute("COMMIT")
    assert box.store.outlook().outbox_end is None


def fill(box: Box) -> None:
    """No page is left: what SQLite says of a full disk."""
    connection = box.store._writer
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def test_B14_a_full_disk(box: Box) -> None:
    box.subscribe()
    box.put(aggregate_id="S-1", payload='"' + "x" * 500_000 + '"')
    fill(box)
    before = box.store.mark()
    for _ in range(2):
        with pytest.raises(StoreUnwritable, match="database or disk is full"):
            box.ingest()
        box.store.rollback()
    assert box.one("SELECT count(*) FROM webhookd_events") == 0
    assert box.store.mark() == before
    box.store._writer.execute("PRAGMA max_page_count = 1000000")
    assert box.ingest().events == 1


def test_B13_a_file_that_has_turned_read_only(box: Box) -> None:
    box.put()
    box.store._writer.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreUnwritable, match="cannot be written"):
        box.ingest()
    box.store.rollback()
    box.store._writer.execute("PRAGMA query_only = 0")
    assert box.ingest().events == 1


def test_B13_a_connection_that_only_reads(path: Path) -> None:
    connection = driver.connect(path, mode="ro")
    with pytest.raises(StoreUnwritable):
        Transaction(connection, path)
    assert not connection.in_transaction
    connection.close()


def test_the_reading_connection_cannot_write(box: Box) -> None:
    with pytest.raises(StoreUnwritable), driver.translated(box.path):
        box.store._reader.execute("UPDATE webhookd_file SET sequence = 7")


@pytest.mark.parametrize(
    "content",
    [b"SQLite format 3\x01" + b"x" * 5000, b"hello, this is no database at all" * 40],
)
def test_B10_no_sqlite_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "erp.db"
    path.write_bytes(content)
    for mode in ("rw", "ro"):
        with pytest.raises(DatabaseError, match="not an SQLite database"):
            driver.connect(path, mode=mode)
    assert path.read_bytes() == content


def test_B10_an_empty_file_is_not_prepared(tmp_path: Path) -> None:
    path = tmp_path / "erp.db"
    path.touch()
    with pytest.raises(DatabaseError, match="not prepared for webhookd; run `webhookd init`"):
        Session(path, write=True)
    assert path.stat().st_size == 0


def test_B11_a_damaged_page_is_told_of_and_not_touched(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    connection = driver.connect(path, mode="ro")
    root, size = connection.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master"
        " WHERE name = 'webhookd_file'"
    ).fetchone()
    connection.close()
    whole[(root - 1) * size : root * size] = b"\xee" * size
    path.write_bytes(whole)
    with pytest.raises(DatabaseError, match=r"damaged .*keep a copy.*\.recover"):
        Box(path)
    assert path.read_bytes() == bytes(whole)


def test_B5_a_missing_file_is_never_created(tmp_path: Path) -> None:
    for mode in ("rw", "ro"):
        with pytest.raises(DatabaseError, match="cannot be opened"):
            driver.connect(tmp_path / "none.db", mode=mode)
    assert list(tmp_path.iterdir()) == []


def test_B7_a_file_that_was_replaced(box: Box, template: Path) -> None:
    box.store.check_file()
    other = box.path.with_name("other.db")
    other.write_bytes(template.read_bytes())
    other.rename(box.path)
    with pytest.raises(DatabaseError, match="was replaced by another file while webhookd ran"):
        box.store.check_file()


def test_B8_a_file_that_was_deleted(box: Box) -> None:
    box.path.unlink()
    with pytest.raises(DatabaseError, match="was deleted while webhookd ran; nothing more was"):
        box.store.check_file()


def test_B8_a_deleted_file_takes_no_more_writes_in_delete_mode(box: Box) -> None:
    in_delete_mode(box)
    box.put()
    box.path.unlink()
    with pytest.raises(DatabaseError, match="was moved or deleted while it was open"):
        box.ingest()
    box.store.rollback()


def test_B9_a_restored_backup_under_a_running_daemon(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.host.execute("UPDATE webhookd_file SET sequence = 1")
    with pytest.raises(DatabaseError, match="a restored backup: its sequence is 1, but 2 was"):
        box.store.begin()
    assert not box.store._writer.in_transaction
    with pytest.raises(RuntimeError):
        box.store.commit()
    box.host.execute("UPDATE webhookd_file SET sequence = 2, uuid = 'other'")
    with pytest.raises(DatabaseError, match="another database than the one that ran here"):
        box.store.begin()


def test_B29_B31_the_host_vacuums_with_another_page_size(box: Box) -> None:
    box.subscribe()
    for _ in range(20):
        box.put(aggregate_id="S-1")
    box.ingest()
    in_delete_mode(box)
    before = box.results()
    box.host.execute("PRAGMA page_size = 8192")
    box.host.execute("VACUUM")
    assert box.one("PRAGMA page_size") == 8192
    assert box.results() == before
    box.succeed(2)
    assert box.due(1) == [4]


def test_B30_a_backup_beside_us(box: Box, tmp_path: Path) -> None:
    box.put()
    box.host.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    with Session(tmp_path / "copy.db", write=False) as session:
        found = session.connection.execute("SELECT count(*) FROM outbox").fetchone()
        assert found == (1,)
    assert box.ingest().events == 1


def test_data_version_moves_with_the_commits_of_others(box: Box) -> None:
    assert box.store.changed()
    assert not box.store.changed()
    box.put()
    assert box.store.changed()
    assert not box.store.changed()
    box.ingest()
    assert box.store.changed(), "our own writer's commit too: it is another connection"
    assert not box.store.changed()


def test_writing_connections_sync_to_the_full(box: Box) -> None:
    assert box.store._writer.execute("PRAGMA synchronous").fetchone() == (3,)
    with Session(box.path, write=True) as session:
        assert session.connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_B20_the_versions_with_the_wal_reset_bug() -> None:
    bad = ["3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2"]
    good = ["3.44.6", "3.44.9", "3.50.7", "3.51.3", "3.53.4", "4.0.0"]
    for text in bad + good:
        version = tuple(map(int, text.split(".")))
        assert driver.has_wal_reset_bug(version) is (text in bad), text


def test_the_versions_that_tell_of_their_log() -> None:
    for text, tells in {"3.44.6": False, "3.50.7": False, "3.51.2": False, "3.51.3": True}.items():
        assert driver.tells_of_wal(tuple(map(int, text.split(".")))) is tells, text


def test_B20_an_affected_library_leaves_checkpoints_to_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "has_wal_reset_bug", lambda: True)
    connection = driver.connect(path, mode="rw")
    assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (5, StoreBusy, "write lock"),
        (5 | 2 << 8, StoreBusy, "write lock"),
        (6, StoreBusy, "write lock"),
        (15, StoreBusy, "write lock"),
        (8, StoreUnwritable, "free space or rights"),
        (13, StoreUnwritable, "free space or rights"),
        (10 | 4 << 8, DatabaseError, "input/output error"),
        (11, DatabaseError, "damaged"),
        (14, DatabaseError, "cannot be opened"),
        (26, DatabaseError, "not an SQLite database"),
    ],
)
def test_what_each_error_of_sqlite_means(
    path: Path, code: int, kind: type[Exception], text: str
) -> None:
    error = driver.sqlite3.OperationalError("words of SQLite's")
    error.sqlite_errorcode = code  # type: ignore[misc]
    said = driver.explain(error, path)
    assert type(said) is kind
    assert text in str(said)
    assert str(said).startswith(f"{path}: ")
    assert "\n" not in str(said)


def test_an_error_that_is_a_bug_stays_one() -> None:
    error = driver.sqlite3.OperationalError("near FORM: syntax error")
    assert driver.explain(error, Path("/erp.db")) is error
    gone = driver.sqlite3.OperationalError("no such table: webhook_results")
    assert "run `webhookd init`" in str(driver.explain(gone, Path("/erp.db")))


def test_a_path_with_odd_characters(tmp_path: Path, template: Path) -> None:
    path = tmp_path / os.fsdecode(b"a b?c#d%20\xff.db")
    path.write_bytes(template.read_bytes())
    connection = driver.connect(path, mode="rw")
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    connection.close()


def test_a_commands_transaction_is_whole_or_nothing(box: Box) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.bump()
        raise ZeroDivisionError

    with Session(box.path, write=True) as session:
        with pytest.raises(ZeroDivisionError), session.write() as transaction:
            fail(transaction)
        assert not session.connection.in_transaction
        with pytest.raises(DatabaseError, match="webhookd_gone"), session.write() as transaction:
            transaction.connection.execute("DELETE FROM webhookd_gone")
        assert box.one("SELECT control FROM webhookd_file") == 0
        with session.write() as transaction:
            transaction.bump()
        assert session.file.control == 1
        with pytest.raises(DatabaseError, match="webhook_gone"), session.read() as connection:
            connection.execute("SELECT * FROM webhook_gone")
    assert box.one("SELECT control FROM webhookd_file") == 1


def test_a_command_notices_that_the_file_is_another_one(box: Box) -> None:
    with Session(box.path, write=True) as session:
        box.host.execute("UPDATE webhookd_file SET uuid = 'other'")
        with pytest.raises(DatabaseError, match="was replaced meanwhile"), session.write():
            raise AssertionError("never entered")
        assert not session.connection.in_transaction


def test_a_command_waits_for_the_host_and_then_says_so(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhookd.store.transaction.CLI_BUSY_SECONDS", 0.01)
    box.host.execute("BEGIN IMMEDIATE")
    with (
        Session(box.path, write=True) as session,
        pytest.raises(StoreBusy),
        session.write(),
    ):
        raise AssertionError("never entered")
    box.host.execute("ROLLBACK")


def test_undoing_never_raises() -> None:
    def fail(_: str) -> None:
        raise other_sqlite.OperationalError("disk I/O error")

    undo(SimpleNamespace(in_transaction=True, execute=fail))  # type: ignore[arg-type]


def test_B12_an_index_alone_that_is_damaged_is_told_of_and_not_touched(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.host.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    root, size = box.host.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master"
        " WHERE name = 'webhookd_deliveries_first'"
    ).fetchone()
    box.close()
    whole = bytearray(box.path.read_bytes())
    whole[(root - 1) * size : root * size] = b"\xee" * size
    box.path.write_bytes(whole)
    box.reopen()
    with pytest.raises(DatabaseError, match=r"damaged .*keep a copy.*\.recover"):
        box.due(1)
    box.store.close()
    assert box.path.read_bytes() == bytes(whole)
    box.host = driver.connect(box.path, mode="rw")


def test_B15_without_room_for_the_shm_it_is_one_clear_line(path: Path) -> None:
    shm = path.with_name(path.name + "-shm")
    shm.symlink_to(path.parent / "missing" / "shm")  # nowhere can it be made
    with pytest.raises(DatabaseError) as caught:
        driver.connect(path, mode="rw")
    line = str(caught.value)
    assert line.startswith(f"{path}: cannot be opened (")
    assert "\n" not in line
    shm.unlink()
    driver.connect(path, mode="rw").close()


@pytest.mark.parametrize("code", [10, 10 | 4 << 8, 10 | 3 << 8], ids=["plain", "fsync", "write"])
def test_B16_an_error_of_the_disk_ends_the_use_of_the_file(path: Path, code: int) -> None:
    error = driver.sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    found = driver.explain(error, path)
    assert isinstance(found, DatabaseError)
    assert str(found) == f"{path}: input/output error (disk I/O error); check the disk"
