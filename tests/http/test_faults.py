"""What exceptions become: a kind, and a line that is never empty and always one."""

import errno
import ssl

import pytest

from webhookd.core.model import FaultKind, Phase
from webhookd.http.faults import MAX_DETAIL, PeerClosed, fault, from_os_error, tls_reason


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ECONNREFUSED, FaultKind.REFUSED),
        (errno.ECONNRESET, FaultKind.RESET),
        (errno.EPIPE, FaultKind.RESET),
        (errno.ETIMEDOUT, FaultKind.TIMEOUT),
        (errno.EHOSTUNREACH, FaultKind.UNREACHABLE),
        (errno.EMFILE, FaultKind.LOCAL),
        (errno.ENETDOWN, FaultKind.LOCAL),
        (errno.EACCES, FaultKind.LOCAL),
    ],
)
def test_a_code_has_a_kind(code, kind):
    found = from_os_error(OSError(code, ""), Phase.CONNECT, "10.1.2.3 port 443")
    assert found.kind is kind
    assert found.phase is Phase.CONNECT
    assert found.detail.startswith("10.1.2.3 port 443: ")
    assert len(found.detail) > len("10.1.2.3 port 443: ")


def test_an_orderly_end_is_closed():
    found = from_os_error(PeerClosed("closed within the head"), Phase.HEAD)
    assert (found.kind, found.detail) == (FaultKind.CLOSED, "closed within the head")


def test_an_error_without_any_text_is_named():
    assert from_os_error(OSError(), Phase.SEND).detail == "OSError"
    assert tls_reason(ssl.SSLError()) == "SSLError"


def test_C25_the_reason_is_found_behind_errors_that_say_nothing():
    outer, middle = RuntimeError(), RuntimeError()
    outer.__cause__ = middle
    middle.__cause__ = ssl.SSLError(1, "certificate verify failed")
    assert "certificate verify failed" in tls_reason(outer)


def test_C31_a_detail_is_one_printable_line():
    found = fault(FaultKind.PROTOCOL, "a\r\nb\x1b[31m\u202e" + "x" * 1000, Phase.HEAD)
    assert found.detail.isprintable()
    assert found.detail.startswith("a\\r\\nb\\x1b[31m\\u202e")
    assert len(found.detail) <= MAX_DETAIL


def test_a_detail_is_never_empty():
    assert fault(FaultKind.RESET, "", Phase.SEND).detail == "reset"
