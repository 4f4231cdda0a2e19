"""`webhookd subscriptions test`: one event to see what comes back, or a handshake."""

import os
import socket
from dataclasses import dataclass

import click

from webhookd.cli import online
from webhookd.cli.commands.subscription_changes import profile_of
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import complain, document, json_option, lines
from webhookd.core import handshake, policy, trial, urls
from webhookd.core.declaration import BY_CONFIG
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import Answer, Millis, Terms, Url
from webhookd.core.profiles import Headers, Profile
from webhookd.core.profiles.cloudevents import ORIGIN
from webhookd.core.request import agent
from webhookd.core.storage import StoredSubscription
from webhookd.errors import EXIT_OK, EXIT_WRONG, ConfigError, Refused, UsageError
from webhookd.store import subscriptions


@click.command()
@click.argument("subscription", metavar="ID|NAME")
@click.option(
    "--handshake",
    "asks",
    is_flag=True,
    help="Send no event: ask the receiver whether it agrees to get any, as CloudEvents says.",
)
@click.option(
    "--origin", help="With --handshake: the name to ask under; this machine's if left out."
)
@click.option(
    "--undo", is_flag=True, help="With --handshake: ask nobody, and take back what one has given."
)
@json_option
@pass_app
def test(
    app: App, /, subscription: str, asks: bool, origin: str | None, undo: bool, as_json: bool
) -> int:
    """Send one signed event of the type webhookd.test, and say what the answer would mean.

    It goes where deliveries go, as they do, in whatever state the subscription is. It holds ids
    alone, and nothing is recorded of it. Exits with 0 if the receiver takes it (2xx), else with 1.

    With --handshake a receiver of CloudEvents is asked with OPTIONS whether this system may deliver
    to it, and how fast. If it agrees, each delivery names the origin from now on, and the rate that
    it allows becomes the subscription's rate_limit. Exits with 1 if it does not; then nothing
    changes. With --undo too deliveries no longer name the origin, and the rate_limit is the
    profile's or the configuration's again.
    """
    if undo and (not asks or origin is not None):
        raise UsageError("--undo: goes with --handshake, and without --origin")
    if undo:
        _take_back(app, subscription, as_json=as_json)
        return EXIT_OK
    if asks:
        _shake_hands(app, subscription, origin, as_json=as_json)
        return EXIT_OK
    if origin is not None:
        raise UsageError("--origin: goes with --handshake")
    return _try(app, subscription, as_json=as_json)


def _try(app: App, name: str, *, as_json: bool) -> int:
    """Send it one event and say what came of it.

    Raises:
        ConfigError: the configuration is unfit.
        Refused: nothing could be delivered to it either.
    """
    from webhookd.daemon.roster import HeldBack, enroll

    settings = app.settings
    with app.session(write=False) as session, session.read() as connection:
        found = subscriptions.find(connection, name)
    now = app.now()
    member = enroll(found, settings.profiles, os.environ, now)
    if isinstance(member, HeldBack):
        raise Refused(f"{member.name}: {member.problem}; nothing was sent")
    request, event_id = online.request(member, now)
    of_it = f"{request.method}, profile {found.profile}, webhook-id {event_id}"
    complain(f"sending one event {trial.EVENT_TYPE} to {request.url.shown} ({of_it})")
    in_force = member.subscription.policy
    tried = online.send(member, request, settings.egress)
    result, duration = tried.result, tried.duration
    wrong, meaning = trial.meaning(result, in_force, app.now())
    status = result.status if isinstance(result, Answer) else None
    if as_json:
        document(
            {
                "id": found.id,
                "name": found.name,
                "event_id": event_id,
                "status": status,
                "error": wrong or None,
                "duration_ms": duration,
                "meaning": meaning,
            }
        )
    else:
        lines(f"{found.name}: {wrong or f'http {status}'} after {duration} ms: {meaning}")
    return EXIT_WRONG if wrong else EXIT_OK


