"""The receiver's side of a signature: is this request what its sender signed, and if not, why?"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from webhookd.core import secrets
from webhookd.core.model import Millis
from webhookd.core.profiles import Profile
from webhookd.core.signing import Algorithm, Key, Offer, Scheme

TOLERANCE: Final = 300_000
"""How far a request's clock may be from ours, either way: five minutes, as the standard advises."""

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
"""What each request carries, signed or not."""

_SECONDS: Final = re.compile(r"[0-9]{1,15}")
"""ASCII digits, few enough that milliseconds of them stay an ordinary number."""
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,128}")
_LONGEST: Final = 1_048_576
"""Bytes of a body that is looked into for what was done to it."""


class Flaw(StrEnum):
    """Which part of a request is wrong."""

    MISSING_HEADER = "missing_header"
    ID = "id"
    TIMESTAMP = "timestamp"
    BODY = "body"
    SIGNATURE = "signature"
    """The secret is another one, or what was signed is no longer what came: which, nobody can
    tell."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to."""

    flaw: Flaw | None
    """None: the request is genuine."""
    detail: str = ""
    """One line for a person, without secret or signature; `''` where there is nothing to say."""
    unsigned: tuple[str, ...] = ()
    """Of a genuine request: the headers that tell of the event or the time, and that its signature
    does not vouch for. Who changes or removes one is not noticed."""
    timed: bool = True
    """Whether the signature covers the time, so that it could be judged."""

    @property
    def ok(self) -> bool:
        """Whether the request is genuine."""
        return self.flaw is None


@dataclass(frozen=True, slots=True)
class _Received:
    """A request as it was received, taken apart."""

    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes
    event_id: str
    timestamp: str
    offer: Offer


def verify(
    profile: Profile,
    secret: str | None,
    headers: Mapping[str, str],
    body: bytes,
    now: Millis,
    tolerance: Millis = TOLERANCE,
) -> Verdict:
    """Judge a request as it was received. The case of header names does not matter.

    The time is judged only where the signature covers it: otherwise anyone could have set it. It
    is judged after the signature, so that a `TIMESTAMP` that is old (or early) means: genuine else.

    Args:
        profile: by which it was sent.
        secret: in the profile's form, or the public key of an Ed25519 one. None where the
            subscription has none: then the signature is not looked at.
        headers: as received.
        body: as received, to the byte.
        now: by the receiver's clock.
        tolerance: how far the request's time may be from it.

    Raises:
        ValueError: the secret has not its form, or the profile does not do without one. One line,
            without the secret.
    """
    if secret is None and profile.requires_secret:
        raise ValueError(f"profile {profile.name} signs every request: its secret is needed")
    key = None if secret is None else verifier(profile, secret)
    lowered = {name.lower(): value for name, value in headers.items()}
    needed = [ID] if key is None else _needed(profile.scheme)
    for name in needed:
        if not lowered.get(name.lower()):
            return Verdict(Flaw.MISSING_HEADER, f"header {name} is missing")
    received = _taken_apart(profile.scheme, lowered, body)
    if key is None:
        return _altered(profile, received) or Verdict(None, "no secret is given: nothing to verify")
    return _judge(profile, key, received, now, tolerance)


def verifier(profile: Profile, secret: str) -> Key:
    """The key that a receiver checks with: of the secret, or of an Ed25519 one's public half.

    Raises:
        ValueError: it has not the form that the profile takes. One line, without the secret.
    """
    if secret.startswith(secrets.PUBLIC_PREFIX) and profile.scheme.ed25519_prefix:
        return Key(secrets.check_public(secret), algorithm=Algorithm.PUBLIC)
    return profile.check_secret(secret)


def _needed(scheme: Scheme) -> list[str]:
    names = [scheme.header]
    if scheme.covers_id:
        names.append(scheme.id_header)
    if scheme.covers_timestamp and not scheme.carries_timestamp:
        names.append(scheme.timestamp_header)
    return names


def _taken_apart(scheme: Scheme, headers: Mapping[str, str], body: bytes) -> _Received:
    offer = scheme.read(headers.get(scheme.header.lower(), ""))
    timestamp = offer.timestamp
    if timestamp is None:
        timestamp = headers.get(scheme.timestamp_header.lower(), "")
    return _Received(headers, body, headers.get(scheme.id_header.lower(), ""), timestamp, offer)


