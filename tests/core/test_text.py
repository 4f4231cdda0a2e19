import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.text import counted, printable, printable_bytes

ANY_TEXT = st.text(st.characters(), max_size=60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain text, naïve 漢字 🙂", "plain text, naïve 漢字 🙂"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\x00b\x7fc\x85d", "a\\x00b\\x7fc\\x85d"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("a\u2028b\u2066c\u200bd", "a\\u2028b\\u2066c\\u200bd"),
        ("a\xa0b\U000e0001c", "a\\xa0b\\U000e0001c"),
        ("lone \ud800", "lone \\ud800"),
        ("/path/\udcff", "/path/\\xff"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text, 100) == shown


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        ("ab\n", 4, "ab\\n"),
        ("abc\n", 4, "abc…"),
        ("ab\n!", 4, "ab…"),
        ("\U000e0001", 9, "…"),
        pytest.param("\n" * 1_000_000, 5, "\\n\\n…", id="a megabyte of lines"),
        pytest.param("a" * 1_000_000, 1, "…", id="a megabyte"),
    ],
)
def test_what_is_too_long_is_cut_between_escapes(text: str, limit: int, shown: str) -> None:
    assert printable(text, limit) == shown


@given(ANY_TEXT, st.integers(1, 80))
def test_always_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert printable(shown, limit) == shown
    assert shown.endswith("…") or printable(text, 10_000) == shown


@pytest.mark.parametrize(
    ("data", "limit", "shown"),
    [
        ("naïve".encode(), 10, "naïve"),
        (b"a\xff\nb", 10, "a\\xff\\nb"),
        ("漢".encode() * 100, 3, "漢漢…"),
        ("🙂".encode() * 100, 3, "🙂🙂…"),
        (b"\xff" * 100, 7, "\\xff…"),
    ],
)
def test_bytes_that_are_not_utf_8_are_escaped(data: bytes, limit: int, shown: str) -> None:
    assert printable_bytes(data, limit) == shown


@given(st.binary(max_size=100), st.integers(1, 40))
def test_any_bytes_become_one_printable_line(data: bytes, limit: int) -> None:
    shown = printable_bytes(data, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


def test_counted():
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert counted(1, "delivery", "deliveries") == "1 delivery"
    assert counted(450, "delivery", "deliveries") == "450 deliveries"
