"""One attempt: the event read, the request built and sent, and what came of it made a record."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import trio

from webhookd.core import outcomes
from webhookd.core.delivery import Happening, Move
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import (
    Answer,
    Event,
    Fault,
    FaultKind,
    Millis,
    Phase,
    Policy,
    Reason,
    Subscription,
    SubscriptionKey,
    Terms,
    Url,
)
from webhookd.core.other_clocks import date_of
from webhookd.core.profiles import Unrenderable
from webhookd.core.redact import SHORTEST, redact_result
from webhookd.core.request import Request
from webhookd.core.signing import MissingSecret
from webhookd.core.storage import AttemptNote, Due, Record
from webhookd.core.store import Store
from webhookd.core.text import printable
from webhookd.core.times import to_text
from webhookd.daemon.clock import Clock, Steadiness
from webhookd.daemon.other_clocks import OtherClocks
from webhookd.daemon.pace import Brakes
from webhookd.daemon.places import HostPlaces, Places
from webhookd.daemon.progress import UnderWay
from webhookd.daemon.recorder import Recorder
from webhookd.daemon.repeats import Repeats
from webhookd.daemon.roster import Member
from webhookd.errors import StoreBusy, WebhookdError
from webhookd.logs.actions import Action, log

READ_AGAIN: Final = 100
"""Milliseconds until the file is read again that could not be read: outside WAL mode a writer that
is committing keeps readers out."""

MAX_ERROR: Final = 300
"""Characters of an error's text, as in `webhookd.core.outcomes`."""

LINGER: Final = 4.0
"""Seconds that an idle worker keeps its connection; below the 5 s after which none is reused."""


class Channel(Protocol):
    """One worker's way to its receiver, with at most one connection kept alive."""

    async def send(
        self,
        url: Url,
        wire: bytes,
        timeout: Millis,  # noqa: ASYNC109
        terms: Terms,
    ) -> Answer | Fault:
        """Make one exchange; whatever the outside does is data, not an exception."""

    async def aclose(self) -> None:
        """Close the connection, if there is one."""


class Sender(Protocol):
    """Where channels come from."""

    def channel(self) -> Channel:
        """A new channel, not connected yet."""

    def use(self, egress: EgressPolicy) -> None:
        """Judge addresses by another policy from now on; no connection outlives its leave."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all lanes share."""

    store: Store
    """For reading what is due; lanes write through the recorder alone."""
    recorder: Recorder
    sender: Sender
    clock: Clock
    steadiness: Steadiness
    """Whether the clock is to be trusted with what cannot be undone."""
    other_clocks: OtherClocks
    """Of receivers, which tell when ours is wrong."""
    places: Places
    """For the attempts under way at once over all lanes."""
    repeats: Repeats
    """Through which failures are told."""
    under_way: UnderWay
    """For whoever judges whether attempts end when they must."""
    hosts: HostPlaces
    """For those under way at once to one host."""
    brakes: Brakes
    dice: random.Random
    alarm: Callable[[SubscriptionKey, Millis], None]
    """Asks that the lane be woken (or started) at that wall time."""
    trouble: Callable[[str], None]
    """Told of a subscription, by name, whose attempt met a bug."""
    linger: float = LINGER

    def report(self, subscription: Subscription, *, healthy: bool) -> None:
        """How a subscription's attempt ended: who is ill leaves room for the others."""
        self.places.report(subscription.key, healthy=healthy)
        self.hosts.report(subscription.url.host, subscription.key, healthy=healthy)

    def forget(self, key: SubscriptionKey) -> None:
        """The subscription is gone: so is all that is kept of it from attempt to attempt."""
        self.brakes.forget(key)
        self.places.forget(key)
        self.hosts.forget(key)


class Made(NamedTuple):
    """What became of the wish to make an attempt."""

    record: Record | None = None
    """What is to be recorded; None for nothing: then it is due as before."""
    missing_secret: bool = False
    """There is no live secret to sign with, so nothing was sent."""


async def make(
    current: Callable[[], Member],
    shared: Shared,
    channel: Channel,
    due: Due,
) -> Made:
    """Make one attempt for a delivery that has a place.

    Nothing of the outside raises; a bug costs the attempt and is recorded as `internal_error`.

    Args:
        current: the subscription as it is now: it may be edited while the request is under way,
            and what comes after this attempt is by what it is then.
        shared: what all lanes share.
        channel: the worker's.
        due: what is to be sent.

    Raises:
        WebhookdError: the file is no longer usable.
    """
    member, started, begun = current(), shared.clock.now(), trio.current_time()
    policy = member.subscription.policy
    expires = policy.max_age and shared.steadiness.is_trusted
    if expires and due.since <= to_text(started - policy.max_age):
        await trio.lowlevel.checkpoint()
        move = Move(Happening.FAILED, started, Reason.EXPIRED)
        _tell_failed(member.subscription.name, due, move)
        return Made(Record(due.id, move, None, since=due.since))
    event: Event | None = None
    request: Request | None = None
    try:
        event = shared.store.event(due.event)
        if event is None:
            raise LookupError(f"event {due.event} is gone")  # noqa: TRY301 - recorded below
        request = member.renderer.render(
            event, number=due.number, attempt=due.attempts + 1, now=started
        )
        url = member.subscription.url
        # For nothing but a request: what expired must not use up the rate of what can be sent.
        shared.brakes.spend(member.subscription.key, policy)
        sent = await channel.send(url, request.wire(), policy.timeout, member.terms)
        ended = trio.current_time()
        result = await shared.brakes.outage.judge(url.host, _redacted(member, request, sent))
    except StoreBusy:
        await trio.sleep(READ_AGAIN / 1000)
        return Made()
    except WebhookdError:
        raise
    except Unrenderable as error:
        await trio.lowlevel.checkpoint()  # nothing was sent, so nothing was waited for
        return Made(_unrenderable(member, shared, due, event, error))
    except MissingSecret:
        return Made(missing_secret=True)
    except Exception as error:  # noqa: BLE001 - a bug must cost one attempt, not the lane
        shared.repeats.tell(
            Action.LANE_CRASHED,
            logging.CRITICAL,
            error=error,
            subscription=member.subscription.name,
            delivery=due.id,
        )
        shared.trouble(member.subscription.name)
        result = Fault(FaultKind.INTERNAL, printable(type(error).__name__, 80), Phase.SEND)
        ended = trio.current_time()
    if isinstance(result, Fault) and result.kind is FaultKind.LOCAL:
        return _put_off(member, shared, due, result)
    shared.brakes.outage.reached(member.subscription.key, result)
    duration = round((ended - begun) * 1000)
    attempt = _Attempt(member, due, event, request, started, duration)
    return Made(_record(attempt, current().subscription.policy, shared, result))


