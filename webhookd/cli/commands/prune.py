"""`webhookd prune`: retention, now."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from webhookd.cli.bulk import progress
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import complain, document, json_option, lines
from webhookd.core.model import Millis
from webhookd.core.retention import Retention, Work
from webhookd.core.text import counted
from webhookd.errors import EXIT_OK, EXIT_WRONG, OutboxUnreadable
from webhookd.store import retention
from webhookd.store.acceptance import BREATH
from webhookd.store.foresight import foresee
from webhookd.store.forgetting import Forgetting
from webhookd.store.transaction import Session


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count: change nothing.")
@json_option
@pass_app
def prune(app: App, dry_run: bool, as_json: bool) -> int:
    """Take away now what [retention] keeps no longer; the daemon does so by itself.

    What is owed stays, and an event stays for as long as a delivery refers to it. It is done in
    short transactions; a daemon may run meanwhile.
    """
    kept, now = app.settings.retention, app.now()
    fault = ""
    with app.session(write=not dry_run) as session:
        with session.read() as connection:
            foreseen: Counter[str] = sum(
                foresee(connection, session.file, kept, now), Counter[str]()
            )
        gone = foreseen
        if not dry_run:
            gone = Counter()
            with progress("pruning", foreseen.total()) as reach:
                fault = _do(session, kept, now, gone, lambda: reach(gone.total()))
    names = [*(one.name for one in fields(Retention)), "keys"]
    shown: dict[str, Any] = {name: gone[name] for name in names}
    if as_json:
        document({"dry_run": dry_run, "rows": shown, "fault": fault or None})
    else:
        lines(*_in_words(shown, dry_run=dry_run))
    if fault:
        complain(fault)
    return EXIT_WRONG if fault else EXIT_OK


def _do(
    session: Session, kept: Retention, now: Millis, gone: Counter[str], tell: Callable[[], None]
) -> str:
    """Take all away; returns what was in the way, `''` for nothing. `tell` hears of each batch."""
    fault = ""
    for work in Work:
        # Without their events the rows that are kept would never be found again.
        more = not (work is Work.EVENTS and fault)
        while more:
            begun = time.monotonic()
            try:
                with session.write() as transaction:
                    done = retention.prune(transaction, work, kept, now)
            except OutboxUnreadable as error:
                fault = str(error)
                break
            gone.update(done.rows)
            more = done.more
            tell()
            _leave_room(begun)
    _forget_keys(session, gone)
    return fault


def _forget_keys(session: Session, gone: Counter[str]) -> None:
    """Once through the ledger of a host's own outbox."""
    forgetting = Forgetting()
    while not forgetting.is_round:
        with session.read() as connection:
            found = forgetting.look(connection)
        if found:
            begun = time.monotonic()
            with session.write() as transaction:
                gone["keys"] += forgetting.forget(transaction.connection).rows
            _leave_room(begun)


def _leave_room(begun: float) -> None:
    """Wait for as long as it was ours: the others have their turn."""
    time.sleep(max(BREATH, time.monotonic() - begun))


_WORDS = {
    "delivered": ("delivered delivery", "delivered deliveries"),
    "cancelled": ("cancelled delivery", "cancelled deliveries"),
    "superseded": ("superseded delivery", "superseded deliveries"),
    "failed": ("failed delivery", "failed deliveries"),
    "attempts": ("attempt", "attempts"),
    "events": ("event", "events"),
    "rejected": ("rejected row", "rejected rows"),
    "outbox": ("row of the outbox", "rows of the outbox"),
    "changes": ("aggregate", "aggregates"),
    "keys": ("key of the ledger", "keys of the ledger"),
}


def _in_words(shown: dict[str, int], *, dry_run: bool) -> list[str]:
    said = [counted(count, *_WORDS[name]) for name, count in shown.items() if count]
    if not said:
        return ["nothing is kept longer than [retention] says"]
    if dry_run:
        return [f"would go: {', '.join(said)}", "nothing was changed: this was a dry run"]
    return [f"gone: {', '.join(said)}"]
