"""Whether a payload is made as its event type's catalogue says, and where it is not.

Only what a catalogue knows is judged: an unknown type passes, and so does an event without a
payload. An object may have more names than the catalogue has; of a list or a map every member is
looked at, up to `MOST_VALUES` in all. What may be left out may be null as well.
"""

import json
from dataclasses import dataclass
from typing import Final, assert_never

from webhookd.core.catalog import Catalog, Field, Kind, ListOf, MapOf, Members, Shape, Single
from webhookd.core.text import printable

MOST_VALUES: Final = 10_000
"""Values of one payload that are looked at: some 10 ms, on the thread that delivers. A host that
writes one member of a long list wrongly writes its first ones so too."""

MAX_NAME: Final = 40
"""Characters of a sender's own name that a fault repeats."""

_LONGEST_WHOLE: Final = 20
"""Characters of the longest whole number of 64 bits, its sign included."""

_NEEDED: Final = {
    Kind.STRING: "a string",
    Kind.INTEGER: "a whole number of 64 bits",
    Kind.NUMBER: "a number",
    Kind.ANY: "a value",
}


# A whole number becomes the count of its characters, which costs the same whatever its length.
_DECODER: Final = json.JSONDecoder(parse_int=len)


@dataclass(frozen=True, slots=True)
class Validation:
    """What payloads are held against, and what comes of one that differs."""

    catalog: Catalog
    rejects: bool
    """The row is rejected; otherwise it becomes an event, and a warning."""

    def fault(self, event_type: str, aggregate_type: str, payload: bytes | None) -> str:
        """The first place where a payload differs from its type, in one line; `''` if none does.

        Args:
            event_type: of the event, like `aggregate_type`, which may be `''`.
            payload: JSON that `webhookd.core.jsontext.check` has passed; None for an ID-only event,
                nothing at all for one that was erased.
        """
        if not payload:
            return ""
        known = self.catalog.find(event_type, aggregate_type)
        if known is None or known.payload is None:
            return ""
        found = fault(payload, known.payload)
        return f"{found} ({known.system.id} {known.name})" if found else ""


def fault(payload: bytes, wanted: Shape) -> str:
    """The first place where `payload` differs from what is wanted; `''` if none does.

    `payload.errors[0].message: a string is needed, and a number is there`. The work is bounded by
    one pass over the bytes and `MOST_VALUES`, its depth by that of `wanted`.
    """
    found = _Walk().look(_DECODER.decode(payload.decode()), wanted)
    return f"payload{found}" if found else ""


class _Walk:
    """One pass over one payload. What it finds is the rest of a line, from the place on."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def look(self, value: object, wanted: Shape) -> str:
        """The first fault in `value`; `''` if there is none."""
        self._left -= 1
        if self._left < 0:
            return ""
        match wanted:
            case Single():
                return _single(value, wanted.kind)
            case Members():
                if not isinstance(value, dict):
                    return _other(value, wanted)
                return self._members(value, wanted.fields)
            case ListOf():
                if not isinstance(value, list):
                    return _other(value, wanted)
                return self._list(value, wanted.member)
            case MapOf():
                if not isinstance(value, dict):
                    return _other(value, wanted)
                return self._map(value, wanted.value)
            case _:
                assert_never(wanted)

    def _members(self, value: dict[str, object], fields: tuple[Field, ...]) -> str:
        for field in fields:
            inner = value.get(field.name)
            if inner is None and not field.required:
                continue
            if inner is None and field.name not in value:
                return f".{field.name}: is missing; {_needed(field.shape)} is needed"
            found = self.look(inner, field.shape)
            if found:
                return f".{field.name}{found}"
        return ""

    def _list(self, value: list[object], wanted: Shape) -> str:
        for number, inner in enumerate(value):
            found = self.look(inner, wanted)
            if found:
                return f"[{number}]{found}"
            if self._left <= 0:
                break
        return ""

    def _map(self, value: dict[str, object], wanted: Shape) -> str:
        for name, inner in value.items():
            found = self.look(inner, wanted)
            if found:
                return f'["{printable(name, MAX_NAME)}"]{found}'
            if self._left <= 0:
                break
        return ""


def _single(value: object, kind: Kind) -> str:
    match kind:
        case Kind.ANY:
            fits = True
        case Kind.STRING:
            fits = type(value) is str
        case Kind.INTEGER:
            fits = type(value) is int and value <= _LONGEST_WHOLE
        case Kind.NUMBER:
            fits = type(value) in (int, float)
        case _:
            assert_never(kind)
    return "" if fits else _other(value, Single(kind, ""))


def _other(value: object, wanted: Shape) -> str:
    return f": {_needed(wanted)} is needed, and {_what(value)} is there"


def _needed(wanted: Shape) -> str:
    match wanted:
        case Single():
            return _NEEDED[wanted.kind]
        case ListOf():
            return "a list"
        case MapOf() | Members():
            return "an object"
        case _:
            assert_never(wanted)


def _what(value: object) -> str:
    """What a value is, never what it says: a payload may hold what is nobody's to read."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return "a whole number" if value <= _LONGEST_WHOLE else "a longer one"
        case float():
            return "a number with a fraction or an exponent"
        case str():
            return "a string"
        case list():
            return "a list"
    return "an object"
