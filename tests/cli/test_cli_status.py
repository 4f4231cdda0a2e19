"""`status`: the document, the words, the exit codes."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from webhookd.cli.commands import status as status_command
from webhookd.core import recent
from webhookd.core.times import to_text
from webhookd.store.lockfile import LockFile

KEYS = {
    "daemon": {
        *("running", "pid", "version", "started_at", "heartbeat_at"),
        *("heartbeat_seconds", "write_wait_seconds", "unrecorded"),
    },
    "database": {"path", "bytes", "wal_bytes", "free_bytes", "epoch", "sequence"},
    "outbox": {"lag_rows", "lag_seconds", "rejected", "fault"},
    "deliveries": {"pending", "delivered", "failed", "cancelled", "superseded"},
    "due": {"oldest_at", "oldest_seconds", "subscription"},
}
SUBSCRIPTION_KEYS = {
    *("id", "name", "url", "state", "state_reason", "owed", "oldest_owed_at", "delivered"),
    *("failed", "last_status", "last_error", "last_attempt_at", "last_success_at"),
    *("next_attempt_at", "disabled_at", "health", "failing_since", "held_until", "held_back"),
    *("last_hour", "urgency"),
}


@contextlib.contextmanager
def daemon(cli, **says):
    """What `status` sees of a daemon at work."""
    lock = LockFile.acquire(cli.database.resolve())
    now = to_text(time.time_ns() // 1_000_000)
    lock.write(**{"pid": 4711, "version": "0.1.0", "started_at": now, "heartbeat_at": now, **says})
    try:
        yield
    finally:
        lock.release()


def test_the_document(webhookd):
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest()
    said = webhookd.json("status", code=6)
    assert set(said) == {*KEYS, "subscriptions", "problems", "at"}
    assert {key: set(said[key]) for key in KEYS} == KEYS
    (one,) = said["subscriptions"]
    assert set(one) == SUBSCRIPTION_KEYS
    assert (one["name"], one["owed"], one["url"]) == ("partner", 1, "https://partner.example/in")
    assert said["daemon"]["running"] is False
    assert said["deliveries"]["pending"] == 1


def test_a_daemon_at_work_and_nothing_wrong_is_0(webhookd):
    webhookd.add()
    with daemon(webhookd):
        said = webhookd("status").stdout
        assert webhookd("status", "--nagios").stdout == (
            "WEBHOOKD OK - the daemon runs | lag=0 owed=0 rejected=0 failed=0 lag_seconds=0.0s;300"
            " oldest_due=0.0s write_wait=0s delivered_1h=0 failed_1h=0\n"
        )
    assert "daemon      runs (pid 4711, 0.1.0, since " in said
    assert "outbox      all taken in, 0 rejected" in said
    assert "!" not in said


def test_a_broken_capture_is_1_and_said_once(webhookd):
    webhookd.add()
    webhookd.sql("CREATE TABLE supplier (code TEXT PRIMARY KEY, name TEXT)")
    webhookd("capture", "add", "supplier", "--event-prefix", "supplier", "--id-column", "code")
    with daemon(webhookd):
        assert webhookd.json("status")["problems"] == []
    webhookd.sql("DROP TABLE supplier")
    webhookd.sql("CREATE TABLE supplier (code TEXT PRIMARY KEY, name TEXT)")
    with daemon(webhookd):
        (said,) = webhookd.json("status", code=1)["problems"]
        assert said.startswith("capture supplier: lost 4 of its 4 triggers")
        assert webhookd("status", "--nagios", code=1).stdout.startswith(
            f"WEBHOOKD WARNING - {said} | "
        )
    with daemon(webhookd, problems=[said]):
        assert webhookd.json("status", code=1)["problems"] == [said]


def test_a_late_delivery_is_1(webhookd):
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest(now=time.time_ns() // 1_000_000 - 3 * 3_600_000)
    with daemon(webhookd, write_wait_seconds=7, unrecorded=12):
        said = webhookd("status", code=1).stdout
        nagios = webhookd("status", "--nagios", code=1).stdout
    assert "! subscription partner is owed 1, the oldest since" in said
    assert "writing     has waited 7 s" in said
    assert "unrecorded  12 outcomes" in said
    assert "  3h  " in said
    assert nagios.startswith("WEBHOOKD WARNING - subscription partner is owed 1")
    assert len(nagios.splitlines()) == 1


def test_a_subscription_that_fails_is_probed_and_held_back(webhookd):
    webhookd.add()
    now = time.time_ns() // 1_000_000
    webhookd.sql(
        "UPDATE webhookd_counters SET ill = 5, failing_since = ?, held_until = ?,"
        " last_success_at = ?, last_attempt_at = ?",
        "2026-01-31T12:00:00.000Z",
        to_text(now + 600_000),
        to_text(now - 3 * 86_400_000),
        to_text(now),
    )
    with daemon(webhookd):
        said = webhookd("status").stdout
        (one,) = webhookd.json("status")["subscriptions"]
    assert "LAST SUCCESS" in said
    assert "  3d ago  " in said
    assert (
        "partner: failing since 2026-01-31T12:00:00.000Z (probing with one request at a time);"
        f" held back until {to_text(now + 600_000)} (Retry-After)\n" in said
    )
    assert one["failing_since"] == "2026-01-31T12:00:00.000Z"
    assert one["held_until"] == to_text(now + 600_000)


def test_one_that_is_well_gets_no_line_of_its_own(webhookd):
    webhookd.add()
    with daemon(webhookd):
        said = webhookd("status").stdout
    assert "partner:" not in said


def test_disabled_by_a_rule_is_1_and_says_what_to_do(webhookd):
    webhookd.add()
    webhookd.sql(
        "UPDATE webhookd_subscriptions SET state = 'disabled', state_reason = 'gone',"
        " disabled_at = '2026-01-31T12:00:00.000Z'"
    )
    why = "disabled since 2026-01-31T12:00:00.000Z: its endpoint answered 410 Gone"
    with daemon(webhookd):
        said = webhookd("status", code=1).stdout
        nagios = webhookd("status", "--nagios", code=1).stdout
    assert f"partner: {why}\n" not in said  # told once
    assert f"! subscription partner is {why}; it is owed 0; " in said
    assert "`webhookd subscriptions enable partner` sends them" in said
    assert nagios.startswith(f"WEBHOOKD WARNING - subscription partner is {why}")


def test_no_daemon_is_6_and_critical(webhookd):
    assert "daemon      does not run" in webhookd("status", code=6).stdout
    assert webhookd("status", "--nagios", code=2).stdout.startswith("WEBHOOKD CRITICAL - ")


def test_a_stalled_daemon_is_6_and_critical(webhookd):
    with daemon(webhookd, heartbeat_at="2026-01-01T00:00:00.000Z"):
        assert "daemon      is stalled (pid 4711" in webhookd("status", code=6).stdout
        webhookd("status", "--nagios", code=2)


def test_A23_an_unreadable_outbox_is_said(webhookd):
    webhookd.sql("DROP TABLE outbox")
    with daemon(webhookd):
        said = webhookd("status", code=1).stdout
    missing = "schema: table outbox missing; `webhookd init` makes it again"
    assert f"outbox      {missing}" in said
    assert f"! ingest has stopped: {missing}" in said


def test_A23_an_outbox_that_the_daemon_alone_cannot_read_is_said(webhookd):
    """Its configuration is that of its start; the command's may be a newer one, and fit."""
    missing = "schema: column outbox.body missing"
    with daemon(webhookd, problems=[f"ingest has stopped: {missing}"]):
        said = webhookd("status", code=1).stdout
        assert webhookd.json("status", code=1)["outbox"]["fault"] == missing
    assert f"outbox      {missing}" in said
    assert "all taken in" not in said


