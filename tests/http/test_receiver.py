"""The receiver of `listen`, `demo` and tests: whole requests, in order, within bounds."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from webhookd.http.receiver import Bounds, Received, Reply, serve

SMALL = Bounds(body=1_000, head=500, request=1_000, idle=1_000, connections=4)


@asynccontextmanager
async def serving(
    handler: Callable[[Received], Reply], bounds: Bounds = SMALL
) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(partial(serve, handler, bounds=bounds))
        yield port
        nursery.cancel_scope.cancel()


async def until_closed(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(5):
        async for data in stream:
            received += data
    return received


async def answers(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    with trio.fail_after(5):
        while len(received) < size:
            received += await stream.receive_some(size - len(received))
    return received


class Desk:
    def __init__(self, *replies: Reply) -> None:
        self.received: list[Received] = []
        self._replies = list(replies)

    def __call__(self, received: Received) -> Reply:
        self.received.append(received)
        return self._replies.pop(0) if self._replies else Reply()


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_a_request_comes_whole_and_the_connection_lives():
    desk = Desk(Reply(200, b"thanks", (("X-Own", "1"),)))
    async with serving(desk) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"POST /in?a=1 HTTP/1.1\r\nHost: x\r\nX-Key: a\r\nContent-Length: 5\r\n\r\nhel"
        )
        await stream.send_all(b"lo")
        expected = b"HTTP/1.1 200 OK\r\nX-Own: 1\r\nContent-Length: 6\r\n\r\nthanks"
        assert await answers(stream, len(expected)) == expected
        await stream.send_all(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await stream.send_all(b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n")
        assert await answers(stream, len(NO_CONTENT)) == NO_CONTENT
    first, second = desk.received
    assert first == Received(
        "POST", "/in?a=1", (("Host", "x"), ("X-Key", "a"), ("Content-Length", "5")), b"hello"
    )
    assert (second.method, second.body) == ("PUT", b"abc")
    assert second.headers == (("Transfer-Encoding", "chunked"),)


async def test_pipelined_requests_are_answered_in_order():
    desk = Desk(Reply(201), Reply(202))
    async with serving(desk) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HT")
        await stream.send_all(b"TP/1.1\r\nConnection: close\r\n\r\n")
        received = await until_closed(stream)
    assert [one.target for one in desk.received] == ["/1", "/2", "/3"]
    assert [line for line in received.split(b"\r\n") if line.startswith(b"HTTP")] == [
        b"HTTP/1.1 201 Created",
        b"HTTP/1.1 202 Accepted",
        b"HTTP/1.1 204 No Content",
    ]
    assert received.endswith(b"Connection: close\r\n\r\n")


async def test_a_head_request_gets_no_body():
    async with (
        serving(Desk(Reply(200, b"hidden"))) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
        received = await until_closed(stream)
    assert b"Content-Length: 6" in received
    assert received.endswith(b"\r\n\r\n")


async def test_who_expects_100_gets_it():
    desk = Desk()
    async with serving(desk) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await answers(stream, len(go_on)) == go_on
        await stream.send_all(b"ok")
        assert await answers(stream, len(NO_CONTENT)) == NO_CONTENT
    assert desk.received[0].body == b"ok"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no HTTP at all\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nrest", 0),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 600, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 600 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 600, 431),
    ],
)
async def test_what_is_no_request_or_too_large_is_refused(sent, status):
    desk = Desk()
    async with serving(desk) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        received = await until_closed(stream)
    if status:
        assert received.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in received
        assert desk.received == []
    else:
        assert len(desk.received) == 1


async def test_what_came_before_a_refusal_is_answered():
    desk = Desk()
    async with serving(desk) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\nnonsense\r\n\r\n")
        received = await until_closed(stream)
    assert received.startswith(NO_CONTENT + b"HTTP/1.1 400 ")
    assert len(desk.received) == 1


async def test_a_large_body_within_the_bound_passes():
    desk = Desk()
    async with (
        serving(desk, Bounds()) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        body = b"x" * 3_000_000
        await stream.send_all(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
        await stream.send_all(body)
        assert await answers(stream, len(NO_CONTENT)) == NO_CONTENT
    assert desk.received[0].body == body


@pytest.mark.parametrize("sent", [b"", b"POST / HT"])
async def test_slow_clients_are_left(autojump_clock, sent):
    """In virtual time: the loopback has nothing to say for as long as a bound is."""
    bounds = Bounds(idle=600_000, request=600_000)
    started = trio.current_time()
    async with (
        serving(Desk(), bounds) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        if sent:
            await stream.send_all(sent)
        with trio.fail_after(3_000):
            assert await stream.receive_some(100) == b""
    assert trio.current_time() - started >= 600


async def test_a_client_that_goes_away_disturbs_nobody():
    desk = Desk()
    async with serving(desk) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")
        await stream.aclose()
        async with await trio.open_tcp_stream("127.0.0.1", port) as other:
            await other.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert await answers(other, len(NO_CONTENT)) == NO_CONTENT
    assert len(desk.received) == 1


async def test_a_taken_port_is_an_os_error():
    async with serving(Desk()) as port:
        with pytest.raises(OSError, match="in use"):
            await serve(Desk(), port=port)
