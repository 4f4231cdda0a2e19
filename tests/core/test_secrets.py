import base64
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhookd.core import secrets


def standard(count: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(count))).decode()


def test_a_made_secret_has_the_standard_form_and_its_bytes() -> None:
    made = secrets.make(bytes(range(32)))
    assert made == "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert secrets.check_standard(made) == bytes(range(32))
    assert secrets.check_utf8(made) == made.encode()


@pytest.mark.parametrize("count", [0, 31, 33])
def test_a_secret_is_made_of_32_bytes_only(count: int) -> None:
    with pytest.raises(ValueError, match=rf"32 random bytes, not {count}$"):
        secrets.make(bytes(count))


@settings(derandomize=True)
@given(st.binary(min_size=24, max_size=64))
def test_a_standard_secret_gives_its_bytes_back(key: bytes) -> None:
    assert secrets.check_standard("whsec_" + base64.b64encode(key).decode()) == key


URL_SAFE = "whsec_" + base64.urlsafe_b64encode(b"\xfb\xff" * 15).decode()
LOOSE_BITS = standard(25)[:-3] + "B=="
"""The same bytes for a lax decoder: the last digit has bits that belong to no byte."""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must begin with whsec_"),
        ("whpk_" + "A" * 44, "must begin with whsec_"),
        ("WHSEC_" + "A" * 44, "must begin with whsec_"),
        (standard(32).rstrip("="), "must be base64"),
        (standard(32) + "\n", "must be base64"),
        (standard(32)[:20] + " " + standard(32)[20:], "must be base64"),
        (URL_SAFE, "must be base64"),
        (LOOSE_BITS, "must be base64"),
        ("whsec_" + "ü" * 44, "must be base64"),
        ("whsec_****", "must be base64"),
        (standard(23), "24 to 64 bytes, and this one holds 23"),
        (standard(65), "24 to 64 bytes, and this one holds 65"),
        ("whsec_", "24 to 64 bytes, and this one holds 0"),
    ],
)
def test_E14_another_standard_form_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        secrets.check_standard(text)
    assert_tells_nothing(refused.value, text)


@pytest.mark.parametrize(
    ("text", "prefix", "key"),
    [
        ("whsec_" + "é" * 16, "whsec_", b"whsec_" + b"\xc3\xa9" * 16),
        ("whsec_1234567890 12345", "whsec_", b"whsec_1234567890 12345"),
        ("a-hash-key-of-16", "", b"a-hash-key-of-16"),
    ],
)
def test_a_utf8_key_is_the_whole_text(text: str, prefix: str, key: bytes) -> None:
    assert secrets.check_utf8(text, prefix=prefix) == key


@pytest.mark.parametrize(
    ("text", "prefix", "reason"),
    [
        ("hash-key-of-the-customer", "whsec_", "must begin with whsec_"),
        ("whsec_123456789012345", "whsec_", "16 characters after whsec_, and has 15"),
        ("123456789012345", "", "16 characters, and has 15"),
        ("whsec_1234567890123456\n", "whsec_", "control character"),
        ("whsec_1234567890123456 ", "whsec_", "blank at an end"),
        ("whsec_12345678\x0090123456", "whsec_", "control character"),
        ("whsec_1234567890123456\udc80", "whsec_", "control character"),
    ],
)
def test_E14_another_utf8_form_is_refused_in_one_line(text: str, prefix: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        secrets.check_utf8(text, prefix=prefix)
    assert_tells_nothing(refused.value, text.removeprefix(prefix))


def assert_tells_nothing(refused: ValueError, text: str) -> None:
    printed = "".join(traceback.format_exception_only(refused))
    assert printed.count("\n") == 1
    tail = text.removeprefix("whsec_").strip()
    assert not tail or tail not in printed
    # A chained error could hold the text (UnicodeEncodeError does, in `.object`).
    assert refused.__context__ is None
    assert refused.__cause__ is None


@pytest.mark.parametrize("text", ["AAECAwQFBgcICQoLDA0ODw==", "whsec_AAECAwQFBgcICQoLDA0ODw=="])
def test_a_base64_secret_with_or_without_a_prefix(text: str) -> None:
    assert secrets.check_base64(text) == bytes(range(16))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AAECAwQFBgcICQoLDA0O", "at least 16 bytes, and this one holds 15"),
        ("HUSH HUSH", "the secret must be base64"),
        ("whsec_HUSH!", "the secret after whsec_ must be base64"),
    ],
)
def test_E14_a_base64_secret_of_another_form(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        secrets.check_base64(text)
    assert "HUSH" not in str(refused.value)
