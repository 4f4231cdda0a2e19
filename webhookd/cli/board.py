"""`status` for people: what is wrong first, then the subscriptions, the worst of them first."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from textwrap import wrap
from typing import Any, Final

from webhookd.cli.output import table
from webhookd.core.model import SubscriptionState
from webhookd.core.status import WELL, Status, Urgency
from webhookd.core.text import counted
from webhookd.core.times import format_duration, from_text
from webhookd.core.upcoming import upcoming

SHOWN: Final = 20
"""Subscriptions, and problems, that are shown where nothing else was asked for."""
FEWEST: Final = 3
"""What is shown of either in however small a window."""
AROUND_A_TABLE: Final = 4
"""Lines that belong to a table of subscriptions, beside one for each of them."""

HEADINGS: Final = (
    *("NAME", "STATE", "OWED", "OLDEST", "OK 1H", "FAILED 1H", "P50", "P95", "LAST"),
    *("LAST SUCCESS", "NEXT ATTEMPT"),
)


class Colour(StrEnum):
    """What a terminal makes of a line."""

    RED = "\x1b[31m"
    YELLOW = "\x1b[33m"
    GREEN = "\x1b[32m"
    BOLD = "\x1b[1m"
    PLAIN = ""


_RESET: Final = "\x1b[0m"
_OF: Final = {
    Urgency.WRONG: Colour.RED,
    Urgency.FAILING: Colour.YELLOW,
    Urgency.UNEASY: Colour.YELLOW,
    Urgency.SET_ASIDE: Colour.PLAIN,
    Urgency.NONE: Colour.PLAIN,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the board, and the colour that it has where there are colours."""

    text: str
    colour: Colour = Colour.PLAIN

    def painted(self) -> str:
        """For a terminal."""
        return f"{self.colour}{self.text}{_RESET}" if self.colour else self.text


