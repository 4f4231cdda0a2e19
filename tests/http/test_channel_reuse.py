"""Which connections are used again, and what is sent again on a new one."""

import pytest
import trio
import trio.testing

from tests.http.sending import FAIL, LONG, OK
from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits


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
