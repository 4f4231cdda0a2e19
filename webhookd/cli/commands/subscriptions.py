"""`webhookd subscriptions`: the group, and what makes and shows them."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import click

from webhookd.cli import secrets, terms
from webhookd.cli.context import App, pass_app
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
from webhookd.cli.lazy import LazyGroup
from webhookd.cli.output import document, fields, json_option, lines, table
from webhookd.core import policy, registration, urls
from webhookd.core.model import Ordering
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.core.storage import StoredSecret, StoredSubscription
from webhookd.core.times import to_text
from webhookd.store import subscriptions as stored_ones
from webhookd.store.deliveries import latest_types
from webhookd.store.registration import register

GIVEN: Final = "given"
"""What a person sees of a secret that is not repeated."""
_CHANGES: Final = "webhookd.cli.commands.subscription_changes"


@click.command(
    cls=LazyGroup,
    lazy={
        "add": f"{__name__}:add",
        "list": f"{__name__}:list_all",
        "show": f"{__name__}:show",
        "update": f"{_CHANGES}:update",
        "enable": f"{__package__}.subscription_enable:enable",
        "pause": f"{_CHANGES}:pause",
        "rotate-secret": f"{_CHANGES}:rotate_secret",
        "remove": f"{_CHANGES}:remove",
        "apply": "webhookd.cli.commands.subscriptions_apply:apply",
        "test": "webhookd.cli.commands.subscription_test:test",
    },
)
def subscriptions() -> None:
    """Who gets which events, where, and signed with what."""


@click.command()
@click.argument("url")
@click.option(
    "--events",
    default="*",
    show_default=True,
    metavar="P,P",
    help="Patterns of event types, like supplier.*,order.created.",
)
@click.option("--tenant", default="", help="Only this tenant's events; without it, every tenant's.")
@click.option(
    "--profile",
    default="standard",
    show_default=True,
    help=f"The wire format: {', '.join(BUILT_IN.by_name)}, or one of your own.",
)
@click.option("--mode", default="", help="The profile's variant, where it has some.")
@click.option("--name", default="", help="What people call it; made of the host if left out.")
@click.option("--secret", metavar="VALUE|env:NAME|file:PATH|-", help=secrets.HELP)
@click.option("--method", default="", help="The request method, where the profile has a choice.")
@click.option(
    "--ordering",
    type=click.Choice([one.value for one in Ordering]),
    help="What a delivery waits for: the earlier ones of its aggregate, of all, or nothing.",
)
@header_option
@policy_options
@json_option
@pass_app
def add(
    app: App,
    /,
    url: str,
    events: str,
    name: str,
    secret: str | None,
    headers: tuple[str, ...],
    as_json: bool,
    tenant: str,
    profile: str,
    mode: str,
    method: str,
    **own_policy: Any,
) -> None:
    """Subscribe URL: every outbox row that is committed from now on is matched with it.

    Without --secret one is made and shown, this once.
    """
    wanted = registration.Wanted(
        url=url,
        events=patterns(events),
        tenant=tenant,
        profile=profile,
        mode=mode,
        method=method,
        headers=pairs(headers),
        policy=policy_of(own_policy),
    )
    with on_the_command_line():
        definition = registration.judge(wanted, app.settings.egress, app.settings.profiles)
        name = name and registration.name(name)
    terms.look_up(definition.policy, definition.profile)
    with app.session(write=True) as session:
        chosen = None
        if secret is not None or definition.profile.requires_secret:
            chosen = secrets.choose(secret, definition.profile)
        new = [] if chosen is None else [chosen.new]
        with session.write() as transaction:
            made = register(transaction, definition, name=name, secrets=new, now=app.now())
            seen = latest_types(transaction.connection)
    warn(app.settings.egress, url=definition.url, events=definition.events)
    warn_of_slips(definition.events, seen, definition.profile.name)
    shown = defined(made, app.settings.profiles)
    shown["secret"] = None if chosen is None else chosen.shown
    if chosen is not None and chosen.public:
        shown["public_key"] = chosen.public
    if as_json:
        document(shown)
        return
    keep_given(shown, headers=bool(wanted.headers), policy=wanted.policy)
    if chosen is not None and chosen.shown is None:
        shown["secret"] = GIVEN
    elif chosen is not None and chosen.made:
        shown["secret"] += "  (shown this once: give it to the receiver)"
    lines(*in_words(shown))


@click.command("list")
@json_option
@pass_app
def list_all(app: App, as_json: bool) -> None:
    """List all subscriptions with what they are owed."""
    with app.session(write=False) as session, session.read() as connection:
        found = stored_ones.load(connection)
        owed = stored_ones.owed(connection)
    if as_json:
        document([{**summary(one), "owed": owed[one.key]} for one in found])
        return
    rows = (
        (
            one.name,
            one.id,
            one.state,
            owed[one.key],
            ",".join(one.events),
            one.tenant,
            one.profile,
            one.managed_by,
            urls.parse(one.url).shown,
        )
        for one in found
    )
    headings = ("NAME", "ID", "STATE", "OWED", "EVENTS", "TENANT", "PROFILE", "MANAGED BY", "URL")
    lines(*table(headings, rows))


@click.command()
@click.argument("subscription", metavar="ID|NAME")
@json_option
@pass_app
def show(app: App, subscription: str, as_json: bool) -> None:
    """Show one subscription with its policy in force; never its secrets."""
    with app.session(write=False) as session, session.read() as connection:
        found = stored_ones.find(connection, subscription)
        owed = stored_ones.owed(connection)[found.key]
    shown = {**summary(found), "owed": owed, **details(found, session.profiles)}
    if as_json:
        document(shown)
        return
    shown["secrets"] = [_secret_in_words(one) for one in shown["secrets"]]
    lines(*in_words(shown))


def summary(one: StoredSubscription) -> dict[str, Any]:
    """What every command says of a subscription; the query of its URL is masked."""
    return {
        "id": one.id,
        "name": one.name,
        "url": urls.parse(one.url).shown,
        "events": list(one.events),
        "tenant": one.tenant or None,
        "profile": one.profile,
        "method": one.method,
        "state": one.state.value,
        "state_reason": one.state_reason or None,
        "managed_by": one.managed_by,
        "created_at": one.created_at,
    }


def defined(one: StoredSubscription, known: Known) -> dict[str, Any]:
    """A subscription as `add` and `update` leave it, with its policy in force."""
    more = details(one, known)
    return {**summary(one), **{key: more[key] for key in ("mode", "headers", "policy")}}


def keep_given(shown: dict[str, Any], *, headers: bool, policy: Collection[str]) -> None:
    """Of `defined`, for a person: headers and policy only as far as they were given just now, and
    the mode where there are some."""
    if shown["mode"] is None:
        del shown["mode"]
    if not headers:
        del shown["headers"]
    shown["policy"] = {key: value for key, value in shown["policy"].items() if key in policy}


def in_words(shown: dict[str, Any]) -> list[str]:
    """A summary, perhaps with more in it, a line a field."""
    flat = {**shown, "events": ",".join(shown["events"])}
    if "headers" in flat:
        flat["headers"] = [f"{name}: {value}" for name, value in flat["headers"].items()]
    flat.update(flat.pop("policy", {}))
    if "retry_delays" in flat:
        flat["retry_delays"] = ",".join(flat["retry_delays"])
    return fields(flat)


def details(one: StoredSubscription, known: Known) -> dict[str, Any]:
    """What `show` says beyond the summary; of secrets no value, and of headers none but those that
    a handshake gave."""
    public: frozenset[str] = frozenset()
    try:
        profile = known.get(one.profile)
        public = profile.echoes
        in_force = policy.show(policy.apply(profile.policy, one.policy))
    except ValueError as error:  # of a profile that is not there: it is held back
        in_force = {"problem": str(error)}
    return {
        "mode": one.mode or None,
        "headers": {
            name: value if name.lower() in public else "***" for name, value in one.headers
        },
        "secrets": [_secret_shown(secret) for secret in one.secrets],
        "policy": in_force,
    }


def _secret_shown(secret: StoredSecret) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "reference": secret.value if secret.is_reference else None,
        "created_at": to_text(secret.created_at),
        "expires_at": secret.expires_at and to_text(secret.expires_at),
    }
    public = "" if secret.is_reference else secrets.public_key(secret.value)
    return {**shown, "public_key": public} if public else shown


def _secret_in_words(secret: Mapping[str, str | None]) -> str:
    what = secret["reference"] or secret.get("public_key") or "***"
    until = secret["expires_at"]
    return f"{what}, since {secret['created_at']}" + (f", until {until}" if until else "")
