"""Where bytes are signed: HMAC-SHA256 over a text made of the event id, the time and the body.

A `Scheme` is what a profile says about its signature, as data; the same value signs a request and
checks one. Keys are handed about newest first.

Rotation: where a format carries a list, every live key signs, newest first, and the receiver picks
the one that it knows. Where it carries one signature, the OLDEST live key signs until its overlap
ends: the receiver has that one for certain, and changes over whenever it likes within the overlap.
"""

import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

from webhookd.core.model import Millis

_BODY: Final = "{body}"


class MissingSecret(ValueError):
    """There is no live key to sign with: the subscription is held back, nothing goes unsigned."""


class Encoding(StrEnum):
    """How the 32 bytes of a signature become text."""

    HEX = "hex"
    """Lower case."""
    BASE64 = "base64"
    """The standard alphabet, padded."""


@dataclass(frozen=True, slots=True)
class Key:
    """One secret, decoded. `value` is in no `repr`."""

    value: bytes = field(repr=False)
    expires_at: Millis | None = None
    """When it stops signing; None: never."""


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
    read: Callable[[str], Sequence[str]]
    """The signatures that a header's value offers; none where it has another form."""

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

    def signature(self, key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
        """One signature, as text, without what the header puts around it.

        `timestamp` is the text of the `webhook-timestamp` header: unix seconds.
        """
        # No `str.format`: a pattern may come from a configuration, and could reach into objects.
        # The id last: one that looks like a placeholder is not filled in.
        before = self.signed[: -len(_BODY)].replace("{timestamp}", timestamp)
        text = before.replace("{id}", event_id).encode() + body
        return encode(hmac.digest(key, text, "sha256"), self.encoding)

    def sign(self, keys: Sequence[Key], event_id: str, timestamp: str, body: bytes) -> str:
        """The header's value, signed with the live `keys` (newest first; at least one)."""
        signing = keys if self.carries_list else keys[-1:]
        signatures = [self.signature(key.value, event_id, timestamp, body) for key in signing]
        return self.write(signatures, timestamp)


def encode(mac: bytes, encoding: Encoding) -> str:
    """The text of a signature's bytes."""
    match encoding:
        case Encoding.HEX:
            return mac.hex()
        case Encoding.BASE64:
            return base64.b64encode(mac).decode()
        case _:
            assert_never(encoding)


def live(keys: Sequence[Key], now: Millis) -> list[Key]:
    """The keys that sign at `now`, newest first; a key's last moment is the one before its expiry.

    Raises:
        MissingSecret: there are keys, and all of them have expired.
    """
    found = [key for key in keys if key.expires_at is None or now < key.expires_at]
    if keys and not found:
        raise MissingSecret("every secret has expired: rotate in a new one")
    return found
