"""`webhookd subscriptions enable`, and what becomes of what was owed while a partner was down."""

from collections import Counter

import click

from webhookd.cli.bulk import complete
from webhookd.cli.commands.subscriptions import summary
from webhookd.cli.context import App, pass_app
from webhookd.cli.declared import warn_undeclared
from webhookd.cli.output import document, is_asked, json_option, lines
from webhookd.core.storage import StoredSubscription
from webhookd.core.text import counted
from webhookd.errors import UsageError
from webhookd.store import enabling, lockfile, subscriptions
from webhookd.store.enabling import Enabled
from webhookd.store.instructions import Kind
from webhookd.store.transaction import Session


@click.command()
@click.argument("subscription", metavar="ID|NAME")
@click.option("--skip-backlog", is_flag=True, help="Cancel all that it is owed.")
@click.option("--newest-only", is_flag=True, help="Cancel all but the newest of each aggregate.")
@click.option(
    "--retry-failed", is_flag=True, help="Open again what failed in a row, up to the disabling."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_app
def enable(
    app: App,
    subscription: str,
    skip_backlog: bool,
    newest_only: bool,
    retry_failed: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send again what a paused or disabled subscription is owed, in order, and what comes.

    The rules that disable it count anew, and a holding back asked for by its receiver ends.
    Nothing is sent before the backlog is as you asked. What has no aggregate is all kept by
    --newest-only.
    """
    if skip_backlog and newest_only:
        raise UsageError("--newest-only: keeps some of what --skip-backlog cancels; leave one out")
    backlog = Kind.SKIP_BACKLOG if skip_backlog else Kind.NEWEST_ONLY if newest_only else None
    with app.session(write=True) as session:
        found = _find(session, subscription)
        if backlog is not None and not yes:
            _confirm(found, _owed(session, found), backlog)
        with session.write() as transaction:
            found = subscriptions.find(transaction.connection, found.id)
            enabled = enabling.enable(
                transaction, found.key, backlog=backlog, retry_failed=retry_failed, now=app.now()
            )
        came = _carry_out(app, session, enabled)
        found = _find(session, found.id)
        owed = _owed(session, found)
        with session.read() as connection:
            old = enabling.too_old(connection, session.profiles, found.key, app.now())
            expired = enabling.expired(connection, found.key) if retry_failed else 0
        runs = lockfile.is_held(session.path)
    warn_undeclared(app, found)
    if as_json:
        document(
            {
                **summary(found),
                "owed": owed,
                "cancelled": came["cancelled"],
                "reopened": came["reopened"],
                "erased": came["erased"],
                "too_old": old,
                "expired": expired,
            }
        )
        return
    if backlog is not None:
        lines(f"{found.name}: {_of_backlog(backlog, enabled, came)}")
    if retry_failed:
        lines(f"{found.name}: {_of_failed(enabled, came)}")
    if expired:
        verb = "is" if expired == 1 else "are"
        lines(
            f"{found.name}: {_at_least(expired)} expired and {verb} not opened again; `webhookd "
            f"replay --subscription {found.name} --failed-only --since TIME` sends what is wanted"
        )
    when = "" if runs else " once the daemon runs"
    lines(f"{found.name} is enabled; {_are(owed)} owed and will be sent{when}")
    if old:
        verb = "is" if old == 1 else "are"
        lines(f"{_at_least(old)} of them {verb} older than max_age and will end as expired")


def _at_least(count: int) -> str:
    return f"{count} or more" if count >= enabling.MOST_COUNTED else str(count)


def _carry_out(app: App, session: Session, enabled: Enabled) -> Counter[str]:
    """What came of the instructions, by the words of their kinds."""
    came: Counter[str] = Counter()
    for key in enabled.given:
        one = complete(
            app,
            session,
            key,
            "carrying out",
            enabled.owed,
            lambda one: one.counts.get("cancelled", 0) + one.counts.get("kept", 0),
        )
        if one is not None:
            came.update(one.counts)
    return came


def _of_backlog(backlog: Kind, enabled: Enabled, came: Counter[str]) -> str:
    if not enabled.owed:
        return "nothing was owed, so nothing is cancelled"
    cancelled = f"{_are(came['cancelled'])} cancelled ({_REASONS[backlog]})"
    if backlog is Kind.SKIP_BACKLOG:
        return cancelled
    return f"{cancelled}, {came['kept']} kept"


_REASONS = {Kind.SKIP_BACKLOG: "backlog_skipped", Kind.NEWEST_ONLY: "newest_only"}


def _of_failed(enabled: Enabled, came: Counter[str]) -> str:
    if enabled.streak_since is None:
        return "no delivery has failed since the last success, so none is opened again"
    verb = "is" if came["reopened"] == 1 else "are"
    said = (
        f"{counted(came['reopened'], 'failed delivery', 'failed deliveries')} {verb} opened again"
    )
    if not came["erased"]:
        return said
    return f"{said}, {came['erased']} passed over as erased: nothing is left to send"


def _confirm(found: StoredSubscription, owed: int, backlog: Kind) -> None:
    if not owed:
        return
    but = "" if backlog is Kind.SKIP_BACKLOG else ", all but the newest of each aggregate"
    if not is_asked():
        raise UsageError(
            f"{found.name}: {_are(owed)} owed and would be cancelled{but}; say --yes to skip them"
        )
    click.confirm(
        f"{found.name}: {_are(owed)} owed and will be cancelled{but}. Skip them?",
        abort=True,
        err=True,
    )


def _find(session: Session, subscription: str) -> StoredSubscription:
    with session.read() as connection:
        return subscriptions.find(connection, subscription)


def _owed(session: Session, found: StoredSubscription) -> int:
    with session.read() as connection:
        return subscriptions.owed(connection)[found.key]


def _are(count: int) -> str:
    return "1 delivery is" if count == 1 else f"{count} deliveries are"
