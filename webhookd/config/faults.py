"""How a fault of the configuration is told: one line with the place, the fault and the remedy."""

import difflib
import re
from collections.abc import Iterable
from typing import Final

from webhookd.core.text import printable

_SHOWN: Final = 80
"""Characters of a wrong value or name that an error repeats."""

_AT: Final = re.compile(r"\(at line ([0-9]+), column ([0-9]+)\)")
_BARE: Final = re.compile(r"""[^=]*=[ \t]*([^\s"'=,#{[][^\s"'=,#]*)""")
"""A key, and what stands behind its `=` and is neither in quotes nor in brackets."""


def line(place: str, key: str, fault: str) -> str:
    """`config.toml: outbox.table: fault`; `''` for what there is none of."""
    parts = [printable(part, 200) for part in (place, key) if part]
    return ": ".join([*parts, printable(fault, 400)])


def advice(name: str, known: Iterable[str]) -> str:
    """What a misspelt key may have been meant to be."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def shown(value: object) -> str:
    """A wrong value as an error repeats it. Not for what may hold a secret."""
    return printable(repr(value), _SHOWN)


def unquoted(text: str, fault: str) -> str:
    """The remedy, where a file is no TOML because a text stands in it without quotes; else `''`.

    It repeats nothing of the text, which may be a secret.

    Args:
        text: the file.
        fault: what the parser says, with the place.
    """
    at = _AT.search(fault)
    if at is None:
        return ""
    found = _BARE.match(text.replace("\r\n", "\n").split("\n")[int(at[1]) - 1])
    # Of `info` the parser has taken `inf` as a number: the fault lies within the word.
    if found is None or not found.start(1) < int(at[2]) <= found.end(1):
        return ""
    word = found[1].rstrip(";").lower()
    if word in ("true", "false") or not any(map(str.isalpha, word)):
        return ""
    return '; text must stand in quotes: "..."'
