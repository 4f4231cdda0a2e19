"""Foreign text made fit to be shown: one printable line, of bounded length.

What hosts, receivers and libraries say ends up in logs, errors and `status`. Shown raw it could
forge log lines, move a terminal's cursor or turn the reading direction round.
"""

from typing import Final

CUT: Final = "…"
"""What a text ends in that was cut."""
_FAMILIAR: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_WIDEST: Final = 4
"""Bytes that a character can take in UTF-8."""


def printable(text: str, limit: int) -> str:
    """`text` with every character that is not printable escaped, in at most `limit` characters.

    Escaped are control characters (so line breaks and ANSI sequences), marks of writing direction
    and other invisible ones, blanks other than the space, and lone surrogates. What is longer ends
    in `…`, never within an escape. A backslash stays as it is, so text that has been through here
    comes through again unchanged.
    """
    if len(text) <= limit and text.isprintable():
        return text
    pieces: list[str] = []
    room = limit
    for character in text[: limit + 1]:
        piece = character if character.isprintable() else _escape(character)
        room -= len(piece)
        pieces.append(piece)
        if room < 0:
            break
    else:
        return "".join(pieces)
    while room < len(CUT):
        room += len(pieces.pop())
    return "".join(pieces) + CUT


def printable_bytes(data: bytes, limit: int) -> str:
    """The same for bytes that are UTF-8 if all is well; those that are not become `\\xff`."""
    return printable(data[: _WIDEST * (limit + 1)].decode("utf-8", "surrogateescape"), limit)


def counted(count: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`; `many` where an s does not make it."""
    return f"1 {one}" if count == 1 else f"{count} {many or one + 's'}"


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # so "surrogateescape" carries a byte that is not UTF-8
    if code <= 0xFF:
        return _FAMILIAR.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
