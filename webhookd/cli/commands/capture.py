"""`webhookd capture`: events out of the tables of a host that cannot be changed."""

from collections.abc import Iterator
from typing import Any, Final

import click

from webhookd.cli.context import App, pass_app
from webhookd.cli.lazy import LazyGroup
from webhookd.cli.output import complain, document, fields, json_option, lines, say, table
from webhookd.core.capture import Action, Capture
from webhookd.core.text import counted
from webhookd.errors import EXIT_OK, EXIT_WRONG, UsageError
from webhookd.store import captures
from webhookd.store.capture_triggers import Stored
from webhookd.store.captures import Standing

COST: Final = (
    (
        "from now on each such change of {table} writes a row into {outbox} too, in the host's own "
        "transaction: some microseconds a row, and a DELETE of the whole table goes row by row"
    ),
    (
        "each such change fails if {outbox} is ever dropped: `webhookd capture remove {table}` "
        "comes first"
    ),
)
"""What an operator has to know, once it is done."""


def _names(_: click.Context, option: click.Parameter, given: str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    found = tuple(dict.fromkeys(one.strip() for one in given.split(",")))
    if not all(found):
        raise click.BadParameter("is a list of names: code,name", param=option)
    return found


def _actions(
    context: click.Context, option: click.Parameter, given: str | None
) -> tuple[Action, ...]:
    try:
        return tuple(map(Action, _names(context, option, given))) or tuple(Action)
    except ValueError:
        raise click.BadParameter(
            "is a list of insert, update and delete, like insert,delete", param=option
        ) from None


@click.command(
    cls=LazyGroup,
    lazy={name: f"{__name__}:{name}" for name in ("add", "show", "remove", "repair")}
    | {"list": f"{__name__}:list_all"},
)
def capture() -> None:
    """Events out of the tables of a host that cannot be changed.

    Triggers on a table write ID-only rows into the outbox, in the host's own transactions.
    """


@click.command()
@click.argument("table", metavar="TABLE")
@click.option(
    "--event-prefix",
    required=True,
    metavar="PREFIX",
    help="supplier makes supplier.created, supplier.updated and supplier.deleted.",
)
@click.option("--id-column", required=True, metavar="COLUMN", help="Its value is the aggregate id.")
@click.option("--tenant-column", default="", metavar="COLUMN", help="Its value is the tenant.")
@click.option(
    "--columns", callback=_names, metavar="A,B", help="Only their change is an update.  [all]"
)
@click.option(
    "--on", "actions", callback=_actions, metavar="ACTIONS", help="[insert,update,delete]"
)
@json_option
@pass_app
def add(
    app: App,
    table: str,
    event_prefix: str,
    id_column: str,
    as_json: bool,
    tenant_column: str,
    columns: tuple[str, ...],
    actions: tuple[Action, ...],
) -> None:
    """Watch a table of the host's: put triggers on it.

    They run in the host's transactions, so that an event is there exactly when its change is. It
    is said on stderr what that costs.
    """
    wanted = Capture(table, event_prefix, id_column, tenant_column, columns, actions)
    with app.session(write=True) as session:
        with session.write() as transaction:
            stored = captures.add(transaction, wanted, app.now())
        outbox = session.file.outbox_table
        with session.read() as connection:
            found = captures.standing(connection, session.file, stored)
            doubt = captures.doubt(connection, stored)
    if as_json:
        document(_shown(found))
    else:
        made = counted(len(found.triggers), "trigger")
        types = ", ".join(_types(stored))
        lines(f"{stored.capture.table}: captured by {made}, as {types}")
    for text in COST:
        say(text.format(table=stored.capture.table, outbox=outbox))
    if doubt:
        complain(f"warning: {doubt}")


@click.command("list")
@json_option
@pass_app
def list_all(app: App, as_json: bool) -> None:
    """List the tables that are captured, and how they stand."""
    with app.session(write=False) as session, session.read() as connection:
        found = [
            captures.standing(connection, session.file, stored)
            for stored in captures.load(connection)
        ]
    if as_json:
        document([_shown(one) for one in found])
    elif found:
        columns = ("TABLE", "EVENTS", "ID COLUMN", "STANDING")
        rows = (
            (
                one.stored.capture.table,
                ", ".join(_types(one.stored)),
                one.stored.capture.id_column,
                one.fault or "in place",
            )
            for one in found
        )
        lines(*table(columns, rows, whole_last=True))
    else:
        say("no table is captured")


@click.command()
@click.argument("table", metavar="TABLE")
@json_option
@pass_app
def show(app: App, table: str, as_json: bool) -> None:
    """Show one capture and the SQL of its triggers."""
    with app.session(write=False) as session, session.read() as connection:
        stored = captures.find(connection, table)
        found = captures.standing(connection, session.file, stored)
        sql = captures.made(connection, stored)
    shown = _shown(found)
    if as_json:
        document(shown | {"sql": sql})
        return
    for name in ("events", "columns", "on", "triggers"):
        shown[name] = ", ".join(shown[name])
    lines(*fields(shown), "", *(f"{one};" for one in sql))


@click.command()
@click.argument("table", metavar="[TABLE]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every trigger of webhookd's in the file.")
@json_option
@pass_app
def remove(app: App, table: str | None, everything: bool, as_json: bool) -> None:
    """Take the triggers off a table again, or off all. What they wrote stays."""
    if (table is None) != everything:
        raise UsageError("capture remove: name one table, or say --all")
    with app.session(write=True) as session, session.write() as transaction:
        if table is None:
            count = captures.remove_all(transaction)
        else:
            count = captures.remove(transaction, table)
    if as_json:
        document({"removed_triggers": count})
    else:
        lines(f"{counted(count, 'trigger')} removed")


@click.command()
@click.argument("table", metavar="[TABLE]", required=False)
@json_option
@pass_app
def repair(app: App, table: str | None, as_json: bool) -> int:
    """Make triggers again that were lost when the host made a table anew.

    Of TABLE, or of every table that is captured.

    Changes since then are not made up for. What the host has renamed is taken over by its new
    name. Exits with 1 where something cannot be mended.
    """
    with app.session(write=True) as session, session.write() as transaction:
        done = captures.repair(transaction, table)
    if as_json:
        document(
            [
                {"table": one.table, "made": list(one.made), "fault": one.fault or None}
                for one in done
            ]
        )
    elif done:
        lines(*_repaired(done))
    else:
        which = "all captures are" if table is None else f"{table}: the capture is"
        lines(f"{which} in place; nothing was changed")
    return EXIT_WRONG if any(one.fault for one in done) else EXIT_OK


def _repaired(done: list[captures.Repaired]) -> Iterator[str]:
    for one in done:
        if one.fault:
            remedy = f"`webhookd capture remove {one.table}`, then add it anew"
            yield f"{one.table}: {one.fault}; {remedy}"
        elif not one.made:
            told = "its new names are noted; the triggers had them, and no change was missed"
            yield f"{one.table}: {told}"
        else:
            made = counted(len(one.made), "trigger")
            yield f"{one.table}: {made} made; what changed meanwhile was not captured"


def _types(stored: Stored) -> list[str]:
    return [stored.capture.event_type(action) for action in stored.capture.actions]


def _shown(found: Standing) -> dict[str, Any]:
    asked = found.stored.capture
    return {
        "table": asked.table,
        "event_prefix": asked.event_prefix,
        "events": _types(found.stored),
        "id_column": asked.id_column,
        "tenant_column": asked.tenant_column or None,
        "columns": list(asked.columns),
        "on": [action.value for action in asked.actions],
        "created_at": found.stored.created_at,
        "triggers": list(found.triggers),
        "fault": found.fault or None,
    }
