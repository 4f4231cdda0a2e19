"""The attempts under way at once over all lanes, shared so that nobody's trouble is another's.

There are `total` places. Two rules keep them from being taken up by receivers that hang:

- while several lanes want places, none has more than its equal share of them;
- lanes whose latest attempt failed for want of health together have half of them at most.

Lanes are served in turn, and a lane's own workers in the order of their asking.
"""

from collections import Counter, OrderedDict, deque

import trio

from webhookd.core.model import SubscriptionKey


class Places:
    """Gives places to attempts. Lives in one run of trio."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._for_troubled = max(1, total // 2)
        self._held: Counter[SubscriptionKey] = Counter()
        self._taken = 0
        self._taken_by_troubled = 0
        self._troubled: set[SubscriptionKey] = set()
        self._waiting: OrderedDict[SubscriptionKey, deque[trio.Event]] = OrderedDict()

    async def take(self, key: SubscriptionKey) -> None:
        """Wait for a place for one attempt of this lane; `give_back` ends it."""
        if self._may_take(key) and key not in self._waiting:
            self._grant(key)
            return
        turn = trio.Event()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():  # it was granted in the very moment of the cancellation
                self.give_back(key)
            else:
                self._forget(key, turn)
                self._serve()
            raise

    def give_back(self, key: SubscriptionKey) -> None:
        """The attempt is over."""
        self._taken -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        if key in self._troubled:
            self._taken_by_troubled -= 1
        self._serve()

    def report(self, key: SubscriptionKey, *, healthy: bool) -> None:
        """How the lane's latest attempt ended: by it the lane counts as troubled or not."""
        if healthy is (key not in self._troubled):
            return
        if healthy:
            self._troubled.discard(key)
            self._taken_by_troubled -= self._held[key]
        else:
            self._troubled.add(key)
            self._taken_by_troubled += self._held[key]
        self._serve()

    def _may_take(self, key: SubscriptionKey) -> bool:
        if self._taken >= self._total:
            return False
        if key in self._troubled and self._taken_by_troubled >= self._for_troubled:
            return False
        wanting = len(self._held.keys() | self._waiting.keys() | {key})
        return self._held[key] < -(-self._total // wanting)

    def _grant(self, key: SubscriptionKey) -> None:
        self._taken += 1
        self._held[key] += 1
        if key in self._troubled:
            self._taken_by_troubled += 1

    def _serve(self) -> None:
        """Give what is free to those that wait, one each in turn."""
        passed = 0
        while self._waiting and self._taken < self._total and passed < len(self._waiting):
            key = next(iter(self._waiting))
            self._waiting.move_to_end(key)
            if not self._may_take(key):
                passed += 1
                continue
            passed = 0
            turn = self._waiting[key][0]
            self._forget(key, turn)
            self._grant(key)
            turn.set()

    def _forget(self, key: SubscriptionKey, turn: trio.Event) -> None:
        queue = self._waiting[key]
        queue.remove(turn)
        if not queue:
            del self._waiting[key]
