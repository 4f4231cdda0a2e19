"""What a header may be called and hold, and which names are no user's to set.

Names and values are joined to bytes as they are, so nothing may pass that could end a line.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A field name, RFC 9110 section 5.6.2."""
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""Visible ASCII, with spaces inside."""

_OURS: Final = frozenset({"accept-encoding", "content-length", "content-type", "host"})
"""What every request has from webhookd itself."""
_NEVER: Final = frozenset(
    {
        # What frames the request or belongs to the connection.
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # What says that the body is to be read in another way.
        "content-encoding",
    }
)
"""What no request may have: it would not say what is so."""


def is_name(text: str) -> bool:
    """Whether a header can be called that."""
    return _TOKEN.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Whether a header can hold that: visible ASCII, with spaces only inside it."""
    return _VALUE.fullmatch(text) is not None


def refusal(name: str) -> str:
    """Why nobody but webhookd may set that header, in words; `''` where anybody may."""
    lowered = name.lower()
    if lowered in _NEVER:
        return "it is about the connection or the form of the body, and webhookd never sends it"
    if lowered in _OURS or lowered.startswith("webhook"):
        return "webhookd sets it itself"
    return ""
