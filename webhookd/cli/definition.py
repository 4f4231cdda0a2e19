"""The options that say what a subscription is, and their way to the judge of them all."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from webhookd.cli.output import complain
from webhookd.core.egress import EgressPolicy, doubt_url
from webhookd.core.matching import doubt
from webhookd.core.model import Url
from webhookd.core.registration import Unfit
from webhookd.core.times import with_unit
from webhookd.errors import Refused, UsageError

POLICY: Final = {
    "timeout": ("DURATION", "The deadline of a whole attempt."),
    "retry_delays": ("D,D,...", "The least wait before each further attempt, like 5s,5m,2h."),
    "jitter": ("SHARE", "Lengthen a delay by up to this share of itself, 0 to 1."),
    "max_age": ("DURATION", "How long after ingest a delivery is still worth sending; or off."),
    "max_block": ("DURATION", "How long a failing head may hold up its line; or off."),
    "coalesce": ("BOOL", "A newer ID-only delivery takes the place of one not attempted yet."),
    "concurrency": ("N", "Attempts under way at once."),
    "rate_limit": ("RATE", "Attempts over time, like 10/s or 600/m; or off."),
    "retry_after_max": ("DURATION", "The longest wait that a receiver can ask for."),
    "permanent_statuses": ("S,S,...", "Statuses that end a delivery, like 404,410 or 4xx."),
    "gone_disables": ("BOOL", "Whether a 410 disables the subscription."),
    "failing_after": ("N", "Attempts in a row in ill health until it is probed."),
    "disable_after_failures": ("N", "Failed deliveries in a row that disable it; or off."),
    "disable_after": ("DURATION", "How long without a success disables it; or off."),
    "send_feed_sequence": ("BOOL", "Say the event's place in the feed with each request."),
    "tls_ca": ("PATH", "The only authorities (PEM) that its certificate may come from."),
    "tls_client_cert": ("PATH", "Certificate and key (PEM) to show when it asks for one."),
    "tls_pin": ("SHA256,...", "Fingerprints of the certificates that it may show."),
    "proxy": ("URL|env:NAME|file:PATH|off", "The HTTP proxy on the way to it."),
}
"""Keys of the policy that `add` and `update` have an option for, with its metavar and help."""

_DURATIONS: Final = {key for key, (takes, _) in POLICY.items() if takes in ("DURATION", "D,D,...")}

_OPTIONS: Final = {"url": "URL", "headers": "--header"}
"""Where a field's place on the command line is not simply `--field-name`."""


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each key of `POLICY`."""
    for key, (metavar, text) in reversed(POLICY.items()):
        option = click.option(f"--{key.replace('_', '-')}", key, metavar=metavar, help=text)
        command = option(command)
    return command


header_option: Final = click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header of each request; may be given several times.",
)


def patterns(text: str) -> tuple[str, ...]:
    """`a,b` as patterns."""
    return tuple(part.strip() for part in text.split(","))


def pairs(headers: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Headers as names and values; the values may be secrets, so no error repeats one.

    Raises:
        UsageError: one has no colon.
    """
    found = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise UsageError("--header: takes a name, a colon and a value: 'X-Key: abc'")
        found.append((name.strip(), value.strip()))
    return tuple(found)


def policy_of(options: dict[str, Any]) -> dict[str, object]:
    """What was given of the policy; a plain number is seconds where a duration is asked for."""
    if "@" in (options.get("proxy") or ""):
        complain(
            "warning: a password on the command line can be seen in the process list; "
            "--proxy env:NAME or file:PATH keeps it out of there"
        )
    given = {key: value for key, value in options.items() if value is not None}
    for key in given.keys() & _DURATIONS:
        given[key] = ",".join(map(with_unit, given[key].split(",")))
    return given


def warn(egress: EgressPolicy, *, url: Url | None = None, events: Iterable[str] = ()) -> None:
    """Say on stderr what is taken as it is and may not be what was meant."""
    blocked = None if url is None else doubt_url(url, egress)
    if blocked is not None:
        complain(f"warning: URL: {blocked}")
    for pattern in events:
        doubted = doubt(pattern)
        if doubted is not None:
            complain(f"warning: --events: {doubted}")


@contextmanager
def on_the_command_line() -> Iterator[None]:
    """Says where on the command line an unfit field stands.

    Raises:
        Refused: the egress policy does not allow it.
        UsageError: anything else that is unfit.
    """
    try:
        yield
    except Unfit as error:
        place = _OPTIONS.get(error.field) or f"--{error.field.replace('_', '-')}"
        kind = Refused if error.forbidden else UsageError
        raise kind(f"{place}: {error.reason}") from None
