"""The whole program under a service manager: what it tells on a real socket."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"
WATCHDOG = 1.0
"""Seconds: a service manager's patience, made short."""


class Manager:
    """What systemd has of a service: a socket, and what came through it."""

    def __init__(self, bound: socket.socket, path: str) -> None:
        self._bound = bound
        self._heard: list[tuple[float, str]] = []
        self.environment = {
            **os.environ,
            "NOTIFY_SOCKET": path,
            "WATCHDOG_USEC": str(round(WATCHDOG * 1_000_000)),
        }

    def heard(self) -> list[str]:
        """All lines so far, in order."""
        while True:
            try:
                said = self._bound.recv(4096).decode()
            except BlockingIOError:
                return [line for _, line in self._heard]
            self._heard.extend((time.monotonic(), line) for line in said.split("\n"))

    def signs_of_life(self) -> int:
        """How often the watchdog was fed."""
        return self.heard().count("WATCHDOG=1")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bound:
        bound.bind(path)
        yield Manager(bound, path)


def test_E3_a_life_is_told_from_ready_over_a_reload_to_stopping(
    site: Any, receiver: Any, start: Any, manager: Manager, until: Callable[..., Any]
) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    daemon = start(site.arguments("run"), env=manager.environment)
    until(lambda: "READY=1" in manager.heard(), "READY=1")
    site.insert(3)
    site.until_delivered(3)

    site.config.write_text("nonsense")
    asked_at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    daemon.send(signal.SIGHUP)
    until(lambda: manager.heard().count("READY=1") == 2, "READY=1 after the reload")
    heard = manager.heard()
    begun = heard.index("RELOADING=1")
    # By this `Type=notify-reload` tells the reload that it asked for from one that was before.
    name, _, value = heard[begun + 1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert asked_at <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    assert "READY=1" in heard[begun + 2 :]
    status = [line for line in heard if line.startswith("STATUS=")][-1]
    assert "problem: the configuration was not reloaded" in status

    assert daemon.stop() == 0
    assert "STOPPING=1" in manager.heard()
    assert manager.heard().count("READY=1") == 2
    # No descriptor is left with it: a lock that outlived the daemon would keep out the next one.
    assert {line.partition("=")[0] for line in manager.heard()} <= {
        *("READY", "STATUS", "RELOADING", "MONOTONIC_USEC", "STOPPING"),
        *("EXTEND_TIMEOUT_USEC", "WATCHDOG"),
    }


def test_E7_a_loop_that_stands_still_is_noticed(
    site: Any, start: Any, manager: Manager, tmp_path: Path, until: Callable[..., Any]
) -> None:
    site.prepare()
    stall = tmp_path / "stall"
    arguments = site.arguments("run")[3:]
    daemon = start(
        [sys.executable, PROGRAMS / "stalling.py", stall, *arguments], env=manager.environment
    )
    until(lambda: manager.signs_of_life() >= 4, "signs of life")

    stall.touch()
    time.sleep(1.5)  # until the bug is met, and no sign of life is under way any more
    before = manager.signs_of_life()
    time.sleep(2 * WATCHDOG)
    assert manager.signs_of_life() == before, "a manager would not have noticed"
    assert daemon.code is None

    stall.unlink()
    until(lambda: manager.signs_of_life() > before, "signs of life again")
    assert daemon.stop() == 0


def test_SIGUSR1_tells_where_the_tasks_are(site: Any, receiver: Any, until: Any) -> None:
    receiver.answer(slow={"delay": 60})
    site.configure('[delivery]\nshutdown_grace = "100ms"\n')
    site.prepare()
    site.subscribe("slow", receiver.url("/slow?token=s3cret"))
    daemon = site.daemon()
    site.insert(1)
    receiver.until_count(1)
    daemon.send(signal.SIGUSR1)

    def tasks() -> list[str]:
        return [said["task"] for said in daemon.log("daemon.tasks")]

    until(lambda: any("lane wh_" in task and "http/" in task for task in tasks()), "the lane")
    assert "s3cret" not in "\n".join(tasks())
    assert daemon.stop() == 0
