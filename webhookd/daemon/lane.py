"""A lane: all that is sent to one subscription, and nothing that another one could feel.

It is started when something is due and ends when nothing is, so quiet subscriptions cost nothing.
It owns a small window of due deliveries, its workers, and their connections. A worker takes the
next delivery, makes one attempt, hands the outcome to the recorder and goes on; the delivery stays
in `_under_way`, and its line closed, until the file has the outcome.

Whatever wakes a lane says only "read again": the database is the queue.
"""

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from webhookd.core import outcomes
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import (
    Answer,
    DeliveryId,
    Event,
    Fault,
    FaultKind,
    Millis,
    Phase,
    Reason,
    SubscriptionKey,
    Url,
)
from webhookd.core.profiles import Unrenderable
from webhookd.core.redact import SHORTEST, redact
from webhookd.core.request import Request
from webhookd.core.signing import MissingSecret
from webhookd.core.storage import AttemptNote, Due, Record, Store
from webhookd.core.text import printable
from webhookd.core.times import to_text
from webhookd.daemon.clock import Clock
from webhookd.daemon.places import Places
from webhookd.daemon.recorder import Outcome, Recorder
from webhookd.daemon.roster import Member
from webhookd.errors import StoreBusy, WebhookdError
from webhookd.logs.actions import Action, log

WINDOW: Final = 100
"""Due deliveries read at once: a read of about 1 ms."""

READ_AGAIN: Final = 100
"""Milliseconds until the file is read again that could not be read: outside WAL mode a writer that
is committing keeps readers out."""

MAX_ERROR: Final = 300
"""Characters of an error's text, as in `webhookd.core.outcomes`."""

LINGER: Final = 4.0
"""Seconds that an idle worker keeps its connection; below the 5 s after which none is reused."""


class Channel(Protocol):
    """One worker's way to its receiver, with at most one connection kept alive."""

    async def send(self, url: Url, wire: bytes, timeout: Millis) -> Answer | Fault:  # noqa: ASYNC109 - one deadline over all
        """Make one exchange; whatever the outside does is data, not an exception."""

    async def aclose(self) -> None:
        """Close the connection, if there is one."""


class Sender(Protocol):
    """Where channels come from."""

    def channel(self) -> Channel:
        """A new channel, not connected yet."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all lanes share."""

    store: Store
    """For reading what is due; lanes write through the recorder alone."""
    recorder: Recorder
    sender: Sender
    clock: Clock
    places: Places
    """For the attempts under way at once over all lanes."""
    dice: random.Random
    alarm: Callable[[SubscriptionKey, Millis], None]
    """Asks that the lane be woken (or started) at that wall time."""
    linger: float = LINGER


