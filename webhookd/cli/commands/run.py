"""`webhookd run`: the daemon."""

import sys
from dataclasses import replace

import click

from webhookd.cli.context import App, pass_app
from webhookd.config.settings import Log, Settings
from webhookd.logs.setup import LEVELS, Format, Level, setup


@click.command()
@click.option("--drain", is_flag=True, help="Deliver what is due, then exit; retries stay pending.")
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    help="Lines for machines or for people; wins over [log] format.",
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), help="Wins over [log] level.")
@pass_app
def run(app: App, drain: bool, log_format: Format | None, log_level: Level | None) -> int:
    """Run the daemon in the foreground: take in outbox rows and deliver them.

    Its log goes to stderr. SIGTERM and SIGINT end it once attempts under way are recorded; a
    second one ends it at once. SIGHUP reads the configuration again, whole or not at all. One
    daemon runs on a file: another one exits with 5.
    """

    def read() -> Settings:
        return _with(app.read(), log_format, log_level)

    settings = _with(app.settings, log_format, log_level)
    setup(sys.stderr, format=settings.log.format, level=settings.log.level)
    from webhookd.daemon.run import main  # trio: only here

    return main(settings, drain=drain, load=None if app.config is None else read)


def _with(settings: Settings, log_format: Format | None, log_level: Level | None) -> Settings:
    """What the command line says wins, at the start and at each reload."""
    log = Log(log_format or settings.log.format, log_level or settings.log.level)
    return replace(settings, log=log)
