"""Where bytes are signed: a text made of the event id, the time and the body, and a key for it.

A `Scheme` is what a profile says about its signature, as data; the same value signs a request and
checks one. Keys are handed about newest first.

Rotation: where a format carries a list, every live key signs, newest first, and the receiver picks
the one that it knows. Where it carries one signature, the OLDEST live key signs until its overlap
ends: the receiver has that one for certain, and changes over whenever it likes within the overlap.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

from webhookd.core import ed25519
from webhookd.core.model import Millis

_BODY: Final = "{body}"


class MissingSecret(ValueError):
    """There is no live key to sign with: the subscription is held back, nothing goes unsigned."""


class Encoding(StrEnum):
    """How the bytes of a signature become text."""

    HEX = "hex"
    """Lower case."""
    BASE64 = "base64"
    """The standard alphabet, padded."""


class Algorithm(StrEnum):
    """What a key is for."""

    HMAC = "hmac"
    """HMAC-SHA256, with which the receiver has the same key."""
    PRIVATE = "private"
    """Ed25519; its receiver verifies with the public key."""
    PUBLIC = "public"
    """Ed25519; it verifies only."""


@dataclass(frozen=True, slots=True)
class Key:
    """One secret, decoded. `value` is in no `repr`."""

    value: bytes = field(repr=False)
    expires_at: Millis | None = None
    """When it stops signing; None: never."""
    algorithm: Algorithm = Algorithm.HMAC


@dataclass(frozen=True, slots=True)
class Offer:
    """What a signature's header brings along."""

    signatures: Sequence[str]
    """With their prefixes; none where the header has another form."""
    timestamp: str | None = None
    """Unix seconds; None where the format has them in a header of their own."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a format signs, and how its header carries it."""

    header: str
    """The header's name, in the case that it is sent in."""
    signed: str
    """The signed text: `{id}` and `{timestamp}` in any arrangement, and `{body}` at its end."""
    encoding: Encoding
    carries_list: bool
    """Whether the header has room for the signatures of several keys."""
    write: Callable[[Sequence[str], str], str]
    """The header's value from signatures (newest key first; one alone without a list) and time."""
    read: Callable[[str], Offer]
    """What a header's value offers."""
    prefix: str = ""
    """What stands before each signature."""
    ed25519_prefix: str = ""
    """The same where the key is an Ed25519 one; `''`: the format takes none."""
    most: int = 0
    """The number of signatures that a list has room for; 0 for any."""
    id_header: str = "webhook-id"
    timestamp_header: str = "webhook-timestamp"
    """Where a receiver finds what is signed beside the body."""

    def __post_init__(self) -> None:
        if not self.signed.endswith(_BODY) or self.signed.count(_BODY) != 1:
            raise ValueError(f"signed: must have {_BODY} once, at its end")

    @property
    def covers_id(self) -> bool:
        """Whether the event id is part of what is signed."""
        return "{id}" in self.signed

    @property
    def covers_timestamp(self) -> bool:
        """Whether the time of the attempt is part of what is signed."""
        return "{timestamp}" in self.signed

    @property
    def carries_timestamp(self) -> bool:
        """Whether the signature's own header has the time of the attempt in it."""
        return self.read(self.write(["0"], "1")).timestamp is not None

    def signature(self, key: Key, event_id: str, timestamp: str, body: bytes) -> str:
        """One signature, as text, with its prefix, without what the header puts around it.

        `timestamp` is the text of the `webhook-timestamp` header: unix seconds.

        Raises:
            ValueError: the key is one that only verifies.
        """
        text = self._text(event_id, timestamp, body)
        match key.algorithm:
            case Algorithm.HMAC:
                return self.prefix + encode(hmac.digest(key.value, text, "sha256"), self.encoding)
            case Algorithm.PRIVATE:
                return self.ed25519_prefix + encode(ed25519.sign(key.value, text), self.encoding)
            case Algorithm.PUBLIC:
                raise ValueError("a public key does not sign")
            case _:
                assert_never(key.algorithm)

    def sign(self, keys: Sequence[Key], event_id: str, timestamp: str, body: bytes) -> str:
        """The header's value, signed with the live `keys` (newest first; at least one)."""
        signing = keys[: self.most or None] if self.carries_list else keys[-1:]
        signatures = [self.signature(key, event_id, timestamp, body) for key in signing]
        return self.write(signatures, timestamp)

    def is_genuine(
        self, key: Key, offered: Sequence[str], event_id: str, timestamp: str, body: bytes
    ) -> bool:
        """Whether one of the signatures, with their prefixes, is by that key."""
        if key.algorithm is Algorithm.HMAC:
            expected = self.signature(key, event_id, timestamp, body).encode()
            return any(hmac.compare_digest(expected, _bytes(one)) for one in offered)
        public = key.value
        if key.algorithm is Algorithm.PRIVATE:
            public = ed25519.public_key(key.value)
        text = self._text(event_id, timestamp, body)
        return any(
            ed25519.is_genuine(public, decode(one.removeprefix(self.ed25519_prefix)), text)
            for one in offered
            if one.startswith(self.ed25519_prefix)
        )

    def _text(self, event_id: str, timestamp: str, body: bytes) -> bytes:
        # No `str.format`: a pattern may come from a configuration, and could reach into objects.
        # The id last: one that looks like a placeholder is not filled in.
        before = self.signed[: -len(_BODY)].replace("{timestamp}", timestamp)
        return _bytes(before.replace("{id}", event_id)) + body


def encode(mac: bytes, encoding: Encoding) -> str:
    """The text of a signature's bytes."""
    match encoding:
        case Encoding.HEX:
            return mac.hex()
        case Encoding.BASE64:
            return base64.b64encode(mac).decode()
        case _:
            assert_never(encoding)


def decode(text: str) -> bytes:
    """The bytes of a signature in base64; `b''`, which is none, where it is something else."""
    try:
        return base64.b64decode(_bytes(text), validate=True)
    except binascii.Error:
        return b""


def live(keys: Sequence[Key], now: Millis) -> list[Key]:
    """The keys that sign at `now`, newest first; a key's last moment is the one before its expiry.

    Raises:
        MissingSecret: there are keys, and all of them have expired.
    """
    found = [key for key in keys if key.expires_at is None or now < key.expires_at]
    if keys and not found:
        raise MissingSecret("every secret has expired: rotate in a new one")
    return found


def _bytes(received: str) -> bytes:
    # A header may be anything, half a character too: it becomes bytes that match nothing.
    return received.encode("utf-8", "backslashreplace")
