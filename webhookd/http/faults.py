"""From what sockets, TLS and resolvers raise to a `Fault`: a kind, and one line for a person."""

import errno
import os
import socket
import ssl
from typing import Final

from webhookd.core.model import Fault, FaultKind, Millis, Phase
from webhookd.core.text import printable

MAX_DETAIL: Final = 300
"""Characters of a detail: it stands in a log line and in a row of the feed."""

_KINDS: Final = {
    errno.ECONNREFUSED: FaultKind.REFUSED,
    errno.ECONNRESET: FaultKind.RESET,
    errno.EPIPE: FaultKind.RESET,
    errno.ECONNABORTED: FaultKind.RESET,
    errno.ETIMEDOUT: FaultKind.TIMEOUT,
    errno.EMFILE: FaultKind.LOCAL,
    errno.ENFILE: FaultKind.LOCAL,
    errno.ENOBUFS: FaultKind.LOCAL,
    errno.ENOMEM: FaultKind.LOCAL,
    errno.ENETDOWN: FaultKind.LOCAL,
    errno.EADDRNOTAVAIL: FaultKind.LOCAL,  # no free port on this side
    errno.EPERM: FaultKind.LOCAL,  # this machine's own packet filter
    errno.EACCES: FaultKind.LOCAL,
}
"""What is not here is `UNREACHABLE`: the network said no on the way."""

_PLAIN_TEXT: Final = {
    "WRONG_VERSION_NUMBER": "the port does not speak TLS",
    "HTTP_REQUEST": "the port does not speak TLS",
    "UNKNOWN_PROTOCOL": "the port does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "the port does not speak TLS",
    "RECORD_LAYER_FAILURE": "the port does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the server speaks only versions of TLS before 1.2",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server refuses TLS 1.2 and newer",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refuses the handshake",
}


_DOING: Final = {
    Phase.RESOLVE: "resolving the name",
    Phase.CONNECT: "connecting",
    Phase.TLS: "agreeing on TLS",
    Phase.SEND: "sending the request",
    Phase.HEAD: "waiting for the answer",
    Phase.BODY: "reading the body",
}


class PeerClosed(ConnectionError):
    """The other side ended the connection in good order, at a moment when it should not have."""


def fault(kind: FaultKind, detail: str, phase: Phase, *, may_be_ours: bool = False) -> Fault:
    """A `Fault` whose detail is fit to be shown, and never empty."""
    return Fault(kind, printable(detail, MAX_DETAIL) or str(kind), phase, may_be_ours)


def overdue(timeout: Millis, phase: Phase) -> Fault:
    """The fault of an attempt that was in `phase` when its `timeout` had passed."""
    detail = f"no answer within {timeout / 1_000:g} s, while {_DOING[phase]}"
    return fault(FaultKind.TIMEOUT, detail, phase, may_be_ours=phase is Phase.RESOLVE)


def from_os_error(error: OSError, phase: Phase, place: str = "") -> Fault:
    """The fault that `error` means; `place` says what it happened to, `10.1.2.3 port 443`."""
    before = f"{place}: " if place else ""
    if isinstance(error, ssl.SSLError):
        return fault(FaultKind.TLS, before + tls_reason(error), phase)
    if isinstance(error, PeerClosed):
        return fault(FaultKind.CLOSED, before + str(error), phase)
    kind = _KINDS.get(error.errno or 0, FaultKind.UNREACHABLE)
    lost = kind is FaultKind.UNREACHABLE and phase is Phase.CONNECT
    return fault(kind, before + _words(error), phase, may_be_ours=lost)


def from_lookup_error(error: OSError | UnicodeError, host: str) -> Fault:
    """Why `host` could not be resolved."""
    local = isinstance(error, socket.gaierror) and error.errno == socket.EAI_MEMORY
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
        local = _KINDS.get(error.errno or 0) is FaultKind.LOCAL
    words = _words(error) if isinstance(error, OSError) else str(error)
    # The resolver, or the zone's own servers, did not answer: from here that looks the same.
    silent = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
    return fault(
        FaultKind.LOCAL if local else FaultKind.DNS,
        f"{host}: {words}",
        Phase.RESOLVE,
        may_be_ours=silent,
    )


def tls_reason(error: BaseException) -> str:
    """Why TLS failed: OpenSSL's own reason, and what it means where that is not plain.

    An error without text of its own is asked for its cause: libraries wrap and say nothing.
    """
    cause: BaseException | None = error
    while cause is not None:
        # Both are missing from an error that OpenSSL did not make itself.
        refusal, reason = getattr(cause, "verify_message", ""), getattr(cause, "reason", "")
        if refusal:
            return f"certificate verify failed: {refusal}"
        if reason:
            meaning = _PLAIN_TEXT.get(reason)
            return f"{meaning} ({reason})" if meaning else str(reason)
        if cause.args and (text := str(cause)):
            return text
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _words(error: OSError) -> str:
    if error.strerror:
        return error.strerror
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
