"""The rules on addresses, kind by kind, and what `allow` and `deny` change about them."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.egress import (
    EgressPolicy,
    doubt_url,
    judge_address,
    judge_proxied,
    judge_proxy,
    judge_url,
    parse_policy,
)
from webhookd.core.model import Proxy
from webhookd.core.urls import UrlError, parse

HTTPS = parse("https://a.example/")
HTTP = parse("http://a.example/")
DEFAULT = EgressPolicy()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "unspecified"),  # noqa: S104
        ("0.1.2.3", "unspecified"),
        ("10.0.0.5", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("169.254.1.1", "link-local"),
        ("172.31.255.255", "private"),
        ("192.0.0.1", "reserved"),
        ("192.0.2.1", "for documentation"),
        ("192.88.99.1", "reserved"),
        ("192.168.1.1", "private"),
        ("198.19.0.1", "for benchmarking"),
        ("198.51.100.1", "for documentation"),
        ("203.0.113.1", "for documentation"),
        ("239.1.1.1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("64:ff9b:1::808:808", "local NAT64"),
        ("2001:0:808:808::1", "Teredo"),
        ("2001:2::1", "for benchmarking"),
        ("2001:10::1", "reserved"),
        ("2001:db8::1", "for documentation"),
        ("3fff::1", "for documentation"),
        ("fd12::1", "private"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("100::1", "reserved"),
        ("::ffff:0:7f00:1", "reserved"),
        ("5f00::1", "reserved"),
    ],
)
def test_D4_what_is_not_public_is_blocked(address: str, kind: str) -> None:
    reason = judge_address(address, HTTPS, DEFAULT)
    assert reason is not None
    assert reason.startswith("blocked: ")
    assert kind in reason


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_what_is_public_is_fine(address: str) -> None:
    assert judge_address(address, HTTPS, DEFAULT) is None


@pytest.mark.parametrize("form", ["::ffff:a00:5", "64:ff9b::a00:5", "2002:a00:5::1"])
def test_D4_an_embedded_address_is_judged_as_itself(form: str) -> None:
    shown = ipaddress.ip_address(form)
    assert judge_address(form, HTTPS, DEFAULT) == (
        f"blocked: {shown} (which carries 10.0.0.5) is private"
    )
    assert judge_address(form, HTTPS, parse_policy(["10.0.0.0/8"], [])) is None
    assert judge_address(form, HTTPS, parse_policy([form], [])) is None
    assert judge_address(form, HTTPS, parse_policy(["::/0"], [])) is not None


def test_the_reason_names_the_address_and_its_kind() -> None:
    assert judge_address("10.0.0.5", HTTPS, DEFAULT) == "blocked: 10.0.0.5 is private"


def test_text_that_is_no_address_is_blocked() -> None:
    assert judge_address("x\n", HTTPS, DEFAULT) == (
        "blocked: a.example resolved to 'x\\n', which is no address"
    )


METADATA = [
    "169.254.169.254",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "2001:0:a9fe:a9fe::1",
]


@pytest.mark.parametrize("address", METADATA)
def test_D4_metadata_is_opened_by_its_exact_address_alone(address: str) -> None:
    wide = parse_policy(["0.0.0.0/0", "::/0", "169.254.169.254/32", "a.example"], [])
    for policy in (DEFAULT, wide):
        reason = judge_address(address, HTTPS, policy)
        assert reason is not None
        assert "is cloud metadata" in reason
    assert judge_address(address, HTTP, parse_policy([address], [])) is None


@pytest.mark.parametrize("allow", ["10.0.0.0/8", "10.0.0.5", "a.example", "*.example"])
def test_allow_opens_an_address_and_http(allow: str) -> None:
    policy = parse_policy([allow], [])
    assert judge_address("10.0.0.5", HTTPS, policy) is None
    assert judge_address("10.0.0.5", HTTP, policy) is None


@pytest.mark.parametrize("allow", ["10.1.0.0/16", "10.0.0.6", "b.example", "*.a.example"])
def test_allow_opens_nothing_else(allow: str) -> None:
    assert judge_address("10.0.0.5", HTTPS, parse_policy([allow], [])) is not None


@pytest.mark.parametrize("deny", ["8.0.0.0/8", "8.8.8.8", "a.example", "*.example"])
@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_deny_beats_allow(address: str, deny: str) -> None:
    policy = parse_policy(["0.0.0.0/0", "::/0", "a.example", "8.8.8.8"], [deny])
    reason = judge_address(address, HTTPS, policy)
    assert reason is not None
    assert reason.endswith("is in deny")


def test_D9_http_is_blocked_to_a_public_address() -> None:
    reason = judge_address("8.8.8.8", HTTP, DEFAULT)
    assert reason is not None
    assert reason.startswith("blocked: 8.8.8.8 needs https")


@pytest.mark.parametrize(
    ("url", "allow", "deny", "reason"),
    [
        ("https://a.example/", [], [], None),
        ("https://10.0.0.5/", [], [], "is private"),
        ("https://10.0.0.5/", ["10.0.0.5"], [], None),
        ("https://[::1]/", [], [], "is loopback"),
        ("https://8.8.8.8/", [], [], None),
        ("http://8.8.8.8/", [], [], "needs https"),
        ("https://a.example/", [], ["a.example"], "a.example is in deny"),
        ("https://b.a.example/", [], ["*.a.example"], "is in deny"),
        ("https://a.example/", [], ["*.a.example"], None),
        ("http://a.example/", [], [], "needs https"),
        ("http://a.example/", ["a.example"], [], None),
        ("http://a.example/", ["10.0.0.0/8"], [], None),  # it may resolve to that range
        ("http://a.example/", ["10.0.0.1"], [], None),
    ],
)
def test_D10_a_url_is_judged_when_it_is_set(
    url: str, allow: list[str], deny: list[str], reason: str | None
) -> None:
    found = judge_url(parse(url), parse_policy(allow, deny))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.5/8", "10.0.0.0/33", "a..b", "*.", "*", "fe80::1%eth0", "0x7f.1", "a:80"]
)
def test_an_entry_that_is_nothing_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="egress") as caught:
        parse_policy([], ["b.example", entry])
    assert str(caught.value).startswith(f"egress.deny: {entry!r}: ")


def test_a_host_entry_is_normalised_as_a_url_is() -> None:
    policy = parse_policy(["MÜLLER.example"], [])
    assert judge_address("10.0.0.1", parse("https://müller.example/"), policy) is None


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_fine(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if judge_address(str(address), HTTPS, DEFAULT) is None:
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert not address.is_unspecified


@pytest.mark.parametrize(
    ("url", "allow", "doubted"),
    [
        ("https://gw.example/", [], False),
        ("https://gw.example/", ["10.0.0.0/8"], False),
        ("http://gw.example/", ["10.0.0.0/8"], True),
        ("http://gw.example/", ["10.0.0.1"], True),
        ("http://gw.example/", ["10.0.0.1", "*.example"], False),
        ("http://10.0.0.1/", ["10.0.0.1"], False),
    ],
)
def test_http_to_a_name_is_doubted_where_allow_has_addresses(url, allow, doubted):
    policy = parse_policy(allow, [])
    assert judge_url(parse(url), policy) is None
    said = doubt_url(parse(url), policy)
    assert (said is not None) is doubted
    if said is not None:
        assert said.startswith("http to gw.example is blocked at each attempt, unless an address")


def test_where_a_policy_comes_from_decides_nothing():
    assert replace(parse_policy([], []), source="/etc/webhookd.toml") == parse_policy([], [])


@pytest.mark.parametrize(
    ("address", "allow", "reason"),
    [
        ("8.8.8.8", [], "blocked: 8.8.8.8 is an address of this machine"),
        ("2606:4700::1", [], "blocked: 2606:4700::1 is an address of this machine"),
        ("10.0.0.5", [], "blocked: 10.0.0.5 is private"),
        ("8.8.8.8", ["8.8.8.8"], None),
        ("8.8.8.8", ["8.8.8.0/24"], None),
        ("8.8.8.8", ["a.example"], None),
    ],
)
def test_D10_an_address_of_this_machine_is_blocked_unless_allowed(
    address: str, allow: list[str], reason: str | None
) -> None:
    assert judge_address(address, HTTPS, parse_policy(allow, []), is_own=True) == reason


PROXY = Proxy("http", "proxy.example", 3128)


@pytest.mark.parametrize(
    ("url", "allow", "deny", "reason"),
    [
        ("https://a.example/", [], [], None),
        ("https://8.8.8.8/", [], [], None),
        ("https://10.0.0.5/", [], [], "10.0.0.5 is private"),
        ("https://10.0.0.5/", ["10.0.0.0/8"], [], None),
        ("https://169.254.169.254/", ["169.254.0.0/16"], [], "cloud metadata"),
        ("https://a.example/", [], ["*.example"], "a.example is in deny"),
        ("https://erp/", [], [], "a name of the inside"),
        ("https://localhost/", [], [], "a name of the inside"),
        ("https://metadata.google.internal/", [], [], "a name of the inside"),
        ("https://gw.local/", ["gw.local"], [], None),
        ("http://gw.local/", ["gw.local"], [], None),
        ("http://a.example/", [], [], "needs https"),
        ("http://a.example/", ["10.0.0.0/8"], [], "needs https"),
    ],
)
def test_D4_what_a_proxy_may_be_asked_for(
    url: str, allow: list[str], deny: list[str], reason: str | None
) -> None:
    found = judge_proxied(parse(url), parse_policy(allow, deny, PROXY))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith("blocked: ")
        assert reason in found


@pytest.mark.parametrize(
    ("address", "allow", "deny", "reason"),
    [
        ("10.0.0.3", [], [], None),
        ("127.0.0.1", [], [], None),
        ("fe80::1%eth0", [], [], None),
        ("10.0.0.3", [], ["10.0.0.0/8"], "10.0.0.3 is in deny, and the proxy proxy.example"),
        ("10.0.0.3", [], ["proxy.example"], "is in deny"),
        ("169.254.169.254", [], [], "cloud metadata"),
        ("169.254.169.254", ["169.254.169.254"], [], None),
        ("x", [], [], "no address"),
    ],
)
def test_a_proxy_was_named_by_the_operator(
    address: str, allow: list[str], deny: list[str], reason: str | None
) -> None:
    found = judge_proxy(address, PROXY, parse_policy(allow, deny))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found


def test_a_policy_with_another_proxy_is_another_policy() -> None:
    assert parse_policy([], [], PROXY) != parse_policy([], [])
    assert "hunter2" not in repr(parse_policy([], [], replace(PROXY, password="hunter2")))


INSIDE = [
    # one address of the inside, in the forms that some library reads as it
    *("10.0.0.5", "10.5", "10.0.5", "167772165", "0xa000005", "0xa.0.0.5", "0xA.0x0.0x0.0x5"),
    *(
        "012.0.0.5",
        "012.0.0.05",
        "01200000005",
        "10.0.0.05",
        "010.0.0.5",
        "10.0.0.5.",
        "10.0.0.0x5",
    ),
    *("\uff11\uff10.\uff10.\uff10.\uff15", "10\u30020\u30020\u30025", "10\uff0e0\uff0e0\uff0e5"),
    *(
        "10\uff610\uff610\uff615",
        "\u2460\u24ea.0.0.5",
        "%31%30.0.0.5",
        "10.0.0.5%00",
        "10.0.0.5%25eth0",
    ),
    *("[::ffff:10.0.0.5]", "[::ffff:a00:5]", "[0:0:0:0:0:ffff:a00:5]", "[::10.0.0.5]", "[::a00:5]"),
    *("[64:ff9b::10.0.0.5]", "[64:ff9b::a00:5]", "[64:ff9b:1::a00:5]", "[2002:a00:5::1]"),
    *("[2001:0:a00:5::1]", "[2001:0:0808:808::f5ff:fffa]", "[::ffff:0:a00:5]", "[fe80::1%25eth0]"),
    *("[fe80::1%eth0]", "[::ffff:10.0.0.5%251]", "[::ffff:012.0.0.5]"),
]


@pytest.mark.parametrize("host", INSIDE)
def test_D4_D7_no_spelling_of_an_inside_address_gets_through(host: str) -> None:
    try:
        url = parse(f"https://{host}/")
    except UrlError:
        return
    assert judge_url(url, DEFAULT) is not None
    assert judge_proxied(url, DEFAULT) is not None
    assert judge_address(url.host, url, DEFAULT) is not None


def test_D4_D7_there_are_38_spellings() -> None:
    assert len(set(INSIDE)) == 38


def test_D10_an_address_of_this_machine_is_blocked_through_a_proxy_too() -> None:
    url = parse("https://93.184.216.34/in")
    assert judge_proxied(url, DEFAULT) is None
    assert judge_proxied(url, DEFAULT, is_own=True) == (
        "blocked: 93.184.216.34 is an address of this machine"
    )
