"""Every kind of bad receiver, with what it may cost: memory, descriptors, threads, time.

Each misbehaves on its first connection and is well from the second on. Whatever the first request
came to, the next one of the same channel must get its own answer.
"""

import gc
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.http.authority import server_context
from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind
from webhookd.http.address import Resolver
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits
from webhookd.http.tls import make_ssl_context

TIMEOUT = 600
"""Of each attempt, in ms."""
MOST_SECONDS = 3.0
"""That an attempt may take: its timeout, and what a busy machine adds."""
PATIENT = 10_000
"""The timeout of a request that is answered at once, in ms."""
MOST_MEMORY = 4_000_000
"""Bytes that an attempt may take up, the receiver's own chunks included."""
BIG = b"x" * 3_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OWN = b"HTTP/1.1 202 Own\r\nContent-Length: 3\r\n\r\nown"


@dataclass(frozen=True)
class Bad:
    """A receiver, and what a request to it comes to."""

    behave: Callable[..., Awaitable[object]]
    status: int = 0
    """Of the answer; 0 for a fault."""
    kinds: tuple[FaultKind, ...] = ()
    body: bytes = b"{}"


def says(*answers: bytes, stays: bool = False) -> Callable[..., Awaitable[object]]:
    async def behave(peer):
        await peer.request()
        for answer in answers:
            await peer.say(answer)
        if stays:
            await trio.sleep_forever()

    return behave


def endless(head: bytes, piece: bytes) -> Callable[..., Awaitable[object]]:
    async def behave(peer):
        await peer.request()
        await peer.say(head)
        while True:
            await peer.say(piece)

    return behave


def drips(head: bytes, tail: bytes) -> Callable[..., Awaitable[object]]:
    async def behave(peer):
        await peer.request()
        await peer.say(head)
        await peer.drip(tail)

    return behave


def resets(said: bytes, *, unread: bool = False) -> Callable[..., Awaitable[object]]:
    async def behave(peer):
        if not unread:
            await peer.request()
        if said:
            await peer.say(said)
            await trio.sleep(0.02)
        await peer.reset()

    return behave


async def hangs(peer):
    await peer.request()
    await trio.sleep_forever()


async def never_reads(peer):
    await trio.sleep_forever()


