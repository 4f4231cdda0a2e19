"""TLS: whom it trusts, what it says when it does not, and what it leaves behind."""

import datetime
import socket
import ssl
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from webhookd.core.egress import parse_policy
from webhookd.core.model import Answer, Fault, FaultKind, Phase, Terms
from webhookd.core.urls import parse
from webhookd.http.address import Resolver
from webhookd.http.channel import Sender
from webhookd.http.limits import Limits
from webhookd.http.tls import make_ssl_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAIL = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
BIG = b"x" * 8_000_000
LONG = 3_000
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


def server_context(authority, *names, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("partner.example",)), **options).configure_cert(context)
    return context


@pytest.fixture
def tls(authority):
    """A sender that trusts the authority; `partner.example` is on loopback."""
    context = make_ssl_context()
    authority.configure_trust(context)
    resolver = Resolver(lookup=lambda host: ["127.0.0.1"])
    return Sender(
        parse_policy(["127.0.0.0/8"], []),
        resolver=resolver,
        limits=Limits(body_time=150),
        ssl_context=context,
    )


def fds():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def named(serve, behaviour, context):
    receiver = await serve(behaviour, context)
    receiver.host = "partner.example"
    return receiver


async def once(sender, receiver, body=b"{}", span=LONG):
    channel = sender.channel()
    try:
        return await channel.send(receiver.url, receiver.wire(body), span)
    finally:
        await channel.aclose()


async def test_D12_the_host_of_the_url_is_asked_for(serve, saying, tls, authority):
    asked = []
    context = server_context(authority, "xn--mller-kva.example")
    context.sni_callback = lambda stream, name, old: asked.append(name)
    receiver = await serve(saying(OK), context)
    receiver.host = "müller.example"
    assert await once(tls, receiver) == Answer(200, excerpt=b"ok")
    assert asked == ["xn--mller-kva.example"]


async def test_a_kept_connection_serves_many_requests(serve, saying, tls, authority):
    receiver = await named(serve, saying(OK, FAIL, OK), server_context(authority))
    channel = tls.channel()
    results = [await channel.send(receiver.url, receiver.wire(), LONG) for _ in range(3)]
    assert [result.status for result in results] == [200, 500, 200]
    assert receiver.connections == 1
    await channel.aclose()


@pytest.mark.parametrize("apart", [False, True])
async def test_C21_second_answer_over_tls_is_dropped(serve, tls, authority, apart):
    async def behave(peer):
        if peer.number == 1:
            await peer.request()
            await peer.say(FAIL if apart else FAIL + OK)
            if apart:
                await peer.say(OK)
        await peer.request()
        await peer.say(b"HTTP/1.1 204 N\r\n\r\n")

    receiver = await named(serve, behave, server_context(authority))
    channel = tls.channel()
    assert (await channel.send(receiver.url, receiver.wire(), LONG)).status == 500
    await trio.sleep(0.02)
    assert (await channel.send(receiver.url, receiver.wire(), LONG)).status == 204
    assert receiver.connections == 2
    await channel.aclose()


async def test_C23_a_closed_tls_connection_is_replaced(serve, tls, authority):
    async def behave(peer):
        await peer.request()
        await peer.say(OK)
        await peer.request()

    receiver = await named(serve, behave, server_context(authority))
    channel = tls.channel()
    for _ in range(3):
        assert (await channel.send(receiver.url, receiver.wire(), LONG)).status == 200
    assert receiver.connections == 3
    await channel.aclose()


async def test_C2_an_abrupt_end_is_told_by_the_framing(serve, saying, tls, authority):
    receiver = await named(serve, saying(b"HTTP/1.1 200 K\r\n\r\nabc"), server_context(authority))
    assert await once(tls, receiver) == Answer(200, excerpt=b"abc")
    short = b"HTTP/1.1 500 K\r\nContent-Length: 9\r\n\r\nabc"
    receiver = await named(serve, saying(short), server_context(authority))
    result = await once(tls, receiver)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.CLOSED, Phase.BODY)


async def test_a_long_body_goes_through(serve, tls, authority):
    sizes = []

    async def behave(peer):
        sizes.append(len(await peer.request()))
        await peer.say(OK)

    receiver = await named(serve, behave, server_context(authority))
    assert await once(tls, receiver, BIG, 10_000) == Answer(200, excerpt=b"ok")
    assert sizes == [len(receiver.wire(BIG))]


async def test_C8_a_413_before_the_body_was_read_over_tls(serve, tls, authority):
    async def behave(peer):
        await peer.stream.receive_some(100)
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await trio.sleep_forever()

    receiver = await named(serve, behave, server_context(authority))
    result = await once(tls, receiver, BIG)
    assert isinstance(result, Answer)
    assert result.status == 413


