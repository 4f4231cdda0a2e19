"""`webhookd catalog`: the event types of the systems that publish theirs."""

from typing import Any

import click

from webhookd.cli.output import document, fields, json_option, lines, table
from webhookd.config.catalog import of_systems
from webhookd.config.settings import SYSTEMS
from webhookd.core.catalog import EventType, outline
from webhookd.errors import NotFound


@click.group()
def catalog() -> None:
    """The event types that N'entropy, Floriday and OneStock publish, with their fields.

    The list is open: a type that is not in it is delivered like any other.
    """


@catalog.command("list")
@click.option("--system", type=click.Choice(SYSTEMS), help="Only this system's.")
@json_option
def list_all(system: str | None, as_json: bool) -> None:
    """List the types by the names that patterns of subscriptions match."""
    types = of_systems(SYSTEMS if system is None else (system,)).types
    if as_json:
        document([_summary(one) for one in types])
        return
    rows = ((one.system.id, one.name, one.description) for one in types)
    lines(*table(("SYSTEM", "TYPE", "DESCRIPTION"), rows))


@catalog.command()
@click.argument("event_type", metavar="TYPE")
@json_option
def show(event_type: str, as_json: bool) -> None:
    """Show one type: the fields of its body, and which of them the host's payload makes.

    TYPE is a name from the list; for a pair, BATCH/CREATED will do as well.
    """
    try:
        found = of_systems(SYSTEMS).named(event_type)
    except LookupError as error:
        raise NotFound(str(error.args[0])) from None
    rows = [(line.path, line.type, line.required) for line in outline(found.body)]
    if as_json:
        document(
            {
                **_summary(found),
                "source": found.system.source,
                "payload": found.system.payload,
                "fields": [
                    {"path": path, "type": type_, "required": required}
                    for path, type_, required in rows
                ],
                "example": found.example or None,
                "facts": dict(found.facts),
            }
        )
        return
    shown = {
        "system": f"{found.system.name} ({found.system.id})",
        "type": found.name,
        "description": found.description,
        **dict(found.facts),
        "source": found.system.source,
        "payload": _place(found.system.payload),
        "example": found.example or None,
    }
    lines(
        *fields(shown),
        "",
        *table(
            ("FIELD", "TYPE", "REQUIRED"),
            ((path, type_, "yes" if required else "no") for path, type_, required in rows),
        ),
    )


def _summary(one: EventType) -> dict[str, Any]:
    return {
        "system": one.system.id,
        "type": one.name,
        "event_type": one.event_type,
        "aggregate_type": one.aggregate_type or None,
        "description": one.description,
    }


def _place(payload: str | None) -> str:
    """Where in the body the host's payload stands."""
    if payload is None:
        return "has no place in the body, which only says what to ask the host for"
    return f"is the member {payload} of the body" if payload else "is the whole body"