def has_colours(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether lines are painted: on a terminal that can, and where NO_COLOR does not forbid it."""
    return terminal and not environ.get("NO_COLOR") and not is_dumb(environ)


def is_dumb(environ: Mapping[str, str]) -> bool:
    """Whether the terminal understands nothing but lines."""
    return environ.get("TERM", "dumb") in {"", "dumb"}


def fitted(lines: list[Line], size: os.terminal_size) -> list[Line]:
    """Lines cut to what a window of this size shows without wrapping or scrolling."""
    return [Line(line.text[: _width(size)], line.colour) for line in lines[: _height(size)]]


def wrapped(text: str, colour: Colour, size: os.terminal_size | None) -> list[Line]:
    """A sentence, in as many lines as it takes in a window of this size; None for one line."""
    if size is None:
        return [Line(text, colour)]
    return [Line(one, colour) for one in wrap(text, _width(size), subsequent_indent="  ")]


def board(found: Status, shown: int = SHOWN, size: os.terminal_size | None = None) -> list[Line]:
    """All of it.

    Args:
        found: the status.
        shown: the most subscriptions that are shown, and the most problems.
        size: of the window that it is to fit into; None where it may be longer.
    """
    said = found.document
    lines = [_verdict(found), *map(Line, _head(said))]
    room = shown
    if found.problems:
        lines.append(Line(""))
        if size is not None:
            room = min(shown, max(FEWEST, (_height(size) - len(lines)) // 3))
        for problem in found.problems[:room]:
            lines += wrapped(f"! {problem}", Colour.RED, size)
        lines += _rest(len(found.problems), room, "problem")
    if said["subscriptions"]:
        room = shown
        if size is not None:
            room = min(shown, max(FEWEST, _height(size) - len(lines) - AROUND_A_TABLE))
        lines += [Line(""), *_subscriptions(said, room)]
    return lines


def _width(size: os.terminal_size) -> int:
    return max(size.columns - 1, 20)


def _height(size: os.terminal_size) -> int:
    return max(size.lines - 1, 1)


def _verdict(found: Status) -> Line:
    """All in one line, for whoever reads no other."""
    count = len(found.problems)
    if not found.running:
        return Line("webhookd delivers nothing", Colour.RED)
    if count:
        return Line(f"webhookd needs attention: {counted(count, 'problem')}", Colour.YELLOW)
    return Line("webhookd is well", Colour.GREEN)


def _head(said: dict[str, Any]) -> list[str]:
    daemon, database, outbox = said["daemon"], said["database"], said["outbox"]
    running = "does not run"
    if daemon["running"]:
        beat = f"heartbeat {daemon['heartbeat_seconds']:.0f} s ago"
        running = (
            f"runs (pid {daemon['pid']}, {daemon['version']}, since {daemon['started_at']}; {beat})"
        )
    elif daemon["pid"] is not None:
        running = f"is stalled (pid {daemon['pid']}, last heartbeat {daemon['heartbeat_at']})"
    size = f"{database['bytes']} bytes"
    place = f"sequence {database['sequence']}, epoch {database['epoch']}"
    shown = [
        f"daemon      {running}",
        f"database    {database['path']} ({size}, {place})",
        f"outbox      {_lag(outbox)}, {outbox['rejected']} rejected",
        "deliveries  " + ", ".join(f"{n} {state}" for state, n in said["deliveries"].items()),
        f"due         {_due(said['due'])}",
    ]
    if daemon["write_wait_seconds"]:
        waited = f"has waited {daemon['write_wait_seconds']} s for the file's lock"
        shown.append(f"writing     {waited}: another program holds it")
    if daemon["unrecorded"]:
        count = daemon["unrecorded"]
        verb = "waits" if count == 1 else "wait"
        shown.append(f"unrecorded  {counted(count, 'outcome')} {verb} in memory")
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


def _due(due: dict[str, Any]) -> str:
    if due["oldest_at"] is None:
        return "nothing waits to be sent"
    span = _span(int(due["oldest_seconds"] * 1000))
    return f"the oldest has been due for {span} (to {due['subscription']})"


def _subscriptions(said: dict[str, Any], room: int) -> list[Line]:
    found = sorted(said["subscriptions"], key=lambda one: one["urgency"], reverse=True)
    now = from_text(said["at"])
    heading, *rows = table(HEADINGS, (_row(one, said["at"], now) for one in found[:room]))
    lines = [Line(heading, Colour.BOLD)]
    lines += [
        Line(text, _OF[Urgency(one["urgency"])])
        for text, one in zip(rows, found[:room], strict=True)
    ]
    lines += _rest(len(found), room, "subscription")
    # Of one that is disabled the problems tell.
    unwell = [
        Line(f"{one['name']}: {one['health']}")
        for one in found[:room]
        if one["health"] != WELL and one["state"] != SubscriptionState.DISABLED
    ]
    return [*lines, Line(""), *unwell] if unwell else lines


def _rest(count: int, room: int, what: str) -> list[Line]:
    if count <= room:
        return []
    more = counted(count - room, what)
    return [Line(f"and {more} more; --limit shows more of them, --json all")]


def _row(one: dict[str, Any], at: str, now: int) -> tuple[object, ...]:
    hour = one["last_hour"]
    return (
        one["name"],
        _state(one),
        one["owed"],
        _age(one["oldest_owed_at"], now),
        hour["delivered"],
        hour["failed"],
        _latency(hour["latency_p50_ms"]),
        _latency(hour["latency_p95_ms"]),
        one["last_error"] or one["last_status"],
        _ago(one["last_success_at"], now),
        _next(one, at),
    )


def _state(one: dict[str, Any]) -> str:
    """The state and why, in a word or two; an enabled one's health where it is not well."""
    if one["state"] != SubscriptionState.ENABLED:
        reason = one["state_reason"]
        return f"{one['state']} ({reason})" if reason else str(one["state"])
    if one["held_back"] is not None:
        return "held back"
    if one["failing_since"] is not None:
        return "failing"
    return "held back" if one["held_until"] is not None else str(one["state"])


def _latency(ms: int | None) -> str | None:
    """Two figures: it is an estimate."""
    if ms is None:
        return None
    ms = round(ms, 2 - len(str(ms)))
    if ms < 1_000:
        return f"{ms}ms"
    return f"{ms / 1000:.1f}s" if ms < 10_000 else f"{ms // 1000}s"


def _next(one: dict[str, Any], at: str) -> str | None:
    if not one["owed"]:
        return None
    held_back = one["held_back"] is not None
    return upcoming(
        at if held_back else one["next_attempt_at"],
        at,
        sends=one["state"] == SubscriptionState.ENABLED,
        failing=one["failing_since"] is not None,
        held_until=one["held_until"],
        held_back=held_back,
    )


def _ago(moment: str | None, now: int) -> str | None:
    age = _age(moment, now)
    return None if age is None else f"{age} ago"


def _age(moment: str | None, now: int) -> str | None:
    """How long ago; None for never."""
    return None if moment is None else _span(max(0, now - from_text(moment)))


def _span(ms: int) -> str:
    """A span in the largest unit that says enough."""
    seconds = ms // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return format_duration(seconds * 1000)
