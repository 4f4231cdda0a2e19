"""The scripted sender and the real one keep the same contract, so that the fake can be believed."""

import contextlib
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from webhookd.core import egress, urls
from webhookd.core.model import Answer, Fault, FaultKind, Url
from webhookd.http.channel import Sender


async def _serve(stream: trio.SocketStream) -> None:
    """A receiver whose path says what it does: a status, or nothing at all."""
    with contextlib.suppress(trio.BrokenResourceError):
        data = b""
        while chunk := await stream.receive_some():
            data += chunk
            head, found, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if not found or len(body) < length:
                continue
            path = head.split()[1].decode()
            if path == "/hang":
                await trio.sleep_forever()
            status = path.strip("/")
            await stream.send_all(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
            data = b""


@pytest.fixture(params=["fake", "real"])
async def sender(request, world, nursery):
    """A sender, and the URL of a receiver that does what the path says."""
    if request.param == "fake":

        def script(seen):
            path = seen.url.rpartition("/")[2]
            return world.hang if path == "hang" else Answer(int(path))

        world.sender.script = script
        return SimpleNamespace(make=world.sender.channel, base="https://a.example")
    listeners = await nursery.start(partial(trio.serve_tcp, _serve, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    allowed = egress.parse_policy(["127.0.0.0/8"], [])
    return SimpleNamespace(make=Sender(allowed).channel, base=f"http://127.0.0.1:{port}")


def _request(world, address: str) -> tuple[Url, bytes]:
    url = urls.parse(address)
    body = b'{"data":{}}'
    lines = [f"POST {url.target} HTTP/1.1", f"Host: {url.netloc}", f"Content-Length: {len(body)}"]
    return url, "\r\n".join([*lines, "", ""]).encode() + body


async def test_answers_are_data_and_a_channel_is_used_again(world, sender):
    channel = sender.make()
    for status in (200, 503, 404, 200):
        result = await channel.send(*_request(world, f"{sender.base}/{status}"), 5_000)
        assert isinstance(result, Answer)
        assert result.status == status
    await channel.aclose()


async def test_the_deadline_is_a_fault_and_no_exception(world, sender):
    channel = sender.make()
    begun = trio.current_time()
    result = await channel.send(*_request(world, f"{sender.base}/hang"), 50)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.TIMEOUT
    assert 0.05 <= trio.current_time() - begun < 2
    await channel.aclose()


async def test_cancelled_it_leaves_a_channel_that_can_be_closed(world, sender):
    channel = sender.make()
    with trio.move_on_after(0.05) as scope:
        await channel.send(*_request(world, f"{sender.base}/hang"), 60_000)
    assert scope.cancelled_caught
    await channel.aclose()


async def test_sending_is_a_checkpoint(world, sender):
    channel = sender.make()
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel.send(*_request(world, f"{sender.base}/200"), 5_000)
    assert scope.cancelled_caught
    await channel.aclose()
