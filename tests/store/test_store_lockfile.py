"""The file beside the database."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from webhookd.core.holding import Daemon
from webhookd.errors import AnotherDaemon, DatabaseError
from webhookd.store import lockfile
from webhookd.store.lockfile import LockFile

HOLDER = """
import sys
from pathlib import Path
from webhookd.store.lockfile import LockFile
lock = LockFile.acquire(Path(sys.argv[1]))
lock.write(pid=4711, sequence=5)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "erp.db"


def test_what_is_written_can_be_read(database: Path) -> None:
    assert lockfile.read(database) == {}
    lock = LockFile.acquire(database)
    lock.write(pid=1, heartbeat_at="x")
    lock.write(pid=2)
    assert lockfile.read(database) == {"pid": 2, "heartbeat_at": "x"}
    assert lock.path == database.with_name("erp.db-webhookd.lock")
    assert lock.path.stat().st_size == lockfile.SIZE
    assert lock.path.stat().st_mode & 0o777 == 0o644
    lock.release()
    assert lockfile.read(database)["pid"] == 2


def test_a_long_line_gives_way_to_a_short_one(database: Path) -> None:
    lock = LockFile.acquire(database)
    lock.write(problems=["x" * 5_000], uuid="u")
    assert len(lockfile.read(database)["problems"][0]) == 5_000
    lock.write(problems=[])
    assert lockfile.read(database) == {"problems": [], "uuid": "u"}
    lock.release()


def test_B9_the_mark_outlives_the_next_daemons_first_words(database: Path) -> None:
    first = LockFile.acquire(database)
    mark = {"uuid": "u", "epoch": 2, "sequence": 30, "outbox_id": 4}
    first.write(pid=1, problems=["old"], **mark)
    first.release()
    second = LockFile.acquire(database)
    second.write(pid=2)
    assert lockfile.read(database) == {"pid": 2, **mark, lockfile.HIGHEST_ID: 4}
    second.release()


