"""`webhookd status`: is it well, and if not, what to do."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import click

from webhookd.cli.board import SHOWN, Colour, Line, board, fitted, has_colours, is_dumb, wrapped
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import document, json_line, json_option, lines
from webhookd.cli.types import HIGHEST, Whole
from webhookd.core.status import Status, Thresholds, compose
from webhookd.core.text import counted, printable
from webhookd.errors import EXIT_NOT_RUNNING, EXIT_OK, EXIT_WRONG, WebhookdError
from webhookd.store import lockfile
from webhookd.store.status import facts

NAGIOS: Final = {EXIT_OK: (0, "OK"), EXIT_WRONG: (1, "WARNING"), EXIT_NOT_RUNNING: (2, "CRITICAL")}
"""Nagios's code and word for each ending of `status`."""
NAGIOS_UNKNOWN: Final = 3
NAGIOS_PROBLEMS: Final = 3
"""Problems that its one line names; of more, their number."""
NAGIOS_WORDS: Final = 1_000
"""Characters of one problem in it: Nagios cuts a line at 8 KiB, and the figures stand last."""

REFRESH: Final = 1.0
"""Seconds between two looks of `--watch`."""
_PARTS: Final = {"wal": "bytes of that in the -wal", "free": "free in the file"}
CLEAR: Final = "\x1b[H\x1b[2J"
"""Sends a terminal's cursor home and clears it."""
HOME: Final = "\x1b[H"
END_OF_LINE: Final = "\x1b[K"
BELOW: Final = "\x1b[J"
"""Clear what an earlier look left to the right of the cursor, and below it."""


@click.command()
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@click.option("--nagios", is_flag=True, help="One line, and Nagios's own exit codes.")
@click.option(
    "--limit",
    type=Whole(1, 100_000),
    default=SHOWN,
    show_default=True,
    help="Show so many subscriptions, the worst first, and so many problems.",
)
@click.option(
    "--max-failed",
    type=Whole(0, HIGHEST),
    metavar="N",
    help="Degraded when more than N deliveries failed in the last hour; wins over [status].",
)
@json_option
@pass_app
def status(
    app: App, watch: bool, nagios: bool, limit: int, max_failed: int | None, as_json: bool
) -> int:
    """Say whether the daemon runs, how far behind it is, and what each subscription is owed.

    Works with no daemon running. Exit codes: 0 fine, 1 degraded, 6 not running or stalled. With
    --nagios: 0 OK, 1 degraded, 2 not running or stalled, 3 when nothing can be read.

    OK 1H and FAILED 1H are deliveries that ended so in the last hour, P50 and P95 how long half and
    95 % of its requests took at most.
    """
    if nagios and (watch or as_json):
        raise click.UsageError("--nagios stands alone")
    look = partial(_look, app, max_failed)
    if nagios:
        return _nagios(look)
    if watch:
        return _watch(look, limit, as_json=as_json)
    found, _ = look()
    if as_json:
        document(found.document)
    else:
        _print(board(found, limit))
    return _code(found)


Look = Callable[[], tuple[Status, Thresholds]]
"""One look, and what it was judged by."""


def _look(app: App, max_failed: int | None) -> tuple[Status, Thresholds]:
    settings, now = app.readable, app.now()
    known = app.config is not None and not app.fault
    with app.session(write=False, tell=False) as session, session.read() as connection:
        file = facts(
            connection,
            session.file,
            session.path,
            settings.profiles,
            session.columns,
            now=now,
            ids_never_reused=settings.outbox.ids == "never-reused" if known else None,
        )
        lock, held = lockfile.read(session.path), lockfile.is_held(session.path)
    configured = settings.status
    limits = Thresholds(
        configured.max_lag,
        configured.max_owed_age,
        configured.max_failed if max_failed is None else max_failed,
    )
    return compose(file, lock, held=held, thresholds=limits, now=now, fault=app.fault), limits


def _code(found: Status) -> int:
    if not found.running:
        return EXIT_NOT_RUNNING
    return EXIT_WRONG if found.problems else EXIT_OK


