"""sd_notify, against a real datagram socket."""

import os
import socket
import time

import pytest

from webhookd.daemon.notify import MOST_UNTOLD, Notifier, watchdog


@pytest.fixture
def manager(tmp_path):
    """What systemd has: a bound datagram socket, and its path."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bound:
        bound.bind(path)
        yield bound, path


@pytest.fixture
def notifier(manager):
    made = Notifier.of({"NOTIFY_SOCKET": manager[1]})
    yield made
    made.close()


def heard(bound):
    """All that has come so far."""
    found = []
    while True:
        try:
            found.append(bound.recv(4096).decode())
        except BlockingIOError:
            return found


def test_each_happening_is_one_datagram(manager, notifier) -> None:
    notifier.ready()
    notifier.status("two\nlines")
    notifier.alive()
    notifier.needs_longer(1.5)
    notifier.stopping()
    assert heard(manager[0]) == [
        "READY=1",
        "STATUS=two lines",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STOPPING=1",
    ]


def test_E3_a_reload_says_when_it_began_by_the_clock_of_systemd(manager, notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    (said,) = heard(manager[0])
    first, second = said.split("\n")
    assert first == "RELOADING=1"
    name, _, at = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(at) <= after


def test_an_abstract_name_is_one_too() -> None:
    name = f"webhookd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bound:
        bound.bind(f"\0{name}")
        notifier = Notifier(f"@{name}")
        notifier.ready()
        notifier.close()
        assert heard(bound) == ["READY=1"]


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/nowhere/at/all"])
def test_E16_without_anybody_there_nothing_happens(address) -> None:
    notifier = Notifier(address)
    assert notifier.is_heard is address.startswith("/")
    notifier.ready()
    notifier.status("x")
    notifier.retell()
    notifier.close()
    notifier.alive()


def test_E16_a_manager_that_does_not_read_holds_up_nothing_and_loses_no_state(
    manager, notifier
) -> None:
    bound, _ = manager
    for number in range(5_000):  # more than any socket takes
        notifier.status(f"{number}")
    notifier.ready()
    notifier.stopping()
    assert "READY=1" not in heard(bound)
    notifier.retell()
    assert heard(bound) == ["READY=1", "STOPPING=1"]
    notifier.retell()
    assert heard(bound) == []


def test_what_is_kept_for_it_is_bounded(manager, notifier) -> None:
    bound, _ = manager
    for number in range(5_000):
        notifier.status(f"{number}")
    for _ in range(1_000):
        notifier.ready()
    heard(bound)
    notifier.retell()
    assert 0 < len(heard(bound)) <= MOST_UNTOLD


def test_a_long_status_is_cut_between_characters(manager, notifier) -> None:
    notifier.status("é" * 5_000)
    (said,) = heard(manager[0])
    assert set(said.removeprefix("STATUS=")) == {"é"}


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "\u0663"}, None),
    ],
)
def test_the_watchdog_is_who_asks_this_process(environment, seconds) -> None:
    assert watchdog(environment, 7) == seconds
