"""By way of a proxy: the same outcomes as without, and its faults told from the receiver's."""

import base64
import tracemalloc
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from tests.http.authority import server_context
from tests.http.proxying import trusting
from webhookd.core.egress import parse_policy
from webhookd.core.model import PLAIN, Answer, Fault, FaultKind, Phase, Proxy, Terms
from webhookd.core.urls import parse
from webhookd.http import proxied
from webhookd.http.address import Resolver
from webhookd.http.channel import Sender
from webhookd.http.transport import DirectTransport, NoAnswer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAIL = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
LONG = 3_000


async def once(sender, url, wire, terms=PLAIN):
    channel = sender.channel()
    try:
        return await channel.send(url, wire, LONG, terms)
    finally:
        await channel.aclose()


def fds():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
async def sender(authority):
    return trusting(authority)


async def test_https_goes_through_a_tunnel_byte_for_byte(serve, through, proxying, authority):
    seen = []

    async def behave(peer):
        seen.append(await peer.request())
        await peer.say(OK)

    receiver = await serve(behave, server_context(authority))
    result = await through(receiver, b"body", user="me", password="p@ss:word")
    assert result == Answer(200, excerpt=b"ok")
    assert seen == [receiver.wire(b"body")]
    credentials = base64.b64encode(b"me:p@ss:word")
    assert f"CONNECT partner.example:{receiver.port} HTTP/1.1".encode() in proxying.asked[0]
    assert b"Proxy-Authorization: Basic " + credentials in proxying.asked[0]
    assert b"Proxy-Authorization" not in seen[0]


async def test_http_is_sent_whole_to_the_proxy(serve, through, proxying, saying):
    receiver = await serve(saying(OK))
    assert await through(receiver, b"body") == Answer(200, excerpt=b"ok")
    first = f"POST http://partner.example:{receiver.port}/in?q=1 HTTP/1.1\r\n".encode()
    assert proxying.asked[0].startswith(first)


async def test_E6_the_receivers_date_comes_through_a_proxy(serve, through, saying):
    said = b"HTTP/1.1 204 A\r\nDate: today\r\n\r\n"
    answer = await through(await serve(saying(said)))
    assert isinstance(answer, Answer)
    assert answer.date == "today"


@pytest.mark.parametrize("secure", [False, True])
async def test_each_request_has_a_connection_and_an_answer_of_its_own(
    serve, through, proxying, authority, secure
):
    async def behave(peer):
        await peer.request()
        await peer.say(FAIL + OK if peer.number == 1 else b"HTTP/1.1 202 A\r\n\r\n")

    receiver = await serve(behave, server_context(authority) if secure else None)
    assert await through(receiver) == Answer(500, excerpt=b"no")
    assert await through(receiver) == Answer(202)
    assert len(proxying.asked) == receiver.connections == 2


@pytest.mark.parametrize(
    ("answer", "detail", "ours"),
    [
        (b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", "refuses: 407 Auth", True),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "refuses: 403 No", False),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "refuses: 502 Bad", False),
        (b"SSH-2.0-x\r\n\r\n", "llegal", True),
        (b"HTTP/1.1 2", "", True),
    ],
)
async def test_a_fault_of_the_proxy_is_told_as_one(
    serve, saying, through, proxying, authority, answer, detail, ours
):
    proxying.answer = answer
    receiver = await serve(saying(OK), server_context(authority))
    result = await through(receiver, user="me", password="secret-word")
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROXY
    assert result.may_be_ours is ours
    assert result.detail.startswith("http://***@proxy.example:")
    assert detail in result.detail
    assert "secret-word" not in result.detail
    assert receiver.connections == 0


async def test_a_407_without_a_tunnel_is_the_proxy_s(serve, saying, through, proxying):
    proxying.answer = b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n"
    result = await through(await serve(saying(OK)))
    assert isinstance(result, Fault)
    assert (result.kind, result.may_be_ours) == (FaultKind.PROXY, True)


async def test_a_proxy_that_refuses_or_hangs_is_its_own_fault(serve, saying, sender, through):
    receiver = await serve(saying(OK))
    receiver.host = "partner.example"
    gone = Terms(proxy=Proxy("http", "proxy.example", 9))
    result = await through(receiver, terms=gone)
    assert isinstance(result, Fault)
    assert (result.kind, result.may_be_ours) == (FaultKind.PROXY, True)
    assert "Connection refused" in result.detail


async def test_the_deadline_is_one_over_the_proxy_too(serve, saying, through, proxying, authority):
    proxying.answer = None
    receiver = await serve(saying(OK), server_context(authority))
    before = trio.current_time()
    result = await through(receiver, span=150)
    assert trio.current_time() - before < 1
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.PROXY
    assert "no answer within 0.15 s" in result.detail


@pytest.mark.parametrize("secure", [False, True])
async def test_C12_a_receiver_that_hangs_is_its_own_fault(
    serve, saying, through, authority, secure
):
    receiver = await serve(
        saying(b"", then_close=False), server_context(authority) if secure else None
    )
    result = await through(receiver, span=300)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TIMEOUT, Phase.HEAD)


