"""By way of a proxy: what comes without end is bounded, and what echoes a password is masked."""

import base64
import socket

import pytest

from tests.http.authority import server_context
from tests.http.proxying import trusting
from webhookd.core.model import Answer, Fault, FaultKind, Phase, Proxy, Terms
from webhookd.http import proxied

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def sender(authority):
    return trusting(authority)


@pytest.mark.parametrize("over_tls", [False, True])
async def test_C3_C15_a_flood_of_1xx_ends_soon(serve, through, authority, over_tls):
    async def behave(peer):
        await peer.request()
        while True:
            await peer.say(b"HTTP/1.1 103 E\r\n\r\n" * 500)

    receiver = await serve(behave, server_context(authority) if over_tls else None)
    assert await through(receiver) == Fault(
        FaultKind.PROTOCOL, "the head is longer than 65536 bytes", Phase.HEAD
    )


async def test_C3_a_flood_of_the_proxy_s_is_its_own_fault(serve, saying, sender, through):
    async def flood(peer):
        await peer.request()
        while True:
            await peer.say(b"HTTP/1.1 103 E\r\n\r\n" * 500)

    proxy = await serve(flood)
    receiver = await serve(saying(OK))
    receiver.scheme = "https"
    result = await through(receiver, terms=Terms(proxy=Proxy("http", "p.example", proxy.port)))
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROXY
    assert result.detail.endswith("the head is longer than 65536 bytes")


async def test_C16_thousands_of_chunks_hold_up_nobody(serve, through, authority):
    async def behave(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await peer.say(b"1\r\nx\r\n" * 5_000)

    result = await through(await serve(behave, server_context(authority)), span=10_000)
    assert isinstance(result, Answer)
    assert result.status == 200
    assert result.note.startswith("body cut ")


async def test_a_proxy_that_hangs_up_once_it_was_found_is_at_fault(
    serve, saying, through, sender, monkeypatch
):
    async def hung_up(*_):
        return socket.socket()

    monkeypatch.setattr(proxied, "connect", hung_up)
    sender.resolver._lookup = lambda host: ["127.0.0.1", "127.0.0.2"]
    result = await through(await serve(saying(OK)))
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.PROXY, Phase.CONNECT)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_G11_what_echoes_the_proxy_s_password_is_masked(
    serve, saying, through, proxying, scheme
):
    password = "hunter2hunter2"
    token = base64.b64encode(f"me:{password}".encode())
    proxying.answer = b"HTTP/1.1 %d No %s\r\n\r\nBasic %s" % (
        502 if scheme == "http" else 407,
        password.encode(),
        token,
    )
    receiver = await serve(saying(OK))
    receiver.scheme = scheme
    result = await through(receiver, user="me", password=password)
    assert password not in repr(result)
    assert token.decode() not in repr(result)
    assert "***" in repr(result)
