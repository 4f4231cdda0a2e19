"""`webhookd listen`: a receiver on this machine, to see what partners would get."""

import os
import secrets as randomness
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from webhookd.cli import secrets
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import json_line, json_option, lines, say
from webhookd.cli.types import HIGHEST, Share, Whole
from webhookd.config.references import is_reference, resolve
from webhookd.core import registration, urls
from webhookd.core.egress import judge_url
from webhookd.core.profiles import BUILT_IN
from webhookd.core.secrets import MADE_BYTES, make
from webhookd.core.text import printable_bytes
from webhookd.core.times import to_text
from webhookd.core.verify import Verdict, verifier, verify
from webhookd.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from webhookd.core.profiles import Profile
    from webhookd.http.receiver import Received, Reply

HOST: Final = "127.0.0.1"
PORT: Final = 8765
"""Where it listens unless told otherwise: a fixed port, so that a subscription outlives it."""
TENANT: Final = "TENANT"
"""Stands for what only the person knows in a command that is advised."""
BODY_SHOWN: Final = 200
"""Characters of a body in a readable line."""

_random: Final = randomness.SystemRandom()


@click.command()
@click.option(
    "--port",
    type=Whole(0, 65_535),
    default=PORT,
    show_default=True,
    help="Listen there; 0 takes a free one.",
)
@click.option("--profile", default="standard", show_default=True, help="Verify as this one signs.")
@click.option(
    "--secret",
    metavar="VALUE|env:NAME|file:PATH|-",
    help="The subscription's secret; - reads it from standard input. Left out, one is "
    "made where the profile needs one.",
)
@click.option(
    "--fail-rate",
    type=Share(),
    default=0.0,
    metavar="SHARE",
    help="Answer this share of the requests, 0 to 1, with 500.",
)
@click.option("--max", "most", type=Whole(1, HIGHEST), metavar="N", help="End after N requests.")
@json_option
@pass_app
def listen(
    app: App,
    /,
    port: int,
    profile: str,
    secret: str | None,
    fail_rate: float,
    most: int | None,
    as_json: bool,
) -> None:
    """Receive on 127.0.0.1, verify each signature and print what comes, a line a request.

    What is genuine is answered with 204, what is not with 401. Ends with Ctrl-C or SIGTERM.
    """
    chosen = profile_named(profile, app)
    key = secret_of(secret, chosen)
    made = ""
    if key is None and chosen.requires_secret:
        key = made = make(os.urandom(MADE_BYTES))
    desk = _Desk(chosen, key, fail_rate, as_json=as_json)
    signed, allowed = key is not None, _is_allowed(app)
    advice = _Advice(
        profile,
        app.config,
        made=made,
        signed=signed,
        is_allowed=allowed,
        needs_tenant=chosen.requires_tenant,
    )
    _run(desk, port, most, advice)


def profile_named(name: str, app: App) -> "Profile":
    """A built-in profile, or one of the configuration's, which is read for that alone.

    Raises:
        UsageError: there is none.
        ConfigError: the configuration cannot be read.
    """
    known = BUILT_IN
    if name not in known.by_name and app.config is not None:
        known = app.settings.profiles
    try:
        return known.get(name)
    except ValueError as error:
        raise UsageError(f"--profile: {error}") from None


def _is_allowed(app: App) -> bool:
    """Whether the configuration lets subscriptions lead here already."""
    try:
        return judge_url(urls.parse(f"http://{HOST}/"), app.settings.egress) is None
    except ConfigError:
        return False


def secret_of(given: str | None, profile: "Profile") -> str | None:
    """The secret itself, looked up where it is a reference; None where none is given.

    Raises:
        UsageError: it has not the form that the profile takes.
        ConfigError: a reference that leads to nothing usable.
    """
    if given is None:
        return None
    text = resolve(given, os.environ) if is_reference(given) else secrets.literal(given)
    try:
        verifier(profile, text)
    except ValueError as error:
        raise UsageError(f"--secret: {error}") from None
    return text