async def test_C20_a_body_that_is_never_read_over_tls(serve, tls, authority):
    async def behave(peer):
        await peer.stream.do_handshake()
        await trio.sleep_forever()

    receiver = await named(serve, behave, server_context(authority))
    result = await once(tls, receiver, BIG, span=300)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TIMEOUT, Phase.SEND)


@contextmanager
def answering(context):
    """A server with the alerts of OpenSSL, which trio's keeps to itself."""

    def serve_one():
        with suppress(OSError):
            connected = listener.accept()[0]
            connected.settimeout(5)
            with connected, context.wrap_socket(connected, server_side=True) as stream:
                stream.recv(1000)
                stream.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve_one)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def expired(authority):
    return server_context(authority, not_after=PAST)


def unknown(authority):
    return server_context(trustme.CA())


def wrong_host(authority):
    return server_context(authority, "other.example")


def old_version(authority):
    context = server_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def self_signed(authority):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "partner.example")])
    alternative = x509.SubjectAlternativeName([x509.DNSName("partner.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    return showing(made, key)


SHA_1 = Path(__file__).with_name("signed_with_sha_1.pem")
"""A key, a certificate for `partner.example` until 2126, and its authority's, in this order:
what makes certificates for tests does not sign with SHA-1 any more."""


def old_signature(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(SHA_1)
    return context


def showing(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with tempfile.NamedTemporaryFile() as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        file.flush()
        context.load_cert_chain(file.name)
    return context


def wants_client(authority):
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (expired, "certificate has expired"),
        (unknown, "unable to get local issuer certificate"),
        (wrong_host, "Hostname mismatch"),
        (self_signed, "self-signed certificate"),
        (old_version, "PROTOCOL"),
        (wants_client, "the server wants a client certificate"),
        (lambda authority: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "refuses the handshake"),
    ],
)
async def test_C25_bad_tls_is_a_fault_with_the_reason(tls, authority, make, detail):
    with answering(make(authority)) as port:
        url = parse(f"https://partner.example:{port}/")
        result = await tls.channel().send(url, b"GET / HTTP/1.1\r\n\r\n", LONG)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.TLS
    assert detail in result.detail


async def test_C25_a_signature_by_sha_1_is_refused_though_its_authority_is_trusted(tls, authority):
    certificate = SHA_1.read_text().rpartition("-----BEGIN CERTIFICATE-----")
    terms = Terms(ca="".join(certificate[1:]))
    with answering(old_signature(authority)) as port:
        url = parse(f"https://partner.example:{port}/")
        result = await tls.channel().send(url, b"GET / HTTP/1.1\r\n\r\n", LONG, terms)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.TLS
    assert "digest algorithm too weak" in result.detail


async def test_C25_an_alert_while_we_send_is_the_reason(tls, authority):
    with answering(wants_client(authority)) as port:
        url = parse(f"https://partner.example:{port}/")
        result = await tls.channel().send(url, b"x" * 20_000_000, LONG)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TLS, Phase.SEND)
    assert "client certificate" in result.detail


async def test_C24_http_on_the_port_of_https(serve, tls):
    async def behave(peer):
        await peer.stream.receive_some(10)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    receiver = await named(serve, behave, None)
    receiver.scheme = "https"
    result = await once(tls, receiver)
    assert isinstance(result, Fault)
    assert (result.kind, result.phase) == (FaultKind.TLS, Phase.TLS)
    assert result.detail.startswith("the port does not speak TLS")


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_C19_an_end_within_the_handshake(serve, tls, end):
    async def behave(peer):
        await peer.stream.receive_some(10_000)
        if end == "reset":
            await peer.reset()

    receiver = await named(serve, behave, None)
    receiver.scheme = "https"
    result = await once(tls, receiver)
    assert isinstance(result, Fault)
    kind = FaultKind.RESET if end == "reset" else FaultKind.CLOSED
    assert (result.kind, result.phase) == (kind, Phase.TLS)


async def test_C25_a_hung_handshake_is_freed_at_the_deadline(serve, tls):
    async def behave(peer):
        await trio.sleep_forever()

    receiver = await named(serve, behave, None)
    receiver.scheme = "https"
    before = fds()
    for _ in range(3):
        result = await once(tls, receiver, span=50)
        assert result == Fault(
            FaultKind.TIMEOUT, "no answer within 0.05 s, while agreeing on TLS", Phase.TLS
        )
    # What is left is the receiver's end of each of the three.
    assert fds() <= before + 3


def test_D11_the_environment_does_not_choose_whom_to_trust(monkeypatch, tmp_path, authority):
    bundle = tmp_path / "trust.pem"
    authority.cert_pem.write_to_path(bundle)
    before = make_ssl_context().cert_store_stats()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = make_ssl_context()
    assert context.cert_store_stats() == before
    assert context.keylog_filename is None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
