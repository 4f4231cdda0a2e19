"""What goes out when an operator asks how receivers are: a connection, or one test event."""

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhookd.core import trial
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import Fault, Millis, Result
from webhookd.core.profiles import Unrenderable
from webhookd.core.redact import redact_result
from webhookd.core.request import Request
from webhookd.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webhookd.daemon.roster import Member

AT_ONCE: Final = 10
"""Receivers that are asked at the same time: with many that are silent, nobody waits for hours."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a test event."""

    result: Result
    duration: Millis


def request(member: "Member", now: Millis) -> tuple[Request, str]:
    """One signed test event as deliveries go, and its id.

    Raises:
        Refused: the subscription's format cannot say it.
    """
    event_id = str(uuid.uuid4())
    event = trial.event(member.subscription, event_id, now)
    try:
        return member.renderer.render(event, number=trial.NUMBER, attempt=1, now=now), event_id
    except Unrenderable as error:
        name = member.subscription.name
        raise Refused(f"{name}: its format cannot say a test event: {error}") from None


def send(member: "Member", wanted: Request, egress: EgressPolicy) -> Tried:
    """Send it on the subscription's terms and wait for what comes back; what it must not tell of
    our secrets is redacted."""
    import trio

    from webhookd.http.channel import Sender

    async def exchange() -> Tried:
        channel = Sender(egress).channel()
        begun = time.monotonic()
        try:
            timeout = member.subscription.policy.timeout
            result = await channel.send(wanted.url, wanted.wire(), timeout, member.terms)
        finally:
            channel.close()
        duration = round((time.monotonic() - begun) * 1000)
        return Tried(redact_result(result, member.renderer.confidential(wanted)), duration)

    return trio.run(exchange)


def reach(members: "Sequence[Member]", egress: EgressPolicy) -> list[Fault | None]:
    """Look each one's host up, judge it, connect and shake hands by TLS; nothing is sent.

    None of them may have a proxy on the way: only a request goes through one.

    Returns:
        What is in the way of each; None where nothing is.
    """
    import trio

    from webhookd.http.channel import Sender

    found: list[Fault | None] = [None] * len(members)

    async def one(at: int, sender: Sender, places: trio.CapacityLimiter) -> None:
        member = members[at]
        url, timeout = member.subscription.url, member.subscription.policy.timeout
        async with places:
            found[at] = await sender.channel().reach(url, timeout, member.terms)

    async def all_of_them() -> None:
        sender, places = Sender(egress), trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for at in range(len(members)):
                nursery.start_soon(one, at, sender, places)

    trio.run(all_of_them)
    return found
