"""The forms that a signing secret can have, and the key that each form stands for.

No text of a secret, whole or in part, is in an exception raised here.
"""

import base64
import binascii
from typing import Final

from webhookd.core import ed25519

PREFIX: Final = "whsec_"
PRIVATE_PREFIX: Final = "whsk_"
"""Of an Ed25519 key that signs; the receiver is given the `whpk_` key that belongs to it."""
PUBLIC_PREFIX: Final = "whpk_"
MADE_BYTES: Final = 32
"""Bytes of a secret made by us: as many as SHA-256 gives out, so more would add nothing."""
STANDARD_BYTES: Final = range(24, 65)
"""What Standard Webhooks 1.0.0 allows a symmetric key to have."""
UTF8_MINIMUM: Final = 16
"""Characters, without a prefix: below it a key that people chose can be guessed."""


def make(random_bytes: bytes) -> str:
    """A new secret out of 32 bytes from the system's random source; every profile takes it.

    Raises:
        ValueError: there are not 32 of them.
    """
    if len(random_bytes) != MADE_BYTES:
        raise ValueError(f"a secret is made of {MADE_BYTES} random bytes, not {len(random_bytes)}")
    return PREFIX + base64.b64encode(random_bytes).decode()


def check_standard(text: str) -> bytes:
    """The key of a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes.

    Raises:
        ValueError: it has another form. One line, without the secret.
    """
    key = _canonical(text, PREFIX)
    if len(key) not in STANDARD_BYTES:
        raise ValueError(
            f"the secret must hold {STANDARD_BYTES[0]} to {STANDARD_BYTES[-1]} bytes,"
            f" and this one holds {len(key)}"
        )
    return key


def check_private(text: str) -> bytes:
    """The 32 bytes of an Ed25519 key that signs: `whsk_` and its base64.

    The form of 64 bytes, which has the public key behind the private one, will do as well.

    Raises:
        ValueError: it has another form, or no Ed25519 is here. One line, without the secret.
    """
    key = _canonical(text, PRIVATE_PREFIX)
    if len(key) not in (ed25519.SEED, 2 * ed25519.SEED):
        raise ValueError(
            f"the secret must hold {ed25519.SEED} bytes, or {2 * ed25519.SEED} with its public"
            f" key, and this one holds {len(key)}"
        )
    seed, public = key[: ed25519.SEED], key[ed25519.SEED :]
    ed25519.check()
    if public and public != ed25519.public_key(seed):
        raise ValueError("the secret's two halves do not belong together: it was not copied whole")
    return seed


def check_public(text: str) -> bytes:
    """The 32 bytes of an Ed25519 key that verifies: `whpk_` and its base64.

    Raises:
        ValueError: it has another form, or no Ed25519 is here. One line.
    """
    key = _canonical(text, PUBLIC_PREFIX)
    if len(key) != ed25519.SEED:
        raise ValueError(f"the key must hold {ed25519.SEED} bytes, and this one holds {len(key)}")
    ed25519.check()
    return key


def public_half(text: str) -> str:
    """What the receiver of a `whsk_` key's signatures verifies with: its `whpk_` key.

    Raises:
        ValueError: as `check_private`.
    """
    return PUBLIC_PREFIX + base64.b64encode(ed25519.public_key(check_private(text))).decode()


def check_base64(text: str) -> bytes:
    """The key of a secret that is base64, with or without `whsec_` before it: 16 bytes or more.

    Raises:
        ValueError: it has another form. One line, without the secret.
    """
    key = _canonical(text, PREFIX if text.startswith(PREFIX) else "")
    if len(key) < UTF8_MINIMUM:
        raise ValueError(
            f"the secret must hold at least {UTF8_MINIMUM} bytes, and this one holds {len(key)}"
        )
    return key


def _canonical(text: str, prefix: str) -> bytes:
    """The bytes that are written in base64 after the prefix. Raises ValueError."""
    if not text.startswith(prefix):
        raise ValueError(f"the secret must begin with {prefix}")
    encoded = text.removeprefix(prefix)
    key = _decoded(encoded)
    # Other decoders skip what they do not know, or refuse what ours would overlook, and so would
    # end with another key than ours: only the one canonical spelling of a key is let in.
    if key is None or base64.b64encode(key).decode() != encoded:
        after = f" after {prefix}" if prefix else ""
        raise ValueError(f"the secret{after} must be base64 (A-Z a-z 0-9 + /, with its = padding)")
    return key


def _decoded(encoded: str) -> bytes | None:
    if not encoded.isascii():
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None


def check_utf8(text: str, *, prefix: str = PREFIX, minimum: int = UTF8_MINIMUM) -> bytes:
    """The key of a secret that is used as it stands: the UTF-8 bytes of the whole text.

    `minimum` counts characters after `prefix`.

    Raises:
        ValueError: it has another form. One line, without the secret.
    """
    if not text.startswith(prefix):
        raise ValueError(f"the secret must begin with {prefix}")
    # A line end or a blank that came along from a file or a clipboard would become part of the
    # key, and every signature would be wrong for no visible reason.
    if not text.isprintable() or text != text.strip():
        raise ValueError("the secret has a control character in it or a blank at an end: remove it")
    length = len(text) - len(prefix)
    if length < minimum:
        after = f" after {prefix}" if prefix else ""
        raise ValueError(
            f"the secret must have at least {minimum} characters{after}, and has {length}"
        )
    return text.encode()
