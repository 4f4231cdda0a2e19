"""Takes out of a receiver's answer what it echoes of ours: a secret must not reach the file."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from webhookd.core.model import Answer, Result

MASK: Final = b"***"

SHORTEST: Final = 8
"""What is shorter is no secret, and would be found by chance."""

SHORTEST_PART: Final = 12
"""The same for the beginning of a secret: longer than a `https://` that begins a value."""


def redact(excerpt: bytes, needles: Iterable[str]) -> bytes:
    """`excerpt` with every needle masked, also where the excerpt's end cuts one off."""
    if len(excerpt) < SHORTEST:
        return excerpt
    for text in sorted(needles, key=len, reverse=True):  # a part would leave the rest standing
        needle = text.encode()
        if len(needle) < SHORTEST:
            continue
        excerpt = excerpt.replace(needle, MASK)
        cut = excerpt.find(needle[:SHORTEST], max(0, len(excerpt) - len(needle) + 1))
        while cut >= 0:
            if needle.startswith(excerpt[cut:]):
                excerpt = excerpt[:cut] + MASK
                break
            cut = excerpt.find(needle[:SHORTEST], cut + 1)
    return excerpt


def redact_text(text: str, needles: Iterable[str]) -> str:
    """A line about an answer, with every needle masked, and the beginning of one that it quotes.

    A line quotes a few bytes of what was received, and may go on behind them. Where several
    needles begin alike, the one that goes along the furthest is what is quoted.
    """
    sought = [needle for needle in needles if len(needle) >= SHORTEST]
    shown, at = "", 0
    while at < len(text):
        end = max((_quoted(text, at, needle) for needle in sought), default=at)
        shown += "***" if end > at else text[at]
        at = max(end, at + 1)
    return shown


def _quoted(text: str, at: int, needle: str) -> int:
    """Up to where `text` quotes `needle` from `at` on; `at` itself where it does not."""
    if not text.startswith(needle[:SHORTEST_PART], at):
        return at
    end = at
    while end < len(text) and needle.startswith(text[at : end + 1]):
        end += 1
    return end


def redact_result(result: Result, needles: Collection[str]) -> Result:
    """The result of an exchange, fit to be logged and kept: nothing in it echoes a needle."""
    if not isinstance(result, Answer):
        return replace(result, detail=redact_text(result.detail, needles))
    return replace(
        result,
        location=redact_text(result.location, needles),
        excerpt=redact(result.excerpt, needles),
        note=redact_text(result.note, needles),
    )
