"""JSON around a host's payload, to the byte: the payload goes in as it was written.

Nothing is parsed and written again, so `1.10`, big integers and the order of keys survive.
Around it: UTF-8, no escapes but those that JSON demands, no white space, keys in the given order.
"""

import json
from typing import Final

from webhookd.core.model import Event
from webhookd.core.profiles.profile import Unrenderable

JSON: Final = "application/json"

_WHITE_SPACE: Final = b" \t\r\n"
"""JSON's own idea of it: `bytes.strip()` alone would take off more."""

_quote: Final = json.JSONEncoder(ensure_ascii=False).encode


def text(value: str) -> bytes:
    """A JSON string; `null` for `''`, which is how absent text is stored.

    Raises:
        Unrenderable: it holds half a surrogate pair, which UTF-8 has no bytes for.
    """
    if not value:
        return b"null"
    try:
        return _quote(value).encode()
    except UnicodeEncodeError:
        raise Unrenderable("a text of the event is not Unicode: it has half a character") from None


def members(*pairs: tuple[bytes, bytes]) -> bytes:
    """A JSON object of names and values that are JSON already (names without their quotes)."""
    return b"{" + b",".join([b'"%b":%b' % pair for pair in pairs]) + b"}"


def payload(event: Event) -> bytes | None:
    """The host's own bytes without the white space around them; None for an ID-only event.

    Raises:
        Unrenderable: nothing is left of it.
    """
    if event.payload is None:
        return None
    trimmed = event.payload.strip(_WHITE_SPACE)
    if not trimmed:
        raise Unrenderable("the event's payload is empty: it has been erased")
    return trimmed
