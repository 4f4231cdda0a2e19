"""Hints from the kernel that the database may have changed: inotify, by way of libc.

A hint is no more than that: it comes before the row is visible, it comes for our own commits too,
and it may be lost. Whoever gets one reads the database; a slow poll stands behind it.
"""

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

import trio

IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_Q_OVERFLOW: Final = 0x4000
_EVENT: Final = struct.Struct("iIII")
_BUFFER: Final = 64 * 1024


class Watch:
    """Watches the directory of a database, because `-wal` comes and goes with the connections."""

    def __init__(self, descriptor: int, names: frozenset[bytes]) -> None:
        self._descriptor = descriptor
        self._names = names

    @classmethod
    def open(cls, database: Path) -> "Watch | None":
        """A watch, or None where the kernel gives none (no inotify, or its limit is reached)."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return None
        if descriptor < 0:
            return None
        watched = libc.inotify_add_watch(
            descriptor, os.fsencode(database.parent), IN_MODIFY | IN_CREATE | IN_MOVED_TO
        )
        if watched < 0:
            os.close(descriptor)
            return None
        name = os.fsencode(database.name)
        return cls(descriptor, frozenset({name, name + b"-wal", name + b"-journal"}))

    async def wait(self) -> None:
        """Return when the database, its WAL or its journal was touched (or hints were lost)."""
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                events = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                continue
            if self._concerns_us(events):
                return

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)

    def _concerns_us(self, events: bytes) -> bool:
        at = 0
        while at < len(events):
            _, mask, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size
            name = events[at : at + length].rstrip(b"\0")
            at += length
            if mask & IN_Q_OVERFLOW or name in self._names:
                return True
        return False
