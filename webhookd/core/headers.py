"""What a header may be called and hold, and which names are no user's to set.

Names and values are joined to bytes as they are, so nothing may pass that could end a line.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A field name, RFC 9110 section 5.6.2."""
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""Visible ASCII, with spaces inside."""

_RESERVED: Final = frozenset(
    {
        # What frames the request or belongs to the connection.
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # What says how to read the body, or which answers can be read.
        "accept-encoding",
        "content-encoding",
        "content-type",
    }
)


def is_name(text: str) -> bool:
    """Whether a header can be called that."""
    return _TOKEN.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Whether a header can hold that: visible ASCII, with spaces only inside it."""
    return _VALUE.fullmatch(text) is not None


def is_reserved(name: str) -> bool:
    """Whether every request has that header from webhookd itself, or must never have it."""
    lowered = name.lower()
    return lowered in _RESERVED or lowered.startswith("webhook")
