"""Connecting: which address is tried when, and what it comes to when none will do."""

import errno
import os
import resource
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from webhookd.core.model import Fault, FaultKind, Phase
from webhookd.http.dial import connect, interleave
from webhookd.http.limits import Limits

LIMITS = Limits(stagger=100)


@contextmanager
def listening(host, port=0):
    """A port that takes connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, port))
        listener.listen(5)
        yield listener.getsockname()[1]


@contextmanager
def black_hole(host, port=0):
    """A port that neither takes nor refuses: its backlog is full, and what comes is dropped."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket(family)
            filler.setblocking(False)
            filler.connect_ex((host, port))
            fillers.append(filler)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


def fds():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("addresses", "ordered"),
    [
        (["1.1.1.1"], ["1.1.1.1"]),
        (["::2", "::3", "1.1.1.1", "2.2.2.2"], ["::2", "1.1.1.1", "::3", "2.2.2.2"]),
        (["1.1.1.1", "2.2.2.2", "::2"], ["1.1.1.1", "::2", "2.2.2.2"]),
        (["1.1.1.1", "1.1.1.1", "::2"], ["1.1.1.1", "::2"]),
    ],
)
def test_the_families_take_turns(addresses, ordered):
    assert interleave(addresses) == ordered


async def test_the_connection_is_made_for_small_writes():
    with listening("127.0.0.1") as port:
        connected = await connect(["127.0.0.1"], port, LIMITS)
        assert isinstance(connected, socket.socket)
        with connected:
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connected.getpeername() == ("127.0.0.1", port)


async def test_C26_a_broken_family_costs_one_head_start():
    with black_hole("127.0.0.1") as port, listening("::1", port):
        before = trio.current_time()
        connected = await connect(["127.0.0.1", "::1"], port, LIMITS)
        assert isinstance(connected, socket.socket)
        with connected:
            assert connected.family == socket.AF_INET6
        assert 0.09 <= trio.current_time() - before < 0.5


async def test_C26_a_refusal_passes_the_turn_at_once():
    slow = Limits(stagger=60_000)
    with listening("::1") as port:
        with trio.fail_after(5):
            connected = await connect(["127.0.0.1", "::1"], port, slow)
        assert isinstance(connected, socket.socket)
        connected.close()


async def test_C26_when_all_refuse_each_is_named():
    with listening("127.0.0.1") as port:
        pass
    found = await connect(["127.0.0.1", "::1"], port, LIMITS)
    assert found == Fault(
        FaultKind.REFUSED,
        f"127.0.0.1 port {port}: Connection refused; ::1 port {port}: Connection refused",
        Phase.CONNECT,
    )


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_a_cancelled_connect_leaves_no_socket(addresses):
    with black_hole("127.0.0.1") as port:
        before = fds()
        with trio.move_on_after(0.05) as scope:
            await connect(addresses, port, LIMITS)
        assert scope.cancelled_caught
        assert fds() == before


async def test_B32_no_descriptors_is_a_fault_of_this_machine():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listening("127.0.0.1") as port:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            found = await connect(["127.0.0.1"], port, LIMITS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(found, Fault)
    assert (found.kind, found.phase) == (FaultKind.LOCAL, Phase.CONNECT)
    assert "Too many open files" in found.detail


@pytest.mark.parametrize(
    ("addresses", "code", "kind"),
    [
        (["127.0.0.1"], errno.ENETUNREACH, FaultKind.LOCAL),
        (["::1"], errno.ENETUNREACH, FaultKind.UNREACHABLE),
        (["127.0.0.1", "::1"], errno.ENETUNREACH, FaultKind.LOCAL),
        (["127.0.0.1"], errno.EHOSTUNREACH, FaultKind.UNREACHABLE),
        (["127.0.0.1"], errno.ENETDOWN, FaultKind.LOCAL),
        (["127.0.0.1"], errno.EADDRNOTAVAIL, FaultKind.LOCAL),
        (["127.0.0.1"], errno.ETIMEDOUT, FaultKind.TIMEOUT),
    ],
)
async def test_C26_no_route_is_told_from_no_network(monkeypatch, addresses, code, kind):
    monkeypatch.setattr(socket.socket, "connect_ex", lambda self, address: code)
    found = await connect(addresses, 9, LIMITS)
    assert isinstance(found, Fault)
    assert (found.kind, found.phase) == (kind, Phase.CONNECT)
