"""`webhookd deliveries`: what is owed, what became of it, and what an operator can do about it."""

import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from webhookd.cli import telling
from webhookd.cli.commands.events import (
    limit_option,
    print_rows,
    put_in_words,
    since_option,
    until_option,
)
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import complain, document, fields, json_option, lines, program_text
from webhookd.cli.types import NUMBER
from webhookd.core.curl import command as as_curl
from webhookd.core.delivery import Standing
from webhookd.core.explaining import Cause
from webhookd.core.model import DeliveryState, Millis
from webhookd.core.profiles import Unrenderable
from webhookd.core.signing import MissingSecret
from webhookd.core.times import to_text
from webhookd.errors import EXIT_OK, NotFound, Refused, UsageError
from webhookd.store import deliveries as stored_ones
from webhookd.store import explain, lockfile, subscriptions, waiting
from webhookd.store.blocking import blocking as blocking_ones
from webhookd.store.deliveries import Filter
from webhookd.store.transaction import Session, Transaction

COLUMNS: Final = {
    "delivery_id": "DELIVERY",
    "state": "STATE",
    "reason": "REASON",
    "subscription_name": "SUBSCRIPTION",
    "event_type": "TYPE",
    "aggregate_id": "AGGREGATE ID",
    "attempts": "ATTEMPTS",
    "last_status": "STATUS",
    "next_attempt_at": "NEXT ATTEMPT",
    "last_error": "ERROR",
}

BLOCKING: Final = {
    "delivery_id": "DELIVERY",
    "subscription_name": "SUBSCRIPTION",
    "aggregate_type": "AGGREGATE TYPE",
    "aggregate_id": "AGGREGATE ID",
    "failing_since": "FAILING SINCE",
    "attempts": "ATTEMPTS",
    "waiting": "WAITING",
    "next_attempt_at": "NEXT ATTEMPT",
    "last_error": "ERROR",
}

TOLD: Final = frozenset({"attempts_made", "waits_for", "behind_delivery", "max_age", "unsendable"})
"""Fields of one delivery that are told in words."""


@click.group()
def deliveries() -> None:
    """One event owed to one subscription, and what became of it."""


@deliveries.command("list")
@click.option("--state", type=click.Choice([one.value for one in DeliveryState]))
@click.option("--subscription", metavar="ID|NAME", help="Owed to this subscription.")
@click.option("--event", metavar="EVENT_ID", help="Of this event.")
@click.option("--aggregate-id", help="Of this aggregate's events.")
@click.option(
    "--blocking", is_flag=True, help="Those that keep failing while others wait behind them."
)
@since_option
@until_option
@limit_option
@json_option
@pass_app
def list_all(
    app: App,
    state: str | None,
    subscription: str | None,
    event: str | None,
    aggregate_id: str | None,
    blocking: bool,
    as_json: bool,
    since: Millis | None,
    until: Millis | None,
    limit: int,
) -> None:
    """List deliveries, the newest first. --since and --until go by when they were made.

    With --blocking those that have failed the longest come first.
    """
    if blocking:
        if any(one is not None for one in (state, event, aggregate_id, since, until)):
            raise UsageError("--blocking: goes with --subscription and --limit alone")
        _list_blocking(app, subscription, limit, as_json=as_json)
        return
    with app.session(write=False) as session, session.read() as connection:
        if subscription is not None:
            subscription = _id_of(session, subscription)
        wanted = Filter(
            state=None if state is None else DeliveryState(state),
            subscription=subscription,
            event=event,
            aggregate_id=aggregate_id,
            since=since,
            until=until,
            limit=limit,
        )
        stored_ones.check_known(connection, wanted)
        found = stored_ones.list_deliveries(connection, wanted)
        if not as_json:
            put_in_words(session, connection, found, app.now())
    print_rows(found, COLUMNS, as_json=as_json, nothing="no such deliveries")


def _list_blocking(app: App, subscription: str | None, limit: int, *, as_json: bool) -> None:
    with app.session(write=False) as session, session.read() as connection:
        key = None if subscription is None else subscriptions.find(connection, subscription).key
        found = blocking_ones(connection, key, limit)
        if not as_json:
            put_in_words(session, connection, found, app.now())
    if not as_json:
        for row in found:
            more = "+" if row["more_waiting"] else ""
            row["waiting"] = f"{row['waiting']}{more}"
    print_rows(found, BLOCKING, as_json=as_json, nothing="nothing is held up")


def _id_of(session: Session, subscription: str) -> str:
    """The id of one that is there; a removed one is found by what its deliveries say."""
    try:
        with session.read() as connection:
            return subscriptions.find(connection, subscription).id
    except NotFound:
        return subscription


