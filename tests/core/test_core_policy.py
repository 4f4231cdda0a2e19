import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core import policy
from webhookd.core.model import Ordering, Policy

PIN = "ab" * 32
PRESET = Policy(timeout=20_000, retry_delays=(5_000, 300_000))


def test_nothing_of_its_own() -> None:
    assert policy.apply(PRESET, {}) == PRESET


def test_what_a_subscription_has_of_its_own_wins() -> None:
    changed = policy.apply(
        PRESET,
        {
            "timeout": 1,
            "retry_delays": [7, 8],
            "jitter": 0.5,
            "ordering": "none",
            "concurrency": 3,
            "retry_after_max": 9,
            "rate_limit": 2.5,
            "max_age": 10,
            "max_block": 11,
            "coalesce": True,
            "permanent_statuses": ["404", "5xx"],
            "gone_disables": True,
            "failing_after": 12,
            "disable_after_failures": 13,
            "disable_after": 14,
        },
    )
    assert changed == Policy(
        1, (7, 8), 0.5, Ordering.NONE, 3, 9, 2.5, 10, 11, True, ("404", "5xx"), True, 12, 13, 14
    )
    assert isinstance(changed.retry_delays, tuple)
    assert isinstance(changed.permanent_statuses, tuple)


@pytest.mark.parametrize(
    "overrides",
    [
        {"colour": 1},
        {"ordering": "alphabetical"},
        {"retry_delays": 5},
        {"permanent_statuses": 404},
    ],
)
def test_what_parse_never_returns_is_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown policy|not a valid Ordering"):
        policy.apply(PRESET, overrides)


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("timeout", "30s", 30_000),
        ("timeout", 120, 120_000),
        ("timeout", "1ms", 1),
        ("retry_delays", "5s, 5m,2h", [5_000, 300_000, 7_200_000]),
        ("retry_delays", ["5s", 1], [5_000, 1_000]),
        ("retry_delays", (), []),
        ("retry_delays", [0] * 50, [0] * 50),
        ("jitter", 0, 0.0),
        ("jitter", "0.25", 0.25),
        ("jitter", 1, 1.0),
        ("ordering", "subscription", "subscription"),
        ("concurrency", 1, 1),
        ("concurrency", "256", 256),
        ("retry_after_max", "1h", 3_600_000),
        ("rate_limit", "10/s", 10.0),
        ("rate_limit", " 600 / m ", 10.0),
        ("rate_limit", "1/d", 1 / 86_400),
        ("rate_limit", "1.5/h", 1.5 / 3_600),
        ("rate_limit", "100000/s", 100_000.0),
        ("rate_limit", "off", 0.0),
        ("rate_limit", 0, 0.0),
        ("max_age", "7d", 604_800_000),
        ("max_age", 1.5, 1_500),
        ("max_age", "off", 0),
        ("max_age", "0", 0),
        ("max_block", "30m", 1_800_000),
        ("max_block", 0, 0),
        ("coalesce", True, True),
        ("coalesce", "on", True),
        ("coalesce", "yes", True),
        ("coalesce", "true", True),
        ("coalesce", False, False),
        ("coalesce", "off", False),
        ("coalesce", "no", False),
        ("coalesce", "false", False),
        ("permanent_statuses", "404, 4XX,500", ["404", "4xx", "500"]),
        ("permanent_statuses", [404, "3xx"], ["404", "3xx"]),
        ("permanent_statuses", (), []),
        ("permanent_statuses", "", []),
        ("permanent_statuses", ["408"] * 50, ["408"] * 50),
        ("gone_disables", "true", True),
        ("failing_after", 1, 1),
        ("failing_after", "1000000", 1_000_000),
        ("disable_after_failures", 10, 10),
        ("disable_after_failures", "1000000", 1_000_000),
        ("disable_after_failures", "off", 0),
        ("disable_after_failures", 0, 0),
        ("disable_after", "5d", 432_000_000),
        ("disable_after", "off", 0),
        ("tls_ca", "/etc/ca.pem", "file:/etc/ca.pem"),
        ("tls_ca", "file:ca.pem", "file:ca.pem"),
        ("tls_ca", "system", ""),
        ("tls_client_cert", "env:IDENTITY", "env:IDENTITY"),
        ("tls_client_cert", "none", ""),
        ("tls_pin", "", []),
        ("tls_pin", "none", []),
        ("tls_pin", f"SHA256:{PIN.upper()}, {PIN}", [PIN]),
        ("tls_pin", [":".join(["AB"] * 32)], [PIN]),
        ("proxy", "off", "off"),
        ("proxy", "default", ""),
        ("proxy", "env:PROXY", "env:PROXY"),
        ("proxy", "http://me:pw@p.example:3128", "http://me:pw@p.example:3128"),
    ],
)
def test_values_as_people_write_them(name: str, value: object, parsed: object) -> None:
    got = policy.parse(name, value)
    assert (got, type(got)) == (parsed, type(parsed))
    assert isinstance(policy.apply(PRESET, {name: got}), Policy)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("colour", "red", "unknown policy colour; there are coalesce, concurrency, disable_after"),
        ("timeout", 0, "takes 1ms to 2m, not 0"),
        ("timeout", "121s", "takes 1ms to 2m, not 121s"),
        ("timeout", "soon", "a duration is seconds"),
        ("retry_delays", 5, "takes durations, like"),
        ("retry_delays", {"5s"}, "takes durations, like"),
        ("retry_delays", "5s,", "a duration is seconds"),
        ("retry_delays", "1s, bogus", "'bogus': a duration is seconds"),
        ("retry_delays", [1] * 51, "takes at most 50 delays"),
        ("jitter", -0.1, "takes a share from 0 to 1"),
        ("jitter", 1.1, "takes a share from 0 to 1"),
        ("jitter", "nan", "takes a share from 0 to 1"),
        ("jitter", "much", "takes a share from 0 to 1"),
        ("ordering", "alphabetical", "takes one of aggregate, subscription, none"),
        ("concurrency", 0, "takes a whole number from 1 to 256"),
        ("concurrency", 257, "takes a whole number from 1 to 256"),
        ("concurrency", 1.5, "takes a whole number from 1 to 256"),
        ("concurrency", True, "takes a whole number from 1 to 256"),
        ("retry_after_max", -1, "a duration lies between"),
        ("rate_limit", 10, 'takes attempts over time, like "10/s"'),
        ("rate_limit", "10", 'takes attempts over time, like "10/s"'),
        ("rate_limit", "0/s", 'takes attempts over time, like "10/s"'),
        ("rate_limit", "-1/s", 'takes attempts over time, like "10/s"'),
        ("rate_limit", "1e3/s", 'takes attempts over time, like "10/s"'),
        ("rate_limit", "100001/s", 'takes attempts over time, like "10/s"'),
        ("rate_limit", f"{'9' * 400}/s", 'takes attempts over time, like "10/s"'),
        ("rate_limit", "1/w", 'takes attempts over time, like "10/s"'),
        ("rate_limit", [], 'takes attempts over time, like "10/s"'),
        ("max_age", "soon", "a duration is seconds"),
        ("max_age", -1, "a duration lies between"),
        ("max_age", [], "a duration is seconds"),
        ("max_block", "1w", "a duration is seconds"),
        ("coalesce", 1, "takes true or false"),
        ("coalesce", "maybe", "takes true or false"),
        ("coalesce", None, "takes true or false"),
        ("coalesce", [], "takes true or false"),
        ("gone_disables", {}, "takes true or false"),
        ("permanent_statuses", 404, "takes at most 50 statuses"),
        ("permanent_statuses", ["404"] * 51, "takes at most 50 statuses"),
        ("permanent_statuses", "404,", "takes statuses from 300 to 599 and classes"),
        ("permanent_statuses", "200", "not '200'"),
        ("permanent_statuses", "2xx", "not '2xx'"),
        ("permanent_statuses", "600", "not '600'"),
        ("permanent_statuses", "40x", "not '40x'"),
        ("permanent_statuses", "4040", "not '4040'"),
        ("failing_after", 0, "takes a whole number from 1 to 1000000"),
        ("failing_after", 1_000_001, "takes a whole number from 1 to 1000000"),
        ("failing_after", "five", "takes a whole number from 1 to 1000000"),
        ("disable_after_failures", -1, 'takes a whole number up to 1000000, or "off"'),
        ("disable_after_failures", 1_000_001, 'takes a whole number up to 1000000, or "off"'),
        ("disable_after_failures", 1.5, 'takes a whole number up to 1000000, or "off"'),
        ("disable_after_failures", True, 'takes a whole number up to 1000000, or "off"'),
        ("disable_after", "later", "a duration is seconds"),
        ("tls_ca", 5, "takes a path"),
        ("tls_ca", "a\nb", "takes a path"),
        ("tls_ca", "-----BEGIN CERTIFICATE-----", "the path of a file"),
        ("tls_client_cert", "x" * 1_001, "takes a path"),
        ("tls_client_cert", "file:", "names no file"),
        ("tls_pin", "ab" * 31, "SHA-256 fingerprint"),
        ("tls_pin", "a:" * 31 + "a", "SHA-256 fingerprint"),
        ("tls_pin", 5, "takes at most 8"),
        ("tls_pin", [PIN] * 9, "takes at most 8"),
        ("proxy", "", "takes a proxy's URL"),
        ("proxy", 5, "takes a proxy's URL"),
        ("proxy", "socks5://p.example", "takes a proxy's URL"),
        ("proxy", "env:", "names no file"),
    ],
)
def test_values_that_cannot_be(name: str, value: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        policy.parse(name, value)
    assert "\n" not in str(caught.value)


def test_every_key_is_read_and_shown() -> None:
    names = {field.name for field in fields(Policy)}
    assert policy.PARSERS.keys() == names
    assert policy.show(PRESET).keys() == names


def test_it_is_shown_as_people_write_it() -> None:
    mine = Policy(
        1_500, (0, 90_000), 0.1, Ordering.SUBSCRIPTION, 2, 60_000, 10.0, 604_800_000, 1_800_000,
        True, ("404", "5xx"), True, 7, 8, 432_000_000, True,
    )  # fmt: skip
    assert policy.show(mine) == {
        "timeout": "1500ms",
        "retry_delays": ["0s", "90s"],
        "jitter": 0.1,
        "ordering": "subscription",
        "concurrency": 2,
        "retry_after_max": "1m",
        "rate_limit": "10/s",
        "max_age": "7d",
        "max_block": "30m",
        "coalesce": True,
        "permanent_statuses": ["404", "5xx"],
        "gone_disables": True,
        "failing_after": 7,
        "disable_after_failures": 8,
        "disable_after": "5d",
        "send_feed_sequence": True,
        "tls_ca": "system",
        "tls_client_cert": "none",
        "tls_pin": [],
        "proxy": "default",
    }


def test_what_is_off_is_shown_as_off() -> None:
    shown = policy.show(PRESET)
    off = ("rate_limit", "max_age", "max_block", "disable_after_failures", "disable_after")
    assert {shown[name] for name in off} == {"off"}
    assert (shown["coalesce"], shown["gone_disables"]) == (False, False)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("10/s", "10/s"),
        ("600/m", "10/s"),
        ("90/m", "90/m"),
        ("1000/h", "1000/h"),
        ("1/d", "1/d"),
        ("0.5/d", "0.000005787037037037037/s"),
        ("12345.678/s", "12345.678/s"),
    ],
)
def test_a_rate_is_shown_exactly(written: str, shown: str) -> None:
    rate = policy.parse("rate_limit", written)
    found = policy.show(policy.apply(PRESET, {"rate_limit": rate}))["rate_limit"]
    assert found == shown
    assert policy.parse("rate_limit", found) == rate


