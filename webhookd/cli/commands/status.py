"""`webhookd status`: is it well, and if not, what to do."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from webhookd.cli.context import App, pass_app
from webhookd.cli.output import document, json_line, json_option, lines, table
from webhookd.core.explaining import upcoming
from webhookd.core.model import SubscriptionState
from webhookd.core.status import WELL, Status, Thresholds, compose
from webhookd.core.text import counted
from webhookd.core.times import format_duration, from_text
from webhookd.errors import EXIT_NOT_RUNNING, EXIT_OK, EXIT_WRONG, WebhookdError
from webhookd.store import lockfile
from webhookd.store.status import facts

NAGIOS: Final = {EXIT_OK: (0, "OK"), EXIT_WRONG: (1, "WARNING"), EXIT_NOT_RUNNING: (2, "CRITICAL")}
"""Nagios's code and word for each ending of `status`."""
NAGIOS_UNKNOWN: Final = 3

REFRESH: Final = 1.0
"""Seconds between two looks of `--watch`."""
_PARTS: Final = {"wal": "bytes of that in the -wal", "free": "free in the file"}
CLEAR: Final = "\x1b[H\x1b[2J"
"""Sends a terminal's cursor home and clears it."""


@click.command()
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@click.option("--nagios", is_flag=True, help="One line, and Nagios's own exit codes.")
@json_option
@pass_app
def status(app: App, watch: bool, nagios: bool, as_json: bool) -> int:
    """Say whether the daemon runs, how far behind it is, and what each subscription is owed.

    Works with no daemon running. Exit codes: 0 fine, 1 degraded, 6 not running or stalled. With
    --nagios: 0 OK, 1 degraded, 2 not running or stalled, 3 when nothing can be read.
    """
    if nagios and (watch or as_json):
        raise click.UsageError("--nagios stands alone")
    if nagios:
        return _nagios(app)
    if watch:
        return _watch(app, as_json=as_json)
    found = _look(app)
    if as_json:
        document(found.document)
    else:
        lines(*_words(found))
    return _code(found)


def _look(app: App) -> Status:
    settings = app.readable
    with app.session(write=False, tell=False) as session, session.read() as connection:
        file = facts(connection, session.file, session.path, settings.profiles, session.columns)
        lock, held = lockfile.read(session.path), lockfile.is_held(session.path)
    limits = Thresholds(settings.status.max_lag, settings.status.max_owed_age)
    return compose(file, lock, held=held, thresholds=limits, now=app.now(), fault=app.fault)


def _code(found: Status) -> int:
    if not found.running:
        return EXIT_NOT_RUNNING
    return EXIT_WRONG if found.problems else EXIT_OK


def _nagios(app: App) -> int:
    try:
        found = _look(app)
    except (WebhookdError, OSError) as error:
        lines(f"WEBHOOKD UNKNOWN - {error}")
        return NAGIOS_UNKNOWN
    code, word = NAGIOS[_code(found)]
    outbox, deliveries = found.document["outbox"], found.document["deliveries"]
    said = "; ".join(found.problems) or "the daemon runs"
    # What stands behind the bar is data for graphs, so no bar may be in the words.
    said = said.replace("|", "/")
    lines(
        f"WEBHOOKD {word} - {said} | lag={outbox['lag_rows']} owed={deliveries['pending']} "
        f"rejected={outbox['rejected']} failed={deliveries['failed']}"
    )
    return code


def _watch(app: App, *, as_json: bool) -> int:
    terminal = sys.stdout.isatty()
    try:
        while True:
            _show(lambda: _look(app), as_json=as_json, terminal=terminal)
            time.sleep(REFRESH)
    except KeyboardInterrupt:
        return EXIT_OK


