"""What is seen of the file from outside, before SQLite opens it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from webhookd.errors import DatabaseError
from webhookd.store import preflight
from webhookd.store.preflight import Owned, judge_owners

ERP, US, STAFF, OURS, SHARED = 100, 200, 1000, 2000, 3000


def owned(name: str, uid: int, gid: int, mode: int) -> Owned:
    return Owned(f"/srv/{name}", uid, gid, mode)


def judge(
    database: tuple[int, int, int],
    directory: tuple[int, int, int],
    *sides: tuple[int, int, int],
    uid: int = US,
    groups: frozenset[int] = frozenset({SHARED}),
) -> str | None:
    return judge_owners(
        owned("erp.db", *database),
        owned("", *directory),
        [owned(f"erp.db-{index}", *side) for index, side in enumerate(sides)],
        uid,
        OURS,
        groups,
    )


SHARED_DIRECTORY = (ERP, SHARED, 0o42770)


def test_B17_B18_what_is_fine() -> None:
    shared = (ERP, SHARED, 0o660)
    assert judge(shared, SHARED_DIRECTORY) is None
    assert judge(shared, SHARED_DIRECTORY, shared, shared) is None
    assert judge((US, OURS, 0o600), (US, OURS, 0o700)) is None, "all is ours"
    assert judge((ERP, STAFF, 0o666), (ERP, STAFF, 0o777)) is None, "open to all"
    assert judge((ERP, OURS, 0o660), (ERP, SHARED, 0o770)) is None, "our own group is theirs"
    assert judge(shared, (ERP, SHARED, 0o770), shared, shared) is None, "sides are there already"
    assert judge((ERP, STAFF, 0o600), (ERP, STAFF, 0o700), uid=0) is None, "root"
    assert judge((US, SHARED, 0o640), (US, OURS, 0o700)) is None, "its group only reads"


def test_B18_our_own_file_that_the_erp_writes_by_its_group() -> None:
    fault = judge((US, SHARED, 0o660), (US, OURS, 0o770))
    assert fault is not None
    assert "its group cannot write" in fault
    assert judge((US, SHARED, 0o660), (US, SHARED, 0o2770)) is None, "setgid keeps the group"


@pytest.mark.parametrize(
    ("database", "directory", "sides", "place", "remedy"),
    [
        ((ERP, STAFF, 0o644), SHARED_DIRECTORY, (), "erp.db: user 200 cannot write it", "g+rw"),
        ((ERP, SHARED, 0o640), SHARED_DIRECTORY, (), "erp.db: user 200 cannot write it", "chgrp"),
        ((US, SHARED, 0o460), SHARED_DIRECTORY, (), "cannot write it (owner 200", "g+rw"),
        (
            (ERP, SHARED, 0o660), SHARED_DIRECTORY, ((ERP, STAFF, 0o640),),
            "erp.db-0: user 200 cannot write it (owner 100, group 1000, mode 640)", "g+rw",
        ),
        ((ERP, SHARED, 0o660), (ERP, SHARED, 0o750), (), "cannot create files in it", "g+rwxs"),
        # No setgid: new files would get our own group.
        ((ERP, SHARED, 0o660), (ERP, SHARED, 0o770), (), "lock the ERP out", "chmod g+ws"),
        (
            (ERP, SHARED, 0o660), (ERP, SHARED, 0o770), ((ERP, SHARED, 0o660),),
            "lock the ERP out", "chgrp 3000 /srv/",
        ),
        # setgid, but to a group that is not the database's.
        ((ERP, STAFF, 0o666 & ~0o002 | 0o020), (ERP, SHARED, 0o42770), (), "cannot write it", ""),
    ],
)  # fmt: skip
def test_B17_B18_what_is_refused(
    database: tuple[int, int, int],
    directory: tuple[int, int, int],
    sides: tuple[tuple[int, int, int], ...],
    place: str,
    remedy: str,
) -> None:
    fault = judge(database, directory, *sides)
    assert fault is not None
    assert place in fault
    assert "remedy: " in fault
    assert remedy in fault
    assert "\n" not in fault


AS_ANOTHER = """
import os, sys
from pathlib import Path
from webhookd.errors import DatabaseError
from webhookd.store import driver, preflight
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
path = Path(sys.argv[1])
try:
    path = preflight.real_path(path)
    preflight.check(path)
    driver.connect(path, mode="rw").execute("INSERT INTO outbox (event_type) VALUES ('a')")
    print("fine")
