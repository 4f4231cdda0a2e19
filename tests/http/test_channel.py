"""Whole sends over loopback, to receivers that behave, misbehave and lie."""

import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.core.urls import parse
from webhookd.http.channel import Sender
from webhookd.http.connection import Connection
from webhookd.http.exchange import Exchange
from webhookd.http.limits import Limits
from webhookd.http.reader import Reader

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAIL = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
LONG = 1_500
"""A timeout (ms) that no test comes near, unless it is about that."""
BIG = b"x" * 8_000_000
"""More than the sockets between two processes hold."""


async def once(sender, receiver, body=b"{}", span=LONG):
    channel = sender.channel()
    try:
        return await channel.send(receiver.url, receiver.wire(body), span)
    finally:
        await channel.aclose()


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


async def test_C12_no_answer_ends_at_the_deadline(serve, saying, sender):
    receiver = await serve(saying(b"", then_close=False))
    result = await once(sender, receiver, span=100)
    assert result == Fault(
        FaultKind.TIMEOUT, "no answer within 0.1 s, while waiting for the answer", Phase.HEAD
    )


async def test_C13_a_dripping_head_ends_at_the_total_deadline(serve, sender):
    receiver = await serve(lambda peer: peer.drip(OK))
    result = await once(sender, receiver, span=200)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TIMEOUT, Phase.HEAD)


