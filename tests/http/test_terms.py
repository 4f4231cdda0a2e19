"""Own terms of a subscription: a private authority, a client's certificate, a pin. Never less."""

import datetime
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from tests.http.authority import server_context
from tests.http.conftest import Receiver
from webhookd.core.egress import parse_policy
from webhookd.core.model import PLAIN, Answer, Fault, FaultKind, Phase, Proxy, Terms
from webhookd.http.address import Resolver
from webhookd.http.channel import Sender
from webhookd.http.connection import CHUNK, MOST_AT_ONCE, TlsConnection
from webhookd.http.limits import Limits
from webhookd.http.tls import context_for, fingerprint

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LONG = 3_000
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def sender():
    """It trusts the system alone; every name is on loopback."""
    return Sender(
        parse_policy(["127.0.0.0/8"], []),
        resolver=Resolver(lookup=lambda host: ["127.0.0.1"]),
        limits=Limits(body_time=150),
    )


def ca_of(authority):
    return authority.cert_pem.bytes().decode()


def identity_of(authority, name="sender.example"):
    issued = authority.issue_cert(name)
    return issued.private_key_and_cert_chain_pem.bytes().decode()


def pin_of(context):
    """The fingerprint of what a server shows."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    client = blind.wrap_bio(ours, theirs, server_hostname="x")
    server = context.wrap_bio(theirs, ours, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return fingerprint(client.getpeercert(binary_form=True))


async def once(sender, receiver, terms):
    receiver.host = "partner.example"
    channel = sender.channel()
    try:
        return await channel.send(receiver.url, receiver.wire(), LONG, terms)
    finally:
        await channel.aclose()


async def test_a_private_authority_is_the_only_one(serve, saying, sender, authority):
    receiver = await serve(saying(OK), server_context(authority))
    assert await once(sender, receiver, Terms(ca=ca_of(authority))) == Answer(200, excerpt=b"ok")
    for terms in (PLAIN, Terms(ca=ca_of(trustme.CA()))):
        result = await once(sender, receiver, terms)
        assert isinstance(result, Fault)
        assert (result.kind, result.phase) == (FaultKind.TLS, Phase.TLS)
        assert "certificate verify failed" in result.detail
    other = await serve(saying(OK), server_context(authority, "other.example"))
    result = await once(sender, other, Terms(ca=ca_of(authority)))
    assert isinstance(result, Fault)
    assert "Hostname mismatch" in result.detail


async def test_a_pin_is_all_that_counts(serve, saying, sender, authority):
    """A certificate that nobody vouches for, of another name, out of date: the very one meant."""
    context = server_context(trustme.CA(), "other.example", not_after=PAST)
    receiver = await serve(saying(OK), context)
    pin = pin_of(context)
    for pins in ((pin,), ("ab" * 32, pin)):
        assert await once(sender, receiver, Terms(pins=pins)) == Answer(200, excerpt=b"ok")


async def test_another_certificate_than_the_pinned_one_gets_nothing(serve, sender, authority):
    read = []

    async def behave(peer):
        read.append(await peer.stream.receive_some(1_000))

    context = server_context(authority)
    receiver = await serve(behave, context)
    result = await once(sender, receiver, Terms(pins=("ab" * 32,)))
    assert result == Fault(
        FaultKind.TLS,
        f"the server's certificate is not a pinned one; its SHA-256 is {pin_of(context)}",
        Phase.TLS,
    )
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert not any(read)


async def test_a_pin_and_an_authority_must_both_agree(serve, saying, sender, authority):
    context = server_context(authority)
    receiver = await serve(saying(OK), context)
    pin, ca = pin_of(context), ca_of(authority)
    assert isinstance(await once(sender, receiver, Terms(ca=ca, pins=(pin,))), Answer)
    for terms in (
        Terms(ca=ca, pins=("ab" * 32,)),
        Terms(ca=ca_of(trustme.CA()), pins=(pin,)),
    ):
        result = await once(sender, receiver, terms)
        assert isinstance(result, Fault)
        assert result.kind is FaultKind.TLS


async def test_a_pin_holds_within_a_tunnel_too(serve, saying, sender, authority):
    context = server_context(authority)
    receiver = await serve(saying(OK), context)

    async def tunnel(peer):
        await peer.request()
        async with await trio.open_tcp_stream("127.0.0.1", receiver.port) as onward:
            await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
            async with trio.open_nursery() as nursery:

                async def back():
                    async for data in onward:
                        await peer.say(data)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(back)
                async for data in peer.stream:
                    await onward.send_all(data)
                nursery.cancel_scope.cancel()

    started = await serve(tunnel)
    proxy = Proxy("http", "proxy.example", started.port)
    good = Terms(pins=(pin_of(context),), proxy=proxy)
    assert await once(sender, receiver, good) == Answer(200, excerpt=b"ok")
    result = await once(sender, receiver, Terms(pins=("ab" * 32,), proxy=proxy))
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TLS, Phase.TLS)
    assert "not a pinned one" in result.detail


@contextmanager
def asking(authority, context):
    """A server that wants a certificate of an authority's; what it was shown is in the list."""
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    shown = []

    def serve_all():
        with suppress(OSError):
            while True:
                connected = listener.accept()[0]
                connected.settimeout(5)
                with (
                    connected,
                    suppress(OSError),
                    context.wrap_socket(connected, server_side=True) as stream,
                ):
                    stream.recv(1_000)
                    shown.append(stream.getpeercert()["subjectAltName"])
                    stream.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_all)
        thread.start()
        yield listener.getsockname()[1], shown
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_C25_a_client_s_certificate_is_shown_where_one_is_wanted(sender, authority):
    ca = ca_of(authority)
    with asking(authority, server_context(authority)) as (port, shown):
        receiver = Receiver(port, "https")
        good = Terms(ca=ca, identity=identity_of(authority))
        assert await once(sender, receiver, good) == Answer(200, excerpt=b"ok")
        assert shown == [(("DNS", "sender.example"),)]
        for terms in (Terms(ca=ca), Terms(ca=ca, identity=identity_of(trustme.CA()))):
            result = await once(sender, receiver, terms)
            assert isinstance(result, Fault)
            assert result.kind is FaultKind.TLS
            assert result.detail
    assert len(shown) == 1