@dataclass(frozen=True, slots=True)
class _Advice:
    """How to subscribe this receiver."""

    profile: str
    config: Path | None
    made: str = field(repr=False)
    """The secret, if it was made here; `''` for one that was given, which is not repeated."""
    signed: bool
    """Whether there is a secret at all."""
    is_allowed: bool
    needs_tenant: bool

    def lines(self, url: str) -> Iterator[str]:
        """The command, and the setting where it is missing.

        A secret that was made here is said once, and not within the command: there it would go
        into the history of the shell.
        """
        program = "webhookd"
        if self.config is not None:
            program += f" --config {shlex.quote(str(self.config))}"
        command = f"{program} subscriptions add {url} --profile {self.profile}"
        if self.signed:
            command += " --secret -"
        said = "subscribe it"
        if self.needs_tenant:
            command += f" --tenant {TENANT}"
            said += f", with an id for {TENANT}"
        if self.made:
            yield f"its secret, made for this run: {self.made}"
        if self.signed:
            said += f", with {'that' if self.made else 'the same'} secret on standard input"
        yield f"{said}: {command}"
        if not self.is_allowed:
            place = self.config or registration.NO_FILE
            needs = f'[egress] allow = ["{HOST}"] in {place}'
            yield f"that command and the daemon need {needs}"


@dataclass(slots=True)
class _Desk:
    """Judges, prints and answers what comes in."""

    profile: "Profile"
    secret: str | None = field(repr=False)
    fail_rate: float
    as_json: bool
    count: int = 0
    broken: bool = False
    """Nobody reads what is printed any more."""

    def receive(self, received: "Received") -> "Reply":
        """The answer to one request, once it is printed."""
        from webhookd.http.receiver import Reply

        self.count += 1
        now = time.time_ns() // 1_000_000
        verdict = verify(self.profile, self.secret, dict(received.headers), received.body, now)
        status = 204 if verdict.ok else 401
        if self.fail_rate and _random.random() < self.fail_rate:
            status = 500
        try:
            self._print(received, verdict, status, to_text(now))
            sys.stdout.flush()
        except BrokenPipeError:
            self.broken = True
        return Reply(status)

    def _print(self, received: "Received", verdict: Verdict, status: int, at: str) -> None:
        said = "genuine" if verdict.flaw is None else verdict.flaw.value
        if self.as_json:
            json_line(
                {
                    "at": at,
                    "method": received.method,
                    "target": received.target,
                    "headers": dict(received.headers),
                    "body": received.body.decode("utf-8", "backslashreplace"),
                    "verdict": said,
                    "detail": verdict.detail or None,
                    "status": status,
                }
            )
            return
        headers = {name.lower(): value for name, value in received.headers}
        parts = [at[11:23], str(status), said, f"{received.method} {received.target}"]
        parts += [
            f"{label}={headers[name]}"
            for label, name in (
                ("id", "webhook-id"),
                ("sequence", "webhookd-sequence"),
                ("attempt", "webhookd-attempt"),
            )
            if name in headers
        ]
        parts.append(printable_bytes(received.body, BODY_SHOWN))
        if verdict.detail:
            parts.append(f"({verdict.detail})")
        lines(" ".join(parts))


def _run(desk: _Desk, port: int, most: int | None, advice: _Advice) -> None:
    """Serve until a signal, or until `most` requests have been answered.

    Raises:
        UsageError: the port cannot be listened on.
    """
    import trio

    from webhookd.http.receiver import serve_on

    done = trio.Event()

    def handle(received: "Received") -> "Reply":
        reply = desk.receive(received)
        if desk.count == most or desk.broken:
            done.set()
        return reply

    async def main() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            try:
                listeners = await trio.open_tcp_listeners(port, host=HOST)
            except OSError as error:
                raise UsageError(f"--port {port}: {error.strerror}; choose another") from None
            url = f"http://{HOST}:{listeners[0].socket.getsockname()[1]}/"
            say(f"listening on {url}")
            for line in advice.lines(url):
                say(line)
            async with trio.open_nursery() as nursery:

                async def wait_for_signal() -> None:
                    async for _ in signals:
                        done.set()

                nursery.start_soon(wait_for_signal)
                nursery.start_soon(serve_on, handle, listeners)
                await done.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
