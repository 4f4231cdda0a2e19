"""`webhookd init`: prepare a file."""

from pathlib import Path

import click

from webhookd.cli.context import App, pass_app
from webhookd.cli.output import document, json_option, lines, say
from webhookd.core.text import counted
from webhookd.store import preflight, sources
from webhookd.store.create import Prepared, prepare, upgrade_ahead
from webhookd.store.file import BEFORE_FIRST


@click.command()
@click.option("--existing", is_flag=True, help="Never create the file: prepare one that is there.")
@json_option
@pass_app
def init(app: App, existing: bool, as_json: bool) -> None:
    """Create or upgrade webhookd's tables in the SQLite file. Safe to repeat.

    Makes the outbox table when there is none, and fixes where ingest begins: at the beginning
    of a table that it makes, at the end of one that was there ([outbox] start says otherwise).
    """
    chosen = app.settings.outbox
    _announce(preflight.real_path(app.settings.database))
    done = prepare(
        app.settings.database,
        table=chosen.table,
        start=None if chosen.start == "" else chosen.start,
        ids_never_reused=chosen.ids == "never-reused",
        may_create=not existing,
        columns=chosen.columns,
        now=app.now(),
    )
    with app.session(write=False) as session, session.read() as connection:
        cursor, kind = session.file.cursor, sources.read(connection).kind
    ingested = None if cursor == BEFORE_FIRST else cursor
    if as_json:
        document(
            {
                "database": str(done.path),
                "created": done.created_file,
                "migrations": list(done.migrations),
                "outbox": done.outbox_table,
                "outbox_ours": done.outbox_ours,
                "outbox_made": done.outbox_made,
                "begins_after": ingested,
            }
        )
        return
    lines(*_words(done, _beginning(ingested, kind)))


def _announce(path: Path) -> None:
    """Say beforehand what may take long, and keeps the host from writing meanwhile."""
    if not path.exists():
        return
    preflight.check(path)
    ahead = upgrade_ahead(path)
    if ahead is not None:
        made = counted(ahead, "delivery", "deliveries")
        say(f"{path}: being upgraded, with {made}; the host cannot write until it is done")


def _beginning(ingested: int | None, kind: str) -> str:
    if ingested is None:
        return "at its beginning"
    if kind == "integer":
        return f"after id {ingested}"
    # Its keys are no numbers, and the ledger's count the rows in the order of being found.
    verb = "is" if ingested == 1 else "are"
    return f"with rows that are new: {counted(ingested, 'row')} {verb} done with"


def _mended(done: Prepared) -> str:
    """What was put right in a file that was prepared already; '' for nothing."""
    if done.outbox_made:
        return (
            f"its outbox table '{done.outbox_table}' was gone and was made again, empty: rows that "
            "had not been taken in are lost"
        )
    return f"the host's key is {done.key_renamed} now" if done.key_renamed else ""


def _words(done: Prepared, start: str) -> list[str]:
    if done.created_file:
        what = "created, and prepared for webhookd"
    elif done.migrations:
        what = f"prepared for webhookd ({', '.join(done.migrations)})"
    else:
        what = "was prepared already; " + (_mended(done) or "nothing was changed")
    whose = "webhookd's own" if done.outbox_ours else "the host's own"
    return [
        f"{done.path}: {what}",
        f"outbox: table {done.outbox_table} ({whose}); ingest goes on {start}",
        "next: webhookd subscriptions add URL, then webhookd run",
    ]
