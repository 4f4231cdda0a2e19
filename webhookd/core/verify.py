"""The receiver's side of a signature: is this request what its sender signed, and if not, why?"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from webhookd.core import profiles
from webhookd.core.model import Millis

TOLERANCE: Final = 300_000
"""How far a request's clock may be from ours, either way: five minutes, as the standard advises."""

_SECONDS: Final = re.compile(r"[0-9]{1,15}")
"""ASCII digits, few enough that milliseconds of them stay an ordinary number."""


class Flaw(StrEnum):
    """Which part of a request is wrong."""

    MISSING_HEADER = "missing_header"
    TIMESTAMP = "timestamp"
    SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to."""

    flaw: Flaw | None
    """None: the request is genuine."""
    detail: str = ""
    """One line for a person, without secret or signature; `''` where there is no flaw."""

    @property
    def ok(self) -> bool:
        """Whether the request is genuine."""
        return self.flaw is None


def verify(
    profile_name: str,
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    now: Millis,
    tolerance: Millis = TOLERANCE,
) -> Verdict:
    """Judge a request as it was received. The case of header names does not matter.

    The time is judged only where the signature covers it: otherwise anyone could have set it. It
    is judged after the signature, so that `TIMESTAMP` means: genuine, but old (or early).

    Raises:
        ValueError: no such profile, or the secret has not its form. One line, without the secret.
    """
    profile = profiles.get(profile_name)
    scheme = profile.scheme
    key = profile.check_secret(secret)
    received = {name.lower(): value for name, value in headers.items()}
    needed = [scheme.header]
    if scheme.covers_id:
        needed.append("webhook-id")
    if scheme.covers_timestamp:
        needed.append("webhook-timestamp")
    for name in needed:
        if not received.get(name.lower()):
            return Verdict(Flaw.MISSING_HEADER, f"header {name} is missing")

    timestamp = received.get("webhook-timestamp", "")
    if scheme.covers_timestamp and not _SECONDS.fullmatch(timestamp):
        return Verdict(Flaw.TIMESTAMP, "header webhook-timestamp is no whole number of seconds")
    event_id = _bytes(received.get("webhook-id", "")).decode()
    expected = scheme.signature(key, event_id, timestamp, body).encode()
    offered = scheme.read(received[scheme.header.lower()])
    if not any(hmac.compare_digest(expected, _bytes(signature)) for signature in offered):
        return Verdict(
            Flaw.SIGNATURE,
            f"header {scheme.header} does not match: the secret is another one,"
            " or the body is not the one that was sent, to the byte",
        )
    if scheme.covers_timestamp:
        off = now - int(timestamp) * 1000
        if abs(off) > tolerance:
            side = "old" if off > 0 else "early"
            return Verdict(
                Flaw.TIMESTAMP,
                f"header webhook-timestamp is {abs(off) // 1000} s {side};"
                f" {tolerance // 1000} s are allowed",
            )
    return Verdict(None)


def _bytes(received: str) -> bytes:
    # A header may be anything, half a character too: it becomes bytes that match nothing.
    return received.encode("utf-8", "backslashreplace")
