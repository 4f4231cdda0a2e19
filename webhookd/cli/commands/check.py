"""`webhookd check`: what would stop or hinder the daemon, and how to mend it."""

import os
from collections.abc import Iterator
from typing import assert_never

import click

from webhookd.cli import terms
from webhookd.cli.commands.check_online import online
from webhookd.cli.context import App, pass_app
from webhookd.cli.known import slips
from webhookd.cli.output import document, json_option, lines
from webhookd.config.catalog import validation
from webhookd.config.references import SecretMissing, resolve
from webhookd.core.findings import Finding, Level
from webhookd.core.matching import doubt
from webhookd.core.text import counted
from webhookd.errors import EXIT_OK, EXIT_WRONG, UsageError, WebhookdError
from webhookd.store import acceptance, subscriptions
from webhookd.store.deliveries import latest_types
from webhookd.store.inspection import inspect


@click.command()
@click.option(
    "--accept-restore",
    is_flag=True,
    help="The file is a restored backup: go on above every number seen, in a new epoch.",
)
@click.option("--accept-move", is_flag=True, help="The file has moved to this machine and path.")
@click.option(
    "--accept-clone",
    is_flag=True,
    help="The file is a copy: cancel all that it owes, and make it a file of its own.",
)
@click.option(
    "--online",
    "asks",
    is_flag=True,
    help="Look each receiver up, connect, and shake hands by TLS; offers to send a test event.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="With --online: send one signed test event to each enabled subscription, and do not ask. "
    "With --accept-restore: the file was restored, though the lock file does not show it.",
)
@json_option
@pass_app
def check(
    app: App,
    accept_restore: bool,
    accept_move: bool,
    accept_clone: bool,
    asks: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Check configuration, file, outbox and subscriptions; one line a finding.

    Exits with 1 when there is a fault. The --accept options first do what they say, which no
    daemon may run for, and then check. A restore that the lock file does not show is a fault.

    With --online each subscription's receiver is connected to. With consent (asked for, or --yes)
    those that are enabled get one signed event of the type webhookd.test, which nothing is recorded
    of. What is wrong with a subscription that is not enabled is a warning.
    """
    if accept_clone and (accept_move or accept_restore):
        raise click.UsageError("--accept-clone stands alone: a copy is neither moved nor restored")
    if yes and not (asks or accept_restore):
        raise UsageError("--yes: goes with --online or --accept-restore")
    if yes and asks and accept_restore:
        raise UsageError(
            "--yes: is asked for by --accept-restore and by --online, and means another thing to "
            "each; give `--accept-restore --yes` first, then `--online --yes`"
        )
    settings = app.settings
    read = "defaults (no file named)" if app.config is None else f"{app.config} was read"
    found = [Finding(Level.OK, "config", f"{read}; the database is {settings.database}")]
    if accept_clone:
        found.append(_clone(app))
    if accept_move:
        found.append(_move(app))
    if accept_restore:
        found += _restore(app, sure=yes)
    found += inspect(
        settings.database,
        table=settings.outbox.table,
        columns=settings.outbox.columns,
        ids_never_reused=settings.outbox.ids == "never-reused",
        egress=settings.egress,
        profiles=settings.profiles,
        resolve=_resolve,
        now=app.now(),
    )
    found += _declared(app)
    found += _terms(app)
    if asks:
        found += online(app, yes=yes)
    faults = sum(finding.level is Level.FAULT for finding in found)
    if as_json:
        document(
            {
                "findings": [
                    {"level": one.level.value, "place": one.place, "text": one.text}
                    for one in found
                ],
                "faults": faults,
            }
        )
    else:
        lines(*(f"{one.level.value:<7}  {one.place}: {one.text}" for one in found))
    return EXIT_WRONG if faults else EXIT_OK


def _terms(app: App) -> list[Finding]:
    """What is wrong with TLS settings and proxies of the subscriptions in the file."""
    try:
        with app.session(write=False) as session, session.read() as connection:
            stored = subscriptions.load(connection)
    except WebhookdError:
        return []  # of the file enough has been said
    return terms.findings(stored, app.settings.profiles)


def _declared(app: App) -> Iterator[Finding]:
    """Patterns of the blocks that are declared, where they look like slips."""
    blocks = app.settings.subscriptions
    if not blocks:
        return
    try:
        with app.session(write=False) as session, session.read() as connection:
            seen = latest_types(connection)
    except WebhookdError:
        return  # of the file enough has been said
    for one in blocks:
        place, definition = f"{one.place}.events", one.definition
        for pattern in definition.events:
            if doubted := doubt(pattern):
                yield Finding(Level.WARNING, place, doubted)
        for slip in slips(definition.events, seen, definition.profile.name):
            yield Finding(Level.WARNING, place, slip)


def _resolve(reference: str) -> str | None:
    """The secret; None where the daemon may see one though this process does not."""
    try:
        return resolve(reference, os.environ)
    except SecretMissing:
        if reference.startswith("file:/"):
            raise
        return None  # a variable, or a credential that systemd gives to the service alone


def _clone(app: App) -> Finding:
    outbox = app.settings.outbox
    done = acceptance.accept_clone(
        app.settings.database,
        default_tenant=outbox.default_tenant,
        max_payload=outbox.max_payload,
        now=app.now(),
        validation=validation(outbox),
        columns=outbox.columns,
    )
    return Finding(
        Level.OK,
        "clone",
        f"accepted: {counted(done.cancelled, 'delivery', 'deliveries')} cancelled, "
        f"{counted(done.taken_in, 'waiting outbox row')} taken in for nobody; "
        "what comes from now on goes to the subscriptions that are enabled, so pause those that a "
        "copy must not serve",
    )


def _restore(app: App, *, sure: bool) -> Iterator[Finding]:
    done = acceptance.accept_restore(app.settings.database, sure=sure)
    if done is None:
        yield Finding(
            Level.FAULT,
            "restore",
            "nothing was done: by the lock file beside it the file was not restored, or that was "
            "accepted already; if it was restored since, and the lock file with it, or after a "
            "power cut: `webhookd check --accept-restore --yes`",
        )
        return
    said = (
        f"accepted: epoch {done.epoch} begins, so pollers start again at 0; "
        f"{counted(done.owed, 'delivery', 'deliveries')} owed by it"
    )
    same = "and receivers drop an event that has the id and the content of one they know"
    how = f": {done.raising}" if done.raising else ""
    match done.ids:
        case acceptance.Ids.ABOVE:
            if done.above:
                said += f"; new rows of {done.table} get ids above {done.above}"
            yield Finding(Level.OK, "restore", f"{said}; start the ERP only now")
            if done.doubtful is not None:
                yield Finding(Level.WARNING, "restore", _in_doubt(done.doubtful, done.table, same))
        case acceptance.Ids.KEYS:
            yield Finding(Level.OK, "restore", said)
        case acceptance.Ids.HOSTS:
            yield Finding(Level.OK, "restore", said)
            up_to = f" up to {done.reached}" if done.reached else ""
            yield Finding(
                Level.WARNING,
                "restore",
                f"new rows of {done.table} can get ids{up_to} that were used before, {same}; the "
                "table is the host's own, so let the host raise its ids before the ERP is started"
                f"{how}",
            )
        case acceptance.Ids.UNKNOWN:
            yield Finding(Level.OK, "restore", said)
            yield Finding(
                Level.WARNING,
                "restore",
                "the lock file beside it does not say how far the ids of this file went, so new "
                f"rows of {done.table} can get ids that were used before, {same}; before the ERP "
                f"is started raise them above all that there were{how}",
            )
        case _:
            assert_never(done.ids)


def _in_doubt(found: acceptance.Doubtful, table: str, same: str) -> str:
    rows, ids = counted(found.rows, "row"), f"id {found.first}"
    if found.last > found.first:
        ids = f"ids from {found.first} to {found.last}"
    return (
        f"{rows} of {table} not taken in yet, {ids}: lost ones that are sent again, or written "
        f"since the restore with ids that were used before, {same}; look at them before `webhookd "
        "run`, and delete what is new and insert it again, for new ids"
    )


def _move(app: App) -> Finding:
    moved = acceptance.accept_move(app.settings.database)
    text = "accepted: this machine and path are the file's home" if moved else "it is at home here"
    return Finding(Level.OK, "move", text)
