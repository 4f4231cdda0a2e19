"""`webhookd check --online`: whether receivers can be reached, and take an event."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from webhookd.cli import online as outside
from webhookd.cli.context import App
from webhookd.cli.output import complain
from webhookd.core import other_clocks, proxies, trial
from webhookd.core.findings import Finding, Level
from webhookd.core.model import Answer, FaultKind, Millis, SubscriptionState
from webhookd.core.storage import StoredSubscription
from webhookd.core.text import counted
from webhookd.errors import Refused, WebhookdError
from webhookd.store import subscriptions

if TYPE_CHECKING:
    from webhookd.daemon.roster import Member


def online(app: App, *, yes: bool) -> Iterator[Finding]:
    """One finding a subscription for its connection, one for its test event; then of our clock.

    Who is held back is passed over: that is a finding of its own already. So is a file that cannot
    be read.
    """
    try:
        with app.session(write=False) as session, session.read() as connection:
            stored = subscriptions.load(connection)
    except WebhookdError:
        return
    reached, members = [], []
    for one, member in _members(app, stored):
        if proxies.on_the_way(member.terms, app.settings.egress.proxy) is None:
            members.append((one, member))
            continue
        place, said = f"online {one.name}", "a proxy is on the way: only a test event tells"
        yield Finding(Level.OK, place, said)
        if one.state is SubscriptionState.ENABLED:
            reached.append(member)
    faults = outside.reach([member for _, member in members], app.settings.egress)
    for (one, member), fault in zip(members, faults, strict=True):
        place = f"online {one.name}"
        if fault is not None:
            said = f"{fault.kind}: {fault.detail}" if fault.detail else fault.kind.value
            yield Finding(_gravity(one), place, f"{said}{_remedy(fault.kind)}")
            continue
        tls = " and shakes hands by TLS" if member.subscription.url.scheme == "https" else ""
        yield Finding(Level.OK, place, f"{member.subscription.url.netloc} takes connections{tls}")
        if one.state is SubscriptionState.ENABLED:
            reached.append(member)
    if reached and _may_send(len(reached), yes=yes):
        ahead: dict[str, Millis] = {}
        for member in reached:
            yield _event(app, member, ahead)
        yield from _clock(ahead)


def _members(
    app: App, stored: list[StoredSubscription]
) -> Iterator[tuple[StoredSubscription, "Member"]]:
    from webhookd.daemon.roster import HeldBack, enroll

    for one in stored:
        member = enroll(one, app.settings.profiles, os.environ, app.now())
        if isinstance(member, HeldBack):
            complain(f"{one.name} is held back, so nothing was tried: {member.problem}")
        else:
            yield one, member


def _gravity(one: StoredSubscription) -> Level:
    """Who is not enabled is owed nothing today."""
    return Level.FAULT if one.state is SubscriptionState.ENABLED else Level.WARNING


def _remedy(kind: FaultKind) -> str:
    match kind:
        case FaultKind.BLOCKED:
            return "; [egress] allow in the configuration lets it through, if it is meant"
        case FaultKind.DNS:
            return "; see whether the name is right, and this machine's resolver"
        case FaultKind.TLS:
            return "; the receiver's certificate has to be mended"
        case _:
            return "; see whether it is up, and whether a firewall is in between"


def _may_send(count: int, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        complain("no test event was sent; --yes sends one to each that can be reached")
        return False
    many = counted(count, "enabled subscription")
    return click.confirm(f"Send one signed event {trial.EVENT_TYPE} to {many}?", err=True)


def _event(app: App, member: "Member", ahead: dict[str, Millis]) -> Finding:
    """Send one event; `ahead` takes in how far our clock is ahead of the receiver's."""
    subscription = member.subscription
    place = f"online {subscription.name}"
    try:
        wanted, event_id = outside.request(member, app.now())
    except Refused as error:
        return Finding(Level.WARNING, place, str(error))
    tried = outside.send(member, wanted, app.settings.egress)
    if isinstance(tried.result, Answer):
        by = other_clocks.ahead_by(other_clocks.date_of(tried.result), app.now())
        if by is not None:
            ahead[subscription.url.host] = by
    wrong, meaning = trial.meaning(tried.result, subscription.policy, app.now())
    status = f"http {tried.result.status}" if isinstance(tried.result, Answer) else ""
    said = f"test event {event_id}: {wrong or status} after {tried.duration} ms: {meaning}"
    return Finding(Level.FAULT if wrong else Level.OK, place, said)


def _clock(ahead: dict[str, Millis]) -> Iterator[Finding]:
    """What receivers say of our clock, each by how far that is ahead of its own."""
    from webhookd.daemon.outage import tells

    verdict = other_clocks.judge({host: by for host, by in ahead.items() if tells(host)})
    said = other_clocks.at_odds(ahead) if verdict is None else [other_clocks.told(*verdict)]
    for text in said:
        yield Finding(Level.WARNING, "online clock", text)
