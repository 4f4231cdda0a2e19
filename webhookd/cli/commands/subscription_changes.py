"""`webhookd subscriptions update`, `pause`, `rotate-secret` and `remove`."""

from typing import Any, Final

import click

from webhookd.cli import secrets, terms
from webhookd.cli.bulk import complete
from webhookd.cli.commands.subscriptions import defined, in_words, keep_given, summary
from webhookd.cli.context import App, pass_app
from webhookd.cli.declared import check_editable, check_removable
from webhookd.cli.definition import (
    header_option,
    on_the_command_line,
    pairs,
    patterns,
    policy_of,
    policy_options,
    warn,
)
from webhookd.cli.known import warn_of_slips
from webhookd.cli.output import document, is_asked, json_option, lines, say
from webhookd.cli.types import DURATION
from webhookd.config.settings import Settings
from webhookd.core import registration, urls
from webhookd.core.model import Millis, Ordering, SubscriptionState
from webhookd.core.profiles import Known, Profile
from webhookd.core.storage import StoredSubscription
from webhookd.core.text import counted
from webhookd.core.times import format_duration, to_text
from webhookd.errors import Refused, UsageError
from webhookd.store import subscriptions
from webhookd.store.acceptance import cancel_in_batches
from webhookd.store.deliveries import latest_types
from webhookd.store.transaction import Session

OVERLAP: Final[Millis] = 86_400_000
"""How long an old secret goes on signing: receivers change over within a working day."""

PRESET: Final = "default"
"""The value of a policy option that takes the profile's preset again."""

_subscription = click.argument("subscription", metavar="ID|NAME")


def _find(session: Session, subscription: str) -> StoredSubscription:
    with session.read() as connection:
        return subscriptions.find(connection, subscription)


def _owed(session: Session, found: StoredSubscription) -> int:
    with session.read() as connection:
        return subscriptions.owed(connection)[found.key]


@click.command()
@_subscription
@click.option("--url", help="Where it is delivered to.")
@click.option("--events", metavar="P,P", help="Patterns of event types, for events to come.")
@click.option("--name", help="What people call it.")
@click.option("--method", help="The request method, where the profile has a choice.")
@header_option
@click.option("--no-headers", is_flag=True, help="Take all its own headers away.")
@click.option(
    "--ordering",
    type=click.Choice([*(one.value for one in Ordering), PRESET]),
    help="What a delivery waits for: the earlier ones of its aggregate, of all, or nothing.",
)
@policy_options
@json_option
@pass_app
def update(
    app: App,
    /,
    subscription: str,
    headers: tuple[str, ...],
    no_headers: bool,
    as_json: bool,
    url: str | None,
    events: str | None,
    name: str | None,
    method: str | None,
    **own_policy: Any,
) -> None:
    """Change a subscription; what is given applies from the next attempt, to what is owed too.

    --header replaces all its headers. A policy option takes `default` for the profile's own
    value. Profile and tenant cannot be changed: make a new subscription.
    """
    given: dict[str, Any] = {"url": url, "events": events, "name": name, "method": method}
    given = {key: value for key, value in given.items() if value is not None}
    if headers and no_headers:
        raise UsageError("--no-headers: takes away what --header gives; leave one of them out")
    if headers or no_headers:
        given["headers"] = pairs(headers)
    policy = policy_of(own_policy)
    if not given and not policy:
        raise UsageError("nothing is to be changed; name an option, like --url or --timeout")
    with app.session(write=True) as session:
        if not terms.KEYS.isdisjoint(policy):
            _look_up_terms(app, _find(session, subscription), policy)
        with session.write() as transaction:
            found = subscriptions.find(transaction.connection, subscription)
            check_editable(app, found)
            with on_the_command_line():
                changes = _changes(given, policy, found, app.settings)
            realigned = subscriptions.update(transaction, found.key, changes, app.now())
            after = subscriptions.find(transaction.connection, found.id)
            seen = latest_types(transaction.connection)
        warn_of_slips(changes.get("events", ()), seen, after.profile)
        if realigned is not None:
            _realign(app, session, after, realigned)
    warn(
        app.settings.egress,
        url=urls.parse(after.url) if "url" in changes else None,
        events=changes.get("events", ()),
    )
    shown = defined(after, app.settings.profiles)
    if as_json:
        document(shown)
        return
    keep_given(shown, headers="headers" in changes, policy=policy)
    lines(*in_words(shown))


