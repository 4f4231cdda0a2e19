"""Writes as the daemon makes them: what can be found out before the lock is taken, is.

The order is that of `webhookd.daemon.storage.AsyncStore.write_after`, where nobody is in the way.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from webhookd.core.storage import Ingested, Record, Recorded
from webhookd.core.store import Store

A = TypeVar("A")
T = TypeVar("T")

Commit = Callable[[], float]
"""Makes it durable, in any thread; gives the milliseconds for which the write lock was held."""


def begun(store: Store, look: Callable[[], A], work: Callable[[A], T]) -> tuple[T, Commit]:
    """Look, take the lock, work, seal: what `work` returned, and what is left to do."""
    found = look()
    since = time.perf_counter_ns()
    store.begin()
    result = work(found)
    store.seal()

    def commit() -> float:
        store.commit()
        return (time.perf_counter_ns() - since) / 1e6

    return result, commit


def ingesting(store: Store, now: int) -> tuple[Ingested, Commit]:
    """A batch of what is in the outbox."""
    return begun(store, lambda: store.fresh(now), lambda ahead: store.ingest(now, ahead))


def recording(store: Store, records: Sequence[Record], now: int) -> tuple[Recorded, Commit]:
    """A batch of outcomes."""
    return begun(
        store, lambda: store.examine(records), lambda ahead: store.record(records, now, ahead)
    )
