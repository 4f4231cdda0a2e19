"""What a service manager is told: sd_notify's protocol, in one datagram a happening.

There is nobody to tell unless `NOTIFY_SOCKET` names a socket. Telling never waits and never fails:
a manager that does not listen must not stop deliveries.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Self

MOST_UNTOLD: Final = 8
"""Changes of state that are kept for a manager whose socket is full; there are hardly more."""

LONGEST: Final = 600
"""Bytes of a status: it is one line for people."""


class Notifier:
    """Tells a service manager how the daemon is."""

    def __init__(self, address: str) -> None:
        """`address` as in `NOTIFY_SOCKET`: a path, or an abstract name after `@`; `''` for none."""
        self._address = _decoded(address)
        self._untold: list[bytes] = []
        self._socket: socket.socket | None = None
        if self._address:
            with suppress(OSError):  # out of descriptors: nobody is told
                kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """As the service manager has set it in the environment."""
        return cls(environment.get("NOTIFY_SOCKET", ""))

    @property
    def is_heard(self) -> bool:
        """Whether anybody may be listening."""
        return self._socket is not None

    def ready(self) -> None:
        """All that was asked for, a start or a reload, is done."""
        self._tell_state("READY=1")

    def reloading(self) -> None:
        """A reload has begun; `ready` follows."""
        self._tell_state(
            f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
        )

    def stopping(self) -> None:
        """The end has begun."""
        self._tell_state("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for people, instead of the one before."""
        line = " ".join(text.split()).encode("utf-8", "replace")[:LONGEST]
        self._send(b"STATUS=" + line.decode("utf-8", "ignore").encode())

    def alive(self) -> None:
        """The watchdog need not bark."""
        self._send(b"WATCHDOG=1")

    def needs_longer(self, seconds: float) -> None:
        """The start takes so much longer, counted from now."""
        self._send(b"EXTEND_TIMEOUT_USEC=%d" % round(seconds * 1_000_000))

    def retell(self) -> None:
        """Try once more to tell what could not be told."""
        while self._untold and self._send(self._untold[0]):
            del self._untold[0]

    def close(self) -> None:
        """Tell nobody any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell_state(self, said: str) -> None:
        """A state is told in its order, and is not lost where the manager was busy."""
        self._untold.append(said.encode("ascii"))
        del self._untold[:-MOST_UNTOLD]
        self.retell()

    def _send(self, said: bytes) -> bool:
        """Whether trying again would be of no use: it was sent, or there is nobody."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(said, self._address)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two signs of life that a service manager waits for; None if it does not.

    Args:
        environment: may have `WATCHDOG_USEC` and, for whom it is meant, `WATCHDOG_PID`.
        pid: this process's.
    """
    meant_for = environment.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(pid):
        return None
    said = environment.get("WATCHDOG_USEC", "")
    if not said.isascii() or not said.isdigit() or not int(said):
        return None
    return int(said) / 1_000_000


def _decoded(address: str) -> bytes:
    """The address as the kernel wants it; empty for what is none."""
    if address.startswith("@"):
        return b"\0" + os.fsencode(address[1:])
    return os.fsencode(address) if address.startswith("/") else b""