def _judge(
    profile: Profile, key: Key, received: _Received, now: Millis, tolerance: Millis
) -> Verdict:
    scheme = profile.scheme
    if not received.offer.signatures:
        return Verdict(
            Flaw.SIGNATURE, f"header {scheme.header} has not the form that {profile.name} gives it"
        )
    place = scheme.header if received.offer.timestamp is not None else scheme.timestamp_header
    if scheme.covers_timestamp and not _SECONDS.fullmatch(received.timestamp):
        return Verdict(Flaw.TIMESTAMP, f"header {place} has no whole number of seconds")
    if not _matches(scheme, key, received, received.body):
        return (
            _altered(profile, received)
            or _mended(scheme, key, received)
            or Verdict(
                Flaw.SIGNATURE,
                f"header {scheme.header} does not match: the secret is another one,"
                " or the body is not the one that was sent, to the byte",
            )
        )
    if scheme.covers_timestamp:
        off = now - int(received.timestamp) * 1000
        if abs(off) > tolerance:
            side = "old" if off > 0 else "early"
            return Verdict(
                Flaw.TIMESTAMP,
                f"header {place} is {abs(off) // 1000} s {side}; {tolerance // 1000} s are allowed",
            )
    differing = _differing(profile, received)
    detail = f"{differing.detail}: go by what is signed" if differing is not None else ""
    return Verdict(None, detail, _unsigned(profile, received), scheme.covers_timestamp)


def _unsigned(profile: Profile, received: _Received) -> tuple[str, ...]:
    """The headers that the signature does not vouch for, as they were received."""
    scheme = profile.scheme
    # Who repeats what is signed says nothing of his own: `ce-id`, or an id that the body has too.
    signed = {_id_in(received.body, profile.body_id)}
    if scheme.covers_id:
        signed.add(received.event_id)
    if scheme.covers_timestamp:
        signed.add(received.timestamp)
    telling = profile.own_headers | {ID, TIMESTAMP}
    return tuple(
        name for name, value in received.headers.items() if name in telling and value not in signed
    )


def _matches(scheme: Scheme, key: Key, received: _Received, body: bytes) -> bool:
    return scheme.is_genuine(
        key, received.offer.signatures, received.event_id, received.timestamp, body
    )


def _altered(profile: Profile, received: _Received) -> Verdict | None:
    """What can be seen to have been changed without the key; None where nothing can."""
    event_id = received.headers.get(ID, "")
    if event_id and not _EVENT_ID.fullmatch(event_id):
        return Verdict(Flaw.ID, f"header {ID} has characters that no event id has")
    length = received.headers.get("content-length", "")
    if length.isascii() and length.isdecimal() and int(length[:20]) != len(received.body):
        return Verdict(
            Flaw.BODY, f"the body has {len(received.body)} bytes, and Content-Length says {length}"
        )
    return _differing(profile, received)


def _differing(profile: Profile, received: _Received) -> Verdict | None:
    """Which two parts of it contradict each other; None where none do."""
    times = received.offer.timestamp, received.headers.get(TIMESTAMP)
    if None not in times and times[0] != times[1]:
        return Verdict(
            Flaw.TIMESTAMP, f"header {TIMESTAMP} and the time in {profile.scheme.header} differ"
        )
    event_id = received.headers.get(ID, "")
    said = _id_in(received.body, profile.body_id)
    if said is not None and event_id and said != event_id:
        return Verdict(Flaw.ID, f"header {ID} and {profile.body_id} in the body differ")
    return None


def _id_in(body: bytes, key: str) -> str | None:
    if not key or len(body) > _LONGEST:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    said = found.get(key) if isinstance(found, dict) else None
    return said if isinstance(said, str) else None


def _mended(scheme: Scheme, key: Key, received: _Received) -> Verdict | None:
    """What was done to the body, if the signature is that of one of its usual former selves.

    An editor adds a line end; a framework parses JSON and writes it again.
    """
    body = received.body
    stripped = body.strip()
    for former in (stripped, body.rstrip(b"\r\n"), body + b"\n", body.replace(b"\r\n", b"\n")):
        if former != body and _matches(scheme, key, received, former):
            return Verdict(Flaw.BODY, "the body has other white space at an end, or line ends")
    try:
        parsed = None if len(body) > _LONGEST else json.loads(body)
    except (ValueError, RecursionError):
        return None
    for separators in ((",", ":"), (", ", ": ")):
        for as_ascii in (False, True):
            text = json.dumps(parsed, ensure_ascii=as_ascii, separators=separators)
            former = text.encode("utf-8", "backslashreplace")
            if former != body and _matches(scheme, key, received, former):
                return Verdict(
                    Flaw.BODY,
                    "the body was parsed and written again: verify the bytes as they came",
                )
    return None
