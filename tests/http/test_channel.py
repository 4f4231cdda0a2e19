"""Whole sends over loopback, to receivers that behave, misbehave and lie."""

import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.sending import BIG, FAIL, LONG, OK, once
from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.core.urls import parse
from webhookd.http.channel import Sender
from webhookd.http.connection import Connection
from webhookd.http.exchange import Exchange
from webhookd.http.limits import Limits
from webhookd.http.reader import Reader


def fds():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299, 400, 404, 410, 500, 503, 999])
async def test_C1_C11_the_status_is_the_answer(serve, saying, sender, status):
    length = b"" if status == 204 else b"Content-Length: 0\r\n"
    receiver = await serve(saying(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, length)))
    assert await once(sender, receiver) == Answer(status)


async def test_the_request_arrives_byte_for_byte(serve, sender):
    seen = []

    async def behave(peer):
        seen.append(await peer.request())
        await peer.say(OK)

    receiver = await serve(behave)
    assert await once(sender, receiver, b"body") == Answer(200, excerpt=b"ok")
    assert seen == [receiver.wire(b"body")]


@pytest.mark.parametrize(
    ("tail", "note"),
    [
        (b"Content-Length: 10\r\n\r\nabc", "body broken: closed before the body was complete"),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "body broken: Invalid character in chunk"),
        (b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "body broken: Invalid character in chunk"),
        (
            b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
            "body broken: Chunk size overflow",
        ),
        (b"Content-Length: 5 \r\n\r\nhello", "odd Content-Length"),
        (b"\r\nuntil the end", ""),
    ],
)
async def test_C2_C18_a_broken_body_changes_no_success(serve, saying, sender, tail, note):
    receiver = await serve(saying(b"HTTP/1.1 200 OK\r\n" + tail))
    result = await once(sender, receiver)
    assert isinstance(result, Answer)
    assert result.status == 200
    assert result.note.startswith(note)


@pytest.mark.parametrize(
    ("tail", "detail"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "Invalid character in chunk size"),
        (b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "Invalid character in chunk size"),
        (b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", "Chunk size overflow"),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding can't"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "Content-Length can't"),
        (b"Transfer-Encoding: gzip\r\n\r\nx", "a Transfer-Encoding other than chunked"),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n", "a Transfer-Encoding other than chunked"),
        (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nno", "Duplicate Content-Length"),
        (b"Content-Length: 5 \r\n\r\nhello", "odd Content-Length"),
        (b"Content-Length: 18446744073709551616\r\n\r\n", "Content-Length overflow"),
    ],
)
async def test_C18_broken_framing_is_a_protocol_fault(serve, saying, sender, tail, detail):
    receiver = await serve(saying(b"HTTP/1.1 500 X\r\n" + tail, then_close=False))
    result = await once(sender, receiver)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROTOCOL
    assert result.detail.startswith(detail)


async def test_C3_a_flood_of_1xx_is_a_protocol_fault(serve, saying, sender):
    interim = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    good = await serve(saying(interim * 8 + OK))
    assert await once(sender, good) == Answer(200, excerpt=b"ok")
    flood = await serve(saying(interim * 9 + OK))
    assert await once(sender, flood) == Fault(
        FaultKind.PROTOCOL, "more than 8 answers of 1xx", Phase.HEAD
    )


@pytest.mark.parametrize("headers", [b"", b"Connection: upgrade\r\nUpgrade: websocket\r\n"])
async def test_C4_switching_protocols_is_a_protocol_fault(serve, saying, sender, headers):
    receiver = await serve(saying(b"HTTP/1.1 101 S\r\n" + headers + b"\r\n"))
    result = await once(sender, receiver)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.PROTOCOL, Phase.HEAD)
    assert "101" in result.detail


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_C5_a_redirect_is_told_and_never_followed(serve, saying, sender, status):
    there = await serve(saying(OK))
    head = b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
    receiver = await serve(saying(head % (status, there.port)))
    result = await once(sender, receiver)
    assert result == Answer(status, location=f"http://127.0.0.1:{there.port}/")
    assert there.connections == 0


async def test_C9_retry_after_is_kept_as_received(serve, saying, sender):
    head = b"HTTP/1.1 429 X\r\nX-Empty:\r\nretry-AFTER: 10 years\r\nContent-Length: 0\r\n\r\n"
    receiver = await serve(saying(head))
    assert await once(sender, receiver) == Answer(429, retry_after="10 years")