except DatabaseError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_B17_B18_as_another_user(template: Path, tmp_path: Path) -> None:
    # It could write no coverage.
    environment = {name: text for name, text in os.environ.items() if "COVERAGE" not in name}

    def ask(path: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER, path, "65534"],
            capture_output=True, text=True, timeout=30, env=environment,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    # Everybody may pass to where the test's files are, for as long as it looks.
    closed = [one for one in tmp_path.parents if not one.stat().st_mode & 0o001]
    before = [(one, one.stat().st_mode & 0o7777) for one in (*closed, tmp_path)]
    home = tmp_path / "srv"
    home.mkdir()
    path = home / "erp.db"
    path.write_bytes(template.read_bytes())
    try:
        for one, mode in before:
            one.chmod(mode | 0o011)
        home.chmod(0o755)
        assert f"{path}: user 65534 cannot write it (owner 0, group 0, mode 644)" in ask(path)
        path.chmod(0o666)
        assert f"{home}: user 65534 cannot create files in it" in ask(path)
        home.chmod(0o777)
        path.chmod(0o660)
        os.chown(path, 1234, 65534)
        assert ask(path) == "fine"
        left = {one.name: (one.stat().st_gid, one.stat().st_mode & 0o777) for one in home.iterdir()}
        assert {mode for _, mode in left.values()} == {0o660}
        assert {group for group, _ in left.values()} == {65534}
        home.chmod(0o700)
        assert "Permission denied; check the rights of its directory" in ask(path)
    finally:
        for one, mode in before:
            one.chmod(mode)


MOUNTS = """\
25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 25 0:30 / /mnt/erp rw,relatime - nfs4 server:/erp rw
31 25 0:31 / /mnt/erp/local rw - xfs /dev/vdb rw
32 25 0:32 / /mnt/my\\040files rw - cifs //server/files rw
33 25 0:33 / /mnt/données\\134x rw - 9p share rw
34 25 0:34 / /over rw - nfs server:/a rw
35 25 0:35 / /over rw - ext4 /dev/vdc rw
nonsense
36 25 0:36 / - -
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/erp.db", "ext4"),
        ("/mnt/erp/erp.db", "nfs4"),
        ("/mnt/erp/local/erp.db", "xfs"),
        ("/mnt/erp2/erp.db", "ext4"),
        ("/mnt/my files/erp.db", "cifs"),
        ("/mnt/données\\x/erp.db", "9p"),
        ("/over/erp.db", "ext4"),
    ],
)
def test_B21_the_file_system_of_a_path(tmp_path: Path, path: str, kind: str) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS, encoding="utf-8")
    assert preflight.file_system(Path(path), mountinfo) == kind


def test_B21_where_it_cannot_be_told(tmp_path: Path) -> None:
    assert preflight.file_system(Path("/srv/erp.db"), tmp_path / "none") == ""
    assert preflight.file_system(tmp_path, Path("/proc/self/mountinfo")) != ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "vboxsf"])
def test_B21_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(preflight, "file_system", lambda *_: kind)
    with pytest.raises(DatabaseError, match=rf"on a network file system \({kind}\)"):
        preflight.check(path)


def test_B5_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no such file; `webhookd init` creates one"):
        preflight.check(tmp_path / "none.db")


def test_B6_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"the directory .*none does not exist"):
        preflight.real_path(tmp_path / "none" / "erp.db")


def test_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="not a regular file"):
        preflight.real_path(tmp_path)
    with pytest.raises(DatabaseError, match="not a regular file"):
        preflight.real_path(Path("/dev/null"))


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="File name too long"):
        preflight.real_path(tmp_path / ("x" * 300))
    with pytest.raises(DatabaseError, match="File name too long"):
        preflight.look(tmp_path / ("x" * 300))


def test_B24_a_link_is_followed_once(path: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    first, second = tmp_path / "links" / "first.db", tmp_path / "links" / "second.db"
    first.symlink_to(path)
    second.symlink_to("first.db")
    assert preflight.real_path(second) == path
    preflight.check(preflight.real_path(second))
    first.unlink()
    assert preflight.real_path(second) == first, "a link to nothing: where a file would be made"