SPANS = st.integers(1, 10**11)
WAYS = st.builds(
    Policy,
    timeout=st.integers(1, policy.LONGEST_TIMEOUT),
    retry_delays=st.lists(st.integers(0, 10**9), max_size=5).map(tuple),
    jitter=st.floats(0, 1),
    ordering=st.sampled_from(Ordering),
    concurrency=st.integers(1, policy.MOST_CONCURRENT),
    retry_after_max=st.integers(0, 10**9),
    rate_limit=st.just(0.0)
    | st.floats(1e-6, policy.HIGHEST_RATE)
    | st.builds(
        lambda count, per: count / per,
        st.integers(1, 100_000),
        st.sampled_from([1, 60, 3_600, 86_400]),
    ),
    max_age=st.just(0) | SPANS,
    max_block=st.just(0) | SPANS,
    coalesce=st.booleans(),
    permanent_statuses=st.lists(
        st.sampled_from(["300", "404", "599", "3xx", "4xx", "5xx"]), max_size=4
    ).map(tuple),
    gone_disables=st.booleans(),
    failing_after=st.integers(1, policy.MOST_IN_A_ROW),
    disable_after_failures=st.integers(0, policy.MOST_IN_A_ROW),
    disable_after=st.just(0) | SPANS,
)


@given(WAYS)
def test_what_is_shown_can_be_written_again(mine: Policy) -> None:
    parsed = {name: policy.parse(name, value) for name, value in policy.show(mine).items()}
    assert policy.apply(PRESET, parsed) == mine
    kept = json.loads(json.dumps(parsed))
    assert policy.apply(PRESET, kept) == mine, "nor does the file change it"


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("", "default"),
        ("off", "off"),
        ("file:/run/proxy", "file:/run/proxy"),
        ("http://me:hunter2@p.example:3128", "http://***@p.example:3128"),
        ("http://me:hunter2@[", "***"),  # what only another program can have written
    ],
)
def test_G11_a_proxy_is_shown_without_its_credentials(proxy: str, shown: str) -> None:
    mine = replace(PRESET, proxy=proxy)
    assert policy.show(mine)["proxy"] == shown
    assert "hunter2" not in repr(mine)


def test_pins_and_references_are_shown_as_they_can_be_written() -> None:
    mine = replace(PRESET, tls_ca="file:/ca.pem", tls_client_cert="env:ID", tls_pin=(PIN,))
    shown = policy.show(mine)
    parsed = {name: policy.parse(name, value) for name, value in shown.items()}
    assert policy.apply(PRESET, parsed) == mine


@pytest.mark.parametrize(
    ("own", "has_terms", "refers"),
    [
        ({}, False, False),
        ({"tls_pin": (PIN,)}, True, False),
        ({"proxy": "off"}, True, False),
        ({"proxy": "http://p.example"}, True, False),
        ({"proxy": "env:PROXY"}, True, True),
        ({"tls_ca": "file:/ca.pem"}, True, True),
        ({"tls_client_cert": "file:/id.pem"}, True, True),
    ],
)
def test_whether_it_has_terms_and_refers_to_something(
    own: dict[str, object], has_terms: bool, refers: bool
) -> None:
    in_force = policy.apply(PRESET, own)
    assert (policy.has_terms(in_force), policy.refers(in_force)) == (has_terms, refers)
