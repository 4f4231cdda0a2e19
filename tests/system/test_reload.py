"""The configuration read again by a real daemon, with subscriptions declared in it."""

import json
import os
import signal
from typing import Any

import pytest

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


def block(receiver: Any, name: str, more: str = "") -> str:
    return (
        f'[[subscriptions]]\nname = "{name}"\nurl = "{receiver.url("/" + name)}"\n'
        f'secret = "env:DECLARED_SECRET"\nretry_delays = ["100ms", "300ms"]\n{more}\n'
    )


def test_E3_sighup_valid_invalid_and_valid_again(site: Any, receiver: Any, until: Any) -> None:
    environ = {**os.environ, "DECLARED_SECRET": SECRET}
    lock = site.database.with_name("erp.db-webhookd.lock")
    site.configure(block(receiver, "one"))
    site.prepare()
    daemon = site.daemon(env=environ)
    site.insert(5)
    site.until_delivered(5)

    def applied(count: int) -> Any:
        found = daemon.log("config.applied")
        return found[-1] if len(found) == count else None

    assert applied(1)["subscriptions_added"] == ["one"]

    # Valid: another subscription, another limit, and an attempt under way that goes on.
    receiver.answer(one={"delay": 1.0})
    site.insert(1)
    receiver.until_count(6, "/one")
    more = '[delivery]\nmax_in_flight = 7\n[log]\nlevel = "debug"\n'
    site.configure(more + block(receiver, "one") + block(receiver, "two"))
    daemon.send(signal.SIGHUP)
    said = until(lambda: applied(2), "the first reload")
    assert said["changed"] == ["delivery.max_in_flight: 256 -> 7", "log.level: info -> debug"]
    assert (said["subscriptions_added"], said["subscriptions_unchanged"]) == (["two"], 1)
    site.until_delivered(6)
    assert receiver.count("/one") == 6
    receiver.answer()

    # Invalid: nothing changes, one line says so, and `status` has it.
    site.configure(block(receiver, "three") + block(receiver, "two", 'evnts = ["*"]'))
    daemon.send(signal.SIGHUP)
    fault = daemon.until_logged("config.refused")
    assert fault["level"] == "error"
    line = f"{site.config}: subscriptions[2].evnts: unknown key; did you mean events?"
    assert fault["detail"].startswith(line)
    until(lambda: json.loads(lock.read_text())["problems"], "the problem in the lock file")
    # A command reads the file itself, finds it wrong in the same words, and goes on all the same.
    assert line in site.command("status", code=1).stdout
    document = json.loads(lock.read_text())
    assert len(document["problems"]) == 1
    assert line in document["problems"][0]
    site.insert(3)
    site.until_delivered(12)

    # Valid again: `one` has vanished and only accrues.
    site.configure(more + block(receiver, "two"))
    daemon.send(signal.SIGHUP)
    said = until(lambda: applied(3), "the second reload")
    assert (said["changed"], said["subscriptions_paused"]) == ([], ["one"])
    until(lambda: not json.loads(lock.read_text())["problems"], "no problem any more")
    status = json.loads(site.command("status", "--json").stdout)
    assert status["problems"] == []
    standing = {one["name"]: one["state_reason"] for one in status["subscriptions"]}
    assert standing == {"one": "removed_from_config", "two": None}
    site.insert(2)
    site.until_delivered_by("two", 5)
    assert site.states() == {"delivered": 14, "pending": 2}

    # And back: what accrued is sent, and each event went out once to each.
    site.configure(more + block(receiver, "two") + block(receiver, "one"))
    daemon.send(signal.SIGHUP)
    site.until_delivered(16)
    assert (receiver.count("/one"), receiver.count("/two")) == (11, 5)
    assert daemon.stop() == 0
    assert daemon.complaints() == []
    assert SECRET not in "".join(daemon.said())


def test_apply_reaches_a_daemon_at_work(
    site: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECLARED_SECRET", SECRET)
    site.prepare()
    daemon = site.daemon()
    site.configure(block(receiver, "one"))
    assert "added      one" in site.command("subscriptions", "apply").stdout
    site.insert(2)
    site.until_delivered(2)
    assert daemon.stop() == 0


def test_E15_a_start_with_a_bad_block_is_one_line_and_3(site: Any, receiver: Any) -> None:
    site.prepare()
    site.configure(block(receiver, "one") + block(receiver, "one"))
    daemon = site.daemon(ready=False)
    assert daemon.wait() == 3
    (line,) = daemon.said()
    assert line.startswith(f"webhookd: {site.config}: subscriptions[2].name: 'one' is the name of")


def test_without_a_file_sighup_ends_nothing(site: Any, start: Any, until: Any) -> None:
    site.prepare()
    arguments = [*site.arguments()[:3], "--database", str(site.database), "run"]
    daemon = start(arguments)
    daemon.until_logged("daemon.ready")
    daemon.send(signal.SIGHUP)
    assert daemon.until_logged("config.absent")["level"] == "info"
    assert daemon.stop() == 0