class Lane:
    """The delivering of one subscription, from the first that is due until none is."""

    def __init__(self, member: Member, shared: Shared) -> None:
        self.member = member
        self._shared = shared
        self._window: deque[Due] = deque()
        self._under_way: dict[DeliveryId, Due] = {}
        self._closed: set[int] = set()
        self._may_be_more = True
        self._passed_over = False
        self._workers = 0
        self._resting = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None
        self._finished = trio.Event()
        self._edition = 0
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
        self._may_be_more = True
        self._employ()

    def update(self, member: Member) -> None:
        """The subscription was edited (or enabled again): that counts from the next attempt on.

        What was read from the file is read again: an operator may have changed that too.
        """
        self.member = member
        self.stopping = self.missing_secret or self._crash is not None
        self._edition += 1
        self._window.clear()
        self.wake()

    def stop(self) -> None:
        """Begin no further attempt; those under way go on."""
        self.stopping = True
        self._window.clear()
        self._resting.unpark_all()
        self._finish_if_idle()

    def _employ(self) -> None:
        """Set one more worker to work, if there may be work and a place for it."""
        if self.stopping or self._nursery is None or self.over:
            return
        if self._resting:
            self._resting.unpark()
        elif self._workers < self.member.subscription.policy.concurrency:
            self._workers += 1
            self._nursery.start_soon(self._work, name=f"lane {self.member.subscription.id}")

    async def _work(self) -> None:
        channel: Channel | None = None
        try:
            channel = self._shared.sender.channel()
            while not self.stopping:
                if self._workers > self.member.subscription.policy.concurrency:
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
        due = self._next_in_window()
        if due is None and self._may_be_more:
            shared = self._shared
            self._passed_over = False
            key, now = self.member.subscription.key, shared.clock.now()
            try:
                self._window.extend(shared.store.due(key, now, WINDOW, self._under_way))
            except StoreBusy:
                shared.alarm(key, now + READ_AGAIN)
                return None
            due = self._next_in_window()
            self._may_be_more = due is not None
        if due is None:
            return None
        self._under_way[due.id] = due
        if due.order_key:
            self._closed.add(due.order_key)
        if self._window:
            self._employ()
        return due

    def _next_in_window(self) -> Due | None:
        while self._window:
            due = self._window.popleft()
            if due.order_key not in self._closed:
                return due
            # It was put before one that is being attempted now, and waits for that one.
            self._passed_over = True
        return None

    async def _rest(self) -> bool:
        """Wait for work with the connection kept; False when it is time to go home."""
        shared, key = self._shared, self.member.subscription.key
        now = shared.clock.now()
        try:
            due_at = shared.store.next_due(key, now)
        except StoreBusy:
            due_at = now + READ_AGAIN
        if due_at is not None:
            shared.alarm(key, due_at)
        # With more to come there was no reading: then the alarm wakes it, and no other is hired.
        least = READ_AGAIN / 1000 if self._may_be_more else 0.0
        with trio.move_on_after(max(shared.linger, least)):
            await self._resting.park()
            return True
        return False

    async def _deliver(self, channel: Channel, due: Due) -> None:
        shared, edition, key = self._shared, self._edition, self.member.subscription.key
        recorded: Record | None = None
        placed = False
        try:
            await shared.places.take(key)
            try:
                await shared.recorder.place()
                placed = True
                # What was changed while this waited for its turn is read again first.
                if not self.stopping and edition == self._edition:
                    recorded = await self._attempt(channel, due)
            finally:
                shared.places.give_back(key)
        finally:
            if recorded is not None:
                shared.recorder.put(Outcome(recorded, self._let_go))
            else:
                # Not attempted, or cut off: it is due in the file as before.
                if placed:
                    shared.recorder.leave()
                self._may_be_more = True
                self._let_go(due.id)

    async def _attempt(self, channel: Channel, due: Due) -> Record | None:
        """One attempt; None where none could be made and nothing is to be recorded."""
        shared, member = self._shared, self.member
        number, started = due.attempts + 1, shared.clock.now()
        begun = trio.current_time()
        event: Event | None = None
        request: Request | None = None
        try:
            event = shared.store.event(due.event)
            if event is None:
                raise LookupError(f"event {due.event} is gone")  # noqa: TRY301 - recorded below
            request = member.renderer.render(event, number=due.number, attempt=number, now=started)
            result = await channel.send(
                member.subscription.url, request.wire(), member.subscription.policy.timeout
            )
        except StoreBusy:
            await trio.sleep(READ_AGAIN / 1000)
            return None
        except WebhookdError:
            raise
        except Unrenderable as error:
            log(
                Action.UNRENDERABLE,
                logging.WARNING,
                subscription=member.subscription.name,
                delivery=due.id,
                event=event.event_id if event else None,
                fault=str(error),
            )
            await trio.lowlevel.checkpoint()  # nothing was sent, so nothing was waited for
            return _unrenderable(due, str(error), started)
        except MissingSecret:
            self.missing_secret = True
            self.stop()
            return None
        except Exception as error:  # noqa: BLE001 - a bug must cost one attempt, not the lane
            log(
                Action.LANE_CRASHED,
                logging.CRITICAL,
                error=error,
                subscription=member.subscription.name,
                delivery=due.id,
            )
            result = Fault(FaultKind.INTERNAL, printable(type(error).__name__, 80), Phase.SEND)
        return self._outcome(due, event, result, request, started=started, begun=begun)

    def _outcome(
        self,
        due: Due,
        event: Event | None,
        result: Answer | Fault,
        request: Request | None,
        *,
        started: Millis,
        begun: float,
    ) -> Record:
        shared, subscription = self._shared, self.member.subscription
        shared.places.report(subscription.key, healthy=not outcomes.is_ill(result))
        duration = round((trio.current_time() - begun) * 1000)
        move = outcomes.judge(
            result,
            subscription.policy,
            tries=due.tries,
            started=started,
            now=shared.clock.now(),
            jitter=shared.dice.random(),
        )
        note = AttemptNote(
            number=due.attempts + 1,
            started_at=started,
            duration=duration,
            status=move.status,
            error_class=outcomes.error_class(result),
            error=move.error,
            note=result.note if isinstance(result, Answer) else "",
            excerpt=self._excerpt(result, request),
            body_hash=b"" if request is None else request.body_hash,
        )
        log(
            Action.ATTEMPT,
            logging.INFO,
            subscription=subscription.name,
            delivery=due.id,
            event=event.event_id if event else None,
            attempt=note.number,
            status=move.status,
            fault=move.error or None,
            duration_ms=duration,
            state=_STATE_AFTER[move.happening],
            next_attempt_at=None if move.retry_at is None else to_text(move.retry_at),
        )
        return Record(due.id, move, note)

    def _excerpt(self, result: Answer | Fault, request: Request | None) -> bytes:
        if request is None or not isinstance(result, Answer):
            return b""
        if len(result.excerpt) < SHORTEST:
            return result.excerpt
        return redact(result.excerpt, self.member.renderer.confidential(request))

    def _let_go(self, delivery: DeliveryId) -> None:
        """The file has the outcome, or there is none: the line is open again."""
        due = self._under_way.pop(delivery)
        self._closed.discard(due.order_key)
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


def _unrenderable(due: Due, error: str, now: Millis) -> Record:
    move = Move(Happening.FAILED, now, Reason.UNRENDERABLE, error=printable(error, MAX_ERROR))
    return Record(due.id, move, None)


_STATE_AFTER: Final = {
    Happening.SUCCEEDED: "delivered",
    Happening.RETRY: "pending",
    Happening.FAILED: "failed",
}
