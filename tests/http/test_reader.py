"""The reader against h11: what h11 refuses is refused, and what both accept means the same."""

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from webhookd.http.limits import Limits
from webhookd.http.reader import Reader

LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 204 No",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 503 \x1b[31m",
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 304 N",
    ]
)
FIELDS = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: Chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"X-Empty:",
        b"X Y: z",
        b" folded",
        b"X: a\x00b",
    ]
)
BODIES = st.sampled_from(
    [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\n\r\n"]
)


def by_h11(data):
    """(status, body) or None if it is refused."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")]
    )
    connection.send(request)
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def by_us(data, size):
    """(status, excerpt) of a complete answer without anything odd, or None."""
    reader = Reader(Limits())
    for at in range(0, len(data), size):
        if not reader.fault:
            reader.feed(data[at : at + size])
    if not reader.fault and reader.status and not reader.done:
        reader.end()
    answer = reader.answer() if reader.done and not reader.fault else None
    reader.release()
    return answer and (answer.status, answer.excerpt)


@settings(deadline=None, max_examples=300)
@given(
    line=LINES,
    fields=st.lists(FIELDS, max_size=3),
    body=BODIES,
    interim=st.sampled_from([b"", b"HTTP/1.1 100 C\r\n\r\n", b"\r\n"]),
    size=st.sampled_from([1, 7, 10_000]),
)
@example(b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], b"", b"", 1)
def test_what_both_accept_means_the_same_and_h11_refuses_no_more(line, fields, body, interim, size):
    data = interim + b"\r\n".join([line, *fields, b"", body])
    ours, theirs = by_us(data, size), by_h11(data)
    if ours is not None:
        assert theirs == ours


@pytest.mark.parametrize("size", [1, 3, 100_000])
def test_the_size_of_the_pieces_changes_nothing(size):
    data = (
        b"HTTP/1.1 103 Hint\r\nLocation: wrong\r\nDate: wrong\r\n\r\n"
        b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nLocation: /x\r\ndate:  today \r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\nRetry-After: 9\r\nDate: 9\r\n\r\n"
    )
    reader = Reader(Limits())
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
    answer = reader.answer()
    assert (answer.status, answer.retry_after, answer.location) == (503, "7", "/x")
    assert answer.date == "today"
    assert answer.excerpt == b"hello"
    assert reader.done
    assert reader.keep_alive
    assert not reader.extra


def test_a_head_of_exactly_the_limit_passes():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: "
    fill = b"x" * (1000 - len(head) - 4)
    for spare, fault in ((0, ""), (-1, "the head is longer than 999 bytes")):
        reader = Reader(Limits(head=1000 + spare))
        reader.feed(head + fill + b"\r\n\r\nok")
        assert reader.fault == fault
        assert reader.done == (not fault)


def test_too_many_fields_are_a_fault():
    reader = Reader(Limits(fields=2))
    reader.feed(b"HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\n\r\n")
    assert reader.fault == "more than 2 header fields"
    assert not reader.status
