"""`webhookd run`: the daemon."""

import sys

import click

from webhookd.cli.context import App, pass_app
from webhookd.logs.setup import LEVELS, Format, setup


@click.command()
@click.option("--drain", is_flag=True, help="Deliver what is due, then exit; retries stay pending.")
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    help="Lines for machines or for people; wins over [log] format.",
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), help="Wins over [log] level.")
@pass_app
def run(app: App, drain: bool, log_format: Format | None, log_level: str | None) -> int:
    """Run the daemon in the foreground: take in outbox rows and deliver them.

    Its log goes to stderr. SIGTERM and SIGINT end it once attempts under way are recorded; a
    second one ends it at once. One daemon runs on a file: another one exits with 5.
    """
    settings = app.settings
    setup(
        sys.stderr,
        format=log_format or settings.log.format,
        level=log_level or settings.log.level,
    )
    from webhookd.daemon.run import main  # trio: only here

    return main(settings, drain=drain)
