"""By way of a proxy: what comes without end is bounded, and what echoes a password is masked."""

import base64
import socket

import pytest

from tests.http.authority import server_context
from tests.http.proxying import trusting
from webhookd.core.model import Answer, Fault, FaultKind, Phase, Proxy, Terms
from webhookd.core.urls import parse
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


async def test_D10_an_own_address_in_the_url_is_not_asked_for(serve, proxying, sender, monkeypatch):
    asked = []
    monkeypatch.setattr(proxied, "is_own", lambda address: asked.append(address) or True)
    started = await serve(proxying)
    terms = Terms(proxy=Proxy("http", "proxy.example", started.port))
    channel = sender.channel()
    for host in ("93.184.216.34", "[2606:2800:220:1::1]"):
        result = await channel.send(
            parse(f"https://{host}/"), b"POST / HTTP/1.1\r\n\r\n", 3_000, terms
        )
        assert isinstance(result, Fault)
        assert result.kind is FaultKind.BLOCKED
        assert result.detail.endswith("is an address of this machine")
    assert asked == ["93.184.216.34", "2606:2800:220:1::1"]
    assert started.connections == 0


def test_the_context_for_a_proxy_by_https_is_made_once():
    first = proxied._named_context("one.example")
    assert proxied._named_context("one.example") is first
    assert proxied._named_context("two.example") is not first
    assert first.host == "one.example"
