"""From a policy to its terms: files read under the rules of secrets, or one line that says why."""

from pathlib import Path

import pytest

from webhookd.config.load import load
from webhookd.config.references import SecretMissing
from webhookd.config.terms import resolve_terms
from webhookd.core.model import PLAIN, Policy, Proxy, Terms
from webhookd.errors import ConfigError

BASE = {"timeout": 1_000, "retry_delays": ()}
PIN = "ab" * 32


def kept(directory: Path, name: str, text: str, mode: int = 0o600) -> str:
    path = directory / name
    path.write_text(text)
    path.chmod(mode)
    return f"file:{path}"


def test_nothing_of_its_own_is_plain() -> None:
    assert resolve_terms(Policy(**BASE), {}) is PLAIN


def test_all_of_them(tmp_path: Path) -> None:
    policy = Policy(
        **BASE,
        tls_ca=kept(tmp_path, "ca.pem", "CA\n", 0o644),
        tls_client_cert=kept(tmp_path, "id.pem", "KEY\n"),
        tls_pin=(PIN,),
        proxy="http://me:pw@p.example:3128",
    )
    proxy = Proxy("http", "p.example", 3128, "me", "pw")
    assert resolve_terms(policy, {}) == Terms("CA", "KEY", (PIN,), proxy)
    assert "KEY" not in repr(resolve_terms(policy, {}))


def test_a_proxy_that_is_off_or_kept_elsewhere() -> None:
    assert resolve_terms(Policy(**BASE, proxy="off"), {}) == Terms(direct=True)
    environ = {"PROXY": "http://p.example:1\n"}
    found = resolve_terms(Policy(**BASE, proxy="env:PROXY"), environ)
    assert found.proxy == Proxy("http", "p.example", 1)


def test_a_credential_of_systemd_s(tmp_path: Path) -> None:
    kept(tmp_path, "id.pem", "KEY", 0o640)
    policy = Policy(**BASE, tls_client_cert="file:id.pem")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert resolve_terms(policy, environ).identity == "KEY"


def test_E14_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    policy = Policy(**BASE, tls_client_cert=kept(tmp_path, "id.pem", "KEY", 0o644))
    with pytest.raises(ConfigError, match=r"^tls_client_cert: file:.* mode 0644 lets others"):
        resolve_terms(policy, {})


@pytest.mark.parametrize("key", ["tls_ca", "tls_client_cert", "proxy"])
def test_what_is_missing_is_named_with_its_key(key: str) -> None:
    with pytest.raises(SecretMissing, match=f"^{key}: file:/nowhere/x: no such file"):
        resolve_terms(Policy(**BASE, **{key: "file:/nowhere/x"}), {})


def test_G11_a_proxy_kept_elsewhere_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"^proxy: takes a proxy's URL") as caught:
        resolve_terms(Policy(**BASE, proxy="env:PROXY"), {"PROXY": "hunter2"})
    assert "hunter2" not in str(caught.value)


def configured(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(f'database = "erp.db"\n{text}')
    return path


def test_everyone_s_proxy_is_read(tmp_path: Path) -> None:
    text = '[egress]\nproxy = "http://me:pw@p.example:3128"\n'
    settings = load(configured(tmp_path, text), database=None, environ={})
    assert settings.egress.proxy == Proxy("http", "p.example", 3128, "me", "pw")
    assert "pw" not in repr(settings)
    settings = load(configured(tmp_path, '[egress]\nproxy = ""\n'), database=None, environ={})
    assert settings.egress.proxy is None


def test_E15_a_bad_proxy_is_one_line_without_it(tmp_path: Path) -> None:
    path = configured(tmp_path, '[egress]\nproxy = "hunter2"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: egress\.proxy: takes a proxy") as caught:
        load(path, database=None, environ={})
    assert "hunter2" not in str(caught.value)


def test_a_block_has_terms_too(tmp_path: Path) -> None:
    text = f"""
[[subscriptions]]
name = "acme"
url = "https://acme.example/"
secret = "env:ACME"
tls_ca = "/etc/acme/ca.pem"
tls_client_cert = "file:acme.pem"
tls_pin = ["{PIN}"]
proxy = "http://me:pw@p.example:3128"
"""
    settings = load(configured(tmp_path, text), database=None, environ={})
    assert settings.subscriptions is not None
    assert settings.subscriptions[0].definition.policy == {
        "tls_ca": "file:/etc/acme/ca.pem",
        "tls_client_cert": "file:acme.pem",
        "tls_pin": [PIN],
        "proxy": "http://me:pw@p.example:3128",
    }
