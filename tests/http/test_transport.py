"""httpx over the direct path: the same policy, bounds and deadline, and no httpx exception."""

import httpx
import pytest
import trio

from webhookd.core.egress import parse_policy
from webhookd.core.model import FaultKind, Phase
from webhookd.http.channel import Sender
from webhookd.http.transport import DirectTransport, NoAnswer

HEAD = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nX-One: 2\r\n"


@pytest.fixture
async def client(sender):
    async with httpx.AsyncClient(transport=DirectTransport(sender, 500)) as made:
        yield made


async def test_a_request_and_its_response(serve, client):
    seen = []

    async def behave(peer):
        seen.append(await peer.request())
        await peer.say(b"HTTP/1.1 100 C\r\nX-No: 1\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok")

    receiver = await serve(behave)
    response = await client.post(
        receiver.url.text, content=b"body", headers={"X-Mine": "é".encode("latin-1")}
    )
    assert response.status_code == 200
    assert response.headers.get_list("x-one") == ["1", "2"]
    assert "x-no" not in response.headers
    assert response.content == b"ok"
    assert response.extensions["note"] == ""
    head = seen[0].partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert head[0] == b"post /in?q=1 http/1.1"
    assert head[1] == f"host: 127.0.0.1:{receiver.port}".encode()
    assert b"x-mine: \xe9" in head
    assert b"content-length: 4" in head
    assert b"connection: close" in head


async def test_a_streamed_request_gets_a_length(serve, client):
    seen = []

    async def behave(peer):
        seen.append(await peer.request())
        await peer.say(HEAD + b"Content-Length: 0\r\n\r\n")

    async def pieces():
        yield b"ab"
        yield b"cd"

    receiver = await serve(behave)
    await client.post(receiver.url.text, content=pieces())
    assert b"Content-Length: 4\r\n" in seen[0]
    assert b"chunked" not in seen[0].lower()
    assert seen[0].endswith(b"\r\n\r\nabcd")


async def test_C17_a_compressed_body_is_never_inflated(serve, saying, client):
    bomb = b"\x1f\x8b" + b"\0" * 98
    head = b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n"
    response = await client.get((await serve(saying(HEAD + head + bomb))).url.text)
    assert response.content == bomb


async def test_C16_the_body_is_bounded(serve, client):
    async def behave(peer):
        await peer.request()
        await peer.say(HEAD + b"\r\n")
        while True:
            await peer.say(b"x" * 10_000)

    response = await client.get((await serve(behave)).url.text)
    assert len(response.content) == 65_536
    assert response.extensions["note"] == "body cut at 65536 bytes"


async def test_the_answer_to_head_has_no_body(serve, saying, client):
    receiver = await serve(saying(HEAD + b"Content-Length: 5\r\n\r\n", then_close=False))
    response = await client.head(receiver.url.text)
    assert (response.status_code, response.content) == (200, b"")
    assert response.extensions["note"] == ""


async def test_C5_a_redirect_is_not_followed(serve, saying, client):
    head = b"HTTP/1.1 302 F\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    response = await client.get((await serve(saying(head))).url.text)
    assert response.status_code == 302


async def test_no_answer_is_one_line_with_its_fault(serve, saying, client):
    receiver = await serve(saying(b""))
    with pytest.raises(NoAnswer, match=r"^closed: closed without an answer$") as caught:
        await client.get(receiver.url.text)
    assert (caught.value.fault.kind, caught.value.fault.phase) == (FaultKind.CLOSED, Phase.HEAD)


async def test_the_deadline_is_the_transport_s_own(serve, saying, client):
    receiver = await serve(saying(b"", then_close=False))
    with trio.fail_after(5), pytest.raises(NoAnswer, match=r"^timeout: "):
        await client.get(receiver.url.text, timeout=httpx.Timeout(60))


async def test_D10_the_policy_holds(serve, saying):
    receiver = await serve(saying(HEAD + b"\r\n"))
    async with httpx.AsyncClient(transport=DirectTransport(Sender(parse_policy([], [])))) as client:
        with pytest.raises(NoAnswer, match=r"^blocked: 127\.0\.0\.1 is loopback$"):
            await client.get(receiver.url.text)
    assert receiver.connections == 0


async def test_a_url_that_webhookd_does_not_take_is_blocked(client):
    request = httpx.Request("GET", "http://127.0.0.1/")
    request.url = httpx.URL("http://user:pw@127.0.0.1/")
    with pytest.raises(NoAnswer, match="invalid url") as caught:
        await client.send(request)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "headers"), [("GET", [(b"X", b"a\r\nY: b")]), ("GET", [(b"X Y", b"a")]), ("G T", [])]
)
async def test_nothing_is_injected(sender, method, headers):
    request = httpx.Request(method, "http://127.0.0.1:9/", headers=headers)
    with pytest.raises(ValueError, match=r"not fit to be sent|no token"):
        await DirectTransport(sender).handle_async_request(request)