async def test_C25_tls_within_the_tunnel_is_the_receiver_s(serve, saying, through, authority):
    receiver = await serve(saying(OK), server_context(authority, "other.example"))
    result = await through(receiver)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TLS, Phase.TLS)
    assert "Hostname mismatch" in result.detail


async def test_C25_a_hung_handshake_in_the_tunnel_leaves_no_descriptor(serve, through):
    async def behave(peer):
        await trio.sleep_forever()

    receiver = await serve(behave)
    receiver.scheme = "https"
    await through(receiver, span=400)
    await trio.testing.wait_all_tasks_blocked(0.02)
    before = fds()
    for _ in range(5):
        result = await through(receiver, span=400)
        assert isinstance(result, Fault)
        assert (result.kind, result.phase) == (FaultKind.TIMEOUT, Phase.TLS)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert fds() <= before + 6  # ends of the receiver, of which this process has one each


async def test_C16_an_endless_body_is_cut(serve, through, authority):
    async def behave(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.say(b"x" * 10_000)

    tracemalloc.start()
    result = await through(await serve(behave, server_context(authority)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result == Answer(200, excerpt=b"x" * 1024, note="body cut at 65536 bytes")
    assert peak < 8_000_000


@pytest.mark.parametrize("status", [200, 500])
async def test_C14_a_dripping_body_is_cut_soon(serve, through, status):
    async def behave(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 %d X\r\nContent-Length: 1000\r\n\r\n" % status)
        await peer.drip(b"x" * 1000)

    result = await through(await serve(behave))
    assert isinstance(result, Answer)
    assert (result.status, result.note) == (status, "body cut after 0.2 s")


async def test_the_deadline_within_the_body_leaves_the_answer(serve, saying, through):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    result = await through(await serve(saying(head, then_close=False)), span=150)
    assert result == Answer(200, note="body cut at the deadline of 0.15 s")


async def test_C2_C19_a_body_that_breaks_off(serve, saying, through):
    short = b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\nabc"
    result = await through(await serve(saying(short % 200)))
    assert isinstance(result, Answer)
    assert (result.status, result.excerpt) == (200, b"abc")
    assert result.note.startswith("body broken: ")
    result = await through(await serve(saying(short % 500)))
    assert isinstance(result, Fault)
    assert result.phase is Phase.BODY
    assert result.detail.endswith("(after status 500)")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", FaultKind.CLOSED),
        (b"HTTP/1.1 5", FaultKind.PROTOCOL),
        (b"SSH-2.0-x\r\n\r\n", FaultKind.PROTOCOL),
        (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", FaultKind.PROTOCOL),
    ],
)
async def test_C4_C19_C24_no_answer_through_the_tunnel(
    serve, saying, through, authority, said, kind
):
    result = await through(await serve(saying(said), server_context(authority)))
    assert isinstance(result, Fault)
    assert result.kind in (kind, FaultKind.CLOSED)
    assert result.detail


async def test_C5_C9_headers_that_matter_come_through(serve, saying, through):
    head = b"HTTP/1.1 302 F\r\nLocation: http://169.254.169.254/\r\nRetry-After: 7\r\n\r\n"
    result = await through(await serve(saying(head)))
    assert result == Answer(302, "7", "http://169.254.169.254/")


async def test_a_second_address_of_the_proxy_is_tried(serve, saying, proxying, sender, authority):
    started = await serve(proxying)
    receiver = await serve(saying(OK))
    proxying.leads, receiver.host = receiver.port, "partner.example"
    both = Sender(
        sender.egress,
        resolver=Resolver(lookup=lambda host: ["127.0.0.2", "127.0.0.1"]),
        limits=sender.limits,
    )
    terms = Terms(proxy=Proxy("http", "proxy.example", started.port))
    result = await once(both, receiver.url, receiver.wire(), terms)
    assert result == Answer(200, excerpt=b"ok")


async def test_a_proxy_by_https_is_held_to_its_own_name(
    serve, saying, proxying, authority, monkeypatch
):
    receiver = await serve(saying(OK))
    proxying.leads, receiver.host = receiver.port, "partner.example"
    monkeypatch.setattr("webhookd.http.tls._trust_system", authority.configure_trust)
    fresh = proxied._named_context.__wrapped__  # not one that other tests would find
    monkeypatch.setattr(proxied, "_named_context", fresh)
    for name, kind in (("proxy.example", Answer), ("other.example", Fault)):
        started = await serve(proxying, server_context(authority, name))
        made = Sender(
            parse_policy(["partner.example"], []),
            resolver=Resolver(lookup=lambda host: ["127.0.0.1"]),
        )
        terms = Terms(proxy=Proxy("https", "proxy.example", started.port))
        result = await once(made, receiver.url, receiver.wire(), terms)
        assert isinstance(result, kind)
        if isinstance(result, Fault):
            assert result.kind is FaultKind.PROXY
            assert "Hostname mismatch" in result.detail


async def test_everyone_s_proxy_one_s_own_and_none(serve, saying, proxying, authority):
    started = await serve(proxying)
    receiver = await serve(saying(OK))
    proxying.leads, receiver.host = receiver.port, "partner.example"
    proxy = Proxy("http", "proxy.example", started.port)
    made = Sender(
        parse_policy(["partner.example"], [], proxy),
        resolver=Resolver(lookup=lambda host: ["127.0.0.1"]),
    )
    for terms, asked in ((PLAIN, 1), (Terms(direct=True), 1), (Terms(proxy=proxy), 2)):
        result = await once(made, receiver.url, receiver.wire(), terms)
        assert result == Answer(200, excerpt=b"ok")
        assert len(proxying.asked) == asked


async def test_D11_no_proxy_of_the_environment_is_used(serve, saying, sender, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    receiver = await serve(saying(OK))
    receiver.host = "partner.example"
    result = await once(sender, receiver.url, receiver.wire())
    assert result == Answer(200, excerpt=b"ok")
    async with httpx.AsyncClient(transport=DirectTransport(sender)) as client:
        second = await serve(saying(OK))
        second.host = "partner.example"
        assert (await client.get(second.url.text)).content == b"ok"


@pytest.mark.parametrize(
    ("allow", "deny", "url", "detail"),
    [
        ([], [], "https://10.0.0.5/", "10.0.0.5 is private"),
        ([], ["partner.example"], "https://partner.example/", "partner.example is in deny"),
        ([], [], "http://partner.example/", "needs https"),
        ([], [], "https://erp/", "a name of the inside"),
        ([], ["proxy.example"], "https://partner.example/", "in deny, and the proxy"),
        ([], ["127.0.0.1"], "https://partner.example/", "in deny, and the proxy"),
    ],
)
async def test_D4_the_policy_holds_through_a_proxy(serve, proxying, allow, deny, url, detail):
    started = await serve(proxying)
    made = Sender(parse_policy(allow, deny), resolver=Resolver(lookup=lambda host: ["127.0.0.1"]))
    terms = Terms(proxy=Proxy("http", "proxy.example", started.port))
    result = await once(made, parse(url), b"POST / HTTP/1.1\r\n\r\n", terms)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.BLOCKED
    assert detail in result.detail
    assert started.connections == 0


async def test_D1_a_proxy_without_an_address():
    made = Sender(parse_policy([], []), resolver=Resolver(lookup=lambda host: []))
    terms = Terms(proxy=Proxy("http", "proxy.example", 3128))
    result = await once(made, parse("https://a.example/"), b"x", terms)
    assert result == Fault(
        FaultKind.PROXY,
        "http://proxy.example:3128: proxy.example has no address",
        Phase.RESOLVE,
        may_be_ours=True,
    )


async def test_httpx_over_a_proxy(serve, saying, proxying, sender):
    started = await serve(proxying)
    receiver = await serve(saying(b"HTTP/1.1 200 OK\r\nX-One: 1\r\n\r\nbody"))
    proxying.leads, receiver.host = receiver.port, "partner.example"
    terms = Terms(proxy=Proxy("http", "proxy.example", started.port))
    async with httpx.AsyncClient(transport=DirectTransport(sender, 2_000, terms)) as client:
        response = await client.post(receiver.url.text, content=b"abc")
        assert (response.status_code, response.content) == (200, b"body")
        assert response.headers["x-one"] == "1"
        proxying.answer = b"HTTP/1.1 407 A\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(NoAnswer, match=r"^proxy: http://proxy\.example:\d+ refuses: 407"):
            await client.post(receiver.url.text, content=b"abc")


async def test_cancelled_anywhere_it_leaves_nothing_behind(serve, saying, through, authority):
    receiver = await serve(saying(OK, then_close=True), server_context(authority))
    await through(receiver)
    await trio.testing.wait_all_tasks_blocked(0.02)
    before = fds()
    for step in range(1, 25):
        with trio.move_on_after(step / 2_000):
            await through(receiver)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert fds() <= before + 2
