"""Going round many subscriptions, a few at a time, so that others get their turn in between."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

import trio

from webhookd.core.model import SubscriptionKey

A_BREATH: Final = 100
"""Subscriptions looked at before others get a turn."""

BEFORE_THE_FIRST: Final = SubscriptionKey(0)


class Rounds:
    """Subscriptions that are to be looked at, each in its turn.

    As many as a breath is long are looked at on the spot, all others by `run`.
    """

    def __init__(
        self,
        waiting: Callable[[SubscriptionKey, int], list[SubscriptionKey]],
        look: Callable[[SubscriptionKey], None],
        on_idle: Callable[[], None],
    ) -> None:
        """Args:
        waiting: the next that have anything due, by key: see `webhookd.core.store.Store`.
        look: looks at one.
        on_idle: called when nobody is left to be looked at.
        """
        self._waiting = waiting
        self._look = look
        self._on_idle = on_idle
        self._queue: dict[SubscriptionKey, None] = {}
        self._place: SubscriptionKey | None = None
        """How far the round of all that wait has come; None while there is none."""
        self._once_more = False
        """Another one is to follow: something has changed behind the place."""
        self._work = trio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is left to be looked at."""
        return not self._queue and self._place is None

    def add(self, keys: Iterable[SubscriptionKey]) -> None:
        """Look at these."""
        self._queue.update(dict.fromkeys(keys))
        self._begin()

    def add_all(self) -> None:
        """Look at all that have anything due, now or later."""
        if self._place is None:
            self._place = BEFORE_THE_FIRST
            self._begin()
        else:
            self._once_more = True

    def clear(self) -> None:
        """Look at nobody that has not been looked at yet."""
        self._queue.clear()
        self._place = None
        self._once_more = False

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            while not self.is_idle:
                self._turn()
                await trio.lowlevel.checkpoint()
            self._work = trio.Event()
            self._on_idle()
            await self._work.wait()

    def _begin(self) -> None:
        if len(self._queue) <= A_BREATH:
            self._turn()
        if not self.is_idle:
            self._work.set()

    def _turn(self) -> None:
        """Look at no more than a breath is long."""
        keys = list(islice(self._queue, A_BREATH))
        for key in keys:
            del self._queue[key]
        if self._place is not None and len(keys) < A_BREATH:
            wanted = A_BREATH - len(keys)
            found = self._waiting(self._place, wanted)
            keys += found
            self._place = found[-1] if len(found) == wanted else None
            if self._place is None and self._once_more:
                self._once_more, self._place = False, BEFORE_THE_FIRST
        for key in keys:
            self._look(key)
