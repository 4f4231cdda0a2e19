"""`check --online`, with a receiver on a socket."""

import socket
import time
from email.utils import formatdate

import pytest

from webhookd.cli import online
from webhookd.cli.commands import check_online


def findings(webhookd, *args, code=0):
    shown = webhookd.json("check", "--online", *args, code=code)
    return [
        (one["level"], one["place"].removeprefix("online "), one["text"])
        for one in shown["findings"]
        if one["place"].startswith("online ")
    ]


@pytest.fixture
def acme(webhookd, receiver):
    webhookd.configure('[egress]\nallow = ["127.0.0.1"]\n')
    url = f"http://127.0.0.1:{receiver.server_port}/in?key=HUSHHUSH"
    webhookd("subscriptions", "add", url, "--name", "acme", "--events", "*")
    return f"127.0.0.1:{receiver.server_port}"


def test_without_consent_it_only_connects(webhookd, receiver, acme):
    assert findings(webhookd) == [("ok", "acme", f"{acme} takes connections")]
    assert receiver.asked == []
    assert "no test event was sent; --yes" in webhookd("check", "--online").stderr


def test_with_consent_one_event_goes_to_each_that_is_enabled(webhookd, receiver, acme):
    url = f"http://{acme}/other"
    webhookd("subscriptions", "add", url, "--name", "paused", "--events", "*")
    webhookd("subscriptions", "pause", "paused")
    first, second, event = findings(webhookd, "--yes")
    assert (first[1], second[1]) == ("acme", "paused")
    assert event[:2] == ("ok", "acme")
    assert event[2].endswith(" ms: a delivery would be done")
    ((path, headers, body),) = receiver.asked
    assert path == "/in?key=HUSHHUSH"
    assert headers["webhook-id"] in event[2]
    assert b"webhookd.test" in body
    assert "HUSH" not in webhookd("check", "--online", "--yes").output


@pytest.mark.parametrize("agrees", [True, False])
def test_whoever_sits_at_a_terminal_is_asked(monkeypatch, agrees):
    class Terminal:
        @staticmethod
        def isatty():
            return True

    asked = []

    def confirm(text, **_):
        asked.append(text)
        return agrees

    monkeypatch.setattr(check_online.sys, "stdin", Terminal)
    monkeypatch.setattr(check_online.click, "confirm", confirm)
    assert check_online._may_send(2, yes=False) is agrees
    assert asked == ["Send one signed event webhookd.test to 2 enabled subscriptions?"]


def test_an_event_that_is_not_taken_is_a_fault(webhookd, receiver, acme):
    receiver.status = 401
    *_, event = findings(webhookd, "--yes", code=1)
    assert event[0] == "fault"
    assert ": http 401 after " in event[2]


def test_what_cannot_be_reached_is_a_fault_of_an_enabled_one_alone(webhookd, receiver, acme):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        for name in ("gone", "paused"):
            webhookd("subscriptions", "add", url, "--name", name, "--events", "*")
        webhookd("subscriptions", "pause", "paused")
        good, gone, paused = findings(webhookd, code=1)
    assert good[0] == "ok"
    assert (gone[:2], paused[:2]) == (("fault", "gone"), ("warning", "paused"))
    assert gone[2].startswith("refused: 127.0.0.1 port ")
    assert gone[2].endswith("; see whether it is up, and whether a firewall is in between")


def test_an_address_that_is_not_allowed_is_never_connected_to(webhookd, receiver, acme):
    webhookd.configure("")
    ((level, _, text),) = findings(webhookd, code=1)
    assert level == "fault"
    assert text.startswith("blocked: ")
    assert "[egress] allow" in text


def test_tls_that_the_receiver_does_not_speak(webhookd, receiver, acme):
    webhookd("subscriptions", "update", "acme", "--url", f"https://{acme}/")
    ((level, _, text),) = findings(webhookd, code=1)
    assert level == "fault"
    assert text.startswith("tls: ")


def test_one_that_is_held_back_is_passed_over(webhookd, receiver, acme, monkeypatch):
    monkeypatch.delenv("GONE", raising=False)
    webhookd("subscriptions", "rotate-secret", "acme", "--secret", "env:GONE", "--overlap", "0")
    result = webhookd.invoke("check", "--online", "--yes")
    assert "acme is held back, so nothing was tried: env:GONE" in result.stderr
    assert "online" not in result.stdout
    assert receiver.asked == []


def test_many_are_asked_at_once_but_not_all(webhookd, receiver, acme):
    for number in range(online.AT_ONCE + 5):
        webhookd("subscriptions", "add", f"http://{acme}/{number}", "--name", f"n{number}")
    assert [one[0] for one in findings(webhookd)] == ["ok"] * (online.AT_ONCE + 6)


def test_E6_a_clock_that_differs_is_told_of(webhookd, receiver, acme):
    receiver.answer = {"Date": formatdate(time.time() - 3_600, usegmt=True)}
    *_, (level, place, text) = findings(webhookd, "--yes")
    assert (level, place) == ("warning", "clock")
    assert text.startswith("this machine's clock is 1h ahead of that of 127.0.0.1: one of the two")


def test_E6_several_receivers_convict_our_clock(webhookd, receiver, acme, monkeypatch):
    receiver.answer = {"Date": formatdate(time.time() + 3_600, usegmt=True)}
    monkeypatch.setattr("webhookd.daemon.outage.tells", lambda _: True)
    webhookd.configure('[egress]\nallow = ["127.0.0.1", "localhost"]\n')
    url = f"http://localhost:{receiver.server_port}/"
    webhookd("subscriptions", "add", url, "--name", "local", "--events", "*")
    *_, (level, place, text) = findings(webhookd, "--yes")
    assert (level, place) == ("warning", "clock")
    assert "is 1h behind the time, say 2 receivers (127.0.0.1, localhost)" in text


def test_usage(webhookd):
    assert (
        webhookd.fails("check", "--yes", code=2) == "--yes: goes with --online or --accept-restore"
    )