async def refuses_early(peer):
    await peer.stream.receive_some(100)
    await peer.say(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\n")
    await trio.sleep_forever()


async def says_again_later(peer):
    await peer.request()
    await peer.say(OK)
    await trio.sleep(0.02)
    await peer.say(OK)
    await trio.sleep_forever()


async def ends_keep_alive(peer):
    await peer.request()
    await peer.say(OK)
    await peer.request()


async def half_closes(peer):
    await peer.request()
    await peer.stream.send_eof()
    await trio.sleep_forever()


def own_words(said: bytes) -> Callable[..., Awaitable[object]]:
    """Bytes of another protocol: beside TLS where that is spoken, so that it breaks."""

    async def behave(peer):
        await peer.raw.receive_some(10)
        await peer.raw.send_all(said)
        await trio.sleep_forever()

    return behave


K = FaultKind
HEAD = b"HTTP/1.1 200 OK\r\n"
FAIL = b"HTTP/1.1 500 No\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BAD = {
    "C1_201": Bad(says(b"HTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n"), 201),
    "C1_204": Bad(says(b"HTTP/1.1 204 N\r\n\r\n"), 204),
    "C1_299": Bad(says(b"HTTP/1.1 299 X\r\n\r\nthanks"), 299),
    "C2_short": Bad(says(HEAD + b"Content-Length: 9\r\n\r\nabc"), 200),
    "C2_broken": Bad(says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", stays=True), 200),
    "C3_flood_of_1xx": Bad(endless(b"", b"HTTP/1.1 103 E\r\n\r\n"), 0, (K.PROTOCOL,)),
    "C4_101": Bad(says(b"HTTP/1.1 101 S\r\n\r\n", stays=True), 0, (K.PROTOCOL,)),
    "C5_redirect": Bad(says(b"HTTP/1.1 302 F\r\nLocation: http://169.254.169.254/\r\n\r\n"), 302),
    "C6_404": Bad(says(b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n"), 404),
    "C7_410": Bad(says(b"HTTP/1.1 410 G\r\nContent-Length: 0\r\n\r\n"), 410),
    "C8_413_before_the_body": Bad(refuses_early, 413, body=BIG),
    "C9_retry_after": Bad(says(b"HTTP/1.1 429 W\r\nRetry-After: never\r\n\r\n"), 429),
    "C10_503": Bad(says(b"HTTP/1.1 503 B\r\n\r\n" + b"x" * 100), 503),
    "C11_999": Bad(says(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), 999),
    "C11_099": Bad(says(b"HTTP/1.1 099 X\r\n\r\n", stays=True), 0, (K.PROTOCOL,)),
    "C11_HTTP_9.9": Bad(says(b"HTTP/9.9 200 OK\r\n\r\n", stays=True), 0, (K.PROTOCOL,)),
    "C11_reason_of_10_kB": Bad(
        says(b"HTTP/1.1 200 " + b"x" * 10_000 + b"\r\n\r\n", stays=True), 0, (K.PROTOCOL,)
    ),
    "C12_never_answers": Bad(hangs, 0, (K.TIMEOUT,)),
    "C13_dripping_head": Bad(drips(b"", HEAD + b"X: " + b"x" * 500), 0, (K.TIMEOUT,)),
    "C14_dripping_body": Bad(drips(HEAD + b"Content-Length: 999\r\n\r\n", b"x" * 999), 200),
    "C15_endless_header": Bad(endless(HEAD + b"A: ", b"x" * 50_000), 0, (K.PROTOCOL,)),
    "C15_10000_headers": Bad(
        says(HEAD + b"A: b\r\n" * 10_000 + b"\r\n", stays=True), 0, (K.PROTOCOL,)
    ),
    "C15_endless_headers": Bad(endless(HEAD, b"A: b\r\n" * 5_000), 0, (K.PROTOCOL,)),
    "C16_endless_body": Bad(endless(HEAD + b"\r\n", b"x" * 50_000), 200),
    "C16_endless_chunks": Bad(
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 5_000), 200
    ),
    "C16_endless_chunk_extension": Bad(endless(HEAD + CHUNKED + b"1;", b"x" * 50_000), 200),
    "C16_endless_trailers": Bad(endless(HEAD + CHUNKED + b"0\r\n", b"A: b\r\n" * 5_000), 200),
    "C16_10_GB": Bad(endless(FAIL + b"Content-Length: 10000000000\r\n\r\n", b"x" * 50_000), 500),
    "C17_bomb": Bad(
        says(HEAD + b"Content-Encoding: br\r\nContent-Length: 9\r\n\r\n" + b"\xce" * 9), 200
    ),
    "C18_two_lengths": Bad(
        says(FAIL + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", stays=True),
        0,
        (K.PROTOCOL,),
    ),
    "C18_length_and_chunked": Bad(
        says(FAIL + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", stays=True),
        0,
        (K.PROTOCOL,),
    ),
    "C18_bad_chunk": Bad(says(FAIL + CHUNKED + b"zz\r\n", stays=True), 0, (K.PROTOCOL,)),
    "C18_negative_chunk": Bad(says(FAIL + CHUNKED + b"-1\r\n", stays=True), 0, (K.PROTOCOL,)),
    "C18_chunk_of_2_to_the_64": Bad(
        says(FAIL + CHUNKED + b"1" + b"0" * 16 + b"\r\n", stays=True), 0, (K.PROTOCOL,)
    ),
    "C18_length_that_is_none": Bad(
        says(FAIL + b"Content-Length: 0x5\r\n\r\nhello", stays=True), 0, (K.PROTOCOL,)
    ),
    "C19_close_before": Bad(says(), 0, (K.CLOSED,)),
    "C19_close_within": Bad(says(FAIL), 0, (K.CLOSED,)),
    "C19_half_close": Bad(half_closes, 0, (K.CLOSED,)),
    "C19_reset_at_once": Bad(resets(b"", unread=True), 0, (K.RESET,), BIG),
    "C19_reset_before": Bad(resets(b""), 0, (K.RESET,)),
    "C19_reset_within": Bad(resets(FAIL), 0, (K.RESET,)),
    "C20_never_reads": Bad(never_reads, 0, (K.TIMEOUT,), BIG),
    "C21_answers_twice": Bad(says(OK + OK, stays=True), 200),
    "C21_answers_twice_apart": Bad(says_again_later, 200),
    "C22_garbage_after_204": Bad(says(b"HTTP/1.1 204 N\r\n\r\ngarbage", stays=True), 204),
    "C23_closes_in_the_race": Bad(ends_keep_alive, 200),
    "C24_SSH": Bad(own_words(b"SSH-2.0-OpenSSH_9.2\r\n"), 0, (K.PROTOCOL, K.TLS)),
    "C24_SMTP": Bad(own_words(b"220 mx.example ESMTP\r\n"), 0, (K.PROTOCOL, K.TLS)),
    "C24_a_TLS_alert": Bad(own_words(b"\x15\x03\x01\x00\x02\x02\x46"), 0, (K.PROTOCOL, K.TLS)),
    "C30_headers_for_browsers": Bad(
        says(
            HEAD + b'Set-Cookie: a=b\r\nAlt-Svc: h3=":1"\r\nStrict-Transport-Security: max-age=9'
            b"\r\nLink: </x>; rel=preload\r\nRefresh: 0\r\nContent-Length: 0\r\n\r\n"
        ),
        200,
    ),
    "C31_controls": Bad(says(HEAD + b"Location: \x1b[31m\r\n\r\n", stays=True), 0, (K.PROTOCOL,)),
    "C31_odd_bytes": Bad(says(FAIL + b"Content-Length: 9\r\n\r\n\x1b[31m\xff\xfe\r\n"), 500),
}


@pytest.fixture
def patient(authority):
    """It trusts the authority; every name is on loopback."""
    context = make_ssl_context()
    authority.configure_trust(context)
    return Sender(
        parse_policy(["127.0.0.0/8", "partner.example"], []),
        resolver=Resolver(lookup=lambda host: ["127.0.0.1"]),
        limits=Limits(body_time=150),
        ssl_context=context,
    )


def fds():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


NOT_OVER_TLS = {"C19_half_close"}
"""TLS has no half of a connection to close."""


@pytest.mark.parametrize("name", BAD)
async def test_C1_to_C31_it_costs_little_and_the_next_has_its_own_answer(serve, patient, name):
    await misbehave(serve, patient, BAD[name], None)


@pytest.mark.parametrize("name", [name for name in BAD if name not in NOT_OVER_TLS])
async def test_C1_to_C31_the_same_over_tls(serve, patient, authority, name):
    await misbehave(serve, patient, BAD[name], server_context(authority))


async def misbehave(serve, patient, bad, context):
    """Ask one that is bad at first, and hold what comes of it against what it may cost."""
    seen = []

    async def behave(peer):
        if peer.number == 1:
            await bad.behave(peer)
            return
        while request := await peer.request():
            seen.append(request)
            await peer.say(OWN)

    receiver = await serve(behave, context)
    receiver.host = "partner.example"
    channel = patient.channel()
    gc.collect()
    before, threads = fds(), threading.active_count()
    tracemalloc.start()
    begun = trio.current_time()
    result = await channel.send(receiver.url, receiver.wire(bad.body), TIMEOUT)
    took = trio.current_time() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    if bad.status:
        assert isinstance(result, Answer)
        assert result.status == bad.status
        assert len(result.excerpt) <= 1_024
    else:
        assert isinstance(result, Fault)
        assert result.kind in bad.kinds
        assert result.detail.isprintable()
    assert took < MOST_SECONDS
    assert peak < MOST_MEMORY + 3 * len(bad.body)
    assert threading.active_count() <= threads + 1  # one of the resolver's, which stays for a while

    await trio.testing.wait_all_tasks_blocked(0.03)
    own = await channel.send(receiver.url, receiver.wire(b"own"), PATIENT)
    assert own == Answer(202, excerpt=b"own")
    assert seen == [receiver.wire(b"own")]
    await channel.aclose()
    await trio.testing.wait_all_tasks_blocked(0.03)
    assert fds() <= before + 2  # the receiver's own ends of two connections


async def test_C27_a_hundred_hanging_receivers_hold_up_nobody(serve, patient):
    bad, good = await serve(hangs), await serve(says_own)
    worst = []

    async def send_to_bad():
        channel = patient.channel()
        result = await channel.send(bad.url, bad.wire(), TIMEOUT)
        assert isinstance(result, Fault)
        await channel.aclose()

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(send_to_bad)
        channel = patient.channel()
        for _ in range(50):
            begun = trio.current_time()
            assert await channel.send(good.url, good.wire(), PATIENT) == Answer(202, excerpt=b"own")
            worst.append(trio.current_time() - begun)
        await channel.aclose()
    assert sorted(worst)[len(worst) // 2] < 0.1


async def says_own(peer):
    while await peer.request():
        await peer.say(OWN)
