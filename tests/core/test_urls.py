"""The URL parser: what it makes ready, what it refuses, and that it raises nothing else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webhookd.core.model import Url
from webhookd.core.urls import MAX_URL, UrlError, parse, parse_host


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a.example", Url("https", "a.example", 443, "/")),
        ("HTTPS://A.Example:443/x", Url("https", "a.example", 443, "/x")),
        ("http://a.example:8080?q=1", Url("http", "a.example", 8080, "/?q=1")),
        ("https://a.example/p?q=a/b?c@d:e", Url("https", "a.example", 443, "/p?q=a/b?c@d:e")),
        ('https://a/{x}|"%zz', Url("https", "a", 443, '/{x}|"%zz')),
        ("https://erp_gw:1/", Url("https", "erp_gw", 1, "/")),
        ("https://1.2.3.4:65535/", Url("https", "1.2.3.4", 65535, "/")),
        ("https://[2001:DB8:0::1]:8443/", Url("https", "2001:db8::1", 8443, "/")),
        ("https://[::1]", Url("https", "::1", 443, "/")),
        ("https://a.example/ä?q=☃", Url("https", "a.example", 443, "/%C3%A4?q=%E2%98%83")),
    ],
)
def test_a_url_becomes_its_parts(text: str, url: Url) -> None:
    assert parse(text) == url


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("müller.example", "xn--mller-kva.example"),
        ("MÜLLER.example", "xn--mller-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
    ],
)
def test_D12_an_international_host_becomes_its_a_label(host: str, label: str) -> None:
    url = parse(f"https://{host}/")
    assert url.host == label
    assert url.netloc == label


@pytest.mark.parametrize(
    "host",
    [
        "0x7f.1",
        "2130706433",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x7f000001",
        "a.0x",
    ],
)
def test_D7_an_odd_ipv4_form_is_refused(host: str) -> None:
    with pytest.raises(UrlError, match="no plain IPv4 address"):
        parse(f"https://{host}/")


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("\uff11\uff12\uff17.0.0.1", "full-width"),
        ("127\u30020\u30020\u30021", "ideographic"),
        ("127\uff0e0.0.1", "ideographic"),
        ("\u2460.example", "compatibility"),
    ],
)
def test_D7_what_others_would_fold_is_refused(host: str, reason: str) -> None:
    with pytest.raises(UrlError, match=reason):
        parse(f"https://{host}/")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with https://"),
        ("a.example", "does not begin with https://"),
        ("https:a.example", "is not followed by //"),
        ("https:/a.example", "is not followed by //"),
        ("https://", "host is empty"),
        ("https:///x", "host is empty"),
        ("https://:443/", "host is empty"),
        ("https://user:pw@a.example/", "user name or password"),
        ("https://@a.example/", "user name or password"),
        ("https://a.example/#x", "fragment"),
        ("https://a.example\\@b.example/", "backslash"),
        ("https://a.example/\r\nX: y", "control character"),
        ("https://a.example/\x7f", "control character"),
        ("https://a.example/\x85", "control character"),
        ("https://a.example/a b", "space"),
        ("https://a.example/\u3000", "space"),
        ("https://a.example/\ud800", "surrogate"),
        ("https://a.example:0/", "port"),
        ("https://a.example:65536/", "port"),
        ("https://a.example:99999/", "port"),
        ("https://a.example:080/", "port"),
        ("https://a.example:/", "port"),
        ("https://a.example:x/", "port"),
        ("https://a.example:\u0661/", "port"),
        ("https://::1/", "needs brackets"),
        ("https://[::1/", "not closed"),
        ("https://[::1]x/", "not closed"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[1.2.3.4]/", "no IPv6 address"),
        ("https://[v1.x]/", "no IPv6 address"),
        ("https://a%41.example/", "percent"),
        ("https://a..b/", "empty label"),
        ("https://a.example./", "empty label"),
        ("https://.a/", "empty label"),
        ("https://-a.example/", "characters other than"),
        ("https://a-.example/", "characters other than"),
        ("https://a$b.example/", "characters other than"),
        ("https://" + "a" * 64 + ".example/", "more than 63"),
        ("https://" + "a." * 127 + "example/", "longer than 253"),
        ("https://" + "ü." * 60 + "example/", "longer than 253"),
        ("https://xn--a.example/", "international name"),
        ("https://xn--.example/", "international name"),
        ("https://\u0663.example/", "international name"),
        ("https://a.example/" + "x" * MAX_URL, "longer than 8000"),
    ],
)
def test_D8_what_is_odd_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UrlError, match=reason) as caught:
        parse(text)
    assert str(caught.value).startswith("invalid url: ")
    assert str(caught.value).isprintable()
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["ftp", "file", "unix", "javascript", "ws"])
def test_D9_another_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(UrlError, match="neither https nor http"):
        parse(f"{scheme}://a.example/")


def test_a_host_alone_may_not_hold_a_port() -> None:
    with pytest.raises(UrlError, match="holds a colon"):
        parse_host("a.example:80")


SCHEMES = st.sampled_from(["https://", "http://", ""])
PIECES = st.sampled_from([*"/?#@:[]%.-_\\ ", "xn--", "0x", "::1", "ü", "。", "1", "a"])


@given(SCHEMES, st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=20).map("".join)))
@example("https://", "\ud800")
@example("https://", "\u0130.example")
@example("https://", "xn--ls8h=")
def test_any_text_is_parsed_or_refused(scheme: str, rest: str) -> None:
    try:
        url = parse(scheme + rest)
    except UrlError as error:
        url, refusal = None, str(error)
    if url is None:
        assert refusal.isprintable()
        return
    assert url.text.isascii()
    assert url.text.isprintable()
    assert " " not in url.text
    assert url.target.startswith("/")
    assert parse(url.text) == url
