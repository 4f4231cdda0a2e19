"""`webhookd results`, `changes` and `feed-events`: the feeds, for shells that poll."""

from typing import Final

import click

from webhookd.cli.context import App, pass_app
from webhookd.cli.output import json_line, say
from webhookd.cli.types import CURSOR, EPOCH, LIMIT
from webhookd.store.feeds import page

PAGE: Final = 1_000
"""Rows of a page unless another number is asked for, as the documented poll has it."""

after_option = click.option(
    "--after", type=CURSOR, default=0, show_default=True, help="The cursor: the last sequence seen."
)
epoch_option = click.option(
    "--epoch", type=EPOCH, metavar="E", help="The cursor's epoch; when it has changed: exit code 7."
)
floor_option = click.option(
    "--floor",
    type=CURSOR,
    default=0,
    metavar="F",
    help="As the page before said, on the way up from 0: what was pruned up to there is no reset.",
)
limit_option = click.option(
    "--limit", type=LIMIT, default=PAGE, show_default=True, help="Print at most so many rows."
)
json_too = click.option(
    "--json", "_as_json", is_flag=True, expose_value=False, help="They are JSON lines anyway."
)


@click.command()
@after_option
@epoch_option
@floor_option
@limit_option
@json_too
@pass_app
def results(app: App, after: int, epoch: int | None, floor: int, limit: int) -> None:
    """Print what became of deliveries, each at its newest sequence, as JSON lines.

    The next cursor is on stderr. Exit code 7: the cursor is of another epoch, or lies below what
    retention has taken; start again with --after 0.
    """
    _print(app, "results", after, epoch, floor, limit)


@click.command()
@after_option
@epoch_option
@floor_option
@limit_option
@json_too
@pass_app
def changes(app: App, after: int, epoch: int | None, floor: int, limit: int) -> None:
    """Print which aggregates changed, each at its newest sequence, as JSON lines.

    The next cursor is on stderr. Exit code 7: the cursor is of another epoch, or lies below what
    retention has taken; start again with --after 0.
    """
    _print(app, "changes", after, epoch, floor, limit)


@click.command("feed-events")
@after_option
@epoch_option
@floor_option
@limit_option
@json_too
@pass_app
def feed_events(app: App, after: int, epoch: int | None, floor: int, limit: int) -> None:
    """Print every event in order, as JSON lines.

    The next cursor is on stderr. Exit code 7: the cursor is of another epoch, or lies below what
    retention has taken; start again with --after 0.
    """
    _print(app, "events", after, epoch, floor, limit)


def _print(app: App, feed: str, after: int, epoch: int | None, floor: int, limit: int) -> None:
    with app.session(write=False) as session, session.read() as connection:
        found = page(connection, feed, after, limit, epoch=epoch, floor=floor)
    for row in found.rows:
        json_line(row)
    way_up = f" --floor {found.floor}" if found.floor else ""
    say(f"next: --after {found.cursor} --epoch {found.epoch}{way_up}")
