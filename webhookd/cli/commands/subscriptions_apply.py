"""`webhookd subscriptions apply`: what is declared in the configuration, brought into the file."""

import os
from collections.abc import Iterable
from typing import Any

import click

from webhookd.cli import terms
from webhookd.cli.context import App, pass_app
from webhookd.cli.known import warn_of_slips
from webhookd.cli.output import complain, document, json_option, lines
from webhookd.config.declared import look_up
from webhookd.core.declaration import Declared, Difference
from webhookd.core.egress import EgressPolicy, doubt_url
from webhookd.core.matching import doubt
from webhookd.errors import UsageError
from webhookd.store import declared
from webhookd.store.deliveries import latest_types


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@json_option
@pass_app
def apply(app: App, dry_run: bool, as_json: bool) -> None:
    """Make the subscriptions what [[subscriptions]] in the configuration says, now.

    A daemon does the same at its start and at SIGHUP; one that runs obeys at once. All blocks are
    applied or none. Other keys of the configuration reach a daemon by SIGHUP alone.
    """
    wanted = app.settings.subscriptions
    if wanted is None:
        raise UsageError("no configuration is named; give --config PATH or WEBHOOKD_CONFIG")
    with app.session(write=not dry_run) as session:
        with session.read() as connection:
            found = declared.difference(connection, wanted)
            seen = latest_types(connection)
        touched = _touched(wanted, found)
        _judge(touched, app.settings.egress)
        for one in touched:
            definition = one.definition
            place = f"{one.place}.events"
            warn_of_slips(definition.events, seen, definition.profile.name, place)
        if not (dry_run or found.is_empty):
            with session.write() as transaction:
                found = declared.apply(transaction, wanted, app.now())
    if as_json:
        document({**_shown(found), "dry_run": dry_run})
        return
    lines(*found.in_words())


def _touched(wanted: Iterable[Declared], found: Difference) -> list[Declared]:
    names = {*found.added, *(one.name for one in found.changed)}
    return [one for one in wanted if one.name in names]


def _judge(touched: list[Declared], egress: EgressPolicy) -> None:
    """Say on stderr what is taken as it is and may not be what was meant.

    Raises:
        ConfigError: a reference that leads to something unusable.
    """
    looked_up = [(one, look_up(one, os.environ)) for one in touched]
    missing = [(one, fault) for one, fault in looked_up if fault]
    if missing:
        complain(f"warning: {missing[0][1]}; until the daemon finds it, nothing is sent")
    if len(missing) > 1:
        others = ", ".join(f"{one.name} ({one.secret})" for one, _ in missing[1:])
        complain(f"warning: missing too, so that nothing is sent: the secrets of {others}")
    for one in touched:
        terms.look_up(one.definition.policy, one.definition.profile, one.place)
        blocked = doubt_url(one.definition.url, egress)
        if blocked is not None:
            complain(f"warning: {one.place}.url: {blocked}")
        for pattern in one.definition.events:
            doubted = doubt(pattern)
            if doubted is not None:
                complain(f"warning: {one.place}.events: {doubted}")


def _shown(found: Difference) -> dict[str, Any]:
    return {
        "added": list(found.added),
        "changed": [{"name": one.name, "fields": list(one.fields)} for one in found.changed],
        "paused": list(found.paused),
        "resumed": list(found.resumed),
        "noted": list(found.noted),
        "unchanged": found.unchanged,
    }
