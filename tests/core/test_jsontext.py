import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webhookd.core.jsontext import MAX_LEVELS, NotJson, check

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def brief(value: object) -> str:
    """A test's id; payloads of megabytes make none."""
    return repr(value)[:40]


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"[]" * (levels % 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        b"null",
        b"0",
        b'"text"',
        b' \t\r\n{"a": [1, -2.50, 3e7, true, null]} \n',
        b'"\x7f"',
        b"1e999999",
        b"[1.10, 12345678901234567890]",
        '{"ключ": "🙂"}'.encode(),
        nested(MAX_LEVELS),
        b"[" + b"[],{}," * 100_000 + b"0]",
        b'"' + b"[" * 100_000 + b'"',
        b'["' + b'\\"[' * 10_000 + b'"]',
        b'["\\\\",' + b"[]," * 1_000 + b"0]",
    ],
    ids=brief,
)
def test_json_passes(payload: bytes) -> None:
    check(payload)


@pytest.mark.parametrize(
    "payload",
    [b"9" * 5_000, b'{"a":1,"a":2}', b'"\\ud800"', b"-" + b"9" * 100_000, b"0." + b"9" * 100_000],
    ids=["digits", "duplicate keys", "lone surrogate escape", "many digits", "many decimals"],
)
def test_A9_odd_but_valid_json_passes(payload: bytes) -> None:
    check(payload)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"a":NaN}', "NaN is not JSON, at byte 5"),
        (b"Infinity", "Infinity is not JSON, at byte 0"),
        (b'["NaN \\" Infinity",-Infinity, NaN]', "-Infinity is not JSON, at byte 19"),
        ('{"é":NaN}'.encode(), "NaN is not JSON, at byte 6"),
    ],
)
def test_A9_nan_and_infinity_are_no_json(payload: bytes, reason: str) -> None:
    with pytest.raises(NotJson) as refused:
        check(payload)
    assert str(refused.value) == reason


@pytest.mark.parametrize("payload", [b"", b" ", b"\t\r\n "])
def test_A4_blank_text_is_no_json(payload: bytes) -> None:
    with pytest.raises(NotJson, match="blank"):
        check(payload)


@pytest.mark.parametrize(
    ("payload", "offset"),
    [
        (b'"\xff"', 1),
        (b'{"a":"\xc3"}', 6),
        (b'"\xed\xa0\x80"', 1),
        (b'"\xc0\x80"', 1),
        (b"\xff\xfe{\x00}\x00", 0),
    ],
)
def test_A2_bad_utf_8_is_told_with_its_offset(payload: bytes, offset: int) -> None:
    with pytest.raises(NotJson) as refused:
        check(payload)
    assert str(refused.value) == f"not UTF-8 at byte {offset}"


@pytest.mark.parametrize(
    ("payload", "offset"),
    [
        (b"nul", 0),
        (b"{'a':1}", 1),
        (b"01", 1),
        (b"+1", 0),
        (b".5", 0),
        (b"[1.]", 2),
        (b"1 2", 2),
        (b"[1", 2),
        (b'"abc', 0),
        (b'"a\tb"', 2),
        (b"-NaN", 0),
        (b"// no\n1", 0),
        ("\u00a01".encode(), 0),
        ('{"é":x}'.encode(), 6),
        ("\uff11".encode(), 0),
    ],
)
def test_A1_what_is_no_json_is_told_with_its_offset_in_bytes(payload: bytes, offset: int) -> None:
    with pytest.raises(NotJson, match=rf" at byte {offset}$"):
        check(payload)


@pytest.mark.parametrize("payload", [b'"a\x00b"', b"{}\x00", b"\x00{}", b"{}\x00garbage"])
def test_A3_a_raw_nul_is_no_json(payload: bytes) -> None:
    with pytest.raises(NotJson, match="at byte"):
        check(payload)


@pytest.mark.parametrize("payload", [b"\xef\xbb\xbf{}", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_no_json(payload: bytes) -> None:
    with pytest.raises(NotJson, match="byte order mark at byte 0"):
        check(payload)


@pytest.mark.parametrize(
    ("payload", "offset"),
    [
        (b"[" * 200_000, 500),
        (b"[" * 200_000 + b"]" * 200_000, 500),
        (nested(MAX_LEVELS + 1), 250 * 6),
        (b'["]]]",' * 200_000, 500 * 7),
        (b'{"a\\"[":' * 200_000, 500 * 8),
    ],
    ids=brief,
)
def test_A8_too_many_levels_are_told_and_recursion_is_no_trouble(
    payload: bytes, offset: int
) -> None:
    with pytest.raises(NotJson) as refused:
        check(payload)
    assert str(refused.value) == f"more than {MAX_LEVELS} levels deep at byte {offset}"


@pytest.mark.parametrize(
    ("payload", "offset"),
    [
        (b'\\"' + b"[" * 200_000, 0),
        (b'["a" \\" ' + b"[" * 200_000, 5),
    ],
    ids=brief,
)
def test_A8_an_error_before_the_depth_is_the_one_that_is_told(payload: bytes, offset: int) -> None:
    with pytest.raises(NotJson, match=rf" at byte {offset}$"):
        check(payload)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_whatever_a_serialiser_writes_passes(value: object, indent: int, ascii_only: bool) -> None:
    check(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8"))


@given(st.text(alphabet='[]{}",:\\ua01.e-tnN \n', max_size=40).map(str.encode))
@example(b'{"a":[1,{"b":"\\u00e9"}]}')
def test_agrees_with_the_standard_library(payload: bytes) -> None:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(payload.decode(), parse_constant=refuse)
    except ValueError:
        with pytest.raises(NotJson):
            check(payload)
    else:
        check(payload)


@given(st.binary(max_size=40), st.integers(0, 2 * MAX_LEVELS))
def test_any_bytes_pass_or_are_refused_in_one_printable_line(tail: bytes, levels: int) -> None:
    refusal = ""
    try:
        check(b"[" * levels + tail)
    except NotJson as refused:
        refusal = str(refused)
    assert refusal.isprintable()
    assert refusal or levels == 0 or tail.rstrip().endswith(b"]")