async def test_connections_are_not_shared_between_terms(serve, sender, authority):
    async def behave(peer):
        while await peer.request():
            await peer.say(OK)

    context = server_context(authority)
    receiver = await serve(behave, context)
    receiver.host = "partner.example"
    ca, pin = Terms(ca=ca_of(authority)), Terms(pins=(pin_of(context),))
    channel = sender.channel()
    for terms, connections in ((ca, 1), (ca, 1), (Terms(ca=ca.ca), 1), (pin, 2), (pin, 2), (ca, 3)):
        result = await channel.send(receiver.url, receiver.wire(), LONG, terms)
        assert result == Answer(200, excerpt=b"ok")
        assert receiver.connections == connections
    result = await channel.send(receiver.url, receiver.wire(), LONG, PLAIN)
    assert isinstance(result, Fault)
    await channel.aclose()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_pin_is_held_to_at_each_handshake(serve, sender, authority, version):
    """A server that was the right one before is asked for its certificate again: no session."""
    resumed = []

    async def behave(peer):
        await peer.request()
        resumed.append(peer.stream.session_reused)
        await peer.say(OK)

    contexts = [server_context(authority), server_context(authority)]
    for context in contexts:
        context.maximum_version = version
    terms = Terms(pins=(pin_of(contexts[0]),))
    first, other = [await serve(behave, context) for context in contexts]
    for _ in range(2):
        assert await once(sender, first, terms) == Answer(200, excerpt=b"ok")
    assert resumed == [False, False]
    result = await once(sender, other, terms)
    assert isinstance(result, Fault)
    assert "not a pinned one" in result.detail


async def test_terms_that_have_gone_bad_leave_no_socket_behind(serve, saying, sender):
    receiver = await serve(saying(OK))
    receiver.scheme, receiver.host = "https", "partner.example"
    with pytest.raises(ValueError, match="tls_ca: holds no certificate"):
        await sender.channel().send(receiver.url, receiver.wire(), LONG, Terms(ca="hello"))
    assert receiver.connections == 0


async def test_what_holds_only_tls_s_own_affairs_is_taken_in_by_turns(authority):
    """Somebody who sends such without end must not keep the whole process busy."""

    class Silent(TlsConnection):
        __slots__ = ()

        def _decrypt(self):
            self._incoming.read()
            return

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    connection = Silent(ours, context_for(PLAIN), "partner.example")
    with theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * CHUNK)
        sent = theirs.send(bytes(20 * CHUNK))
        assert sent > MOST_AT_ONCE * CHUNK
        assert connection.read_now() is None
        assert len(ours.recv(sent)) == sent - MOST_AT_ONCE * CHUNK
    connection.close()


def test_contexts_are_shared_by_their_settings(authority):
    ca = ca_of(authority)
    assert context_for(Terms(ca=ca)) is context_for(Terms(ca=ca, direct=True))
    assert context_for(PLAIN) is context_for(Terms())
    distinct = [PLAIN, Terms(ca=ca), Terms(pins=("ab" * 32,)), Terms(ca=ca, pins=("ab" * 32,))]
    assert len({id(context_for(terms)) for terms in distinct}) == 4


@pytest.mark.parametrize("number", range(4))
def test_nothing_is_older_than_1_2_and_nothing_unverified_but_by_a_pin(authority, number):
    ca = ca_of(authority)
    terms = [PLAIN, Terms(ca=ca), Terms(pins=("ab" * 32,)), Terms(ca=ca, pins=("ab" * 32,))][number]
    context = context_for(terms)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION, "another certificate could be shown later"
    unverified = context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname
    assert unverified == (number == 2)
    if unverified:
        assert getattr(context, "pins", None) == {"ab" * 32}


ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda good: Terms(ca="hello"), "tls_ca: holds no certificate"),
        (
            lambda good: Terms(ca="-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"),
            "tls_ca: its certificates cannot be read: ",
        ),
        (lambda good: Terms(identity="hello"), "tls_client_cert: holds no certificate"),
        (
            lambda good: Terms(identity=good[good.index("-----BEGIN CERTIFICATE") :]),
            "tls_client_cert: holds no private key",
        ),
        (
            lambda good: Terms(identity=ENCRYPTED + good[good.index("-----BEGIN CERTIFICATE") :]),
            "tls_client_cert: its key needs a passphrase",
        ),
        (
            lambda good: Terms(
                identity=identity_of(trustme.CA()).partition("-----BEGIN CERTIFICATE")[0]
                + good[good.index("-----BEGIN CERTIFICATE") :]
            ),
            "tls_client_cert: cannot be used: ",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_without_the_key(authority, make, reason):
    terms = make(identity_of(authority))
    with pytest.raises(ValueError, match=reason) as caught:
        context_for(terms)
    assert "\n" not in str(caught.value)
    assert "AAAA" not in str(caught.value)
    assert "AAAA" not in repr(terms)


def test_a_key_leaves_no_file_and_no_descriptor(authority):
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    context_for(Terms(identity=identity_of(authority)))
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