def _show(look: Callable[[], Status], *, as_json: bool, terminal: bool) -> None:
    if terminal and not as_json:
        sys.stdout.write(CLEAR)
    try:
        found = look()
    except WebhookdError as error:
        if as_json:
            json_line({"problems": [str(error)]})
        else:
            lines(f"webhookd: {error}")
    else:
        if as_json:
            json_line(found.document)
        else:
            lines(*_words(found), *([] if terminal else [""]))
    sys.stdout.flush()


def _words(found: Status) -> list[str]:
    said = found.document
    daemon, database, outbox = said["daemon"], said["database"], said["outbox"]
    totals = said["deliveries"]
    running = "does not run"
    if daemon["running"]:
        running = f"runs (pid {daemon['pid']}, {daemon['version']}, since {daemon['started_at']})"
    elif daemon["pid"] is not None:
        running = f"is stalled (pid {daemon['pid']}, last heartbeat {daemon['heartbeat_at']})"
    size = f"{database['bytes']} bytes"
    parts = [f"{database[f'{part}_bytes']} {word}" for part, word in _PARTS.items()]
    place = f"sequence {database['sequence']}, epoch {database['epoch']}"
    shown = [
        f"daemon      {running}",
        f"database    {database['path']} ({size}, {place})",
        f"disk        {', '.join(parts)}",
        f"outbox      {_lag(outbox)}, {outbox['rejected']} rejected",
        "deliveries  " + ", ".join(f"{count} {state}" for state, count in totals.items()),
    ]
    if daemon["write_wait_seconds"]:
        shown.append(f"writing     has waited {daemon['write_wait_seconds']} s for the file's lock")
    if daemon["unrecorded"]:
        count = daemon["unrecorded"]
        verb = "waits" if count == 1 else "wait"
        shown.append(f"unrecorded  {counted(count, 'outcome')} {verb} in memory")
    if said["subscriptions"]:
        shown += ["", *_subscriptions(said)]
    # Of one that is disabled the problems tell.
    unwell = [
        one
        for one in said["subscriptions"]
        if one["health"] != WELL and one["state"] != SubscriptionState.DISABLED
    ]
    if unwell:
        shown += ["", *(f"{one['name']}: {one['health']}" for one in unwell)]
    if found.problems:
        shown += ["", *(f"! {problem}" for problem in found.problems)]
    return shown


def _lag(outbox: dict[str, Any]) -> str:
    if outbox["fault"]:
        return str(outbox["fault"])
    if not outbox["lag_rows"]:
        return "all taken in"
    seconds = outbox["lag_seconds"]
    since = "" if seconds is None else f", for up to {seconds:.0f} s"
    rows = "1 row waits" if outbox["lag_rows"] == 1 else f"{outbox['lag_rows']} rows wait"
    return f"{rows} to be taken in{since}"


def _subscriptions(said: dict[str, Any]) -> list[str]:
    now = from_text(said["at"])
    return table(
        (
            *("NAME", "STATE", "OWED", "OLDEST", "DELIVERED", "FAILED", "LAST", "LAST SUCCESS"),
            "NEXT ATTEMPT",
        ),
        (
            (
                one["name"],
                one["state"],
                one["owed"],
                _age(one["oldest_owed_at"], now),
                one["delivered"],
                one["failed"],
                one["last_error"] or one["last_status"],
                _ago(one["last_success_at"], now),
                _next(one, said["at"]),
            )
            for one in said["subscriptions"]
        ),
    )


def _next(one: dict[str, Any], now: str) -> str | None:
    if not one["owed"]:
        return None
    return upcoming(
        one["next_attempt_at"],
        now,
        sends=one["state"] == SubscriptionState.ENABLED,
        failing=one["failing_since"] is not None,
        held_until=one["held_until"],
    )


def _ago(moment: str | None, now: int) -> str | None:
    age = _age(moment, now)
    return None if age is None else f"{age} ago"


def _age(moment: str | None, now: int) -> str | None:
    """How long ago, in the largest unit that says enough."""
    if moment is None:
        return None
    seconds = max(0, now - from_text(moment)) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return format_duration(seconds * 1000)