class _Attempt(NamedTuple):
    """One that was made, and all that belongs to it."""

    member: Member
    """As it was when the request was made."""
    due: Due
    event: Event | None
    request: Request | None
    started: Millis
    duration: Millis


def _record(attempt: _Attempt, policy: Policy, shared: Shared, result: Answer | Fault) -> Record:
    """Judge the result of an attempt, tell it, and make its record."""
    subscription, due = attempt.member.subscription, attempt.due
    if isinstance(result, Answer) and (date := date_of(result)):
        shared.other_clocks.hear(subscription.url.host, date)
    now = shared.clock.now()
    move = outcomes.judge(
        result,
        policy,
        tries=due.tries,
        started=attempt.started,
        now=now,
        jitter=shared.dice.random(),
    )
    succeeded = move.happening is Happening.SUCCEEDED
    shared.report(subscription, healthy=succeeded or not outcomes.is_ill(result))
    note = AttemptNote(
        number=due.attempts + 1,
        started_at=attempt.started,
        duration=attempt.duration,
        status=move.status,
        error_class="" if succeeded else outcomes.error_class(result),
        error=move.error,
        note=result.note if isinstance(result, Answer) else "",
        excerpt=result.excerpt if isinstance(result, Answer) else b"",
        body_hash=b"" if attempt.request is None else attempt.request.body_hash,
    )
    tell = log if succeeded else shared.repeats.tell
    tell(
        Action.ATTEMPT,
        logging.INFO,
        subscription=subscription.name,
        delivery=due.id,
        event=attempt.event.event_id if attempt.event else None,
        attempt=note.number,
        status=move.status,
        fault=move.error or None,
        duration_ms=attempt.duration,
        state=_STATE_AFTER[move.happening],
        next_attempt_at=None if move.retry_at is None else to_text(move.retry_at),
    )
    if move.happening is Happening.FAILED:
        _tell_failed(subscription.name, due, move)
    signs = None if succeeded else outcomes.signs(result, policy, now)
    return Record(due.id, move, note, signs, due.since)


def _tell_failed(name: str, due: Due, move: Move) -> None:
    log(
        Action.DELIVERY_FAILED,
        logging.WARNING,
        subscription=name,
        delivery=due.id,
        reason=move.reason,
        status=move.status,
        fault=move.error or None,
    )


def _put_off(member: Member, shared: Shared, due: Due, fault: Fault) -> Made:
    """This machine is at fault: no attempt is counted, and one record an outage says why."""
    subscription, now = member.subscription, shared.clock.now()
    # Whoever waits for this machine must not take the places of those that it still serves.
    shared.report(subscription, healthy=False)
    if not shared.brakes.outage.put_off(subscription.key, subscription.name, fault):
        return Made()
    move = outcomes.judge(
        fault, subscription.policy, tries=due.tries, started=now, now=now, jitter=0.0
    )
    return Made(Record(due.id, move, None, since=due.since))


def _unrenderable(
    member: Member, shared: Shared, due: Due, event: Event | None, error: Unrenderable
) -> Record:
    shared.repeats.tell(
        Action.UNRENDERABLE,
        logging.WARNING,
        subscription=member.subscription.name,
        delivery=due.id,
        event=event.event_id if event else None,
        fault=str(error),
    )
    now, said = shared.clock.now(), printable(str(error), MAX_ERROR)
    move = Move(Happening.FAILED, now, Reason.UNRENDERABLE, error=said)
    return Record(due.id, move, None, since=due.since)


def _redacted(member: Member, request: Request, result: Answer | Fault) -> Answer | Fault:
    if isinstance(result, Answer) and not (
        len(result.excerpt) >= SHORTEST or result.location or result.note
    ):
        return result  # as most are: there is nothing that could echo anything
    return redact_result(result, member.renderer.confidential(request))


_STATE_AFTER: Final = {
    Happening.SUCCEEDED: "delivered",
    Happening.RETRY: "pending",
    Happening.FAILED: "failed",
}
