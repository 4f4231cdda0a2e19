"""The attempts under way at once over all lanes, shared so that nobody's trouble is another's.

There are `total` places. Three rules keep them from being taken up by receivers that hang:

- a lane that has its equal share gets more only while a quarter of all is free, and after those
  that have less;
- the last eighth is for lanes that have none: so those whose receivers have just begun to hang, and
  of whom nobody knows it yet, leave the others a way out;
- lanes whose latest attempt spoke of ill health together have half of them at most. Others go
  before them, but not while they have less than an eighth: however many others there are, one that
  was ill is asked again in its turn.

Lanes are served in turn, and a lane's own workers in the order of their asking.

Each host has places of its own besides, shared by the same rules between the lanes that lead to it.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from heapq import merge
from itertools import chain, count

import trio

from webhookd.core.model import SubscriptionKey

_Queues = OrderedDict[SubscriptionKey, deque[trio.Event]]
"""Workers that wait, by lane; the lane that was served longest ago comes first."""


class Places:
    """Gives places to attempts. Lives in one run of trio."""

    def __init__(self, total: int) -> None:
        self._allot(total)
        self._held: Counter[SubscriptionKey] = Counter()
        self._taken = 0
        self._taken_by_troubled = 0
        self._troubled: set[SubscriptionKey] = set()
        self._wanting: set[SubscriptionKey] = set()
        """Lanes that hold a place or wait for one."""
        self._well_waiting: _Queues = OrderedDict()
        self._ill_waiting: _Queues = OrderedDict()
        self._since: dict[SubscriptionKey, int] = {}
        """When each lane that waits was put at the end of its queue: its place between the two."""
        self._ticks = count()

    def has_one(self, key: SubscriptionKey) -> bool:
        """Whether this lane need not wait for a place: `take` returns at once."""
        return key not in self._queues(key) and self._may_take(key)

    def take_now(self, key: SubscriptionKey) -> None:
        """Take a place, where `has_one` says so; `give_back` ends it."""
        self._wanting.add(key)
        self._grant(key)

    async def take(self, key: SubscriptionKey) -> None:
        """Wait for a place for one attempt of this lane; `give_back` ends it."""
        if self.has_one(key):
            self.take_now(key)
            return
        self._wanting.add(key)
        turn = trio.Event()
        if key not in self._queues(key):
            self._put_last(key, deque())
        self._queues(key)[key].append(turn)
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
        if key in self._troubled:
            self._taken_by_troubled -= 1
        self._leave(key)
        if self._well_waiting or self._ill_waiting:
            self._serve()

    def report(self, key: SubscriptionKey, *, healthy: bool) -> None:
        """How the lane's latest attempt ended: by it the lane counts as troubled or not."""
        if healthy is (key not in self._troubled):
            return
        before = self._queues(key)
        if healthy:
            self._troubled.discard(key)
            self._taken_by_troubled -= self._held[key]
        else:
            self._troubled.add(key)
            self._taken_by_troubled += self._held[key]
        if key in before:
            self._put_last(key, before.pop(key))
        self._serve()

    def forget(self, key: SubscriptionKey) -> None:
        """The subscription is gone."""
        self.report(key, healthy=True)

    def resize(self, total: int) -> None:
        """Have so many places from now on; attempts under way keep theirs."""
        self._allot(total)
        self._serve()

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds a place or waits for one."""
        return not self._wanting

    def _allot(self, total: int) -> None:
        self._total = total
        self._reserve = total // 4
        self._for_first = total // 8
        self._for_troubled = max(1, total // 2)
        self._for_troubled_in_turn = max(1, total // 8)

    @property
    def _share(self) -> int:
        return -(-self._total // max(1, len(self._wanting)))

    def _queues(self, key: SubscriptionKey) -> "_Queues":
        return self._ill_waiting if key in self._troubled else self._well_waiting

    def _may_take(self, key: SubscriptionKey) -> bool:
        free = self._total - self._taken
        if free <= 0 or (key in self._troubled and self._half_is_full):
            return False
        return free > self._reserve or self._is_entitled(key, free)

    def _is_entitled(self, key: SubscriptionKey, free: int) -> bool:
        """Whether it is to have one of so many that are free before those with their share."""
        held = self._held.get(key, 0)
        return held == 0 or (held < self._share and free > self._for_first)

    @property
    def _half_is_full(self) -> bool:
        return self._taken_by_troubled >= self._for_troubled

    def _grant(self, key: SubscriptionKey) -> None:
        self._taken += 1
        self._held[key] += 1
        if key in self._troubled:
            self._taken_by_troubled += 1

    def _serve(self) -> None:
        """Give what is free to those that wait, one each in turn."""
        while (key := self._next()) is not None:
            queues = self._queues(key)
            self._put_last(key, queues.pop(key))
            turn = queues[key][0]
            self._grant(key)
            self._forget(key, turn)
            turn.set()

    def _next(self) -> SubscriptionKey | None:
        """Whose turn it is; None when nobody who waits may have a place.

        Only lanes that hold a place are passed over, so no more than there are places.
        """
        free = self._total - self._taken
        if free <= 0 or not (self._well_waiting or self._ill_waiting):
            return None
        above_share: SubscriptionKey | None = None
        for key in self._in_order():
            if self._is_entitled(key, free):
                return key
            if above_share is None:
                above_share = key
        return above_share if free > self._reserve else None

    def _in_order(self) -> Iterator[SubscriptionKey]:
        """The lanes that wait and may be served."""
        if self._half_is_full:
            return iter(self._well_waiting)
        if self._taken_by_troubled < self._for_troubled_in_turn:
            return merge(self._well_waiting, self._ill_waiting, key=self._since.__getitem__)
        return chain(self._well_waiting, self._ill_waiting)

    def _put_last(self, key: SubscriptionKey, turns: deque[trio.Event]) -> None:
        self._queues(key)[key] = turns
        self._since[key] = next(self._ticks)

    def _forget(self, key: SubscriptionKey, turn: trio.Event) -> None:
        queues = self._queues(key)
        queues[key].remove(turn)
        if not queues[key]:
            del queues[key], self._since[key]
        self._leave(key)

    def _leave(self, key: SubscriptionKey) -> None:
        """Drop what is kept of a lane that neither holds a place nor waits for one."""
        if not self._held[key]:
            del self._held[key]
            if key not in self._queues(key):
                self._wanting.discard(key)


class HostPlaces:
    """The places of every host that something is under way to, each with so many."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._hosts: dict[str, Places] = {}
        self._troubled: set[SubscriptionKey] = set()
        """As in `Places`; kept here because a host's places go when nothing is under way to it."""

    def take_now(self, host: str, key: SubscriptionKey) -> bool:
        """Take one of the host's places for an attempt of this lane if it need not wait for it."""
        places = self._of(host, key)
        has_one = places.has_one(key)
        if has_one:
            places.take_now(key)
        return has_one

    async def take(self, host: str, key: SubscriptionKey) -> None:
        """Wait for one of the host's places for an attempt of this lane."""
        places = self._of(host, key)
        try:
            await places.take(key)
        except trio.Cancelled:
            self._forget(host, places)
            raise

    def give_back(self, host: str, key: SubscriptionKey) -> None:
        """The attempt is over."""
        places = self._hosts[host]
        places.give_back(key)
        self._forget(host, places)

    def report(self, host: str, key: SubscriptionKey, *, healthy: bool) -> None:
        """How the lane's latest attempt ended, which was made to that host."""
        if healthy:
            self._troubled.discard(key)
        else:
            self._troubled.add(key)
        if host in self._hosts:
            self._hosts[host].report(key, healthy=healthy)

    def forget(self, key: SubscriptionKey) -> None:
        """The subscription is gone."""
        self._troubled.discard(key)

    def resize(self, total: int) -> None:
        """Give each host so many places from now on."""
        self._total = total
        for places in self._hosts.values():
            places.resize(total)

    def _of(self, host: str, key: SubscriptionKey) -> Places:
        """The host's places, which know of the lane what is known here."""
        places = self._hosts.get(host)
        if places is None:
            places = self._hosts[host] = Places(self._total)
        places.report(key, healthy=key not in self._troubled)
        return places

    def _forget(self, host: str, places: Places) -> None:
        if places.is_idle:
            del self._hosts[host]