@pytest.mark.parametrize("status", [200, 500])
async def test_C14_a_dripping_body_is_cut_soon(serve, sender, status):
    async def behave(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 %d X\r\nContent-Length: 1000\r\n\r\n" % status)
        await peer.drip(b"x" * 1000)

    receiver = await serve(behave)
    result = await once(sender, receiver)
    assert isinstance(result, Answer)
    assert (result.status, result.note) == (status, "body cut after 0.15 s")
    assert result.excerpt.startswith(b"x")


async def test_the_deadline_within_the_body_leaves_the_answer(serve, saying):
    patient = Sender(parse_policy(["127.0.0.1"], []), limits=Limits(body_time=60_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    receiver = await serve(saying(head, then_close=False))
    result = await once(patient, receiver, span=150)
    assert result == Answer(200, note="body cut at the deadline of 0.15 s")


@pytest.mark.parametrize("fields", [b"A: " + b"x" * 100_000 + b"\r\n", b"A: b\r\n" * 10_000])
async def test_C15_a_huge_head_is_a_protocol_fault(serve, saying, sender, fields):
    head = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n"
    receiver = await serve(saying(head, then_close=False))
    result = await once(sender, receiver)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROTOCOL


async def test_C15_endless_headers_are_a_protocol_fault(serve, sender):
    async def behave(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.say(b"A: " + b"b" * 1000 + b"\r\n")

    result = await once(sender, await serve(behave))
    assert result == Fault(FaultKind.PROTOCOL, "the head is longer than 65536 bytes", Phase.HEAD)


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 10000000000\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n1;x="],
)
async def test_C16_an_endless_body_is_cut(serve, sender, framing):
    sent = 0

    async def behave(peer):
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n" + framing)
        while True:
            await peer.say(b"x" * 10_000)
            sent += 10_000

    result = await once(sender, await serve(behave))
    assert isinstance(result, Answer)
    assert (result.status, result.note) == (200, "body cut at 65536 bytes")
    assert len(result.excerpt) == (0 if b"chunked" in framing else 1024)
    assert sent < 20_000_000


async def test_C17_a_compressed_body_is_kept_as_it_is(serve, saying, sender):
    bomb = b"\x1f\x8b" + b"\0" * 98
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n"
    assert await once(sender, await serve(saying(head + bomb))) == Answer(200, excerpt=bomb)


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        (b"", Phase.HEAD),
        (b"HTTP/1.1 500 X\r\nConte", Phase.HEAD),
        (b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nabc", Phase.BODY),
    ],
)
@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
async def test_C19_an_answer_that_breaks_off(serve, sender, said, phase, end):
    async def behave(peer):
        await peer.request()
        await peer.say(said)
        if end == "half-close":
            await peer.stream.send_eof()
            await trio.sleep_forever()
        if end == "reset":
            await trio.sleep(0.02)
            await peer.reset()

    result = await once(sender, await serve(behave))
    assert isinstance(result, Fault)
    kind = FaultKind.RESET if end == "reset" else FaultKind.CLOSED
    assert (result.kind, result.phase) == (kind, phase)
    assert ("after status 500" in result.detail) == (phase is Phase.BODY)


@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n\r\nabc", b"\r\nabc"])
async def test_C19_a_reset_within_the_body_changes_no_success(serve, sender, framing):
    async def behave(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n" + framing)
        await trio.sleep(0.02)
        await peer.reset()

    result = await once(sender, await serve(behave))
    assert isinstance(result, Answer)
    assert result.status == 200
    assert "reset" in result.note


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_C19_a_connection_that_ends_while_we_send(serve, sender, end):
    async def behave(peer):
        await peer.stream.receive_some(10)
        if end == "reset":
            await peer.reset()

    result = await once(sender, await serve(behave), BIG)
    assert isinstance(result, Fault)
    assert result.kind in (FaultKind.RESET, FaultKind.CLOSED)
    assert result.phase is Phase.SEND


async def test_C20_a_body_that_is_never_read_ends_in_send(serve, sender):
    async def behave(peer):
        await trio.sleep_forever()

    result = await once(sender, await serve(behave), BIG, span=150)
    assert result == Fault(
        FaultKind.TIMEOUT, "no answer within 0.15 s, while sending the request", Phase.SEND
    )


@pytest.mark.parametrize("gap", [0, 0.02])
async def test_C21_second_answer_is_dropped(serve, sender, gap):
    async def behave(peer):
        await peer.request()
        await peer.say(FAIL if gap else FAIL + OK)
        if gap:
            await trio.sleep(gap)
            await peer.say(OK)
        if await peer.request():
            await peer.say(b"HTTP/1.1 202 A\r\nContent-Length: 0\r\n\r\n")

    async def first_then_second(peer):
        if peer.number == 1:
            await behave(peer)
        else:
            await peer.request()
            await peer.say(b"HTTP/1.1 204 N\r\n\r\n")

    receiver = await serve(first_then_second)
    channel = sender.channel()
    assert await channel.send(receiver.url, receiver.wire(), LONG) == Answer(500, excerpt=b"no")
    await trio.sleep(gap * 3)
    assert await channel.send(receiver.url, receiver.wire(), LONG) == Answer(204)
    assert receiver.connections == 2
    await channel.aclose()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 N\r\n\r\nxx",
        b"HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 N\r\nContent-Length: 0\r\nConnection: close\r\n\r\nxx",
        b"HTTP/1.0 200 N\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 N\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_C22_what_may_not_live_is_dropped(serve, saying, sender, head):
    receiver = await serve(saying(head, then_close=False))
    channel = sender.channel()
    for _ in range(2):
        result = await channel.send(receiver.url, receiver.wire(), LONG)
        assert isinstance(result, Answer)
    assert receiver.connections == 2
    await channel.aclose()


async def test_a_clean_connection_is_used_again(serve, saying, sender):
    receiver = await serve(saying(OK, FAIL, b"HTTP/1.1 204 N\r\n\r\n"))
    channel = sender.channel()
    results = [await channel.send(receiver.url, receiver.wire(), LONG) for _ in range(3)]
    assert [result.status for result in results] == [200, 500, 204]
    assert receiver.connections == 1
    await channel.aclose()


async def test_an_idle_connection_is_not_used_again(serve, saying):
    hasty = Sender(parse_policy(["127.0.0.1"], []), limits=Limits(idle=0))
    receiver = await serve(saying(OK, OK))
    channel = hasty.channel()
    for _ in range(2):
        assert isinstance(await channel.send(receiver.url, receiver.wire(), LONG), Answer)
    assert receiver.connections == 2
    await channel.aclose()


async def test_another_origin_gets_a_connection_of_its_own(serve, saying, sender):
    one, other = await serve(saying(OK, OK)), await serve(saying(FAIL))
    channel = sender.channel()
    assert await channel.send(one.url, one.wire(), LONG) == Answer(200, excerpt=b"ok")
    assert await channel.send(other.url, other.wire(), LONG) == Answer(500, excerpt=b"no")
    await channel.aclose()


async def test_E3_what_was_dialled_under_another_policy_is_not_used_again(serve, saying):
    wide, narrow = parse_policy(["127.0.0.1"], []), parse_policy([], [])
    changing = Sender(wide)
    receiver = await serve(saying(OK, OK))
    channel, never_used = changing.channel(), changing.channel()
    assert isinstance(await channel.send(receiver.url, receiver.wire(), LONG), Answer)
    changing.use(narrow)
    for one in (channel, never_used):
        refused = await one.send(receiver.url, receiver.wire(), LONG)
        assert refused == Fault(FaultKind.BLOCKED, "127.0.0.1 is loopback", Phase.RESOLVE)
    assert receiver.connections == 1
    changing.use(wide)
    for _ in range(2):
        assert isinstance(await channel.send(receiver.url, receiver.wire(), LONG), Answer)
    assert receiver.connections == 2
    await channel.aclose()


async def test_E3_an_exchange_under_way_ends_as_it_began_and_its_connection_with_it(serve, saying):
    changing = Sender(parse_policy(["127.0.0.1"], []))

    async def behave(peer):
        await peer.request()
        changing.use(parse_policy([], []))
        await peer.say(OK)
        await peer.request()

    receiver = await serve(behave)
    channel = changing.channel()
    assert await channel.send(receiver.url, receiver.wire(), LONG) == Answer(200, excerpt=b"ok")
    result = await channel.send(receiver.url, receiver.wire(), LONG)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.BLOCKED
    assert receiver.connections == 1
    await channel.aclose()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_C23_a_race_with_the_end_of_keep_alive_is_sent_again_once(serve, sender, end):
    async def behave(peer):
        await peer.request()
        await peer.say(OK)
        if await peer.request() and end == "reset":
            await peer.reset()

    receiver = await serve(behave)
    channel = sender.channel()
    for _ in range(3):
        result = await channel.send(receiver.url, receiver.wire(), LONG)
        assert result == Answer(200, excerpt=b"ok")
    assert receiver.connections == 3
    await channel.aclose()


async def test_C23_it_is_not_sent_a_third_time(serve, sender):
    async def behave(peer):
        await peer.request()
        if peer.number == 1:
            await peer.say(OK)
            await peer.request()

    receiver = await serve(behave)
    channel = sender.channel()
    assert await channel.send(receiver.url, receiver.wire(), LONG) == Answer(200, excerpt=b"ok")
    result = await channel.send(receiver.url, receiver.wire(), LONG)
    assert result == Fault(FaultKind.CLOSED, "closed without an answer", Phase.HEAD)
    assert receiver.connections == 2


async def test_C23_it_is_not_sent_again_once_an_answer_had_begun(serve, sender):
    async def behave(peer):
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await peer.say(b"HTTP/1.1 2")

    receiver = await serve(behave)
    channel = sender.channel()
    assert await channel.send(receiver.url, receiver.wire(), LONG) == Answer(200, excerpt=b"ok")
    result = await channel.send(receiver.url, receiver.wire(), LONG)
    assert result == Fault(FaultKind.CLOSED, "closed within the head", Phase.HEAD)
    assert receiver.connections == 1


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
