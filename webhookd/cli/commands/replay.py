"""`webhookd replay`: the events of a span of time once more, for one subscription."""

from collections import Counter
from typing import Any, Final

import click

from webhookd.cli.bulk import complete, progress
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import document, is_asked, json_option, lines, say
from webhookd.cli.types import MOMENT
from webhookd.core.model import Millis
from webhookd.core.storage import StoredSubscription
from webhookd.core.text import counted
from webhookd.core.times import to_text
from webhookd.errors import NotFound, UsageError
from webhookd.store import lockfile, subscriptions
from webhookd.store import replay as stored
from webhookd.store.replay import SUPERSEDED, Span, Verdict
from webhookd.store.transaction import Session

UNASKED: Final = 100
"""Deliveries that a person at a terminal replays without being asked whether they are meant."""

PRUNED: Final = (
    "made anew is also what retention has taken the delivery of, so it may have been delivered "
    "before"
)


@click.command()
@click.option("--subscription", metavar="ID|NAME", required=True, help="To whom they are sent.")
@click.option(
    "--since",
    type=MOMENT,
    metavar="TIME",
    required=True,
    help="Events taken in from then on: a moment, or how long ago (2h).",
)
@click.option("--until", type=MOMENT, metavar="TIME", help="And before then; now, if left out.")
@click.option("--failed-only", is_flag=True, help="Only those whose delivery failed.")
@click.option(
    "--include-stale", is_flag=True, help="Also those with a newer one delivered already."
)
@click.option("--dry-run", is_flag=True, help="Only count: change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_app
def replay(
    app: App,
    subscription: str,
    since: Millis,
    until: Millis | None,
    failed_only: bool,
    include_stale: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send the events of a span of time to a subscription again.

    What was delivered, failed or was cancelled is opened again; what has no delivery and matches
    now gets one. A delivery that retention has taken counts as none: it is made anew and sent
    again, delivered before or not. Each goes before the pending ones of its aggregate. An event is
    passed over if a newer one of its aggregate was delivered, unless --include-stale; and if it was
    erased and its payload would be sent. Nothing is sent to the subscription until all of it is
    done; a daemon may run meanwhile.

    At a terminal it counts first, and asks where it is more than a hundred; a script is not asked.
    """
    if until is not None and until <= since:
        raise UsageError("--until: is not after --since, so there is nothing between them")
    with app.session(write=not dry_run) as session:
        with session.read() as connection:
            found = subscriptions.find(connection, subscription)
            span = stored.span(
                connection, since, until, failed_only=failed_only, include_stale=include_stale
            )
            lost = stored.has_lost_deliveries(connection, span)
            pruned, oldest = stored.has_lost_events(connection, since, span)
        if not (dry_run or yes) and is_asked():
            _confirm(found, _count(session, found, span), lost=lost)
        came = _count(session, found, span) if dry_run else _do(app, session, found, span)
        runs = lockfile.is_held(session.path)
    shown: dict[str, Any] = {
        "subscription_id": found.id,
        "subscription_name": found.name,
        "since": to_text(since),
        "until": None if until is None else to_text(until),
        "dry_run": dry_run,
        "events_pruned": pruned,
        **{verdict.value: came[verdict.value] for verdict in Verdict},
    }
    if not dry_run:
        shown[SUPERSEDED] = came[SUPERSEDED]
    if as_json:
        document(shown)
        return
    if pruned:
        kept = "none is kept" if oldest is None else f"the oldest that is kept came in at {oldest}"
        say(f"events that retention has taken cannot be sent again; {kept} ([retention] events)")
    lines(*_in_words(found, came, dry_run=dry_run, runs=runs, lost=lost))


def _count(session: Session, found: StoredSubscription, span: Span) -> Counter[str]:
    """What a replay would do."""
    came: Counter[str] = Counter()
    with (
        progress("counting", span.last - span.position) as reach,
        session.read() as connection,
    ):
        for position, counts in stored.foresee(connection, session.profiles, found.key, span):
            came += counts
            reach(position - span.position)
    return came


def _confirm(found: StoredSubscription, foreseen: Counter[str], *, lost: bool) -> None:
    if foreseen[Verdict.REOPENED] + foreseen[Verdict.MADE] > UNASKED:
        said = _counts(foreseen, would="would be ")
        if lost and foreseen[Verdict.MADE]:
            said = f"{said} ({PRUNED})"
        click.confirm(f"{found.name}: {said}. Send them?", abort=True, err=True)


def _do(app: App, session: Session, found: StoredSubscription, span: Span) -> Counter[str]:
    with session.write() as transaction:
        subscriptions.find(transaction.connection, found.id)
        key = stored.order(transaction, found.key, span, app.now())
    if key is None:
        return Counter()
    one = complete(
        app,
        session,
        key,
        "replaying",
        span.last - span.position,
        lambda one: one.position - span.position,
    )
    if one is None:
        raise NotFound(f"{found.name}: was removed meanwhile; the replay has ended with it")
    return Counter(one.counts)


def _in_words(
    found: StoredSubscription, came: Counter[str], *, dry_run: bool, runs: bool, lost: bool
) -> list[str]:
    texts = [f"{found.name}: {_counts(came, would='would be ' if dry_run else '')}"]
    if lost and came[Verdict.MADE]:
        texts.append(PRUNED)
    if dry_run:
        texts.append("nothing was changed: this was a dry run")
    elif found.state != "enabled":
        texts.append(
            f"{found.name} is {found.state}, so nothing is sent before "
            f"`webhookd subscriptions enable {found.name}`"
        )
    elif not runs:
        texts.append("they will be sent once the daemon runs")
    return texts


def _counts(came: Counter[str], *, would: str) -> str:
    said = [
        f"{counted(came[Verdict.REOPENED], 'delivery', 'deliveries')} {would}opened again",
        f"{came[Verdict.MADE]} {would}made",
        f"{came[Verdict.STALE]} passed over as stale",
        f"{came[Verdict.PENDING]} pending already",
        f"{came[Verdict.NOT_MATCHING]} not matching",
    ]
    if came[Verdict.ERASED]:
        said.append(f"{came[Verdict.ERASED]} passed over as erased")
    if came[Verdict.NOT_FAILED]:
        said.append(f"{came[Verdict.NOT_FAILED]} not failed")
    if came[SUPERSEDED]:
        said.insert(2, f"{came[SUPERSEDED]} of these superseded by newer ones")
    return ", ".join(said)
