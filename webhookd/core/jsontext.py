"""Whether a host's payload is JSON, without keeping anything of what it says.

A payload goes out byte for byte as it was written, so nothing here is decoded to be written again:
big integers, duplicate keys and lone surrogate escapes are the receiver's to read. Only what no
strict parser would take is refused, while the host can still mend it.
"""

import json
import re
from itertools import accumulate
from typing import Final, NoReturn

MAX_LEVELS: Final = 500
"""Arrays and objects within each other; more breaks parsers (our own recursion limit included)."""

_BLANKS: Final = " \t\n\r"
_BOM: Final = "\ufeff"
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"?'
_BRACKET: Final = re.compile(_STRING + rb"|([\[{])|([\]}])", re.DOTALL)
_CONSTANT: Final = re.compile(_STRING + rb"|(NaN|-?Infinity)", re.DOTALL)
_STEPS: Final = bytes(1 if byte in b"[{" else 0xFF for byte in range(256))
"""One level in (+1), one level out (-1 as a signed byte)."""
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


class NotJson(ValueError):
    """The payload is not JSON; the text says why and where, counted in bytes from 0."""


class _ConstantMet(Exception):
    """The parser came upon NaN or an infinity, which only JavaScript has."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantMet(name)


# bool() takes any digits at once: no limit on their number, no quadratic time, no value kept.
_DECODER: Final = json.JSONDecoder(
    parse_int=bool, parse_float=bool, parse_constant=_refuse_constant
)


def check(payload: bytes) -> None:
    """Pass if `payload` is one JSON value (RFC 8259) in strict UTF-8, blanks around it allowed.

    Raises:
        NotJson: bad UTF-8, a byte order mark, NaN or an infinity, more than `MAX_LEVELS` levels,
            nothing but blanks, or any other breach of the grammar.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None
    if payload.count(b"[") + payload.count(b"{") > MAX_LEVELS < _levels(payload):
        too_deep = _too_deep_at(payload)
        if too_deep is not None:
            raise NotJson(f"more than {MAX_LEVELS} levels deep at byte {too_deep}")
    try:
        _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(_explain(text, error)) from None
    except _ConstantMet as constant:
        raise NotJson(f"{constant} is not JSON, at byte {_constant_at(payload)}") from None


def _levels(payload: bytes) -> int:
    """At least as many levels as the parser would go, exactly as many where the text is JSON.

    Up to the first breach of the grammar a backslash stands in strings only, so taking escapes out
    and then every other stretch between quotes leaves what is outside of strings. All of it is done
    by loops in C: this runs for every payload with many brackets, on the thread that delivers.
    """
    bare = b"".join(_ESCAPED.sub(b"", payload).split(b'"')[::2])
    steps = bare.translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def _too_deep_at(payload: bytes) -> int | None:
    """Where the first level too many begins; None if a breach of the grammar comes before any.

    Slower than `_levels`, for it goes token by token; it settles the rare cases.
    """
    level = 0
    for found in _BRACKET.finditer(payload):
        level += (found[1] is not None) - (found[2] is not None)
        if level > MAX_LEVELS:
            return found.start()
    return None


def _constant_at(payload: bytes) -> int:
    """Where the constant stands that stopped the parser: all before it is JSON."""
    return next(found.start() for found in _CONSTANT.finditer(payload) if found[1] is not None)


def _explain(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip(_BLANKS):
        return "blank text is not JSON (NULL makes an ID-only event)"
    if text.startswith(_BOM):
        return "a byte order mark at byte 0"
    fault = error.msg.removesuffix(" at").rstrip(": ")
    offset = len(text[: error.pos].encode())
    return f"{fault[:1].lower()}{fault[1:]} at byte {offset}"
