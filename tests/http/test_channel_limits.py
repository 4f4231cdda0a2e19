"""Sends to receivers that are slow, endless or gone: all of them end, and in time."""

import pytest
import trio
import trio.testing

from tests.http.sending import BIG, OK, once
from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits


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
