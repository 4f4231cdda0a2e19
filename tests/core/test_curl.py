"""A request as a command: every byte of it, and nothing that is to stay hidden."""

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.curl import command, printf_format
from webhookd.core.request import Request
from webhookd.core.urls import parse

REQUEST = Request(
    "PUT",
    parse("https://partner.example/in/../a[1]?key=HUSH&b='x"),
    (
        ("Host", "partner.example"),
        ("Content-Type", "application/json"),
        ("Content-Length", "13"),
        ("X-Own", "it's HUSH"),
        ("webhook-id", "evt-1"),
    ),
    b'{"a": "it\'s"}',
)


def shown(masked=(), *, mask_query=False):
    text = command(REQUEST, timeout=2_500, masked=masked, mask_query=mask_query)
    assert text.isascii()
    assert "\n" not in text
    printf, curl = text.split(" | curl ")
    return printf, shlex.split(curl)


def values(words, option):
    return [words[at + 1] for at, word in enumerate(words) if word == option]


def test_all_of_the_request_is_in_the_command():
    printf, words = shown()
    assert printf == """printf '{"a": "it\\047s"}'"""
    assert values(words, "--request") == ["PUT"]
    assert values(words, "--max-time") == ["2.5"]
    assert values(words, "--data-binary") == ["@-"]
    assert values(words, "--header") == [
        *("Accept:", "Expect:", "Host: partner.example", "Content-Type: application/json"),
        *("X-Own: it's HUSH", "webhook-id: evt-1"),
    ]
    assert words[-1] == REQUEST.url.text
    assert words[0] == "--disable", "which curl obeys in the first place alone"


def test_G11_what_is_masked_is_nowhere_in_it():
    printf, words = shown({"x-own"}, mask_query=True)
    assert "X-Own: ***" in values(words, "--header")
    assert words[-1] == "https://partner.example/in/../a[1]?***"
    assert "HUSH" not in printf + " ".join(words)


def meant(written):
    """What POSIX has printf make of a format without conversions."""
    parts = re.findall(r"%%|\\\\|\\[0-7]{3}|[^%\\]", written)
    assert "".join(parts) == written
    octal = {part: chr(int(part[1:], 8)) for part in parts if len(part) == 4}
    plain = {"%%": "%", "\\\\": "\\", **octal}
    return "".join(plain.get(part, part) for part in parts).encode("latin-1")


@given(st.binary())
def test_every_byte_can_stand_between_single_quotes(data):
    written = printf_format(data)
    assert meant(written) == data
    assert written.isascii()
    assert written.isprintable() or not written
    assert "'" not in written


@pytest.mark.parametrize("data", [b"-1", b"--version", b"-"])
def test_no_body_is_an_option(data):
    assert printf_format(data).startswith("\\055")
    assert meant(printf_format(data)) == data
