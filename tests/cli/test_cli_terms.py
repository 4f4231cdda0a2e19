"""TLS and proxies on the command line: looked at when they are given, shown without secrets."""

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