def test_rows_that_wait_are_counted(webhookd):
    webhookd.emit("a.b")
    with daemon(webhookd, caught_up_at=to_text(time.time_ns() // 1_000_000)):
        assert "outbox      1 row waits to be taken in, for up to 0 s" in webhookd("status").stdout
        webhookd.emit("a.b")
        assert "outbox      2 rows wait to be taken in" in webhookd("status").stdout


@pytest.mark.parametrize("config", ["", "[outbox]\nnonsense = 1\n"])
def test_nagios_knows_nothing_where_nothing_can_be_read(bare, config):
    bare.configure(config)
    said = bare("status", "--nagios", code=3).stdout
    assert said.startswith("WEBHOOKD UNKNOWN - ")
    assert len(said.splitlines()) == 1


def test_watch_looks_again_until_ctrl_c(webhookd, monkeypatch):
    webhookd.add()
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            webhookd.database.rename(webhookd.database.with_suffix(".gone"))
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status_command.time, "sleep", nap)
    said = webhookd("status", "--watch").stdout
    assert said.count("daemon      does not run") == 2
    assert "no such file" in said.splitlines()[-1]
    assert naps == [1.0, 1.0, 1.0]


def test_watch_json_is_a_line_a_look(webhookd, monkeypatch):
    def nap(_seconds):
        if not webhookd.database.exists():
            raise KeyboardInterrupt
        webhookd.database.unlink()

    monkeypatch.setattr(status_command.time, "sleep", nap)
    first, second = webhookd("status", "--watch", "--json").stdout.splitlines()
    assert json.loads(first)["daemon"]["running"] is False
    assert "no such file" in json.loads(second)["problems"][0]


def test_watch_ends_at_a_real_ctrl_c(webhookd):
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "webhookd", "--database", webhookd.database, "status"]
    with subprocess.Popen(
        [*command, "--watch"], stdout=terminal, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(terminal)
        said = b""
        try:
            while b"deliveries" not in said:
                said += os.read(ours, 4_096)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    os.close(ours)
    assert said.startswith(b"\x1b[H\x1b[2J")
    assert (process.returncode, errors) == (0, "")


def test_a_threshold_on_what_failed_in_the_last_hour(webhookd):
    webhookd.add()
    period = time.time_ns() // 1_000_000 // recent.SPAN
    zeros = ", 0" * recent.CLASSES
    webhookd.sql(
        f"INSERT INTO webhookd_recent SELECT 0, key, ?, 0, 2{zeros} FROM webhookd_subscriptions",
        period,
    )
    with daemon(webhookd):
        assert "failed_1h=2" in webhookd("status", "--nagios").stdout
        assert "failed_1h=2;2" in webhookd("status", "--nagios", "--max-failed", "2").stdout
        said = webhookd("status", "--nagios", "--max-failed", "1", code=1).stdout
        assert said.startswith(
            "WEBHOOKD WARNING - deliveries failed 2 times in the last hour, over"
        )
        webhookd.configure("[status]\nmax_failed = 0\n")
        webhookd("status", code=1)
        webhookd("status", "--max-failed", "5")
        webhookd("status", "--max-failed", "-1", code=2)