def _nagios(look: Look) -> int:
    try:
        found, limits = look()
    except (WebhookdError, OSError) as error:
        lines(f"WEBHOOKD UNKNOWN - {_beside_figures(str(error))}")
        return NAGIOS_UNKNOWN
    code, word = NAGIOS[_code(found)]
    said = [_beside_figures(problem) for problem in found.problems[:NAGIOS_PROBLEMS]]
    more = len(found.problems) - len(said)
    if more > 0:
        said.append(f"and {counted(more, 'problem')} more")
    words = "; ".join(said) or "the daemon runs"
    lines(f"WEBHOOKD {word} - {words} | {_figures(found, limits)}")
    return code


def _beside_figures(text: str) -> str:
    """What stands behind the bar is data for graphs, so no bar may be in the words."""
    return printable(text, NAGIOS_WORDS).replace("|", "/")


def _figures(found: Status, limits: Thresholds) -> str:
    """Nagios's performance data: `label=value[unit];warn;crit;min`."""
    said = found.document
    outbox, deliveries, daemon = said["outbox"], said["deliveries"], said["daemon"]
    hours = [one["last_hour"] for one in said["subscriptions"]]
    behind = "U" if outbox["lag_seconds"] is None else f"{outbox['lag_seconds']:.1f}s"
    most = "" if limits.max_failed is None else f";{limits.max_failed}"
    figures = {
        "lag": outbox["lag_rows"],
        "owed": deliveries["pending"],
        "rejected": outbox["rejected"],
        "failed": deliveries["failed"],
        "lag_seconds": f"{behind};{limits.max_lag // 1000}",
        "oldest_due": f"{said['due']['oldest_seconds']:.1f}s",
        "write_wait": f"{daemon['write_wait_seconds']}s",
        "delivered_1h": sum(hour["delivered"] for hour in hours),
        "failed_1h": f"{sum(hour['failed'] for hour in hours)}{most}",
    }
    return " ".join(f"{label}={value}" for label, value in figures.items())


def _print(shown: list[Line]) -> None:
    if has_colours(os.environ, terminal=sys.stdout.isatty()):
        sys.stdout.write("".join(f"{line.painted()}\n" for line in _fit_to_print(shown)))
    else:
        lines(*(line.text for line in shown))


def _watch(look: Look, limit: int, *, as_json: bool) -> int:
    in_place = sys.stdout.isatty() and not is_dumb(os.environ) and not as_json
    before: os.terminal_size | None = None
    try:
        while True:
            if in_place:
                size = _size()
                # In another window nothing stands where it stood.
                sys.stdout.write(HOME if size == before else CLEAR)
                before = size
                _show_in_place(look, limit, size)
            else:
                _show(look, limit, as_json=as_json)
            sys.stdout.flush()
            time.sleep(REFRESH)
    except KeyboardInterrupt:
        if in_place:
            sys.stdout.write("\n")
        return EXIT_OK


def _size() -> os.terminal_size:
    """The window as it is now; COLUMNS and LINES say what it was when the shell started us."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        size = os.terminal_size((0, 0))
    return size if size.columns and size.lines else os.terminal_size((80, 24))


def _show_in_place(look: Look, limit: int, size: os.terminal_size) -> None:
    try:
        shown = board(look()[0], limit, size)
    except (WebhookdError, OSError) as error:
        shown = wrapped(f"webhookd: {error}", Colour.RED, size)
    shown = fitted(_fit_to_print(shown), size)
    painted = has_colours(os.environ, terminal=True)
    texts = [line.painted() if painted else line.text for line in shown]
    sys.stdout.write("".join(f"{text}{END_OF_LINE}\n" for text in texts) + BELOW)


def _show(look: Look, limit: int, *, as_json: bool) -> None:
    try:
        found, _ = look()
    except (WebhookdError, OSError) as error:
        if as_json:
            json_line({"problems": [str(error)]})
        else:
            lines(f"webhookd: {error}")
        return
    if as_json:
        json_line(found.document)
    else:
        lines(*(line.text for line in board(found, limit)), "")


def _fit_to_print(shown: list[Line]) -> list[Line]:
    """Colours go round text that can move no cursor itself."""
    return [Line(printable(line.text, 10_000), line.colour) for line in shown]
