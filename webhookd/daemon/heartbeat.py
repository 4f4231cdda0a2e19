"""The beat in the lock file: what others can see of a daemon without asking it."""

from typing import Final, Protocol

import trio

from webhookd.core.model import SubscriptionKey
from webhookd.core.times import to_text
from webhookd.daemon.clock import Clock, next_tick
from webhookd.daemon.recorder import Recorder
from webhookd.daemon.storage import AsyncStore
from webhookd.daemon.tailer import Tailer
from webhookd.store import lockfile
from webhookd.store.ranges import runs

EVERY: Final = 1.0
"""Seconds between two beats."""

MOST_PROBLEMS: Final = 20
"""Problems that the lock file names one by one."""


class Beating(Protocol):
    """A daemon, as far as it is seen from outside."""

    clock: Clock
    store: AsyncStore
    recorder: Recorder
    tailer: Tailer

    @property
    def problems(self) -> list[str]:
        """What a person should look at, one line each; the last of many are not named."""

    @property
    def held_back(self) -> list[SubscriptionKey]:
        """The subscriptions that cannot be delivered to, by key."""

    def stop(self) -> None:
        """Take nothing new and end."""


async def beat(daemon: Beating, lock: lockfile.LockFile) -> None:
    """Say once a second that the loop turns, and how it is doing.

    Stops the daemon if the lock file was taken away: it may no longer be alone.
    """
    while True:
        if not lock.is_ours():
            # What is known already is recorded first: to forget it would be to send it again.
            daemon.stop()
            return
        caught_up = daemon.tailer.caught_up_at
        lock.write(
            heartbeat_at=to_text(daemon.clock.now()),
            write_wait_seconds=round(daemon.store.wait_seconds, 3),
            unrecorded=daemon.recorder.unrecorded,
            caught_up_at=None if caught_up is None else to_text(caught_up),
            problems=_shortened(daemon.problems),
            held_back=runs(daemon.held_back),
            **daemon.store.store.mark(),
        )
        await trio.sleep_until(next_tick(EVERY))


def _shortened(problems: list[str]) -> list[str]:
    """What fits into the lock file, which is written at every commit."""
    if len(problems) <= MOST_PROBLEMS:
        return problems
    return [*problems[:MOST_PROBLEMS], f"and {len(problems) - MOST_PROBLEMS} more; see the log"]
