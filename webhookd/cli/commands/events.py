"""`webhookd events`: what happened in the host, as webhookd has it."""

import sys
from pathlib import Path
from typing import Any, Final

import click

from webhookd.cli.context import App, pass_app
from webhookd.cli.lazy import LazyGroup
from webhookd.cli.output import complain, document, fields, json_option, lines, say, table
from webhookd.cli.types import LIMIT, MOMENT
from webhookd.config.catalog import validation
from webhookd.core.model import Millis
from webhookd.errors import UsageError
from webhookd.store import deliveries, lockfile, waiting
from webhookd.store.deliveries import Filter
from webhookd.store.driver import Connection
from webhookd.store.emit import NewRow
from webhookd.store.emit import emit as insert
from webhookd.store.transaction import Session

_QUESTIONS: Final = "webhookd.cli.commands.event_questions"

PAGE: Final = 100
"""Rows that a listing shows unless it is asked for more."""

limit_option = click.option(
    "--limit", type=LIMIT, default=PAGE, show_default=True, help="Show at most so many."
)
since_option = click.option(
    "--since", type=MOMENT, metavar="TIME", help="From then on: a moment, or how long ago (2h)."
)
until_option = click.option(
    "--until", type=MOMENT, metavar="TIME", help="Before then: a moment, or how long ago (2h)."
)


@click.command(
    cls=LazyGroup,
    lazy={
        "emit": f"{__name__}:emit",
        "list": f"{__name__}:list_all",
        "show": f"{__name__}:show",
        "explain": f"{_QUESTIONS}:explain",
        "retry-rejected": f"{_QUESTIONS}:retry_rejected",
        "erase": "webhookd.cli.commands.events_erase:erase",
    },
)
def events() -> None:
    """What the host said happened."""


@click.command()
@click.argument("event_type", metavar="TYPE")
@click.option("--aggregate-id", default="", help="The ID that a receiver asks the host's API for.")
@click.option("--aggregate-type", default="", help="Made of TYPE if left out.")
@click.option("--tenant", default="", help="Whose event it is.")
@click.option("--payload", metavar="JSON|@FILE|-", help="Without one, the event is ID-only.")
@click.option("--occurred-at", default="", metavar="TIME", help="ISO 8601; now, if left out.")
@click.option("--event-id", default="", help="An idempotency key; made if left out.")
@json_option
@pass_app
def emit(
    app: App,
    event_type: str,
    aggregate_id: str,
    aggregate_type: str,
    payload: str | None,
    as_json: bool,
    tenant: str,
    occurred_at: str,
    event_id: str,
) -> None:
    """Insert a row into the outbox, as a host would, and print its id.

    A row that ingest would reject is refused at once. So is every row where the outbox is a
    table of the host's own.
    """
    outbox = app.settings.outbox
    checked = validation(outbox)
    row = NewRow(
        event_type=event_type,
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        tenant=tenant,
        payload=None if payload is None else _payload(payload, outbox.max_payload),
        occurred_at=occurred_at,
        event_id=event_id,
    )
    with app.session(write=True) as session, session.write() as transaction:
        inserted = insert(
            transaction,
            row,
            default_tenant=outbox.default_tenant,
            max_payload=outbox.max_payload,
            now=app.now(),
            validation=checked,
        )
    if checked is not None:
        fault = checked.fault(
            event_type, aggregate_type, None if row.payload is None else row.payload.encode()
        )
        if fault:
            complain(f"warning: {fault}")
    if as_json:
        document({"outbox_id": inserted, "event_type": event_type, "event_id": event_id or None})
    else:
        lines(str(inserted))


def _payload(given: str, most: int) -> str:
    """The payload that was meant; of what is too large, enough to see that it is.

    Raises:
        UsageError: the file cannot be read, or is no text.
    """
    if given == "-":
        data = sys.stdin.buffer.read(most + 1)
    elif given.startswith("@"):
        try:
            with Path(given[1:]).open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise UsageError(f"--payload {given}: cannot be read: {error.strerror}") from None
    else:
        return given
    if len(data) > most:
        raise UsageError(f"--payload {given}: over {most} bytes, which is [outbox] max_payload")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"--payload {given}: not UTF-8 at byte {error.start}") from None


