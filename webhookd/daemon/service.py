"""The daemon as a service: what its manager is told of it, and whether it is still alive."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from webhookd.core.text import printable
from webhookd.daemon.dump import tell_tasks
from webhookd.daemon.notify import Notifier, watchdog
from webhookd.logs.actions import Action, log

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the daemon's progress, and so between two lines of status."""

STARTING_FOR: Final = 3 * LOOK_EVERY
"""Seconds by which a start is prolonged at each look, as long as it makes progress."""

TO_SPARE: Final = 5.0
"""Seconds for what comes after the daemon's own end: the file and the interpreter are closed."""

LONGEST_PROBLEM: Final = 300
"""Characters of a problem in the status."""


class Served(Protocol):
    """A daemon, as far as its manager is concerned."""

    read: trio.Event
    """The outbox was read for the first time."""
    stopping: trio.Event
    """It is about to end."""

    @property
    def problems(self) -> list[str]:
        """What a person should look at, one line each."""

    @property
    def figures(self) -> str:
        """How it is doing, in one line."""

    @property
    def longest_end(self) -> float:
        """Seconds that it may take from `stopping` to its end."""

    def stuck(self) -> dict[str, float]:
        """The parts that make no progress, with the seconds since they made any."""


class Service:
    """Tells a service manager how a daemon is, for as long as the daemon runs."""

    def __init__(self, daemon: Served, notifier: Notifier, watchdog_every: float | None) -> None:
        """Args:
        daemon: the one that is told of.
        notifier: whoever is told.
        watchdog_every: seconds within which the watchdog wants to hear of it; None for no watchdog.
        """
        self._daemon = daemon
        self._notifier = notifier
        self._watchdog_every = watchdog_every
        self._is_ready = False
        self._is_stuck = False
        self._status = ""

    @classmethod
    def here(cls, daemon: Served, notifier: Notifier) -> "Service":
        """With the watchdog that this process's environment asks for."""
        return cls(daemon, notifier, watchdog(os.environ, os.getpid()))

    async def run(self) -> None:
        """Tell what happens, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, name="progress")
            nursery.start_soon(self._become_ready, name="ready")
            nursery.start_soon(self._stop, name="stopping")
            if self._watchdog_every is not None:
                nursery.start_soon(self._feed, self._watchdog_every / 2, name="watchdog")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read again. Before the start is over nobody waits for that."""
        told = self._is_ready and not self._daemon.stopping.is_set()
        if told:
            self._notifier.reloading()
        try:
            yield
        finally:
            self._tell_status()
            if told and not self._daemon.stopping.is_set():
                self._notifier.ready()

    async def _become_ready(self) -> None:
        await self._daemon.read.wait()
        if not self._daemon.stopping.is_set():
            self._is_ready = True
            self._tell_status()
            self._notifier.ready()

    async def _stop(self) -> None:
        await self._daemon.stopping.wait()
        self._notifier.stopping()
        self._notifier.needs_longer(self._daemon.longest_end + TO_SPARE)

    async def _feed(self, every: float) -> None:
        while True:
            if not self._daemon.stuck():
                self._notifier.alive()
            await trio.sleep(every)

    async def _look(self) -> None:
        while True:
            self._judge(self._daemon.stuck())
            self._notifier.retell()
            is_starting = not self._is_ready and not self._daemon.stopping.is_set()
            if is_starting and not self._is_stuck:
                self._notifier.needs_longer(STARTING_FOR)
            self._tell_status()
            await trio.sleep(LOOK_EVERY)

    def _judge(self, stuck: dict[str, float]) -> None:
        """Say once what is stuck, and where all tasks are: after a restart nobody can tell."""
        if stuck and not self._is_stuck:
            log(
                Action.DAEMON_STUCK,
                logging.CRITICAL,
                parts=sorted(stuck),
                for_s=round(max(stuck.values())),
            )
            tell_tasks()
        elif self._is_stuck and not stuck:
            log(Action.DAEMON_TURNS, logging.WARNING)
        self._is_stuck = bool(stuck)

    def _tell_status(self) -> None:
        if not self._notifier.is_heard:
            return
        problems = self._daemon.problems
        said = self._daemon.figures
        if problems:
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            said = f"{said}; problem: {printable(problems[0], LONGEST_PROBLEM)}{others}"
        if said != self._status:
            self._status = said
            self._notifier.status(said)
