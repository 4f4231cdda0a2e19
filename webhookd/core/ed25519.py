"""Ed25519, the asymmetric signature of Standard Webhooks: through the `cryptography` package.

The package is an extra (`webhookd[ed25519]`): it is imported when the first such key is met, and
without it the key is refused in one line. What it is given here has been measured beforehand, so
it has nothing to refuse.
"""

from typing import Any, Final

SEED: Final = 32
"""Bytes of a private key; its public key has as many."""


def check() -> None:
    """Whether such keys can be used here.

    Raises:
        ValueError: the package is not installed. One line.
    """
    _library()


def public_key(seed: bytes) -> bytes:
    """The public key of a private one, each 32 bytes. Raises ValueError as `check` does."""
    key = _library().Ed25519PrivateKey.from_private_bytes(seed)
    public: bytes = key.public_key().public_bytes_raw()
    return public


def sign(seed: bytes, text: bytes) -> bytes:
    """The signature, 64 bytes. Raises ValueError as `check` does."""
    signature: bytes = _library().Ed25519PrivateKey.from_private_bytes(seed).sign(text)
    return signature


def is_genuine(public: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the signature is of that text and by that key. Raises ValueError as `check` does."""
    library = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        library.Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ValueError(
            "the secret is an Ed25519 key, and the package for it is not installed;"
            " install webhookd[ed25519]"
        ) from None
    return ed25519
