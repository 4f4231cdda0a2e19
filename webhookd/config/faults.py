"""How a fault of the configuration is told: one line with the place, the fault and the remedy."""

import difflib
from collections.abc import Iterable
from typing import Final

from webhookd.core.text import printable

_SHOWN: Final = 80
"""Characters of a wrong value or name that an error repeats."""


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
