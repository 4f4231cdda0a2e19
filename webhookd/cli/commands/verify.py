"""`webhookd verify`: is a captured request what its sender signed, and if not, what is wrong."""

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from webhookd.cli.commands.listen import profile_named, secret_of
from webhookd.cli.context import App, pass_app
from webhookd.cli.definition import pairs
from webhookd.cli.output import complain, document, json_option, lines
from webhookd.cli.secrets import HELP
from webhookd.cli.types import DURATION, MOMENT
from webhookd.core.model import Millis
from webhookd.core.verify import TOLERANCE
from webhookd.core.verify import verify as judge
from webhookd.errors import EXIT_OK, EXIT_WRONG, UsageError

LARGEST: Final = 16 * 1_048_576
"""Bytes of a captured request: more is another file than was meant."""

_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
"""The first one: a body may have others."""
_FORMS: Final = (
    "a captured request is what came over the wire (request line, headers, empty line, body),"
    " or a line of `webhookd listen --json`"
)


@dataclass(frozen=True, slots=True)
class Captured:
    """A request that somebody has kept."""

    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@click.command()
@click.argument("request", metavar="[FILE|-]", required=False)
@click.option("--profile", default="standard", show_default=True, help="By which it was sent.")
@click.option("--secret", metavar="VALUE|env:NAME|file:PATH|-", help=HELP.partition(";")[0] + ".")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header of it, instead of FILE; may be given several times.",
)
@click.option("--body", metavar="FILE|-", help="Its body to the byte, with --header.")
@click.option("--at", type=MOMENT, help="When it was received; now if left out.")
@click.option(
    "--tolerance", type=DURATION, help="How far its time may be from then.  [default: 5m]"
)
@json_option
@pass_app
def verify(
    app: App,
    /,
    request: str | None,
    profile: str,
    secret: str | None,
    headers: tuple[str, ...],
    body: str | None,
    at: Millis | None,
    tolerance: Millis | None,
    as_json: bool,
) -> int:
    """Judge a captured request: genuine, or which part of it is wrong.

    FILE holds what came over the wire, or a line of `webhookd listen --json`. Exits with 1 when
    the request is not genuine. Headers that the format does not sign are named in a warning.
    """
    if [request, secret, body].count("-") > 1:
        raise UsageError("-: only one thing can come from standard input")
    if (request is None) == (not headers):
        raise UsageError("name a FILE with the request, or give --header and --body")
    if body is not None and request is not None:
        raise UsageError("--body: goes with --header; FILE has the body in it")
    chosen = profile_named(profile, app)
    key = secret_of(secret, chosen)
    if request is None:
        data = b"" if body is None else _read(body, "--body")
        captured = Captured(dict(pairs(headers)), data)
    else:
        captured = taken_apart(_read(request, "FILE"))
    try:
        verdict = judge(
            chosen,
            key,
            captured.headers,
            captured.body,
            app.now() if at is None else at,
            TOLERANCE if tolerance is None else tolerance,
        )
    except ValueError as error:
        raise UsageError(f"--secret: {error}") from None
    said = "genuine" if verdict.flaw is None else verdict.flaw.value
    if as_json:
        document(
            {
                "verdict": said,
                "detail": verdict.detail or None,
                "time_signed": verdict.timed if verdict.ok else None,
                "unsigned": list(verdict.unsigned),
            }
        )
        return EXIT_OK if verdict.ok else EXIT_WRONG
    if not verdict.timed:
        said += " (its time is not signed)"
    lines(f"{said}: {verdict.detail}" if verdict.detail else said)
    if verdict.unsigned:
        names = ", ".join(verdict.unsigned)
        complain(f"warning: not signed, so this says nothing of them: {names}")
    return EXIT_OK if verdict.ok else EXIT_WRONG


def _read(name: str, place: str) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{place} {name}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise UsageError(f"{place} {name}: over {LARGEST} bytes; name one request")
    return data


def taken_apart(data: bytes) -> Captured:
    """The headers and the body of a captured request, in either form.

    Raises:
        UsageError: it has none of them.
    """
    if data.lstrip().startswith(b"{"):
        return _of_json(data)
    end = _EMPTY_LINE.search(data)
    if end is None:
        raise UsageError(f"FILE: no empty line between headers and body; {_FORMS}")
    return Captured(_headers(data[: end.start()]), data[end.end() :])


def _headers(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(head.decode("utf-8", "backslashreplace").splitlines()):
        name, colon, value = line.partition(":")
        if colon and " " not in name:
            found[name] = value.strip()
        elif number:
            raise UsageError(f"FILE: line {number + 1} is no header; {_FORMS}")
    return found


def _of_json(data: bytes) -> Captured:
    try:
        found = json.loads(data)
        headers, body = found["headers"], found["body"]
        return Captured({str(name): str(value) for name, value in headers.items()}, body.encode())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise UsageError(f"FILE: not such a line of JSON; {_FORMS}") from None
