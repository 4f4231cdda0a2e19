"""The event types of the systems that publish theirs, with what their bodies hold.

The lists are open: a type that is not here is an event like any other. The files are data of the
package (`webhookd/catalog`, read by `webhookd.config.catalog`); here they become frozen values.

A structure is written in JSON. A text is a single value: its first word is the type, the rest are
remarks. A list has one member, the structure of each of its own. An object has a structure for each
name, where `?` at the end of a name says that it may be left out; an object with the one name `*`
is a map: any names, all of one structure.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, assert_never

from webhookd.core.text import printable


class Kind(StrEnum):
    """What a single value is, in JSON's terms."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    ANY = "any"
    """Anything: the source leaves it open, or names a type that it does not describe."""


_KINDS: Final = {
    "string": Kind.STRING,
    "integer": Kind.INTEGER,
    "int64": Kind.INTEGER,
    "float64": Kind.NUMBER,
    "any": Kind.ANY,
    "indexRange": Kind.ANY,
    "indexRanges": Kind.ANY,
    "IndexRanges": Kind.ANY,
}
"""The words of the sources."""

_MAP: Final = "*"


@dataclass(frozen=True, slots=True)
class Single:
    """A single value."""

    kind: Kind
    words: str
    """As the source puts it: `int64`, `string (e.g. VENDOR-001)`."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose members are all alike."""

    member: "Shape"


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with names of the sender's choice, whose values are all alike."""

    value: "Shape"


@dataclass(frozen=True, slots=True)
class Members:
    """An object with known names; it may have others too."""

    fields: tuple["Field", ...]


Shape = Single | ListOf | MapOf | Members


@dataclass(frozen=True, slots=True)
class Field:
    """One name of an object."""

    name: str
    shape: Shape
    required: bool


@dataclass(frozen=True, slots=True)
class System:
    """One system that publishes its event types."""

    id: str
    """The short name that settings and options take."""
    name: str
    source: str
    payload: str | None
    """The member of the body that the host's payload is; `''`: it is the whole body; None: the
    body holds nothing of it."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One event type of one system."""

    system: System
    event_type: str
    aggregate_type: str
    """`''` where the event type says it all."""
    description: str
    body: Members
    example: str
    """A payload, as JSON; `''` where the source gives none."""
    facts: tuple[tuple[str, str], ...]
    """What else the source says, by name."""

    @property
    def name(self) -> str:
        """What a pattern of a subscription calls it."""
        if not self.aggregate_type:
            return self.event_type
        return f"{self.aggregate_type}.{self.event_type}"

    @property
    def payload(self) -> Shape | None:
        """What the host's payload is made of; None where the body holds nothing of it."""
        place = self.system.payload
        if not place:
            return None if place is None else self.body
        return next(field.shape for field in self.body.fields if field.name == place)


class Catalog:
    """The event types of some systems."""

    def __init__(self, types: Iterable[EventType]) -> None:
        """Raises ValueError where two types have one name."""
        self.types: Final = tuple(types)
        """In the order of their sources."""
        self._by_name = {one.name: one for one in self.types}
        if len(self._by_name) < len(self.types):
            raise ValueError("two event types of a catalogue have the same name")

    def find(self, event_type: str, aggregate_type: str = "") -> EventType | None:
        """The type that an event is of; None for one that no source knows.

        As patterns do, it looks for the event type, and for both types with a dot between them.
        """
        found = self._by_name.get(event_type)
        if found is None and aggregate_type:
            found = self._by_name.get(f"{aggregate_type}.{event_type}")
        return found

    def named(self, name: str) -> EventType:
        """The type that a person means: its name, or both types with a slash between them.

        Raises:
            LookupError: there is none. One line with the nearest names.
        """
        found = self._by_name.get(name) or self._by_name.get(name.replace("/", "."))
        if found is not None:
            return found
        near = [one.name for one in self.types if one.event_type == name]
        near = near or get_close_matches(name[:_LONGEST], self._by_name, n=3)
        hint = f"near: {', '.join(near)}" if near else "`webhookd catalog list` shows them all"
        raise LookupError(f"no event type {printable(name, 80)!r} in the catalogue; {hint}")


_LONGEST: Final = 100
"""Characters of a name that near ones are looked for."""


def read(text: str) -> Catalog:
    """The catalogue of one system, from its file.

    Raises:
        ValueError: the text is no such catalogue.
    """
    document = json.loads(text)
    system = System(document["system"], document["name"], document["source"], document["payload"])
    return Catalog(_type(system, entry, document.get("body")) for entry in document["types"])


def joined(catalogs: Iterable[Catalog]) -> Catalog:
    """Several catalogues as one. Raises ValueError where they have a name in common."""
    return Catalog(one for catalog in catalogs for one in catalog.types)


def _type(system: System, entry: Mapping[str, Any], common: object) -> EventType:
    example = entry.get("example")
    return EventType(
        system=system,
        event_type=entry["event_type"],
        aggregate_type=entry.get("aggregate_type", ""),
        description=entry["description"],
        body=_members(entry.get("body", common)),
        example="" if example is None else json.dumps(example, ensure_ascii=False),
        facts=tuple(entry.get("facts", {}).items()),
    )


def shape(written: object) -> Shape:
    """A structure as a catalogue's file has it.

    Raises:
        ValueError: it is none.
    """
    match written:
        case str():
            word = written.partition(" ")[0]
            if word not in _KINDS:
                raise ValueError(f"{word!r} is no type that a catalogue knows")
            return Single(_KINDS[word], written)
        case [member]:
            return ListOf(shape(member))
        case dict() if set(written) == {_MAP}:
            return MapOf(shape(written[_MAP]))
        case dict():
            return _members(written)
    raise ValueError(f"{written!r} is no structure")


def _members(written: Any) -> Members:
    return Members(
        tuple(
            Field(name.removesuffix("?"), shape(value), required=not name.endswith("?"))
            for name, value in written.items()
        )
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One field of a structure, by its whole path."""

    path: str
    """`errors[].message`; `*` stands for any name."""
    type: str
    required: bool
    """By the object that it is in, if that is there."""


def outline(fields: Members, above: str = "") -> Iterator[Line]:
    """Every field of a structure, each before those within it."""
    for field in fields.fields:
        path = f"{above}{field.name}"
        ends, inner = _inside(field.shape)
        yield Line(path, _said(field.shape), field.required)
        if isinstance(inner, Members):
            yield from outline(inner, f"{path}{ends}.")


def _inside(outer: Shape) -> tuple[str, Shape]:
    """How a path goes on into lists and maps, and what is in the innermost of them."""
    match outer:
        case ListOf():
            ends, inner = _inside(outer.member)
            return "[]" + ends, inner
        case MapOf():
            ends, inner = _inside(outer.value)
            return ".*" + ends, inner
    return "", outer


def _said(outer: Shape) -> str:
    match outer:
        case Single():
            return outer.words
        case ListOf():
            return f"list of {_said(outer.member)}"
        case MapOf():
            return f"map of {_said(outer.value)}"
        case Members():
            return "object"
        case _:
            assert_never(outer)