@pytest.mark.parametrize("end", ["close", "reset", "stay"])
async def test_C8_a_413_sent_before_the_body_was_read_is_the_answer(serve, sender, end):
    async def behave(peer):
        await peer.stream.receive_some(100)
        await peer.say(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\ntoo large")
        if end == "reset":
            await peer.reset()
        elif end == "stay":
            await trio.sleep_forever()

    receiver = await serve(behave)
    result = await once(sender, receiver, BIG)
    assert isinstance(result, Answer)
    assert result.status == 413


async def test_a_100_does_not_end_the_sending_of_a_long_body(serve, sender):
    sizes = []

    async def behave(peer):
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        sizes.append(len(await peer.request()))
        await peer.say(OK)

    receiver = await serve(behave)
    assert await once(sender, receiver, BIG, 10_000) == Answer(200, excerpt=b"ok")
    assert sizes == [len(receiver.wire(BIG))]


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099 X",
        b"HTTP/9.9 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/2.0 200 OK",
        b"RTSP/1.0 200 OK",
        b"ICE/1.0 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 200 " + b"x" * 10_000,
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 100 C\r\n\r\n\r\nHTTP/1.1 200 OK",
    ],
)
async def test_C11_an_odd_status_line_is_a_protocol_fault(serve, saying, sender, line):
    receiver = await serve(saying(line + b"\r\nContent-Length: 0\r\n\r\n", then_close=False))
    result = await once(sender, receiver)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROTOCOL
    assert result.detail


async def test_an_empty_reason_after_its_space_is_legal(serve, saying, sender):
    receiver = await serve(saying(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"))
    assert await once(sender, receiver) == Answer(200)


@pytest.mark.parametrize(
    ("banner", "detail"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the port speaks SSH"),
        (b"220 mail.example ESMTP\r\n", "the port speaks SMTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "the port speaks TLS"),
        (b"\x00\x1b[31mred\r\n", "the answer is not HTTP"),
    ],
)
async def test_C24_another_protocol_is_named(serve, saying, sender, banner, detail):
    receiver = await serve(saying(banner, then_close=False))
    result = await once(sender, receiver)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROTOCOL
    assert result.detail.startswith(detail)
    assert result.detail.isprintable()


@pytest.mark.parametrize("value", [b"\x1b[31m", b"a\x00b", b"a\rb"])
async def test_C31_control_characters_in_a_head_are_a_protocol_fault(serve, saying, sender, value):
    head = b"HTTP/1.1 200 OK\r\nLocation: " + value + b"\r\nContent-Length: 0\r\n\r\n"
    result = await once(sender, await serve(saying(head, then_close=False)))
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROTOCOL
    assert result.detail.isprintable()


async def test_C26_a_refused_connection(sender):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = parse(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        result = await sender.channel().send(url, b"x", LONG)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.REFUSED, Phase.CONNECT)
    assert result.detail.endswith("Connection refused")


async def test_D4_a_blocked_address_is_never_connected_to(serve, saying):
    receiver = await serve(saying(OK))
    strict = Sender(parse_policy([], []))
    result = await once(strict, receiver)
    assert result == Fault(FaultKind.BLOCKED, "127.0.0.1 is loopback", Phase.RESOLVE)
    assert receiver.connections == 0


async def test_no_exchange_leaves_a_socket_behind(serve, saying, sender):
    receiver = await serve(saying(FAIL, then_close=True))
    silent = await serve(saying(b"", then_close=False))
    await once(sender, receiver)
    before = fds()
    for _ in range(5):
        await once(sender, receiver)
        await once(sender, silent, span=20)
        with trio.move_on_after(0.02):
            await once(sender, silent)
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert fds() <= before + 10  # the receivers' own ends live in this process too


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 500 X\r\n",
        b"HTTP/1.1 100 C\r\n",
        b"HTTP/1.1 204 N\r\n",
        b"HTTP/1.1 101 S\r\n",
        b"HTTP/1.1 ",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b"\x00",
        b": ",
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=12).map(b"".join)))
def test_any_bytes_come_to_a_classified_outcome(data):
    ours, theirs = socket.socketpair()

    async def main():
        ours.setblocking(False)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        connection = Connection(ours)
        exchange = Exchange(connection, Reader(Limits()), Limits())
        with trio.fail_after(5):
            result = await exchange.run(b"POST", trio.current_time() + 4, 4_000)
        connection.close()
        return result

    with theirs:
        result = trio.run(main)
    if isinstance(result, Answer):
        assert 200 <= result.status <= 999
        assert result.note.isprintable()
    else:
        assert result.kind in (FaultKind.PROTOCOL, FaultKind.CLOSED)
        assert result.detail
        assert result.detail.isprintable()
