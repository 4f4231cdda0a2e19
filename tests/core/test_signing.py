import hashlib
import hmac
from collections.abc import Sequence

import pytest

from webhookd.core.signing import (
    Encoding,
    Key,
    MissingSecret,
    Offer,
    Scheme,
    encode,
    live,
)

NEW, OLD, OLDEST = (
    Key(b"new-key-new-key-new-key", None),
    Key(b"old-key-old-key-old-key", 2_000),
    Key(b"oldest-key-oldest-key", 1_000),
)


def write(signatures: Sequence[str], timestamp: str) -> str:
    return f"t={timestamp},{','.join(signatures)}"


def scheme(
    signed: str = "{body}", *, encoding: Encoding = Encoding.HEX, carries_list: bool = True
) -> Scheme:
    return Scheme(
        "X-Signature", signed, encoding, carries_list, write, lambda value: Offer([value])
    )


def mac(key: Key, text: bytes) -> str:
    return hmac.new(key.value, text, hashlib.sha256).hexdigest()


def test_encodings() -> None:
    assert encode(b"\xfb\xff\x00", Encoding.HEX) == "fbff00"
    assert encode(b"\xfb\xff\x00\x01", Encoding.BASE64) == "+/8AAQ=="


@pytest.mark.parametrize(
    ("signed", "text", "covers_id", "covers_timestamp"),
    [
        ("{body}", b"\xff body", False, False),
        ("{timestamp}.{body}", b"12.\xff body", False, True),
        ("{id}.{timestamp}.{body}", b"evt_1.12.\xff body", True, True),
        ("v0:{timestamp}:{body}", b"v0:12:\xff body", False, True),
    ],
)
def test_signed_text(signed: str, text: bytes, covers_id: bool, covers_timestamp: bool) -> None:
    made = scheme(signed)
    assert made.signature(NEW, "evt_1", "12", b"\xff body") == mac(NEW, text)
    assert made.covers_id is covers_id
    assert made.covers_timestamp is covers_timestamp


def test_a_pattern_reaches_into_nothing() -> None:
    made = scheme("{id.__class__}.{body}")
    assert made.signature(NEW, "evt_1", "12", b"x") == mac(NEW, b"{id.__class__}.x")


def test_an_id_that_looks_like_a_placeholder_is_signed_as_it_is() -> None:
    made = scheme("{id}.{timestamp}.{body}")
    assert made.signature(NEW, "{timestamp}", "12", b"x") == mac(NEW, b"{timestamp}.12.x")


@pytest.mark.parametrize("signed", ["", "{id}", "{body}.{id}", "{body}{body}"])
def test_a_signed_text_ends_with_the_body(signed: str) -> None:
    with pytest.raises(ValueError, match="once, at its end"):
        scheme(signed)


def test_a_list_has_every_key_newest_first() -> None:
    value = scheme().sign([NEW, OLD, OLDEST], "evt_1", "12", b"x")
    assert value == f"t=12,{mac(NEW, b'x')},{mac(OLD, b'x')},{mac(OLDEST, b'x')}"


def test_E13_where_one_signature_fits_the_oldest_live_key_signs() -> None:
    one = scheme(carries_list=False)
    keys = [NEW, OLD, OLDEST]
    signing = [one.sign(live(keys, now), "evt_1", "12", b"x") for now in (999, 1_000, 1_999, 2_000)]
    assert signing == [f"t=12,{mac(key, b'x')}" for key in (OLDEST, OLD, OLD, NEW)]


def test_E13_an_expired_key_signs_no_more() -> None:
    keys = [NEW, OLD, OLDEST]
    assert live(keys, 999) == keys
    assert live(keys, 1_000) == [NEW, OLD]
    assert live(keys, 2_000) == [NEW]


def test_E13_no_live_key_is_not_the_same_as_no_key() -> None:
    assert live([], 0) == []
    with pytest.raises(MissingSecret, match="every secret has expired"):
        live([OLD, OLDEST], 2_000)


def test_G11_a_key_is_in_no_repr() -> None:
    assert "new-key" not in repr(NEW)
    assert "expires_at=2000" in repr(OLD)
