"""E17: whatever stderr is, nobody who does not read it holds up the daemon."""

import io
import logging
import os
import pty
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from webhookd.logs.actions import LOGGER, Action, log
from webhookd.logs.setup import LineHandler, setup

LINES = 3_000
PATIENCE = 20.0


@contextmanager
def terminal() -> Iterator[tuple[io.TextIOWrapper, Callable[[], bytes]]]:
    """A terminal, and what reads its other end."""
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    with os.fdopen(follower, "w") as stream:
        yield stream, lambda: os.read(leader, 1 << 20)
    os.close(leader)


@contextmanager
def journal() -> Iterator[tuple[io.TextIOWrapper, Callable[[], bytes]]]:
    """A stream socket, as systemd gives to a service, and what reads its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with os.fdopen(ours.detach(), "w") as stream, theirs:
        yield stream, lambda: theirs.recv(1 << 20)


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [terminal, journal])
def test_E17_a_reader_that_stalls_holds_up_nothing(kind) -> None:
    with kind() as (stream, read):
        blocking = os.get_blocking(stream.fileno())
        setup(stream, format="text", level="info")

        def say() -> None:
            for number in range(LINES):
                log(Action.ATTEMPT, logging.INFO, number=number, pad="x" * 200)

        saying = threading.Thread(target=say, daemon=True)
        saying.start()
        saying.join(PATIENCE)
        assert not saying.is_alive()
        (handler,) = [
            one for one in logging.getLogger(LOGGER).handlers if isinstance(one, LineHandler)
        ]
        assert 0 < handler.dropped < LINES
        assert b"number=0 " in read()
        assert os.get_blocking(stream.fileno()) is blocking, "the shell's terminal is as it was"
        setup(io.StringIO(), format="text", level="info")


def test_a_terminal_that_was_opened_is_closed_again() -> None:
    with terminal() as (stream, _):
        before = descriptors()
        for _ in range(5):
            setup(stream, format="text", level="info")
        setup(io.StringIO(), format="text", level="info")
        assert descriptors() == before
