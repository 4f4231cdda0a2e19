"""The times at which subscriptions must be looked at again, however many, in one heap."""

import heapq
from collections.abc import Callable
from typing import Final

import trio

from webhookd.core.model import Millis, SubscriptionKey
from webhookd.daemon.clock import LONGEST_WAIT

SPARE: Final = 64
"""Entries over what is needed that the heap may hold before it is made anew."""


class Alarms:
    """Wakes subscriptions at wall times, with one task however many there are."""

    def __init__(self, now: Callable[[], Millis]) -> None:
        """`now` gives the wall time."""
        self._now = now
        self._heap: list[tuple[Millis, SubscriptionKey]] = []
        self._earliest: dict[SubscriptionKey, Millis] = {}
        self._sooner = trio.Event()

    def set(self, key: SubscriptionKey, at: Millis) -> None:
        """Wake `key` at `at`, or sooner if that was asked for already."""
        known = self._earliest.get(key)
        if known is not None and known <= at:
            return
        self._earliest[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._earliest) + SPARE:
            # Times that sooner ones took the place of lie here until they come: a day, perhaps.
            self._heap = [(moment, one) for one, moment in self._earliest.items()]
            heapq.heapify(self._heap)
        if self._heap[0][0] == at:
            self._sooner.set()

    def due(self) -> list[SubscriptionKey]:
        """Those whose time has come; each is named once and forgotten."""
        now = self._now()
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._earliest.get(key) == at:
                del self._earliest[key]
                found.append(key)
        return found

    def clear(self) -> None:
        """Forget all times: the clock that they were set by was wrong."""
        self._heap.clear()
        self._earliest.clear()
        self._sooner.set()

    async def wait(self) -> None:
        """Until the earliest time, or a sooner one is set; never longer than `LONGEST_WAIT`."""
        wait = LONGEST_WAIT
        if self._heap:
            wait = min(wait, max(0.0, (self._heap[0][0] - self._now()) / 1000))
        self._sooner = trio.Event()
        with trio.move_on_after(wait):
            await self._sooner.wait()
