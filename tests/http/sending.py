"""One send to a receiver on loopback, and what receivers answer."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAIL = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
LONG = 1_500
"""A timeout (ms) that no test comes near, unless it is about that."""
BIG = b"x" * 8_000_000
"""More than the sockets between two processes hold."""


async def once(sender, receiver, body=b"{}", span=LONG):
    channel = sender.channel()
    try:
        return await channel.send(receiver.url, receiver.wire(body), span)
    finally:
        await channel.aclose()