def _shake_hands(app: App, name: str, origin: str | None, *, as_json: bool) -> None:
    from webhookd.daemon.roster import terms_of

    with app.session(write=True) as session:
        with session.read() as connection:
            found = subscriptions.find(connection, name)
        profile = _hand_shaking(app, found)
        try:
            asking = handshake.check_origin(origin or socket.gethostname())
        except ValueError as error:
            raise UsageError(f"--origin: {error}") from None
        preset = policy.apply(profile.policy, found.policy)
        question = handshake.request(asking, preset.rate_limit)
        try:
            terms = terms_of(preset, os.environ)
        except ConfigError as error:
            raise Refused(f"{found.name}: {error}; nothing was sent") from None
        way = _Way(app.settings.egress, terms, preset.timeout)
        ours = (("User-Agent", agent(profile, found.headers)), ("Accept-Encoding", "identity"))
        status, answer = ask(urls.parse(found.url), (*ours, *question), way)
        try:
            agreed = handshake.judge(asking, status, answer)
        except handshake.Declined as error:
            raise Refused(f"{found.name}: {error}; nothing was changed") from None
        with session.write() as transaction:
            asked, found = found, subscriptions.find(transaction.connection, found.id)
            if found.url != asked.url:
                raise Refused(f"{found.name}: its URL was changed meanwhile; ask the new one")
            changes = {
                "headers": handshake.with_origin(found.headers, agreed.origin),
                "policy": _limited(app, found, agreed.rate),
            }
            subscriptions.update(transaction, found.key, changes, app.now())
    limit = None if agreed.rate is None else policy.show_rate(agreed.rate)
    if as_json:
        document({"id": found.id, "name": found.name, "origin": agreed.origin, "rate_limit": limit})
        return
    rate = "as many requests as come" if limit is None else f"at most {limit}"
    lines(f"{found.name}: the receiver agrees to {rate} from {agreed.origin}")


def _hand_shaking(app: App, found: StoredSubscription) -> Profile:
    """The subscription's profile, if it is one with a handshake. Raises UsageError, and Refused."""
    profile = profile_of(found, app.settings.profiles)
    if ORIGIN.lower() not in profile.echoes:
        raise UsageError(f"--handshake: profile {profile.name} has none; it is for cloudevents")
    return profile


def _take_back(app: App, name: str, *, as_json: bool) -> None:
    """Make the subscription what it would be if there had been no handshake.

    Raises:
        Refused: there was none.
    """
    with app.session(write=True) as session, session.write() as transaction:
        found = subscriptions.find(transaction.connection, name)
        profile = _hand_shaking(app, found)
        headers = handshake.without_origin(found.headers)
        if headers == found.headers:
            raise Refused(f"{found.name}: has had no handshake; there is nothing to take back")
        own = dict(found.policy)
        before = own.pop("rate_limit", None)
        block = app.declared(found.name) if found.managed_by == BY_CONFIG else None
        if block is not None and "rate_limit" in block.definition.policy:
            own["rate_limit"] = block.definition.policy["rate_limit"]
        changes = {"headers": headers, "policy": own}
        subscriptions.update(transaction, found.key, changes, app.now())
    limit = policy.show(policy.apply(profile.policy, own))["rate_limit"]
    if as_json:
        said = {"id": found.id, "name": found.name, "origin": None}
        document({**said, "rate_limit": None if limit == "off" else limit})
        return
    was = policy.show(policy.apply(profile.policy, found.policy))["rate_limit"]
    told = f"{limit} (it was {was})" if own.get("rate_limit") != before else str(limit)
    lines(f"{found.name}: deliveries no longer name an origin; rate_limit is {told}")


def _limited(app: App, found: StoredSubscription, rate: float | None) -> dict[str, object]:
    """The subscription's own policy with the rate that its receiver allows; None for any.

    Where its block in the configuration names a rate, that one stays, as it would come back.
    """
    own = dict(found.policy)
    block = app.declared(found.name) if found.managed_by == BY_CONFIG else None
    declared = None if block is None else block.definition.policy.get("rate_limit")
    if block is not None and isinstance(declared, float):
        if rate is not None and not 0 < declared <= rate:
            complain(
                f"warning: {block.place}.rate_limit: the receiver takes at most "
                f"{policy.show_rate(rate)}; write that there"
            )
    elif rate is not None:
        own["rate_limit"] = rate
    elif block is not None:
        own.pop("rate_limit", None)  # a former handshake's
    return own


@dataclass(frozen=True, slots=True)
class _Way:
    """How a receiver may be reached, which is the same for a question as for a delivery."""

    egress: EgressPolicy
    terms: Terms
    timeout: Millis


def ask(url: Url, question: Headers, way: _Way) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer.

    Raises:
        NoAnswer: there was none; one line.
    """
    import httpx
    import trio

    from webhookd.http.channel import Sender
    from webhookd.http.transport import DirectTransport

    async def exchange() -> httpx.Response:
        transport = DirectTransport(Sender(way.egress), way.timeout, way.terms)
        # No client: it would add headers of its own, and a receiver would see another program.
        request = httpx.Request(handshake.METHOD, url.text, headers=list(question))
        return await transport.handle_async_request(request)

    answer = trio.run(exchange)
    return answer.status_code, dict(answer.headers)
