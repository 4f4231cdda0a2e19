"""`webhookd events erase`: what events said, taken out of the file on request."""

from collections import Counter
from typing import Any

import click

from webhookd.cli.context import App, pass_app
from webhookd.cli.output import complain, document, json_option, lines
from webhookd.cli.types import MOMENT
from webhookd.core.model import Millis
from webhookd.core.text import counted
from webhookd.errors import EXIT_OK, EXIT_WRONG, UsageError
from webhookd.store import erase as stored
from webhookd.store.erase import Wanted


@click.command()
@click.option("--aggregate-id", metavar="ID", help="Of the aggregates with that ID.")
@click.option("--aggregate-type", metavar="T", help="Of these, those of that type.")
@click.option("--tenant", metavar="T", help="Of these, that tenant's.")
@click.option(
    "--before",
    type=MOMENT,
    metavar="TIME",
    help="Taken in before then: a moment, or how long ago (30d).",
)
@click.option(
    "--include-pending",
    is_flag=True,
    help="Also what is still owed: where its payload would be sent, the delivery fails.",
)
@click.option("--dry-run", is_flag=True, help="Only count: change nothing.")
@json_option
@pass_app
def erase(
    app: App,
    aggregate_id: str | None,
    aggregate_type: str | None,
    tenant: str | None,
    before: Millis | None,
    include_pending: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take the payloads out of events, and out of what may quote them.

    The events stay, without what they said: in webhookd's copy, in an outbox that webhookd made,
    and in the answers that were kept of receivers. An event that is still owed is left as it is,
    unless --include-pending. A backup, and a host's own table, are not webhookd's to clean.
    """
    if not aggregate_id and before is None:
        raise UsageError("erase: say which: --aggregate-id ID, or --before TIME, or both")
    if aggregate_id is None and (aggregate_type is not None or tenant is not None):
        raise UsageError("erase: --aggregate-type and --tenant narrow down --aggregate-id ID")
    wanted = Wanted(aggregate_id, aggregate_type, tenant, before, include_pending)
    with app.session(write=not dry_run) as session:
        came: Counter[str] = sum(stored.erase(session, wanted, dry_run=dry_run), Counter[str]())
        ours = bool(session.file.outbox_ours)
    shown: dict[str, Any] = {
        "dry_run": dry_run,
        **{name: came[name] for name in ("erased", "owed", "excerpts", "outbox")},
        "outbox_ours": ours,
    }
    if as_json:
        document(shown)
    else:
        lines(*_in_words(shown))
    if came["owed"]:
        complain(
            f"{counted(came['owed'], 'event')} still owed, so left as before; --include-pending "
            "erases them too: a delivery that would send the payload then fails (unrenderable)"
        )
    return EXIT_WRONG if came["owed"] else EXIT_OK


def _in_words(shown: dict[str, Any]) -> list[str]:
    if shown["dry_run"]:
        said = f"{counted(shown['erased'], 'payload')} would be erased"
        return [said, "nothing was changed: this was a dry run"]
    said = f"{counted(shown['erased'], 'payload')} erased"
    others = [
        counted(shown[name], *words)
        for name, words in (
            ("outbox", ("row of the outbox", "rows of the outbox")),
            ("excerpts", ("kept answer", "kept answers")),
        )
        if shown[name]
    ]
    if others:
        said += f", with {' and '.join(others)}"
    if shown["erased"] and not shown["outbox_ours"]:
        return [said, "the rows in the outbox are the host's own: erase them there"]
    return [said]
