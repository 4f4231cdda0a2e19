"""Takes out of a receiver's answer what it echoes of ours: a secret must not reach the file."""

from collections.abc import Iterable
from typing import Final

MASK: Final = b"***"

SHORTEST: Final = 8
"""What is shorter is no secret, and would be found by chance."""


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