@deliveries.command()
@click.argument("delivery", metavar="ID", type=NUMBER)
@click.option("--curl", is_flag=True, help="Its request as a command of the shell, signed now.")
@click.option(
    "--reveal", is_flag=True, help="With --curl: the values of own headers and the URL's query too."
)
@json_option
@pass_app
def show(app: App, delivery: int, curl: bool, reveal: bool, as_json: bool) -> None:
    """Tell the story of one delivery, or show the request that its next attempt would make.

    The story: where it stands, what it waits for, and each attempt with its time, how long it took,
    what came of it and the beginning of the answer.

    What --curl prints can be piped into sh. It sends the bytes that the daemon would send now, and
    nothing is recorded of it; its signature is taken for as long as the receiver takes one of now.
    The values of the subscription's own headers and the query of its URL may be secrets: they are
    *** unless --reveal asks for them. The signing secret is never shown.
    """
    if curl:
        _print_curl(app, delivery, reveal=reveal, as_json=as_json)
        return
    if reveal:
        raise UsageError("--reveal: goes with --curl")
    with app.session(write=False) as session:
        found = explain.delivery(session, delivery, app.now())
    if as_json:
        document(found)
    else:
        lines(*_story(found))


def _story(found: dict[str, Any]) -> Iterator[str]:
    of = "" if found["aggregate_id"] is None else f" of {found['aggregate_id']}"
    event = f"{found['event_type']}{of} (event {found['event_id']})"
    yield f"delivery {found['delivery_id']}: {event} to {found['subscription_name']}"
    yield f"it {telling.standing(found)}"
    yield from telling.prospects(found)
    yield from telling.remedy(found, removed=found["subscription_state"] == "removed")
    yield ""
    yield from fields({name: value for name, value in found.items() if name not in TOLD})
    if found["attempts_made"]:
        yield ""
        yield from telling.attempts(found["attempts_made"])


def _print_curl(app: App, delivery: int, *, reveal: bool, as_json: bool) -> None:
    """Print the request of its next attempt as a command of the shell.

    Raises:
        ConfigError: the configuration is unfit, and the request depends on its profiles.
        Refused: the daemon could not make this request now either.
    """
    from webhookd.daemon.roster import HeldBack, enroll

    known = app.settings.profiles
    with app.session(write=False) as session, session.read() as connection:
        owed = stored_ones.read_owed(connection, delivery)
    now = app.now()
    member = enroll(owed.subscription, known, os.environ, now)
    if isinstance(member, HeldBack):
        raise Refused(f"delivery {delivery}: subscription {member.name}: {member.problem}")
    try:
        request = member.renderer.render(
            owed.event, number=owed.number, attempt=owed.attempts + 1, now=now
        )
    except (Unrenderable, MissingSecret) as error:
        raise Refused(f"delivery {delivery}: there is no request to show: {error}") from None
    profile = known.get(owed.subscription.profile)
    own = frozenset(name.lower() for name, _ in owed.subscription.headers) | profile.private_headers
    own -= profile.echoes  # what a handshake gave is no secret
    command = as_curl(
        request,
        timeout=member.subscription.policy.timeout,
        masked=frozenset() if reveal else own,
        mask_query=not reveal,
    )
    if own or "?" in request.url.target:
        if reveal:
            complain("warning: the command holds own headers or a query, which may be secrets")
        else:
            complain(
                "own headers and the query of the URL are *** in it, so it is not the whole "
                "request; --reveal shows them"
            )
    if as_json:
        document({"delivery_id": delivery, "command": command})
    else:
        program_text(command)


@deliveries.command()
@click.argument("delivery", metavar="ID...", type=NUMBER, nargs=-1, required=True)
@click.option("--delivered", is_flag=True, help="Also those that were delivered already.")
@json_option
@pass_app
def retry(app: App, delivery: tuple[int, ...], delivered: bool, as_json: bool) -> int:
    """Send deliveries again: finished ones are opened again, pending ones become due now.

    One that is opened again begins a new schedule of retries; attempts go on counting. It goes
    before the pending ones of its aggregate. One that was delivered, perhaps a moment ago, is
    refused without --delivered; and one whose event was erased, where its payload would be sent.

    One that was pending keeps its schedule, and a request that is under way counts in it: where
    that is its last attempt, no other follows. `deliveries cancel` and then `deliveries retry`
    begin a new schedule, also while a request is under way.

    Several are opened in the order of their ids, whatever the order here: of one aggregate the
    oldest goes first.
    """

    def open_again(session: Session, number: int) -> dict[str, Any]:
        with session.write() as transaction:
            now = app.now()
            before = stored_ones.standing(transaction, number, now)
            _check_sendable(transaction, number, before)
            after = stored_ones.retry(transaction, number, now, delivered=delivered)
        was_pending = before.state is DeliveryState.PENDING
        _warn_of_newer(session, number, opened=not was_pending)
        with session.read() as connection:
            most = waiting.attempts_of_schedule(connection, session.profiles, number)
        if was_pending and most is not None:
            _warn_of_last(session, number, before, most, now)
        return _shown(number, after) | {
            "delivered_at": stored_ones.delivered_at(before),
            "was_pending": was_pending,
            "schedule": {"attempt": after.tries + 1, "of": most},
        }

    # Each is due once its own transaction is through: of one aggregate the oldest is to go first.
    return _each(app, tuple(sorted(delivery)), open_again, as_json=as_json)


