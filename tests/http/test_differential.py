"""Generated answers read by us and by others: what both accept, both read alike.

We are the stricter ones: nothing that h11 refuses is accepted.
"""

import itertools
import random
from collections import Counter

import h11
import httpx
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind
from webhookd.core.urls import parse
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits
from webhookd.http.reader import Reader
from webhookd.http.transport import DirectTransport, KeepingReader

SEED = 20_260
ANSWERS = 5_000
EXCHANGES = 500

LINES = [
    line.encode("latin-1")
    for line in """\
HTTP/1.1 200 OK|HTTP/1.1 201 |HTTP/1.0 200 OK|HTTP/1.1 204 No Content|HTTP/1.1 304 Not Modified
HTTP/1.1 404 Not Found|HTTP/1.1 503 Busy \xe9|HTTP/1.1 599 X|HTTP/1.1 999 X|HTTP/1.1 302 Found
HTTP/1.1 410 Gone""".replace("\n", "|").split("|")
]
BROKEN_LINES = [
    line.encode("latin-1")
    for line in """\
HTTP/1.1 099 X|HTTP/2.0 200 OK|HTTP/1.1 200|HTTP/1.1  200 OK|HTTP/1.1 20 X|http/1.1 200 OK
HTTP/1.1 2000 X|HTTP/1.1 -12 X|ICE/1.1 200 OK| HTTP/1.1 200 X|HTTP/1.1 200 a\0b||HTTP/1.1\t200 OK
HTTP/1.1 200 \x1b[31m|HTTP/01.1 200 X""".replace("\n", "|").split("|")
]
FIELDS = [
    *(
        field.encode("latin-1")
        for field in """\
Server: x|X-Empty:|X-Spaces:   a b  |X-Tab:\ta\t|Retry-After: 7  |Location: /x?y=z|X-High: \xe9\xff
Connection: close|Connection: keep-alive|Content-Type: text/plain; charset=utf-8|Set-Cookie: a=b
Set-Cookie: c=d|x-lower: 1|X-Colon: a:b:c|Date: Sun, 06 Nov 1994 08:49:37 GMT""".replace(
            "\n", "|"
        ).split("|")
    ),
    b"X-Long: " + b"v" * 900,
]
BROKEN_FIELDS = [
    field.encode("latin-1")
    for field in """\
X Y: z| folded|X: a\0b|X : a|: v|no colon|X: a\rb|X\x01: a|Content-Length: 5, 5|Content-Length: +5
Content-Length: -1|Content-Length: |Content-Length: 0x5|Content-Length: 99999999999999999999
X(y): z|\tX: tabbed|Transfer-Encoding: gzip|Transfer-Encoding: gzip, chunked|Upgrade: h2c
Transfer-Encoding: identity|Transfer-Encoding: chunked, chunked|Transfer-Encoding: xchunked\
""".replace("\n", "|").split("|")
]
BROKEN_CHUNKS = [
    *(b"zz\r\n", b"-1\r\nx\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"5\nhello\n0\n\n"),
    *(b"5 \r\nhello\r\n0\r\n\r\n", b"5;x\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
    *(b"10000000000000000\r\n", b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"5\r\nhel", b""),
    b"\r\n0\r\n\r\n",
]

Read = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers with lower-case names, body."""


def generate(dice: random.Random) -> bytes:
    """An answer; half of them broken somewhere."""
    broken = dice.random() < 0.5
    line = dice.choice(BROKEN_LINES if broken and dice.random() < 0.3 else LINES)
    fields = dice.sample(FIELDS, dice.randrange(5))
    if broken and dice.random() < 0.6:
        fields.insert(dice.randrange(len(fields) + 1), dice.choice(BROKEN_FIELDS))
    body = dice.randbytes(dice.choice((0, 1, 5, 300, 2_000)))
    framing = dice.choice(("length", "length", "chunked", "chunked", "end"))
    if framing == "length":
        wrong = dice.choice((-1, 1)) if broken and body and dice.random() < 0.3 else 0
        fields.append(b"Content-Length: %d" % (len(body) + wrong))
    elif framing == "chunked":
        fields.append(b"Transfer-Encoding: " + dice.choice((b"chunked", b"Chunked")))
        if broken and dice.random() < 0.5:
            body = dice.choice(BROKEN_CHUNKS)
        else:
            cut = dice.randrange(len(body) + 1)
            parts = [part for part in (body[:cut], body[cut:]) if part]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    dice.shuffle(fields)
    interim = dice.choice((b"", b"", b"", b"HTTP/1.1 103 Hint\r\nLink: x\r\n\r\n"))
    data = interim + b"\r\n".join([line, *fields, b"", body])
    if broken and dice.random() < 0.15:
        data = data.replace(b"\r\n", b"\n")
    if broken and dice.random() < 0.15:
        at = dice.randrange(len(data))
        data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
    return data


def by_h11(data: bytes) -> Read | None:
    """What h11 makes of it; None if it refuses."""
    connection = h11.Connection(h11.CLIENT)
    target = h11.Request(method="POST", target="/", headers=[("Host", "a")])
    connection.send(target)
    connection.send(h11.EndOfMessage())
    status, headers, body = 0, [], b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def by_us(data: bytes, size: int) -> Read | None:
    """What we make of it, fed in pieces; None if it is refused, or is accepted with a note."""
    reader = KeepingReader(Limits())
    for at in range(0, len(data), size):
        if not reader.fault and not reader.done:
            reader.feed(data[at : at + size])
    if not reader.fault and reader.status and not reader.done:
        reader.end()
    good = reader.done and not reader.fault and not reader.note
    found = (reader.status, lowered(reader.headers), bytes(reader.body)) if good else None
    reader.release()
    return found


def lowered(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Names in lower case, and the one value that h11 folds too."""
    return [
        (name.lower(), value.lower() if name.lower() == b"transfer-encoding" else value)
        for name, value in headers
    ]


def test_5000_generated_answers_mean_the_same_to_h11_and_to_us() -> None:
    dice = random.Random(SEED)
    seen: Counter[str] = Counter()
    for number in range(ANSWERS):
        data = generate(dice)
        ours = by_us(data, dice.choice((1, 7, 64, 100_000)))
        theirs = by_h11(data)
        if ours is None:
            seen["refused by both" if theirs is None else "refused by us alone"] += 1
        elif theirs is None:
            raise AssertionError((number, data))
        else:
            assert ours == (theirs[0], lowered(theirs[1]), theirs[2]), (number, data)
            seen["accepted by both"] += 1
    assert seen["accepted by both"] > ANSWERS / 3
    assert seen["refused by both"] > ANSWERS / 10
    assert seen["refused by us alone"] < ANSWERS / 10


@pytest.mark.parametrize("line", BROKEN_LINES)
@pytest.mark.parametrize("size", [1, 1_000])
def test_a_broken_line_that_h11_refuses_is_refused(line: bytes, size: int) -> None:
    data = line + b"\r\nContent-Length: 0\r\n\r\n"
    if by_h11(data) is None:
        assert by_us(data, size) is None


async def test_500_generated_exchanges_are_the_same_by_httpx_and_by_us(serve) -> None:
    """Requests of ours and of httpx's own, to one receiver that answers both alike."""
    dice = random.Random(SEED)
    answers = [
        data
        for data in itertools.islice((generate(dice) for _ in itertools.count()), 4 * EXCHANGES)
        if by_h11(data) is not None and by_us(data, 1_000) is not None
    ][:EXCHANGES]
    assert len(answers) == EXCHANGES
    asked: list[bytes] = []

    async def behave(peer):
        request = await peer.request()
        if request:
            asked.append(request)
            await peer.say(answers[int(request.split(b" ", 2)[1][1:])])

    receiver = await serve(behave)
    base = f"http://127.0.0.1:{receiver.port}"
    sender = Sender(parse_policy(["127.0.0.1"], []), limits=Limits())
    direct = DirectTransport(sender, 5_000)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncHTTPTransport(limits=limits, trust_env=False) as plain:
        for number in range(EXCHANGES):
            method = dice.choice(("POST", "PUT", "GET", "DELETE"))
            content = dice.randbytes(dice.choice((0, 10, 5_000))) if method[0] == "P" else None
            headers = {"X-Number": str(number), "Accept-Encoding": "identity"}
            url = f"{base}/{number}"
            found = []
            for transport in (direct, plain):
                request = httpx.Request(method, url, content=content, headers=headers)
                response = await transport.handle_async_request(request)
                found.append((response, await response.aread()))
                await response.aclose()
            (ours, our_body), (theirs, their_body) = found
            assert ours.status_code == theirs.status_code
            assert our_body == their_body
            framing = {"content-length", "transfer-encoding"}
            assert [pair for pair in ours.headers.multi_items() if pair[0] not in framing] == [
                pair for pair in theirs.headers.multi_items() if pair[0] not in framing
            ]
            first, second = (parsed(request) for request in asked[-2:])
            assert first == second
    assert len(asked) == 2 * EXCHANGES


def parsed(request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """A request as a receiver reads it, but for the connection's own header."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in fields.items()}
    headers.pop(b"connection", None)
    return first, headers, body


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([*LINES, *BROKEN_LINES, *FIELDS, *BROKEN_FIELDS, *BROKEN_CHUNKS]),
    st.sampled_from(
        [b"\r\n", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"5\r\nhello\r\n", b"\x16\x03\x01"]
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=st.lists(PIECES, max_size=10), end=st.sampled_from(["close", "reset", "stay"]))
def test_random_bytes_are_a_classified_outcome_in_time(pieces: list[bytes], end: str) -> None:
    async def main() -> Answer | Fault:
        async def behave(stream: trio.SocketStream) -> None:
            try:
                await stream.receive_some(1_000)
                for piece in pieces:
                    if piece:
                        await stream.send_all(piece)
                if end == "stay":
                    await trio.sleep_forever()
                if end == "reset":
                    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
            except trio.BrokenResourceError:
                pass
            finally:
                stream.socket.close()

        sender = Sender(parse_policy(["127.0.0.1"], []), limits=Limits(body_time=20))
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, behave, 0)
            port = listeners[0].socket.getsockname()[1]
            channel = sender.channel()
            with trio.fail_after(5):
                result = await channel.send(
                    parse(f"http://127.0.0.1:{port}/"),
                    b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
                    60,
                )
            await channel.aclose()
            nursery.cancel_scope.cancel()
        return result

    result = trio.run(main)
    if isinstance(result, Answer):
        assert 200 <= result.status <= 999
        assert result.note.isprintable()
    else:
        assert result.kind in {
            FaultKind.PROTOCOL,
            FaultKind.CLOSED,
            FaultKind.RESET,
            FaultKind.TIMEOUT,
        }
        assert result.detail
        assert result.detail.isprintable()


@settings(max_examples=200, deadline=None)
@given(data=st.lists(PIECES, max_size=10).map(b"".join), size=st.integers(1, 50))
def test_the_reader_raises_nothing_and_the_size_of_pieces_does_not_matter(
    data: bytes, size: int
) -> None:
    told = []
    for step in (size, 10_000):
        reader = Reader(Limits())
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        told.append((reader.status, reader.done, bool(reader.fault) and not reader.status))
        reader.release()
    assert told[0] == told[1]
