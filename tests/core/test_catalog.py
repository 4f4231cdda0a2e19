"""What a catalogue's file says, as values."""

import json

import pytest

from webhookd.core.catalog import (
    Field,
    Kind,
    Line,
    ListOf,
    MapOf,
    Members,
    Single,
    joined,
    outline,
    read,
    shape,
)

STRING = Single(Kind.STRING, "string")


def text(system="shop", payload="data", **changes):
    document = {
        "system": system,
        "name": "The Shop",
        "source": "its documentation",
        "payload": payload,
        "types": [
            {
                "event_type": "thing.made",
                "description": "A thing was made",
                "body": {"event": "string (= type)", "data": {"id": "string", "size?": "int64"}},
                "example": {"id": "é-1"},
                "facts": {"since": "12.4"},
            }
        ],
    }
    return json.dumps(document | changes)


PAIRS = text(
    system="pairs",
    payload=None,
    body={"eventId": "string uuid"},
    types=[
        {"event_type": "MADE", "aggregate_type": kind, "description": "Made"}
        for kind in ("THING", "OTHER")
    ],
)


def test_a_type_has_all_that_its_source_says():
    (one,) = read(text()).types
    assert (one.system.id, one.system.name) == ("shop", "The Shop")
    assert (one.name, one.event_type, one.aggregate_type) == ("thing.made", "thing.made", "")
    assert one.description == "A thing was made"
    assert one.example == '{"id": "é-1"}'
    assert one.facts == (("since", "12.4"),)
    assert one.body == Members(
        (
            Field("event", Single(Kind.STRING, "string (= type)"), required=True),
            Field(
                "data",
                Members(
                    (
                        Field("id", STRING, required=True),
                        Field("size", Single(Kind.INTEGER, "int64"), required=False),
                    )
                ),
                required=True,
            ),
        )
    )


def test_the_payload_is_a_member_of_the_body_or_all_of_it_or_nothing():
    (one,) = read(text(payload="data")).types
    assert one.payload == one.body.fields[1].shape
    (one,) = read(text(payload="")).types
    assert one.payload == one.body
    first, _ = read(PAIRS).types
    assert first.payload is None
    assert first.body == Members((Field("eventId", Single(Kind.STRING, "string uuid"), True),))
    assert (first.example, first.facts) == ("", ())


def test_an_event_is_found_by_its_type_or_by_both_types():
    catalog = joined([read(text()), read(PAIRS)])
    assert [one.name for one in catalog.types] == ["thing.made", "THING.MADE", "OTHER.MADE"]
    assert catalog.find("thing.made") is catalog.types[0]
    assert catalog.find("thing.made", "whatever") is catalog.types[0]
    assert catalog.find("MADE", "OTHER") is catalog.types[2]
    assert catalog.find("THING.MADE", "THING") is catalog.types[1]
    assert catalog.find("MADE") is None
    assert catalog.find("made", "thing") is catalog.types[0]
    assert catalog.find("lost", "THING") is None


def test_a_person_may_write_a_pair_with_a_slash():
    catalog = read(PAIRS)
    assert catalog.named("OTHER/MADE") is catalog.named("OTHER.MADE") is catalog.types[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MADE", "no event type 'MADE' in the catalogue; near: THING.MADE, OTHER.MADE"),
        ("OTHR.MADE", "no event type 'OTHR.MADE' in the catalogue; near: OTHER.MADE"),
        ("x\n", "no event type 'x\\\\n' in the catalogue; `webhookd catalog list` shows them all"),
    ],
)
def test_a_name_that_no_type_has(name, said):
    with pytest.raises(LookupError) as caught:
        read(PAIRS).named(name)
    assert caught.value.args[0].startswith(said)


def test_one_name_cannot_be_two_types():
    with pytest.raises(ValueError, match="the same name"):
        joined([read(text()), read(text(system="other"))])


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("string", Kind.STRING),
        ("string uuid", Kind.STRING),
        ("integer", Kind.INTEGER),
        ("int64", Kind.INTEGER),
        ("float64", Kind.NUMBER),
        ("any", Kind.ANY),
        ("IndexRanges", Kind.ANY),
    ],
)
def test_single_values(written, kind):
    assert shape(written) == Single(kind, written)


def test_lists_maps_and_objects():
    assert shape(["string"]) == ListOf(STRING)
    assert shape({"*": ["string"]}) == MapOf(ListOf(STRING))
    assert shape({"*": "string", "a": "string"}) == Members(
        (Field("*", STRING, required=True), Field("a", STRING, required=True))
    )
    assert shape({}) == Members(())


@pytest.mark.parametrize("written", ["", "text", [], ["string", "string"], 1, None])
def test_what_is_no_structure(written):
    with pytest.raises(ValueError, match="is no"):
        shape(written)


def test_an_outline_has_every_field_by_its_path():
    fields = shape(
        {
            "id": "string",
            "tags?": ["string"],
            "names": {"*": "string"},
            "items": [{"sizes": {"*": [{"wide": "int64"}]}, "note?": "any"}],
            "at": {"city": "string"},
        }
    )
    assert isinstance(fields, Members)
    assert list(outline(fields)) == [
        Line("id", "string", True),
        Line("tags", "list of string", False),
        Line("names", "map of string", True),
        Line("items", "list of object", True),
        Line("items[].sizes", "map of list of object", True),
        Line("items[].sizes.*[].wide", "int64", True),
        Line("items[].note", "any", False),
        Line("at", "object", True),
        Line("at.city", "string", True),
    ]