def _look_up_terms(app: App, found: StoredSubscription, policy: dict[str, Any]) -> None:
    """Judge what the changed policy refers to; not while the file is locked: it reads other files.

    Raises:
        WebhookdError: it cannot be used, or the subscription cannot be changed so.
    """
    check_editable(app, found)
    with on_the_command_line():
        changes = _changes({}, policy, found, app.settings)
    terms.look_up(changes["policy"], profile_of(found, app.settings.profiles))


def _realign(app: App, session: Session, found: StoredSubscription, key: int) -> None:
    """Put what is owed in order as the new policy has it, and say so."""
    owed = _owed(session, found)
    one = complete(app, session, key, "putting in order", owed, lambda one: one.done)
    if one is not None:
        changed = counted(one.done, "delivery", "deliveries")
        say(f"{found.name}: {changed} of {owed} owed had to be put in order anew")


def _changes(
    given: dict[str, Any], policy: dict[str, Any], found: StoredSubscription, settings: Settings
) -> dict[str, Any]:
    """The changes as they are written. Raises Unfit, and Refused as `profile_of` does."""
    profile = profile_of(found, settings.profiles)
    changes = dict(given)
    if "url" in changes:
        changes["url"] = registration.url(changes["url"], settings.egress).text
    if "events" in changes:
        changes["events"] = registration.events(patterns(changes["events"]), profile)
    if "name" in changes:
        changes["name"] = registration.name(changes["name"])
    if "method" in changes:
        changes["method"] = registration.method(changes["method"], profile)
    if "headers" in changes:
        # What a handshake gave is no user's to take away.
        granted = [pair for pair in found.headers if pair[0].lower() in profile.echoes]
        changes["headers"] = (*registration.headers(changes["headers"], profile), *granted)
    if policy:
        own = {key: value for key, value in policy.items() if value != PRESET}
        kept = {key: value for key, value in found.policy.items() if key not in policy}
        changes["policy"] = {**kept, **registration.policy(own, profile)}
    return changes


def profile_of(found: StoredSubscription, known: Known) -> Profile:
    """The subscription's profile.

    Raises:
        Refused: it is one of a configuration's that is not there any more.
    """
    try:
        return known.get(found.profile)
    except ValueError as error:
        raise Refused(f"{found.name}: {error}") from None


@click.command()
@_subscription
@json_option
@pass_app
def pause(app: App, subscription: str, as_json: bool) -> None:
    """Send nothing more to a subscription; what it is owed goes on accruing."""
    with app.session(write=True, urgent=True) as session:
        found = _set_state(session, subscription, SubscriptionState.PAUSED, "operator")
        owed = _owed(session, found)
    if as_json:
        document({**summary(found), "owed": owed})
        return
    lines(
        f"{found.name} is paused; {_deliveries(owed)} owed, and what comes is added; "
        f"`webhookd subscriptions enable {found.name}` sends them"
    )


def _set_state(
    session: Session, subscription: str, state: SubscriptionState, reason: str
) -> StoredSubscription:
    with session.write() as transaction:
        found = subscriptions.find(transaction.connection, subscription)
        if found.state is not state:
            subscriptions.set_state(transaction, found.key, state, reason)
        return subscriptions.find(transaction.connection, found.id)


def _deliveries(count: int) -> str:
    return "1 delivery is" if count == 1 else f"{count} deliveries are"


