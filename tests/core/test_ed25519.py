"""Ed25519 keys, against the test vectors of RFC 8032 and the `cryptography` package itself."""

import base64
import sys
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from webhookd.core import ed25519, secrets
from webhookd.core.profiles import BUILT_IN
from webhookd.core.signing import Algorithm, Encoding, Key, Offer, Scheme
from webhookd.core.verify import Flaw, verify

# RFC 8032, section 7.1, test 2
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
PRIVATE_TEXT = "whsk_" + base64.b64encode(SEED).decode()
WHOLE_TEXT = "whsk_" + base64.b64encode(SEED + PUBLIC).decode()
PUBLIC_TEXT = "whpk_" + base64.b64encode(PUBLIC).decode()
SHARED = "whsec_" + base64.b64encode(bytes(32)).decode()
STANDARD = BUILT_IN.get("standard")
NOW = 1_795_335_330_400


def test_the_signature_of_the_rfc() -> None:
    assert ed25519.sign(SEED, b"\x72") == SIGNATURE
    assert ed25519.public_key(SEED) == PUBLIC
    assert ed25519.is_genuine(PUBLIC, SIGNATURE, b"\x72")
    assert not ed25519.is_genuine(PUBLIC, SIGNATURE, b"\x73")
    assert not ed25519.is_genuine(PUBLIC, b"", b"\x72")


def test_a_private_key_with_and_without_its_public_half() -> None:
    assert secrets.check_private(PRIVATE_TEXT) == secrets.check_private(WHOLE_TEXT) == SEED
    assert secrets.public_half(WHOLE_TEXT) == PUBLIC_TEXT
    assert secrets.check_public(PUBLIC_TEXT) == PUBLIC


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("whsk_" + base64.b64encode(SEED[:31]).decode(), "must hold 32 bytes, or 64 with"),
        ("whsk_" + base64.b64encode(SEED + SEED).decode(), "do not belong together"),
        ("whsk_HUSH!", "must be base64"),
    ],
)
def test_E14_a_private_key_of_another_form(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        STANDARD.check_secret(text)
    assert text[5:] not in str(refused.value)


def test_a_public_key_signs_nothing() -> None:
    with pytest.raises(ValueError, match="the secret is a public key: give that one"):
        STANDARD.check_secret(PUBLIC_TEXT)
    with pytest.raises(ValueError, match="must hold 32 bytes, and this one holds 31"):
        secrets.check_public("whpk_" + base64.b64encode(PUBLIC[:31]).decode())
    with pytest.raises(ValueError, match="does not sign"):
        STANDARD.scheme.signature(Key(PUBLIC, algorithm=Algorithm.PUBLIC), "e", "1", b"")


@pytest.mark.parametrize("name", ["standard", "floriday", "cloudevents"])
def test_a_signature_as_the_standard_says(name: str) -> None:
    profile = BUILT_IN.get(name)
    key = profile.check_secret(PRIVATE_TEXT)
    assert key == Key(SEED, algorithm=Algorithm.PRIVATE)
    value = profile.scheme.sign([key], "evt_1", "1795335330", b"{}")
    version, _, signature = value.partition(",")
    assert version == "v1a"
    public = Ed25519PublicKey.from_public_bytes(PUBLIC)
    public.verify(base64.b64decode(signature), b"evt_1.1795335330.{}")
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), b"evt_2.1795335330.{}")


def test_E13_a_rotation_from_a_shared_secret_to_a_key_signs_with_both() -> None:
    keys = [STANDARD.check_secret(PRIVATE_TEXT), STANDARD.check_secret(SHARED)]
    value = STANDARD.scheme.sign(keys, "evt_1", "1795335330", b"{}")
    assert [item.partition(",")[0] for item in value.split(" ")] == ["v1a", "v1"]
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1795335330",
        "webhook-signature": value,
    }
    for secret in (PRIVATE_TEXT, PUBLIC_TEXT, WHOLE_TEXT, SHARED):
        assert verify(STANDARD, secret, headers, b"{}", NOW).ok
        assert verify(STANDARD, secret, headers, b"[]", NOW).flaw is Flaw.SIGNATURE
    for odd in ("v1a,", "v1a,é", "v1a,AAAA", "v1,AAAA"):
        odd_one = {**headers, "webhook-signature": odd}
        assert verify(STANDARD, PUBLIC_TEXT, odd_one, b"{}", NOW).flaw is Flaw.SIGNATURE


def test_formats_with_a_scheme_of_their_own_take_no_such_key() -> None:
    with pytest.raises(ValueError, match="must begin with whsec_"):
        BUILT_IN.get("ntropy").check_secret(PRIVATE_TEXT)


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules,
        "cryptography.hazmat.primitives.asymmetric",
        None,  # type: ignore[arg-type]
    )
    for call, text in ((STANDARD.check_secret, PRIVATE_TEXT), (secrets.check_public, PUBLIC_TEXT)):
        with pytest.raises(ValueError, match=r"install webhookd\[ed25519\]$") as refused:
            call(text)
        assert "\n" not in str(refused.value)
        assert text[5:] not in str(refused.value)
    assert STANDARD.check_secret(SHARED).algorithm is Algorithm.HMAC


def test_G11_a_key_is_in_no_repr() -> None:
    assert repr(SEED) not in repr(Key(SEED, algorithm=Algorithm.PRIVATE))


def test_a_scheme_without_them_passes_them_over() -> None:
    scheme = replace(STANDARD.scheme, ed25519_prefix="")
    assert isinstance(scheme, Scheme)
    assert scheme.encoding is Encoding.BASE64
    assert scheme.read("v1,a v1a,b") == Offer(["v1,a", "v1a,b"])
