"""What a process of webhookd does about the signals that it knows."""

import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from webhookd.daemon.dump import tell_tasks
from webhookd.logs.actions import Action, log

KNOWN: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

DUMP_EVERY: Final = 1.0
"""Seconds: a signal for a dump that comes sooner after the last one is not answered."""


class Stoppable(Protocol):
    """A daemon, as far as signals go."""

    @property
    def grace(self) -> float:
        """Seconds that attempts under way may take to finish after `stop`."""

    @property
    def stop_asked(self) -> bool:
        """Whether `stop` was called."""

    def stop(self) -> None:
        """Take nothing new and end."""

    def cut_off(self) -> None:
        """End at once."""


def answer_no_dump_yet() -> None:
    """A signal for a dump ends nothing while there are no tasks yet: an upgrade takes its time."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@contextmanager
def received() -> Iterator[AsyncIterator[int]]:
    """The signals that come from now on; one that nobody listens for any more ends nothing."""
    for number in (signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*KNOWN) as signals:
        yield signals


async def obey(daemon: Stoppable, reload: Callable[[], None], signals: AsyncIterator[int]) -> None:
    """The first SIGTERM or SIGINT stops gently, the second at once.

    SIGHUP calls `reload`, and SIGUSR1 logs where every task is.
    """
    dumped = float("-inf")
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGUSR1:
            if trio.current_time() - dumped >= DUMP_EVERY:
                dumped = trio.current_time()
                tell_tasks()
            continue
        if number == signal.SIGHUP:
            if not daemon.stop_asked:
                reload()
            continue
        if daemon.stop_asked:
            log(Action.DAEMON_STOPPING, logging.WARNING, signal=name, grace_s=0)
            daemon.cut_off()
            return
        grace = daemon.grace
        log(Action.DAEMON_STOPPING, logging.INFO, signal=name, grace_s=grace)
        daemon.stop()
