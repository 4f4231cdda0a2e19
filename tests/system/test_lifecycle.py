"""How the daemon starts, stops and makes room for the next one, as other processes see it."""

import json
import os
import signal
import sys
import time
from typing import Any

import pytest


def test_B25_second_daemon_is_refused_and_the_next_takes_over_after_a_kill(
    site: Any, receiver: Any
) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    first = site.daemon()

    second = site.daemon(ready=False)
    assert second.wait() == 5
    (line,) = second.said()
    assert line.startswith("webhookd: ")
    assert f"(pid {first.pid})" in line
    assert second.printed() == []
    assert first.code is None

    first.kill()
    third = site.daemon()
    site.insert(5)
    site.until_delivered(5)
    assert third.stop() == 0
    assert third.complaints() == []


def test_B25_lock_file_says_who_runs(site: Any, until: Any) -> None:
    site.prepare()
    lock = site.database.with_name("erp.db-webhookd.lock")
    for _ in range(2):
        daemon = site.daemon()
        said = json.loads(lock.read_text())
        assert said["pid"] == daemon.pid
        until(
            lambda said=said: json.loads(lock.read_text())["heartbeat_at"] > said["heartbeat_at"],
            "another heartbeat",
        )
        daemon.kill()


def test_E1_sigterm_finishes_what_is_under_way(site: Any, receiver: Any) -> None:
    receiver.answer(slow={"delay": 1.5})
    site.prepare()
    site.subscribe("slow", receiver.url("/slow"), "--concurrency", "2")
    daemon = site.daemon()
    site.insert(4, aggregates=4)
    receiver.until_count(2)

    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 10, "it took the whole grace, or more"

    # The two that were under way are recorded, and the other two were not begun any more.
    assert receiver.count() == 2
    assert site.states() == {"delivered": 2, "pending": 2}
    assert daemon.log("daemon.stopped")
    site.daemon()
    site.until_delivered(4)
    assert receiver.count() == 4


def test_E1_grace_that_is_over_leaves_the_attempt_owed(site: Any, receiver: Any) -> None:
    receiver.answer(slow={"delay": 60})
    site.configure('[delivery]\nshutdown_grace = "500ms"\n')
    site.prepare()
    site.subscribe("slow", receiver.url("/slow"))
    daemon = site.daemon()
    site.insert(1)
    receiver.until_count(1)

    begun = time.monotonic()
    assert daemon.stop() == 0
    assert 0.4 < time.monotonic() - begun < 10
    assert site.rows("SELECT state, attempts FROM webhook_results") == [("pending", 0)]


def test_E1_second_sigterm_ends_it_at_once(site: Any, receiver: Any) -> None:
    receiver.answer(slow={"delay": 60})
    site.prepare()
    site.subscribe("slow", receiver.url("/slow"))
    daemon = site.daemon()
    site.insert(1)
    receiver.until_count(1)

    daemon.send(signal.SIGTERM)
    daemon.until_logged("daemon.stopping")
    assert daemon.code is None
    begun = time.monotonic()
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - begun < 5
    assert site.rows("SELECT state, attempts FROM webhook_results") == [("pending", 0)]

    receiver.answer()
    site.daemon()
    site.until_delivered(1)
    first, again = receiver.requests()
    assert first["body"] == again["body"]
    assert first["headers"]["webhook-id"] == again["headers"]["webhook-id"]


@pytest.mark.parametrize("flags", [(), ("-O",), ("-I",)], ids=["plain", "optimised", "isolated"])
def test_E20_needs_nothing_of_its_surroundings(
    site: Any, receiver: Any, start: Any, bare_environment: dict[str, str], flags: tuple[str, ...]
) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    site.insert(1, kind="caf\u00e9")  # rejected, and said in the log
    site.insert(3)
    # Nobody can write to /proc, not even root.
    arguments = [sys.executable, *flags, *site.arguments("run")[1:]]
    daemon = start(arguments, env=bare_environment, cwd="/proc")
    daemon.until_logged("daemon.ready")
    site.until_delivered(3)
    assert daemon.stop() == 0
    assert daemon.complaints() == []
    assert [said["reason"] for said in daemon.log("ingest.rejected")] == ["bad_event_type"]


def test_E17_log_that_nobody_reads_stops_nothing(site: Any, receiver: Any, start: Any) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    site.insert(1_500, aggregates=500)
    # Its stderr is a pipe that is never read, so it is full after some hundred lines.
    unread, written = os.pipe()
    daemon = start(site.arguments("run"), stderr=written)
    os.close(written)
    try:
        site.until_delivered(1_500)
    finally:
        daemon.kill()
        os.close(unread)


def test_drain_delivers_and_ends(site: Any, receiver: Any) -> None:
    site.prepare()
    site.subscribe("one", receiver.url("/one"))
    site.insert(40)
    site.command("run", "--drain")
    assert site.states() == {"delivered": 40}
    assert receiver.count() == 40