def test_a_commit_writes_the_mark_alone_however_much_there_is_to_say(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 subscriptions of which every second one is held back: once a second is enough."""
    written: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        written.append(len(data))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    runs = [[key, key] for key in range(1, 10_000, 2)]
    mark = {"uuid": "u" * 32, "epoch": 1, "sequence": 5, "outbox_id": -(2**63)}
    lock = LockFile.acquire(database)
    lock.write(pid=1, held_back=runs, **mark)
    assert written.pop() > 50_000
    for sequence in (6, 2**63 - 1, 7):
        lock.write(**{**mark, "sequence": sequence})
        said = lockfile.read(database)
        assert (said["sequence"], said["pid"], said["held_back"]) == (sequence, 1, runs)
    assert max(written) == lockfile.HEAD
    lock.release()


@pytest.mark.parametrize("rest", [{}, {"pid": 1}])
def test_a_mark_of_any_length_is_read_again(database: Path, rest: dict[str, object]) -> None:
    lock = LockFile.acquire(database)
    lock.write(**rest)
    for mark in ({"uuid": "u"}, {"uuid": "long" * 100}, {"uuid": "u"}, {"epoch": 2}):
        lock.write(**mark)
        rest |= mark
        assert lockfile.read(database) == rest
    lock.release()


@pytest.mark.parametrize("old", [False, True], ids=["told of", "written before it was told of"])
def test_B9_the_highest_id_of_a_file_never_goes_down(database: Path, old: bool) -> None:
    lock = LockFile.acquire(database)
    lock.write(uuid="u", outbox_id=9)
    lock.release()
    if old:
        lockfile.beside(database).write_text('{"uuid":"u","outbox_id":9}\n')
    lock = LockFile.acquire(database)
    lock.write(uuid="u", outbox_id=4)  # a restore
    lock.write(uuid="u", outbox_id=5)
    assert lockfile.highest_id(lockfile.read(database)) == 9
    lock.write(uuid="another", outbox_id=2)
    assert lockfile.highest_id(lockfile.read(database)) == 2
    lock.release()


@pytest.mark.parametrize("mark", [{}, {"outbox_id": None}, {"highest_outbox_id": "many"}])
def test_a_mark_that_tells_of_no_id(mark: dict[str, object]) -> None:
    assert lockfile.highest_id(mark) == lockfile.BELOW_ALL


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_a_damaged_lock_file_says_nothing(database: Path, content: bytes) -> None:
    lockfile.beside(database).write_bytes(content)
    assert lockfile.read(database) == {}
    lock = LockFile.acquire(database)
    lock.write(pid=1)
    assert lockfile.read(database) == {"pid": 1}
    lock.release()


def test_B25_a_second_daemon_is_refused_with_the_first_ones_pid(database: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert lockfile.is_held(database)
        with pytest.raises(AnotherDaemon, match=r"another webhookd \(pid 4711\) runs on this file"):
            LockFile.acquire(database)
        assert lockfile.read(database) == {"pid": 4711, "sequence": 5}
        holder.kill()
    assert not lockfile.is_held(database)
    LockFile.acquire(database).release()


def test_B25_twice_in_one_process(database: Path) -> None:
    lock = LockFile.acquire(database)
    with pytest.raises(AnotherDaemon, match="pid unknown"):
        LockFile.acquire(database)
    lock.release()
    LockFile.acquire(database).release()


def test_whether_it_is_held(database: Path) -> None:
    assert not lockfile.is_held(database)
    lock = LockFile.acquire(database)
    assert lockfile.is_held(database)
    lock.release()
    assert not lockfile.is_held(database)


def test_what_a_daemon_that_is_gone_has_said_counts_no_more(database: Path) -> None:
    lock = LockFile.acquire(database)
    assert lockfile.look(database) == Daemon(running=True)
    lock.write(problems=["subscription a is held back: why"])
    assert lockfile.look(database).holds_back("a", 1) == "why"
    lock.release()
    assert lockfile.look(database) == Daemon(running=False)


def test_nothing_is_held_where_there_is_no_lock_file(database: Path) -> None:
    assert not lockfile.is_held(database.with_name("none"))


def test_looking_does_not_keep_a_daemon_out(database: Path) -> None:
    first = LockFile.acquire(database)
    first.write(pid=1)
    first.release()
    descriptor = os.open(lockfile.beside(database), os.O_RDONLY)
    assert not lockfile.is_held(database)
    lock = LockFile.acquire(database)
    lock.release()
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.close(descriptor)


def test_one_that_was_never_written_to_leaves_nothing_behind(database: Path) -> None:
    LockFile.acquire(database).release()
    assert not lockfile.beside(database).exists()


def test_one_that_is_taken_away_while_another_waits_for_it_is_not_held(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = LockFile.acquire(database)
    real, locked = lockfile._lock, []

    def lock(descriptor: int, tries: int) -> bool:
        if not locked:
            first.release()  # it removes the file that this descriptor leads to
        locked.append(descriptor)
        return real(descriptor, tries)

    monkeypatch.setattr(lockfile, "_lock", lock)
    second = LockFile.acquire(database)
    assert len(locked) == 2
    assert lockfile.is_held(database)
    second.release()


def test_what_cannot_be_written_names_its_owner(database: Path) -> None:
    lockfile.beside(database).mkdir()
    assert "it was left by user" in str(lockfile.unusable(database))
    with pytest.raises(DatabaseError, match="chown it to the user that webhookd runs as"):
        LockFile.acquire(database)


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"cannot be created; webhookd needs to write in"):
        LockFile.acquire(tmp_path / "none" / "erp.db")


def test_a_line_that_is_half_written_is_looked_at_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.dumps({"pid": 1}).encode() + b"\n"
    states = iter([whole[:4], whole])
    monkeypatch.setattr(Path, "read_bytes", lambda _: next(states))
    assert lockfile.read(database) == {"pid": 1}


def test_B17_a_new_one_gets_the_owner_and_mode_of_the_database(database: Path) -> None:
    database.write_bytes(b"")
    database.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(database, 1234, 5000)
    LockFile.acquire(database).write(pid=1)
    made, owner = lockfile.beside(database).stat(), database.stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (owner.st_uid, owner.st_gid, 0o660)


def test_a_fault_of_the_system_is_one_line(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lockfile, "_open", full)
    with pytest.raises(DatabaseError, match="No space left on device; webhookd needs to write in"):
        LockFile.acquire(database)


def test_a_mark_that_is_raised_leaves_the_rest_of_the_record(database: Path) -> None:
    mark = {"uuid": "u", "epoch": 1, "sequence": 5, "outbox_id": 2}
    lock = LockFile.acquire(database)
    lock.write(version="1.2.3", heartbeat_at="then", **mark)
    lock.release()
    lockfile.raise_mark(database, {**mark, "sequence": 6})
    said = lockfile.read(database)
    assert (said["sequence"], said["version"], said["heartbeat_at"]) == (6, "1.2.3", "then")
