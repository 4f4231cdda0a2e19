"""A lane: all that is sent to one subscription, and nothing that another one could feel.

It is started when something is due and ends when nothing is, so quiet subscriptions cost nothing.
It owns a small window of due deliveries, its workers, and their connections. A worker takes the
next delivery, makes one attempt, hands the outcome to the recorder and goes on; the delivery stays
in `_under_way`, and its line closed, until the file has the outcome.

Whatever wakes a lane says only "read again": the database is the queue.
"""

from collections import deque
from contextlib import ExitStack, suppress
from typing import Final

import trio

from webhookd.core.model import DeliveryId, Millis, SubscriptionKey
from webhookd.core.storage import Due, Record
from webhookd.daemon.attempt import READ_AGAIN, Channel, Shared, make
from webhookd.daemon.pace import Pace
from webhookd.daemon.recorder import Outcome
from webhookd.daemon.roster import Member
from webhookd.errors import StoreBusy, WebhookdError

WINDOW: Final = 100
"""Due deliveries read at once: a read of about 1 ms."""


class Lane:
    """The delivering of one subscription, from the first that is due until none is."""

    def __init__(self, member: Member, shared: Shared, pace: Pace) -> None:
        self.member = member
        self._shared = shared
        self._pace = pace
        self._sending = 0
        self._window: deque[Due] = deque()
        self._under_way: dict[DeliveryId, Due] = {}
        self._closed: set[int] = set()
        self._of_old_lines: set[DeliveryId] = set()
        """Under way since before the ordering was changed: their lines are not known any more."""
        self._may_be_more = True
        self._read_until: Millis | None = None
        """The wall time up to which all that was due has been read; None: nobody knows."""
        self._passed_over = False
        self._workers = 0
        self._resting = trio.lowlevel.ParkingLot()
        self._asking: trio.CancelScope | None = None
        """While a worker waits for its place. No other takes anything then: it could but wait too,
        and thousands of lanes would have a crowd each."""
        self._nursery: trio.Nursery | None = None
        self._finished = trio.Event()
        self._edition = 0
        self._news = 0
        """Times that something which waits for its turn may have given way to a newer one."""
        self._unrecorded = 0
        """Outcomes that the file does not have yet."""
        self._unsettled = False
        """What the file says of the health is to be taken over once it has all outcomes."""
        self._disabled = False
        """By a rule, as far as is known here: it ends, and the file decides what follows."""
        self._crash: Exception | None = None
        self.stopping = False
        self.missing_secret = False
        """It stopped because no secret is live any more."""

    @property
    def over(self) -> bool:
        """It has ended, or is about to: whoever wants more sent starts another one."""
        return self._finished.is_set()

    async def run(self) -> None:
        """Deliver until nothing is due, or until `stop`; all outcomes are recorded by then.

        A worker's bug stops the lane in the same gentle way, and is raised at its end: whoever
        starts the next lane must find no line open whose outcome the file does not have.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._employ()
                try:
                    await self._finished.wait()
                finally:
                    self._nursery = None  # cut off: whoever still wakes it hires nobody
        finally:
            self._finished.set()
        if self._crash is not None:
            raise self._crash

    def wake(self) -> None:
        """Something may have become due."""
        self._look_again()
        self._employ()

    def news(self) -> None:
        """The file has something new at the head of a line; perhaps in the place of another."""
        if self.member.subscription.policy.coalesce:
            self._window.clear()  # what gave way must not be sent any more
            self._news += 1
        self.wake()

    def update(self, member: Member) -> None:
        """The subscription was edited (or enabled again): that counts from the next attempt on.

        What was read from the file is read again: an operator may have changed that too.
        """
        if member.subscription.policy.ordering is not self.member.subscription.policy.ordering:
            self._of_old_lines.update(self._under_way)
        self.member = member
        self.stopping = self.missing_secret or self._disabled or self._crash is not None
        self.reread()

    def reread(self) -> None:
        """An operator changed deliveries, or let go what was held back: read it all again."""
        self._edition += 1
        self._stop_asking()
        self._window.clear()
        self._unsettled = True
        self._settle()
        self.wake()

    def stop(self) -> None:
        """Begin no further attempt; those under way go on."""
        self.stopping = True
        self._stop_asking()
        self._window.clear()
        self._resting.unpark_all()
        self._finish_if_idle()

    def _look_again(self) -> None:
        self._may_be_more = True
        self._read_until = None

    def _stop_asking(self) -> None:
        """What waits for a place may be out of date, or its place be on another host."""
        if self._asking is not None:
            self._asking.cancel()

    def _settle(self) -> None:
        """Take over what the file says of the health, if it has all that is known here."""
        if self._unsettled and not self._unrecorded:
            with suppress(StoreBusy):
                self._pace.settle(self._shared.store.health(self.member.subscription.key))
                self._unsettled = False

    @property
    def _limit(self) -> int:
        return self._pace.limit(self.member.subscription.policy)

    def _employ(self) -> None:
        """Set one more worker to work, if there may be work and a place for it."""
        if self.stopping or self._nursery is None or self.over:
            return
        if self._asking is not None:
            return  # once that one has its place, it calls for the next
        if self._resting:
            self._resting.unpark()
        elif self._workers < self._limit:
            self._workers += 1
            self._nursery.start_soon(self._work, name=f"lane {self.member.subscription.id}")

    async def _work(self) -> None:
        channel: Channel | None = None
        try:
            channel = self._shared.sender.channel()
            while not self.stopping:
                if self._workers > self._limit:
                    break
                due = self._take()
                if due is not None:
                    await self._deliver(channel, due)
                elif not await self._rest():
                    break
        except (trio.Cancelled, WebhookdError):
            self.stopping = True  # else the next worker would be hired, to the same end, for ever
            raise
        except Exception as error:  # noqa: BLE001 - `run` raises it, once the others are done
            self._crash = error
            self.stop()
        finally:
            self._workers -= 1
            if self._may_be_more:
                self._employ()  # what woke this one as it left, or found no place for another
            if channel is not None:
                with trio.move_on_after(1) as closing:
                    closing.shield = True
                    await channel.aclose()
            self._finish_if_idle()

    def _take(self) -> Due | None:
        """The next delivery that may be attempted now; it counts as under way from here on."""
        if self._asking is not None:
            return None
        shared, subscription = self._shared, self.member.subscription
        key = subscription.key
        until = self._pace.not_before(subscription.policy)
        if until is not None:
            self._may_be_more = False
            shared.alarm(key, until)
            return None
        if self._pace.is_probing and self._window:
            # Few requests go out, so each is chosen anew: what came in meanwhile may go before.
            self._window.clear()
            self._look_again()
        if self._of_old_lines:
            self._passed_over = True  # whichever line they closed: all wait until they are recorded
            return None
        due = self._next_in_window()
        if due is None and self._may_be_more:
            due = self._read()
        if due is None:
            return None
        self._under_way[due.id] = due
        if due.order_key:
            self._closed.add(due.order_key)
        return due

    def _read(self) -> Due | None:
        """The first of what is due in the file; where none is, an alarm is set for the next."""
        shared, key = self._shared, self.member.subscription.key
        now = shared.clock.now()
        try:
            while True:
                seen = self._read_until
                if seen is None:
                    seen, self._passed_over = now, False
                    found = shared.store.due(key, now, WINDOW, self._under_way)
                    self._read_until = now if len(found) < WINDOW else None
                    self._window.extend(found)
                    due = self._next_in_window()
                    if due is not None:
                        return due
                    now = shared.clock.now()
                due_at = shared.store.next_due(key, seen)
                if due_at is None or due_at > now:
                    break
                self._read_until = None
        except StoreBusy:
            shared.alarm(key, now + READ_AGAIN)
            return None
        self._may_be_more = False
        if due_at is not None:
            shared.alarm(key, due_at)
        return None

    def _next_in_window(self) -> Due | None:
        if self._pace.is_probing:
            # First attempts first: what has failed before is a poorer witness of being well again.
            self._window = deque(sorted(self._window, key=lambda due: due.tries > 0))
        while self._window:
            due = self._window.popleft()
            if due.order_key not in self._closed:
                return due
            # It was put before one that is being attempted now, and waits for that one.
            self._passed_over = True
        return None

    async def _rest(self) -> bool:
        """Wait for work with the connection kept; False when it is time to go home."""
        # With more to come there was no reading: then the alarm wakes it, and no other is hired.
        least = READ_AGAIN / 1000 if self._may_be_more else 0.0
        with trio.move_on_after(max(self._shared.linger, least)):
            await self._resting.park()
            return True
        return False

    async def _deliver(self, channel: Channel, due: Due) -> None:
        shared, edition, news = self._shared, self._edition, self._news
        key, host = self.member.subscription.key, self.member.subscription.url.host
        recorded: Record | None = None
        placed = may_go = self._place_now(key, host)
        try:
            if not placed:
                placed = await self._place(key, host)
                # What was changed while this waited for its turn is read again first.
                may_go = placed and not self.stopping and edition == self._edition
                may_go = may_go and (news == self._news or self._is_still_due(due)) and self._may_go
            if may_go:
                self._call_the_next()
                recorded = await self._attempt(channel, due)
        finally:
            if placed:
                shared.places.give_back(key)
                shared.hosts.give_back(host, key)
            if recorded is not None:
                self._unrecorded += 1
                shared.recorder.put(Outcome(recorded, self._recorded))
            else:
                # Not attempted, or cut off: it is due in the file as before.
                if placed:
                    shared.recorder.leave()
                self._look_again()
                self._let_go(due.id)

    def _call_the_next(self) -> None:
        """Have another worker take what else is due; where nothing is, an alarm is set.

        The look is had here: a worker that found nothing would have been hired, and would have
        made the next request by a connection of its own.
        """
        if self._sending + 1 >= self._limit:
            return  # whichever ends first takes the next one
        if not self._window and self._may_be_more:
            due = self._read()
            if due is not None:
                self._window.appendleft(due)
        if self._window:
            self._employ()

    def _place_now(self, key: SubscriptionKey, host: str) -> bool:
        """Take all that an attempt needs, if nothing of it has to be waited for."""
        places, recorder = self._shared.places, self._shared.recorder
        if not (
            recorder.has_room and places.has_one(key) and self._shared.hosts.take_now(host, key)
        ):
            return False
        places.take_now(key)
        recorder.place_now()
        return True

    async def _place(self, key: SubscriptionKey, host: str) -> bool:
        """Wait for all that an attempt needs; False when that is not worth waiting for any more."""
        shared = self._shared
        try:
            with trio.CancelScope() as self._asking, ExitStack() as taken:
                await shared.hosts.take(host, key)
                taken.callback(shared.hosts.give_back, host, key)
                await shared.places.take(key)
                taken.callback(shared.places.give_back, key)
                await shared.recorder.place()
                taken.pop_all()
                return True
        finally:
            self._asking = None
        return False

    def _is_still_due(self, due: Due) -> bool:
        """Whether the file still has it as due; if that cannot be read, it is read again later."""
        shared, key = self._shared, self.member.subscription.key
        others = self._under_way.keys() - {due.id}
        with suppress(StoreBusy):
            found = shared.store.due(key, shared.clock.now(), WINDOW, others)
            return any(one.id == due.id for one in found)
        return False

    @property
    def _may_go(self) -> bool:
        """Whether one more may be under way: while this one waited, others may have failed."""
        until = self._pace.not_before(self.member.subscription.policy)
        return until is None and self._sending < self._limit

    async def _attempt(self, channel: Channel, due: Due) -> Record | None:
        """One attempt; None where none could be made and nothing is to be recorded."""
        self._sending += 1
        policy = self.member.subscription.policy
        number = self._shared.under_way.begin(policy.timeout)
        try:
            made = await make(lambda: self.member, self._shared, channel, due)
        finally:
            self._shared.under_way.end(number)
            self._sending -= 1
        if made.missing_secret:
            self.missing_secret = True
            self.stop()
        if made.record is not None and made.record.attempt is not None:
            policy = self.member.subscription.policy
            if self._pace.note(due, made.record.move, made.record.signs, policy) is not None:
                # Nothing more is sent from here on, however long the file has to be waited for.
                self._disabled = True
                self.stop()
        return made.record

    def _recorded(self, delivery: DeliveryId) -> None:
        self._unrecorded -= 1
        was_unsettled = self._unsettled
        self._settle()
        self._let_go(delivery)
        if was_unsettled and not self._unsettled:
            self.wake()

    def _let_go(self, delivery: DeliveryId) -> None:
        """The file has the outcome, or there is none: the line is open again."""
        due = self._under_way.pop(delivery)
        self._closed.discard(due.order_key)
        self._of_old_lines.discard(delivery)
        if self._passed_over:
            self.wake()
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        if self._workers or self._under_way:
            return
        if self._may_be_more and not self.stopping:
            self._employ()
        else:
            self._finished.set()