@deliveries.command()
@click.argument("delivery", metavar="ID...", type=NUMBER, nargs=-1, required=True)
@json_option
@pass_app
def cancel(app: App, delivery: tuple[int, ...], as_json: bool) -> int:
    """Take pending deliveries back.

    One whose request is under way is still delivered if the receiver takes it.
    """

    def take_back(session: Session, number: int) -> dict[str, Any]:
        with session.write() as transaction:
            return _shown(number, stored_ones.cancel(transaction, number, app.now()))

    return _each(app, delivery, take_back, urgent=True, as_json=as_json)


def _each(
    app: App,
    ids: tuple[int, ...],
    act: Callable[[Session, int], dict[str, Any]],
    *,
    urgent: bool = False,
    as_json: bool,
) -> int:
    """Do it to each that it can be done to; the exit code of the first that it cannot."""
    code, done = EXIT_OK, []
    with app.session(write=True, urgent=urgent) as session:
        for number in dict.fromkeys(ids):
            try:
                shown = act(session, number)
            except (NotFound, Refused) as error:
                complain(str(error))
                code = code or error.exit_code
            else:
                done.append(shown | _waits(app, session, number))
    if as_json:
        document(done)
    else:
        lines(*map(_in_words, done))
    return code


def _check_sendable(transaction: Transaction, number: int, before: Standing) -> None:
    """Refuse to open again what would only fail: what became of it would be forgotten for that.

    Raises:
        Refused: nothing is left of it to send.
    """
    if before.state is DeliveryState.PENDING:
        return
    why = stored_ones.unsendable(transaction.connection, transaction.profiles, number)
    if why:
        raise Refused(
            f"delivery {number}: {why}: nothing is left to send, so it stays {before.state}"
        )


def _shown(number: int, standing: Standing) -> dict[str, Any]:
    return {
        "delivery_id": number,
        "state": standing.state.value,
        "reason": None if standing.reason is None else standing.reason.value,
        "attempts": standing.attempts,
        "due_at": None if standing.due_at is None else to_text(standing.due_at),
    }


def _waits(app: App, session: Session, number: int) -> dict[str, Any]:
    """What keeps it from being sent now, but for its own time."""
    daemon = lockfile.look(session.path)
    with session.read() as connection:
        found = waiting.waits_of(connection, session.profiles, number, daemon=daemon, now=app.now())
    return {
        "waits_for": [
            {"cause": one.cause.value, "text": one.text} for one in found if one.cause not in _TURN
        ]
    }


_TURN: Final = (Cause.TIME, Cause.PLACE)


def _warn_of_newer(session: Session, number: int, *, opened: bool) -> None:
    """Say what the receiver has, or may get, before this one though it is newer."""
    with session.read() as connection:
        newer = waiting.newer(connection, number, DeliveryState.DELIVERED)
        fate = "was delivered already, so the receiver goes back in time"
        if newer is None and opened:  # one that was pending has those in line behind it
            newer = waiting.newer(connection, number, DeliveryState.PENDING)
            fate = "is pending: if its request is under way, the receiver gets it first"
    if newer is not None:
        complain(
            f"warning: delivery {number}: delivery {newer}, of a newer event of its aggregate, "
            f"{fate}"
        )


def _warn_of_last(session: Session, number: int, before: Standing, most: int, now: Millis) -> None:
    """Say that no attempt may be left: the file does not know whether a request is under way."""
    may_be_under_way = before.due_at is not None and before.due_at <= now
    if may_be_under_way and before.tries + 1 >= most and lockfile.is_held(session.path):
        complain(
            f"warning: delivery {number}: if its request is under way, that is the last attempt of "
            f"its schedule; `webhookd deliveries cancel {number}` and then `webhookd deliveries "
            f"retry {number}` begin a new one"
        )


def _in_words(done: dict[str, Any]) -> str:
    number, state = done["delivery_id"], done["state"]
    if state == DeliveryState.CANCELLED:
        return f"delivery {number} is cancelled; if its request is under way, a success counts"
    said = f"delivery {number} is {state}"
    if done.get("delivered_at"):
        said = (
            f"delivery {number} was delivered already at {done['delivered_at']}; it is sent again"
        )
    waits = "; ".join(one["text"] for one in done["waits_for"])
    if waits:
        return f"{said}, and waits: {waits}"
    if not done["due_at"]:
        return said
    if done["was_pending"]:
        attempt, most = done["schedule"]["attempt"], done["schedule"]["of"]
        of = "" if most is None else f" (attempt {attempt} of {most})"
        return f"delivery {number} was pending: it is due now; its schedule stays{of}"
    return f"{said}, due at {done['due_at']}"
