"""The forms that a signing secret can have, and the key that each form stands for.

No text of a secret, whole or in part, is in an exception raised here.
"""

import base64
import binascii
from typing import Final

PREFIX: Final = "whsec_"
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
    if not text.startswith(PREFIX):
        raise ValueError(f"the secret must begin with {PREFIX}")
    encoded = text.removeprefix(PREFIX)
    key = _decoded(encoded)
    # Other decoders skip what they do not know, or refuse what ours would overlook, and so would
    # end with another key than ours: only the one canonical spelling of a key is let in.
    if key is None or base64.b64encode(key).decode() != encoded:
        raise ValueError(
            f"the secret after {PREFIX} must be base64 (A-Z a-z 0-9 + /, with its = padding)"
        )
    if len(key) not in STANDARD_BYTES:
        raise ValueError(
            f"the secret must hold {STANDARD_BYTES[0]} to {STANDARD_BYTES[-1]} bytes,"
            f" and this one holds {len(key)}"
        )
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