@click.command("rotate-secret")
@_subscription
@click.option("--secret", metavar="VALUE|env:NAME|file:PATH|-", help=secrets.HELP)
@click.option(
    "--overlap",
    type=DURATION,
    help="How long the old secret stays valid.  [default: 24h]",
)
@click.option("--activate", is_flag=True, help="No new secret: end the overlap of the last now.")
@json_option
@pass_app
def rotate_secret(
    app: App,
    subscription: str,
    secret: str | None,
    overlap: Millis | None,
    activate: bool,
    as_json: bool,
) -> None:
    """Give a subscription a new signing secret; the old one stays valid for the overlap.

    A format that carries a list of signatures signs with both. One that carries a single one
    signs with the old secret until the overlap ends or --activate ends it. Without --secret one
    is made and shown, this once.
    """
    if activate and (secret is not None or overlap is not None):
        raise UsageError("--activate: stands alone; it makes the last rotation final")
    if activate:
        _activate(app, subscription, as_json=as_json)
        return
    span = OVERLAP if overlap is None else overlap
    now = app.now()
    with app.session(write=True) as session:
        found = _find(session, subscription)
        check_editable(app, found)
        profile = profile_of(found, app.settings.profiles)
        chosen = secrets.choose(secret, profile)
        with session.write() as transaction:
            subscriptions.find(transaction.connection, found.id)
            subscriptions.rotate(transaction, found.key, chosen.new, span, now)
    had_one = any(one.expires_at is None or one.expires_at > now for one in found.secrets)
    until = to_text(now + span) if had_one and span else None
    if as_json:
        said = {"id": found.id, "name": found.name, "secret": chosen.shown, "overlap_until": until}
        document({**said, "public_key": chosen.public} if chosen.public else said)
        return
    if chosen.public:
        lines(f"public_key  {chosen.public}  (give it to the receiver)")
    if chosen.made:
        lines(f"secret  {chosen.shown}  (shown this once: give it to the receiver)")
    lines(_who_signs(found.name, profile, until, span))


def _who_signs(name: str, profile: Profile, until: str | None, span: Millis) -> str:
    if until is None:
        return f"{name}: signed with the new secret alone from now on"
    for_how_long = f"for {format_duration(span)}, until {until}"
    if profile.scheme.carries_list:
        return f"{name}: signed with the new and the old secret {for_how_long}"
    return (
        f"{name}: signed with the old secret {for_how_long}, then with the new one; "
        f"`webhookd subscriptions rotate-secret {name} --activate` changes over now"
    )


def _activate(app: App, subscription: str, *, as_json: bool) -> None:
    with app.session(write=True) as session, session.write() as transaction:
        found = subscriptions.find(transaction.connection, subscription)
        check_editable(app, found)
        if not found.secrets:
            raise Refused(f"{found.name}: has no secret; leave --activate out to make one")
        ended = subscriptions.activate(transaction, found.key)
    if as_json:
        document({"id": found.id, "name": found.name, "secret": None, "overlap_until": None})
        return
    already = "" if ended else " already"
    lines(f"{found.name}: signed with the newest secret alone{already}")


@click.command()
@_subscription
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_app
def remove(app: App, subscription: str, yes: bool, as_json: bool) -> None:
    """Take a subscription away and cancel what it is owed; its results stay in the feeds.

    A daemon may run meanwhile. It asks at a terminal; elsewhere it takes --yes if anything is owed.
    """
    with app.session(write=True) as session:
        found = _find(session, subscription)
        check_removable(app, found)
        if not yes:
            _confirm(found, _owed(session, found))
        now = app.now()
        with session.write() as transaction:
            subscriptions.find(transaction.connection, found.id)
            if not yes and not is_asked():  # it was owed nothing, a moment ago
                _check_idle(found, subscriptions.owed(transaction.connection)[found.key])
            subscriptions.remove(transaction, found.key, now)
            owed = subscriptions.owed(transaction.connection)[found.key]
        cancel_in_batches(session, now)
    if as_json:
        document({"id": found.id, "name": found.name, "cancelled": owed})
    else:
        lines(f"{found.name} is removed; {_deliveries(owed)} cancelled")


def _confirm(found: StoredSubscription, owed: int) -> None:
    if not is_asked():
        _check_idle(found, owed)
        return
    click.confirm(
        f"{found.name}: {_deliveries(owed)} owed and will be cancelled. Remove it?",
        abort=True,
        err=True,
    )


def _check_idle(found: StoredSubscription, owed: int) -> None:
    """Raises UsageError: something would be cancelled, and nobody is there to be asked."""
    if owed:
        raise UsageError(
            f"{found.name}: {_deliveries(owed)} owed and would be cancelled; say --yes to remove it"
        )
