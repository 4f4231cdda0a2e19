"""A proxy on loopback, and a sender that trusts what is behind it."""

import trio
import trustme

from webhookd.core.egress import parse_policy
from webhookd.http.address import Resolver
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits
from webhookd.http.tls import make_ssl_context


def trusting(authority: trustme.CA) -> Sender:
    """It trusts the authority; every name is on loopback."""
    context = make_ssl_context()
    authority.configure_trust(context)
    return Sender(
        parse_policy(["partner.example"], []),
        resolver=Resolver(lookup=lambda host: ["127.0.0.1"]),
        limits=Limits(body_time=200),
        ssl_context=context,
    )


class Proxying:
    """A proxy on loopback: it connects to wherever `leads` says, whatever it is asked for."""

    def __init__(self, answer=b""):
        self.answer = answer
        """Said instead of connecting."""
        self.asked = []
        self.leads = 0

    async def __call__(self, peer):
        head = await peer.request()
        if not head:
            return
        self.asked.append(head)
        if self.answer is None:
            await trio.sleep_forever()
        if self.answer:
            await peer.say(self.answer)
            return
        async with await trio.open_tcp_stream("127.0.0.1", self.leads) as onward:
            if head.startswith(b"CONNECT "):
                await peer.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                await onward.send_all(head)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, peer.stream, onward, nursery.cancel_scope)
                await self._pass(onward, peer.stream, nursery.cancel_scope)

    async def _pass(self, one, other, scope):
        try:
            while data := await one.receive_some(65536):
                await other.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()
