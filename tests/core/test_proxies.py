"""A proxy's URL: its parts, what is refused, and that no refusal repeats a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.model import PLAIN, Proxy, Terms
from webhookd.core.proxies import confidential, on_the_way, parse


@pytest.mark.parametrize(
    ("text", "proxy", "shown"),
    [
        ("http://p.example:3128", Proxy("http", "p.example", 3128), "http://p.example:3128"),
        ("HTTPS://P.Example/", Proxy("https", "p.example", 443), "https://p.example:443"),
        ("http://10.0.0.3", Proxy("http", "10.0.0.3", 80), "http://10.0.0.3:80"),
        ("http://[::1]:8080", Proxy("http", "::1", 8080), "http://[::1]:8080"),
        (
            "http://me:p%40ss%2Fw:x@p.example:1",
            Proxy("http", "p.example", 1, "me", "p@ss/w:x"),
            "http://***@p.example:1",
        ),
        ("http://me@p.example", Proxy("http", "p.example", 80, "me"), "http://***@p.example:80"),
    ],
)
def test_a_proxy_becomes_its_parts(text: str, proxy: Proxy, shown: str) -> None:
    found = parse(text)
    assert found == proxy
    assert found.shown == shown
    assert "p@ss" not in repr(found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "takes a proxy's URL, like"),
        ("p.example:3128", "takes a proxy's URL, like"),
        ("socks5://p.example", "takes a proxy's URL, like"),
        ("http://", "the host is empty"),
        ("http://me:hunter2@", "the host is empty"),
        ("http://p.example/path", "without a path"),
        ("http://me:hun/ter2@p.example", "without a path"),
        ("http://me:hun@ter2@p.example", "without a path"),
        ("http://p.example?q=hunter2", "without a query"),
        ("http://p.example:0", "port"),
        ("http://0x7f.1:3128", "no plain IPv4"),
        ("http://a..b:3128", "empty label"),
        ("http://me:hunter2#x@p.example:99999", "port"),
        ("http://a%3Ab:hunter2@p.example", "cannot be sent"),
        ("http://me:hunter2%0D%0AX@p.example", "cannot be sent"),
    ],
)
def test_what_is_no_proxy_is_refused_without_its_text(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse(text)
    assert str(caught.value).isprintable()
    assert "hunter" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_proxy_or_refused(rest: str) -> None:
    try:
        said = parse(f"http://{rest}").shown
    except ValueError as error:
        said = str(error)
    assert said.isprintable()
    assert said.isascii()


def test_what_of_it_must_not_be_kept() -> None:
    found = confidential(Proxy("http", "p.example", 1, "me", "hunter2"))
    assert found == ("hunter2", "me:hunter2", "bWU6aHVudGVyMg==")


def test_who_goes_by_which_proxy() -> None:
    own, everyones = Proxy("http", "own.example", 80), Proxy("http", "all.example", 80)
    assert on_the_way(PLAIN, None) is None
    assert on_the_way(PLAIN, everyones) is everyones
    assert on_the_way(Terms(proxy=own), everyones) is own
    assert on_the_way(Terms(proxy=own), None) is own
    assert on_the_way(Terms(direct=True), everyones) is None
