"""A disk that fails the daemon: no room for the file that goes with the WAL, a sync that fails."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STRACE = shutil.which("strace") or ""
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
from webhookd.cli.main import main
main(sys.argv[1:])
"""


def test_B15_no_room_for_the_shared_memory_of_the_wal(site: Any, receiver: Any) -> None:
    site.prepare()
    site.subscribe("all", receiver.url("/all"))
    site.insert(3)
    shared = site.database.with_name("erp.db-shm")
    assert not shared.exists(), "the last connection took it away"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *site.arguments("run")[3:]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"webhookd: {site.database}: ")
    daemon = site.daemon()
    site.until_delivered(3)
    assert daemon.stop() == 0


def may_trace(tmp_path: Path) -> bool:
    """Whether a process may be traced here."""
    command = [STRACE, "-f", "-o", str(tmp_path / "try"), "true"]
    return (
        bool(STRACE) and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("nth", [2, 9])
def test_B16_a_sync_that_fails(
    site: Any, receiver: Any, until: Any, tmp_path: Path, nth: int
) -> None:
    """What was not synced is not taken for committed: the daemon ends, and the next one goes on."""
    if not may_trace(tmp_path):
        pytest.skip("there is no strace on this machine, or it may trace nobody")
    site.prepare()
    site.subscribe("all", receiver.url("/all"))
    inject = f"fsync,fdatasync:error=EIO:when={nth}+"
    before = (STRACE, "-f", "-o", str(tmp_path / "traced"), "-e", f"inject={inject}")
    daemon = site.daemon(ready=False, before=before)
    daemon.until_logged("daemon.ready")
    rows = 0

    def has_ended() -> bool:
        nonlocal rows
        if daemon.code is None:
            site.insert(5)
            rows += 5
        return daemon.code is not None

    until(has_ended, "the daemon meets the sync that fails", 60)
    assert daemon.code == 4, daemon.said()[-3:]
    (line,) = daemon.complaints()
    assert "input/output error" in line
    assert site.intact()
    told = {one["headers"]["webhook-id"]: one["body"] for one in receiver.requests("/all")}
    daemon = site.daemon()
    site.until_delivered(rows)
    assert daemon.stop() == 0
    bodies: dict[str, set[str]] = {}
    for one in receiver.requests("/all"):
        bodies.setdefault(one["headers"]["webhook-id"], set()).add(one["body"])
    assert len(bodies) == rows
    assert all(len(one) == 1 for one in bodies.values()), "the same bytes at every attempt"
    assert told.keys() <= bodies.keys()
    assert site.intact()
