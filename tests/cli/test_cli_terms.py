"""TLS and proxies on the command line: looked at when they are given, shown without secrets."""

import http.server
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

ADD = ("subscriptions", "add", "https://partner.example/in", "--name", "acme")
UPDATE = ("subscriptions", "update", "acme")
PIN = "ab" * 32


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def kept(folder: Path, name: str, text: bytes, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_what_is_given_is_shown_and_taken_back(webhookd, tmp_path, authority):
    ca = kept(tmp_path, "ca.pem", authority.cert_pem.bytes(), 0o644)
    pem = authority.issue_cert("us.example").private_key_and_cert_chain_pem.bytes()
    identity = kept(tmp_path, "id.pem", pem)
    options = ("--tls-ca", str(ca), "--tls-client-cert", str(identity), "--tls-pin", PIN)
    webhookd(*ADD, *options, "--proxy", "off")
    policy = webhookd.json("subscriptions", "show", "acme")["policy"]
    assert policy["tls_ca"] == f"file:{ca}"
    assert policy["tls_client_cert"] == f"file:{identity}"
    assert (policy["tls_pin"], policy["proxy"]) == ([PIN], "off")
    assert "ok       subscription acme: enabled" in webhookd("check").stdout
    defaults = [part for option in options[::2] for part in (option, "default")]
    after = webhookd.json(*UPDATE, *defaults, "--proxy", "default")["policy"]
    assert [after[key] for key in ("tls_ca", "tls_client_cert", "tls_pin", "proxy")] == [
        *("system", "none", [], "default")
    ]


def test_G11_credentials_of_a_proxy_are_shown_nowhere(webhookd):
    result = webhookd(*ADD, "--proxy", "http://me:hunter2@p.example:3128")
    assert "can be seen in the process list" in result.stderr
    said = [result.output]
    for command in (("subscriptions", "show", "acme"), ("check",), ("status",)):
        said += [webhookd.invoke(*command, *more).output for more in ((), ("--json",))]
    assert "hunter2" not in "".join(said)
    assert "http://***@p.example:3128" in said[1]
    line = webhookd.fails(*UPDATE, "--proxy", "http://me:hunter2@p.example:0", code=2)
    assert line.startswith("--proxy: ")
    assert "hunter2" not in line


def test_a_file_that_is_not_there_yet_is_a_warning(webhookd, tmp_path):
    result = webhookd(*ADD, "--tls-ca", str(tmp_path / "ca.pem"))
    assert "warning: tls_ca: file:" in result.stderr
    assert "until it is there, nothing is sent" in result.stderr
    assert "warning  subscription acme: tls_ca: file:" in webhookd("check").stdout


@pytest.mark.parametrize(
    ("option", "text", "mode", "reason"),
    [
        ("--tls-ca", b"hello", 0o644, "tls_ca: holds no certificate"),
        ("--tls-client-cert", b"hello", 0o600, "tls_client_cert: holds no certificate"),
        ("--tls-client-cert", b"hello", 0o644, "mode 0644 lets others at it"),
        ("--proxy", b"hello", 0o600, "proxy: takes a proxy's URL"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(webhookd, tmp_path, option, text, mode, reason):
    path = kept(tmp_path, "kept", text, mode)
    value = f"file:{path}"
    assert reason in webhookd.fails(*ADD, option, value, code=3)
    webhookd(*ADD)
    assert reason in webhookd.fails(*UPDATE, option, value, code=3)


def test_a_file_that_has_gone_bad_is_a_finding(webhookd, tmp_path, authority):
    path = kept(tmp_path, "ca.pem", authority.cert_pem.bytes(), 0o644)
    webhookd(*ADD, "--tls-ca", str(path))
    path.write_bytes(b"hello")
    assert "fault    subscription acme: tls_ca: holds no" in webhookd("check", code=1).stdout
    webhookd(*UPDATE, "--timeout", "5s")  # which has nothing to do with it
    assert "tls_ca: holds no" in webhookd.fails(*UPDATE, "--tls-pin", PIN, code=3)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--tls-pin", "ab", "--tls-pin: takes the SHA-256 fingerprint"),
        ("--tls-ca", "-----BEGIN CERTIFICATE-----", "--tls-ca: takes the path of a file"),
        ("--proxy", "socks5://p.example", "--proxy: takes a proxy's URL"),
    ],
)
def test_what_can_be_none_of_them_is_a_usage_error(webhookd, option, value, reason):
    assert webhookd.fails(*ADD, f"{option}={value}", code=2).startswith(reason)


class Answering(http.server.BaseHTTPRequestHandler):
    """A receiver, and a proxy that answers in its place."""

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        self.server.asked.append((self.command, self.path, self.headers))
        self.send_response(200)
        self.send_header("WebHook-Allowed-Origin", "*")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        self.answer()

    def do_OPTIONS(self):
        self.answer()

    def log_message(self, *_):
        pass


@contextmanager
def serving(context=None):
    server = http.server.HTTPServer(("127.0.0.1", 0), Answering)
    server.asked = []
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.handle_error = lambda *_: None  # a sender that does not trust it hangs up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("handshake", [False, True])
def test_a_try_and_a_handshake_go_by_the_subscription_s_terms(
    webhookd, tmp_path, authority, handshake
):
    webhookd.configure('[egress]\nallow = ["localhost"]\n')
    ca = kept(tmp_path, "ca.pem", authority.cert_pem.bytes(), 0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    attempt = ("subscriptions", "test", "acme", *(("--handshake",) if handshake else ()))
    with serving(context) as receiver:
        url = f"https://localhost:{receiver.server_port}/in"
        webhookd("subscriptions", "add", url, "--name", "acme", "--profile", "cloudevents")
        assert "tls: certificate verify failed" in webhookd(*attempt, code=1).output
        webhookd(*UPDATE, "--tls-ca", str(ca))
        webhookd(*attempt)
        webhookd(*UPDATE, "--tls-pin", PIN)
        assert "is not a pinned one" in webhookd(*attempt, code=1).output
        assert len(receiver.asked) == 1
        webhookd(*UPDATE, "--tls-pin", "none")
        ca.unlink()
        assert "tls_ca: file:" in webhookd(*attempt, code=1).stderr
        assert len(receiver.asked) == 1


@pytest.mark.parametrize("handshake", [False, True])
@pytest.mark.parametrize("everyones", [False, True])
def test_a_try_and_a_handshake_go_through_the_proxy(webhookd, handshake, everyones):
    with serving() as proxy:
        at = f"http://me:hunter2hunter2@127.0.0.1:{proxy.server_port}"
        egress = '[egress]\nallow = ["127.0.0.0/8"]\n'
        webhookd.configure(egress + (f'proxy = "{at}"\n' if everyones else ""))
        options = () if everyones else ("--proxy", at)
        url = "http://127.0.0.9:9/in"
        webhookd(
            *("subscriptions", "add", url, "--name", "acme", "--profile", "cloudevents"), *options
        )
        more = ("--handshake",) if handshake else ()
        said = webhookd("subscriptions", "test", "acme", *more).output
        assert "hunter2" not in said
        ((method, path, headers),) = proxy.asked
        assert (method, path) == ("OPTIONS" if handshake else "POST", url)
        assert headers["Proxy-Authorization"].startswith("Basic ")
        webhookd(*UPDATE, "--proxy", "off")
        said = webhookd("subscriptions", "test", "acme", *more, code=1).output
        assert "refused: 127.0.0.9 port 9" in said
        assert len(proxy.asked) == 1


def test_a_profile_s_terms_are_looked_at_too(webhookd, tmp_path, authority):
    path = tmp_path / "ca.pem"
    mine = f'[profiles.mine]\nbase = "standard"\ntls_ca = "{path}"\n'
    webhookd.configure(mine)
    add = (*ADD, "--profile", "mine")
    path.write_bytes(b"hello")
    assert "tls_ca: holds no certificate" in webhookd.fails(*add, code=3)
    path.write_bytes(authority.cert_pem.bytes())
    webhookd(*add)
    path.write_bytes(b"hello")
    assert "fault    subscription acme: tls_ca: holds no" in webhookd("check", code=1).stdout


def test_a_block_s_terms_are_looked_at_when_it_is_applied(webhookd, tmp_path, monkeypatch):
    monkeypatch.setenv("ACME", "whsec_" + "QUFB" * 8)
    path = tmp_path / "ca.pem"
    webhookd.configure(
        '[[subscriptions]]\nname = "acme"\nurl = "https://partner.example/in"\n'
        f'secret = "env:ACME"\ntls_ca = "{path}"\n'
    )
    said = webhookd("subscriptions", "apply", "--dry-run").stderr
    assert "subscriptions[1]: tls_ca: file:" in said
    assert "until it is there, nothing is sent" in said
    path.write_bytes(b"hello")
    line = webhookd.fails("subscriptions", "apply", code=3)
    assert "subscriptions[1]: tls_ca: holds no certificate" in line
