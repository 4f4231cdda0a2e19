"""Where a payload differs from its type's catalogue, and how little it takes to find out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core import jsontext
from webhookd.core.catalog import read, shape
from webhookd.core.structure import MOST_VALUES, Validation, fault

ORDER = shape(
    {
        "id": "string",
        "total": "float64",
        "count": "int64",
        "note?": "string",
        "items": [{"sku": "string", "quantity?": "int64"}],
        "names": {"*": "string"},
        "address?": {"city": "string"},
        "free": "any",
    }
)
GOOD = {
    "id": "A-1",
    "total": 1.5,
    "count": 3,
    "items": [{"sku": "x"}, {"sku": "y", "quantity": 2}],
    "names": {"en": "n", "de": "m"},
    "free": None,
}


def of(**changes):
    return fault(json.dumps({**GOOD, **changes}).encode(), ORDER)


def without(name):
    return fault(json.dumps({k: v for k, v in GOOD.items() if k != name}).encode(), ORDER)


def test_what_is_made_as_it_should_be_passes():
    assert of() == ""
    assert of(more="than the catalogue has", address={"city": "Oslo", "zip": 1}) == ""
    assert of(total=2, free={"a": [1]}, items=[], names={}) == ""


@pytest.mark.parametrize("name", ["note", "address"])
def test_what_may_be_left_out_may_be_null(name):
    assert of(**{name: None}) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": 1}, ".id: a string is needed, and a whole number is there"),
        ({"id": None}, ".id: a string is needed, and null is there"),
        ({"id": True}, ".id: a string is needed, and true is there"),
        ({"note": False}, ".note: a string is needed, and false is there"),
        ({"total": "1.5"}, ".total: a number is needed, and a string is there"),
        ({"total": True}, ".total: a number is needed, and true is there"),
        (
            {"count": 3.0},
            ".count: a whole number of 64 bits is needed, and a number with a fraction or an",
        ),
        ({"count": True}, ".count: a whole number of 64 bits is needed, and true is there"),
        ({"count": 10**30}, ".count: a whole number of 64 bits is needed, and a longer one is"),
        ({"items": {}}, ".items: a list is needed, and an object is there"),
        (
            {"items": [{"sku": "x"}, {"sku": []}]},
            ".items[1].sku: a string is needed, and a list is there",
        ),
        ({"items": [{"sku": "x"}, 7]}, ".items[1]: an object is needed, and a whole number is"),
        ({"items": [{}]}, ".items[0].sku: is missing; a string is needed"),
        ({"names": []}, ".names: an object is needed, and a list is there"),
        ({"names": {"a\n": 1}}, '.names["a\\n"]: a string is needed, and a whole number is there'),
        ({"names": {"k" * 99: 1}}, '.names["' + "k" * 39 + '…"]: a string is needed'),
        ({"address": {}}, ".address.city: is missing; a string is needed"),
    ],
)
def test_the_first_fault_is_told_with_its_place_and_without_its_value(changes, said):
    assert of(**changes).startswith(f"payload{said}")


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("id", "a string"),
        ("total", "a number"),
        ("count", "a whole number of 64 bits"),
        ("items", "a list"),
        ("names", "an object"),
        ("free", "a value"),
    ],
)
def test_what_is_missing(name, needed):
    assert without(name) == f"payload.{name}: is missing; {needed} is needed"


def test_a_payload_that_is_no_object():
    assert fault(b" [1] ", ORDER) == "payload: an object is needed, and a list is there"


def test_the_ends_of_64_bits_pass():
    assert of(count=-(2**63)) == of(count=2**63 - 1) == ""


def test_the_last_of_two_keys_with_one_name_counts_as_for_most_readers():
    text = json.dumps(GOOD)[:-1].encode()
    assert fault(text + b',"id":7}', ORDER) == (
        "payload.id: a string is needed, and a whole number is there"
    )


@pytest.mark.parametrize("kind", ["list", "map"])
def test_only_so_many_values_are_looked_at(kind):
    def odd_at(place):
        values = ["a"] * MOST_VALUES
        values[place] = 1
        if kind == "list":
            return fault(json.dumps(values).encode(), shape(["string"]))
        named = {str(number): value for number, value in enumerate(values)}
        return fault(json.dumps(named).encode(), shape({"*": "string"}))

    assert odd_at(MOST_VALUES - 2) != ""  # the list itself is one of them
    assert odd_at(MOST_VALUES - 1) == ""


def test_nothing_is_looked_at_once_the_values_are_used_up():
    wanted = shape({"many": ["string"], "last": "string"})
    payload = json.dumps({"many": ["a"] * MOST_VALUES, "last": 1}).encode()
    assert fault(payload, wanted) == ""


def test_A8_the_deepest_payload_that_is_json_here_raises_nothing():
    deep = b'{"free":' + b"[" * (jsontext.MAX_LEVELS - 1) + b"]" * (jsontext.MAX_LEVELS - 1) + b"}"
    jsontext.check(deep)
    assert fault(deep, shape({"free": "any"})) == ""
    assert fault(deep, shape({"free": ["string"]})) == (
        "payload.free[0]: a string is needed, and a list is there"
    )


def test_A9_digits_without_end_cost_nothing_and_are_no_64_bits():
    digits = b"9" * 1_000_000
    assert fault(b'{"n":%b}' % digits, shape({"n": "float64"})) == ""
    assert fault(b'{"n":0.%b}' % digits, shape({"n": "float64"})) == ""
    assert "a longer one is there" in fault(b'{"n":%b}' % digits, shape({"n": "int64"}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner),
)


@given(JSON)
def test_whatever_the_payload_there_is_one_printable_line_or_none(value):
    try:
        payload = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return
    said = fault(payload, ORDER)
    assert said == "" or (said.startswith("payload") and said.isprintable())


CATALOG = read(
    json.dumps(
        {
            "system": "shop",
            "name": "Shop",
            "source": "",
            "payload": "data",
            "types": [
                {
                    "event_type": "thing.made",
                    "description": "",
                    "body": {"data": {"id": "string"}},
                }
            ],
        }
    )
)
IDS = read(
    json.dumps(
        {
            "system": "ids",
            "name": "Ids",
            "source": "",
            "payload": None,
            "body": {"eventId": "string"},
            "types": [{"event_type": "MADE", "aggregate_type": "THING", "description": ""}],
        }
    )
)


@pytest.mark.parametrize(
    ("catalog", "types", "payload", "said"),
    [
        (CATALOG, ("thing.made", "thing"), b'{"id":"x"}', ""),
        (CATALOG, ("thing.made", "thing"), None, ""),
        (CATALOG, ("thing.made", "thing"), b"", ""),
        (CATALOG, ("thing.lost", "thing"), b"[]", ""),
        (IDS, ("MADE", "THING"), b"[]", ""),
        (
            CATALOG,
            ("thing.made", "thing"),
            b"{}",
            "payload.id: is missing; a string is needed (shop thing.made)",
        ),
    ],
    ids=[
        "as it should be",
        "ID-only",
        "erased",
        "unknown type",
        "no place for a payload",
        "otherwise",
    ],
)
def test_a_payload_is_held_against_its_type(catalog, types, payload, said):
    assert Validation(catalog, rejects=True).fault(*types, payload) == said
