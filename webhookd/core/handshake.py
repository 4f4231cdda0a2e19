"""The validation of the CloudEvents webhook specification: may this origin send here, and how fast?

Source: https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md, section 4. A
receiver is asked with `OPTIONS`; it agrees by naming the origin (or `*`) in its answer, with the
requests a minute that it takes. What it may also do, to agree later by way of a callback, is not
offered to it: no callback is named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from webhookd.core.profiles import Headers
from webhookd.core.profiles.cloudevents import ORIGIN
from webhookd.core.text import printable

METHOD: Final = "OPTIONS"
RATE: Final = "WebHook-Request-Rate"
ALLOWED_ORIGIN: Final = "WebHook-Allowed-Origin"
ALLOWED_RATE: Final = "WebHook-Allowed-Rate"
ANY: Final = "*"

_ORIGIN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""The name of a system, as the DNS would have it."""
_PER_MINUTE: Final = re.compile(r"[0-9]{1,7}")
_MINUTE: Final = 60


class Declined(ValueError):
    """The receiver has not agreed. Its text is one line that says what was missing."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a receiver has agreed to."""

    origin: str
    """Under which name deliveries come."""
    rate: float | None
    """Attempts a second at most; None where the receiver sets no limit."""


def check_origin(text: str) -> str:
    """The name under which a receiver is asked.

    Raises:
        ValueError: it is none.
    """
    if not _ORIGIN.fullmatch(text):
        raise ValueError("is the name of the system that sends, like erp.example.com")
    return text


def request(origin: str, rate: float) -> Headers:
    """The question's headers. `rate` is what is sent at most: requests a second, 0 for no limit."""
    per_minute = str(max(1, int(rate * _MINUTE))) if rate else ANY
    return ((ORIGIN, origin), (RATE, per_minute))


def judge(origin: str, status: int, headers: Mapping[str, str]) -> Agreed:
    """What the answer means. The case of header names does not matter.

    Raises:
        Declined: it does not agree.
    """
    received = {name.lower(): value.strip() for name, value in headers.items()}
    if not 200 <= status < 300:
        raise Declined(f"the receiver answered {METHOD} with {status}: it takes no handshake here")
    allowed = received.get(ALLOWED_ORIGIN.lower(), "")
    if not allowed:
        raise Declined(f"the receiver's answer has no {ALLOWED_ORIGIN}: it has not agreed")
    if allowed != ANY and allowed.lower() != origin.lower():
        raise Declined(
            f"the receiver allows {printable(allowed, 80)} and not {origin};"
            " ask under that name with --origin"
        )
    rate = received.get(ALLOWED_RATE.lower(), ANY)
    if rate == ANY:
        return Agreed(origin, None)
    if not _PER_MINUTE.fullmatch(rate) or not int(rate):
        raise Declined(
            f"the receiver's {ALLOWED_RATE} is {printable(rate, 40)},"
            " and not a number of requests a minute or *"
        )
    return Agreed(origin, int(rate) / _MINUTE)


def with_origin(headers: Headers, origin: str) -> Headers:
    """A subscription's own headers with the one that each delivery carries from now on."""
    return (*without_origin(headers), (ORIGIN, origin))


def without_origin(headers: Headers) -> Headers:
    """A subscription's own headers as they were before a handshake."""
    return tuple((name, value) for name, value in headers if name.lower() != ORIGIN.lower())
