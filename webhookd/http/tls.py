"""Whom TLS trusts, and who we are to the other side: a context for each set of terms, shared.

There is no way to switch verification off. Who cannot have a certificate that the system trusts
names its authority (`Terms.ca`), or pins the certificate itself (`Terms.pins`): then nothing but
that fingerprint counts, neither issuer nor name nor dates, unless `ca` is named as well.
"""

import os
import re
import ssl
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from webhookd.core.model import Terms
from webhookd.http.faults import tls_reason

MOST_CONTEXTS: Final = 256
"""Contexts kept: each holds a trust store, of some 100 KiB where it is the system's."""

_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep their trust store, for a Python whose OpenSSL was built for another one."""

_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_ENCRYPTED: Final = re.compile(r"BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"


class WrongCertificate(ssl.SSLError):
    """The other side showed a certificate that is none of the pinned ones."""

    def __str__(self) -> str:
        return str(self.strerror)


class _PinnedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        shown = fingerprint(self.getpeercert(binary_form=True) or b"")
        if shown not in getattr(self.context, "pins", ()):
            raise WrongCertificate(
                ssl.SSL_ERROR_SSL,
                f"the server's certificate is not a pinned one; its SHA-256 is {shown}",
            )


class _PinningContext(ssl.SSLContext):
    """Judges by fingerprint, wherever the handshake is made: in our own streams or in httpx's."""

    sslobject_class = _PinnedObject
    pins: frozenset[str] = frozenset()


def fingerprint(certificate: bytes) -> str:
    """What a pin is compared with: SHA-256 of the whole certificate (DER), in hexadecimal."""
    return sha256(certificate).hexdigest()


_Context = TypeVar("_Context", bound=ssl.SSLContext)


def make_ssl_context(kind: type[_Context] = ssl.SSLContext) -> _Context:  # type: ignore[assignment]
    """TLS 1.2 or newer against the operating system's trust store. Make one and share it.

    Not `create_default_context`, which obeys `SSL_CERT_FILE`, `SSL_CERT_DIR` and `SSLKEYLOGFILE`:
    whom the daemon trusts is no matter for a variable that happens to be set.
    """
    context = _bare(kind)
    _trust_system(context)
    return context


def context_for(terms: Terms) -> ssl.SSLContext:
    """The context for these terms, the same one for the same terms; its making takes some 20 ms.

    Raises:
        ValueError: a certificate or key of the terms cannot be used. One line, nothing of a key.
    """
    return _made(terms.ca, terms.identity, terms.pins)


@lru_cache(MOST_CONTEXTS)
def _made(ca: str, identity: str, pins: tuple[str, ...]) -> ssl.SSLContext:
    context: ssl.SSLContext
    if pins:
        context = pinning = _bare(_PinningContext)
        pinning.pins = frozenset(pins)
    else:
        context = _bare(ssl.SSLContext)
    if ca:
        _trust(context, ca)
    elif pins:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin is checked instead: see the head of this file
    else:
        _trust_system(context)
    if identity:
        _identify(context, identity)
    return context


def _bare(kind: type[_Context]) -> _Context:
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # In TLS 1.2 a server could show another certificate later on, which no pin would be held to.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trust_system(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()
    bundles = (paths.openssl_cafile, *_BUNDLES)
    bundle = next((path for path in bundles if Path(path).is_file()), None)
    directory = paths.openssl_capath if Path(paths.openssl_capath).is_dir() else None
    if bundle is not None or directory is not None:
        context.load_verify_locations(bundle, directory)


def _trust(context: ssl.SSLContext, ca: str) -> None:
    if _CERTIFICATE not in ca:
        raise ValueError("tls_ca: holds no certificate (PEM)")
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"tls_ca: its certificates cannot be read: {tls_reason(error)}") from None


def _identify(context: ssl.SSLContext, identity: str) -> None:
    if _CERTIFICATE not in identity:
        raise ValueError("tls_client_cert: holds no certificate (PEM)")
    if not _KEY.search(identity):
        raise ValueError("tls_client_cert: holds no private key; put it behind the certificate")
    if _ENCRYPTED.search(identity):
        raise ValueError("tls_client_cert: its key needs a passphrase; store it without one")
    # OpenSSL reads this from a path alone. A file without a name keeps the key off the disk.
    held = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(held, identity.encode())
        context.load_cert_chain(f"/proc/self/fd/{held}", password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ValueError(f"tls_client_cert: cannot be used: {tls_reason(error)}") from None
    finally:
        os.close(held)