@click.command("list")
@click.option("--rejected", is_flag=True, help="Outbox rows that could not become events.")
@click.option("--type", "event_type", help="Of this type, or of a pattern like supplier.*.")
@click.option("--aggregate-id", help="Of this aggregate.")
@click.option("--tenant", help="Of this tenant.")
@since_option
@until_option
@limit_option
@json_option
@pass_app
def list_all(
    app: App,
    rejected: bool,
    event_type: str | None,
    aggregate_id: str | None,
    as_json: bool,
    tenant: str | None,
    since: Millis | None,
    until: Millis | None,
    limit: int,
) -> None:
    """List events, the newest first, or the rows that could not become events."""
    if rejected and (event_type or aggregate_id or tenant):
        raise UsageError("--rejected: goes with --since, --until and --limit alone")
    wanted = Filter(
        event_type=event_type,
        aggregate_id=aggregate_id,
        tenant=tenant,
        since=since,
        until=until,
        limit=limit,
    )
    with app.session(write=False) as session, session.read() as connection:
        if rejected:
            found = deliveries.list_rejected(connection, wanted)
        else:
            found = deliveries.list_events(connection, wanted)
    columns = EVENTS
    if rejected:
        keyed = any(row["outbox_key"] is not None for row in found)
        columns = REJECTED_BY_KEY if keyed else REJECTED
    print_rows(found, columns, as_json=as_json, nothing="no such events")


EVENTS: Final = {
    "sequence": "SEQUENCE",
    "event_id": "EVENT ID",
    "event_type": "TYPE",
    "aggregate_type": "AGGREGATE TYPE",
    "aggregate_id": "AGGREGATE ID",
    "tenant": "TENANT",
    "occurred_at": "OCCURRED AT",
}
REJECTED: Final = {
    "outbox_id": "OUTBOX ID",
    "reason": "REASON",
    "event_type": "TYPE",
    "rejected_at": "REJECTED AT",
    "detail": "DETAIL",
}
REJECTED_BY_KEY: Final = {"outbox_id": "OUTBOX ID", "outbox_key": "KEY", **REJECTED}


def print_rows(
    found: list[dict[str, Any]], columns: dict[str, str], *, as_json: bool, nothing: str
) -> None:
    """A listing: a JSON array of whole rows, or a table of some columns."""
    if as_json:
        document(found)
    elif found:
        rows = ([row[key] for key in columns] for row in found)
        lines(*table(tuple(columns.values()), rows, whole_last="DETAIL" in columns.values()))
    else:
        say(nothing)


def put_in_words(
    session: Session, connection: Connection, found: list[dict[str, Any]], now: Millis
) -> None:
    """Say of deliveries when they are really attempted next, instead of when they would be due."""
    words = waiting.upcoming(
        connection,
        session.profiles,
        (row["delivery_id"] for row in found),
        daemon=lockfile.look(session.path),
        now=now,
    )
    for row in found:
        row["next_attempt_at"] = words.get(row["delivery_id"])


@click.command()
@click.argument("event", metavar="EVENT_ID|SEQUENCE")
@json_option
@pass_app
def show(app: App, event: str, as_json: bool) -> None:
    """Show one event with its payload and what became of its deliveries.

    The JSON has the payload as text, byte for byte as the host wrote it. With [outbox] validate,
    payload_fault says where it differs from its type's catalogue.
    """
    with app.session(write=False) as session, session.read() as connection:
        found = deliveries.show_event(connection, event)
        if not as_json:
            put_in_words(session, connection, found["deliveries"], app.now())
    found["payload_fault"] = _payload_fault(app, found)
    if as_json:
        document(found)
        return
    owed = found.pop("deliveries")
    guessed = found.pop("time_guessed")
    if found.pop("erased"):
        found["payload"] = "(erased)"
    if found["payload_fault"] is None:
        del found["payload_fault"]
    if guessed:
        found["occurred_at"] += "  (the row's own could not be read; this is the time of ingest)"
    lines(*fields(found))
    if owed:
        lines(
            "",
            *table(tuple(DELIVERIES.values()), ([row[key] for key in DELIVERIES] for row in owed)),
        )


def _payload_fault(app: App, event: dict[str, Any]) -> str | None:
    """Where its payload is not made as its type's catalogue says, by the settings of now."""
    checked = validation(app.readable.outbox)
    payload = event["payload"]
    if checked is None or payload is None:
        return None
    aggregate_type = event["aggregate_type"] or ""
    return checked.fault(event["event_type"], aggregate_type, payload.encode()) or None


DELIVERIES: Final = {
    "delivery_id": "DELIVERY",
    "subscription_name": "SUBSCRIPTION",
    "state": "STATE",
    "reason": "REASON",
    "attempts": "ATTEMPTS",
    "last_status": "STATUS",
    "next_attempt_at": "NEXT ATTEMPT",
    "last_error": "ERROR",
}
