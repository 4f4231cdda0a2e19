import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhookd.core.model import Event, Sequence
from webhookd.core.profiles import Unrenderable, envelope


def event(payload: bytes | None) -> Event:
    return Event(Sequence(1), 1, "evt_1", "a.b", "a", "1", "", payload, "2024-01-15T10:30:00.000Z")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", b"null"),
        ("plain", b'"plain"'),
        ('Rosé €/№ "7"\\', '"Rosé €/№ \\"7\\"\\\\"'.encode()),
        ("a\nb\x00\x7f", b'"a\\nb\\u0000\x7f"'),
        ("日本 \u2028 😀", '"日本 \u2028 😀"'.encode()),
    ],
)
def test_text_is_escaped_no_more_than_json_demands(value: str, written: bytes) -> None:
    assert envelope.text(value) == written


@settings(derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back(value: str) -> None:
    assert json.loads(envelope.text(value)) == value


def test_half_a_surrogate_pair_cannot_be_said() -> None:
    with pytest.raises(Unrenderable, match="half a character") as refused:
        envelope.text("a\ud800")
    assert str(refused.value).count("\n") == 0


def test_members_are_written_in_order_without_blanks() -> None:
    assert envelope.members((b"b", b'"x"'), (b"a", b"[1, 2]")) == b'{"b":"x","a":[1, 2]}'
    assert envelope.members() == b"{}"


@pytest.mark.parametrize(
    ("payload", "trimmed"),
    [
        (
            b' \t\r\n{"a": 1.10 , "a":  12345678901234567890}\n',
            b'{"a": 1.10 , "a":  12345678901234567890}',
        ),
        (b'" x "', b'" x "'),
        (b'"\xe2\x82\xac\\u00e9\\ud800"', b'"\xe2\x82\xac\\u00e9\\ud800"'),
        # White space to Python, none to JSON: nothing that webhookd may take off.
        (b"\x0b1\x0c", b"\x0b1\x0c"),
    ],
)
def test_A9_a_payload_goes_in_as_it_was_written(payload: bytes, trimmed: bytes) -> None:
    assert envelope.payload(event(payload)) == trimmed


def test_an_absent_payload_and_an_erased_one_differ() -> None:
    assert envelope.payload(event(None)) is None
    for erased in (b"", b" \n"):
        with pytest.raises(Unrenderable, match="has been erased"):
            envelope.payload(event(erased))
