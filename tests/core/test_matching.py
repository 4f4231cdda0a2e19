import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core import matching
from webhookd.core.matching import MAX_PATTERN, Interest, Matcher, check_pattern, doubt, matches
from webhookd.core.model import SubscriptionKey


def interest(key: int, *events: str, tenant: str = "") -> Interest:
    return Interest(SubscriptionKey(key), events, tenant)


@pytest.mark.parametrize(
    ("pattern", "event_type", "aggregate_type", "expected"),
    [
        ("*", "supplier.created", "supplier", True),
        ("*", "x", "", True),
        ("supplier.created", "supplier.created", "supplier", True),
        ("supplier.created", "supplier.createdX", "supplier", False),
        ("supplier.created", "Supplier.created", "Supplier", False),
        ("supplier.*", "supplier.created", "supplier", True),
        ("supplier.*", "supplier.", "", False),
        ("supplier.*", "supplier", "", False),
        ("supplier.*", "suppliers.created", "suppliers", False),
        ("*_state_changed", "order_state_changed", "order", True),
        ("*_state_changed", "_state_changed", "", False),
        ("*_state_changed", "order_state_changed@v2", "order", False),
        ("order*changed", "order_state_changed", "", True),
        ("order*changed", "orderchanged", "", False),
        ("a*b*c", "a1b2c", "", True),
        ("a*b*c", "abbbc", "", True),
        ("a*b*c", "abbc", "", False),
        ("a*b*c", "a1b2c3", "", False),
        ("a*a", "aa", "", False),
        ("a*a", "aaa", "", True),
        ("*a*", "bab", "", True),
        ("*a*", "ab", "", False),
        ("**", "ab", "", True),
        ("**", "a", "", False),
        ("a**b", "a1b", "", False),
        ("a**b", "a12b", "", True),
        ("a***", "a1", "", False),
        ("SALESORDER.*", "COMMITTED", "SALESORDER", True),
        ("SALESORDER.COMMITTED", "COMMITTED", "SALESORDER", True),
        ("SALESORDER.COMMITTED", "COMMITTED", "", False),
        ("SALESORDER.COMMITTED", "COMMITTED", "PURCHASE", False),
        ("*.COMMITTED", "COMMITTED", "SALESORDER", True),
        ("*.COMMITTED", "COMMITTED", "", False),
        (".COMMITTED", "COMMITTED", "", False),
        ("COMMITTED", "COMMITTED", "SALESORDER", True),
        ("name@v3", "name@v3", "", True),
        ("name", "name@v3", "", False),
        ("a.c", "abc", "", False),
        ("a[b-c]", "ab", "", False),
        ("a*b", "a*b", "", True),
        ("*", "webhookd.events.rejected", "", False),
        ("web*", "webhookd.events.rejected", "", False),
        ("*.rejected", "webhookd.events.rejected", "", False),
        ("webhookd.*", "webhookd.events.rejected", "", True),
        ("webhookd.*.rejected", "webhookd.events.rejected", "webhookd.events", True),
        ("webhookd.events.rejected", "webhookd.events.rejected", "", True),
        ("webhookd.*", "supplier.created", "supplier", False),
    ],
)
def test_matches(pattern: str, event_type: str, aggregate_type: str, expected: bool) -> None:
    assert matches(pattern, event_type, aggregate_type) is expected
    found = Matcher([interest(1, pattern)]).match(event_type, aggregate_type, "")
    assert found == ((1,) if expected else ())


@given(
    st.text(alphabet="ab.*", min_size=1, max_size=8),
    st.text(alphabet="ab.", min_size=1, max_size=10),
    st.text(alphabet="ab.", max_size=4),
)
def test_a_pattern_means_what_its_regular_expression_does(
    pattern: str, event_type: str, aggregate_type: str
) -> None:
    meaning = re.compile(".+".join(map(re.escape, pattern.split("*"))))
    names = [event_type, f"{aggregate_type}.{event_type}"] if aggregate_type else [event_type]
    assert matches(pattern, event_type, aggregate_type) == any(map(meaning.fullmatch, names))


def test_a_hostile_pattern_costs_no_backtracking() -> None:
    assert not matches("*a" * 350 + "*b", "a" * 256, "a" * 512)
    assert matches("*a" * 127 + "*b", "a" * 255 + "b", "")


@pytest.mark.parametrize(
    "pattern",
    [
        *("*", "supplier.created", "supplier.*", "*_state_changed", "name@v3", "é.*", "sup?"),
        *("é*", "é*x", "a b.c", "a b.*", "*é*", "é..", ".", "webhookd.*", "x" * 256, "*" * 256),
        *("x" * 512 + "." + "y" * 256, "x" * 512 + "*" + "y" * 256),
        *("*" + "y" * 256, "x" * 512 + "*"),
    ],
)
def test_patterns(pattern: str) -> None:
    check_pattern(pattern)


NEVER = [
    *("a b", "üml", "é", "*é", "é.", "é.ü", "a.b c", "*.é", "x" * 257),
    *("." + "x" * 256, "." * 514 + "é", "x" * 513 + ".y", "x.y" + "z" * 256, "*" * 257 + "x" * 512),
]


@pytest.mark.parametrize("pattern", NEVER)
def test_what_no_event_can_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no event can match") as refused:
        check_pattern(pattern)
    assert str(refused.value).isprintable()


@given(
    st.text(alphabet="aé.*", min_size=1, max_size=6),
    st.text(alphabet="a.", min_size=1, max_size=6),
    st.text(alphabet="aé.", max_size=6),
)
def test_nothing_is_refused_that_an_event_matches(
    pattern: str, event_type: str, aggregate_type: str
) -> None:
    if matches(pattern, event_type, aggregate_type):
        check_pattern(pattern)


@given(st.text(alphabet="aé.*", min_size=1, max_size=5))
def test_what_is_taken_some_event_matches(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except ValueError:
        return
    # A `*` is at least one character; ".a" and "a." hold the dot and what must stand beside it.
    choices = (("a", ".", ".a", "a.") if part == "*" else part for part in pattern)
    texts = {"".join(parts) for parts in product(*choices)}
    alone = [(text, "") for text in texts]
    both = [
        (text[at + 1 :], text[:at])
        for text in texts
        for at in range(1, len(text) - 1)
        if text[at] == "."
    ]
    assert any(event.isascii() and matches(pattern, event, of) for event, of in alone + both)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        *((plain, None) for plain in ("*", "supplier.*", "a!", "/a", "a/b", "/", "name@v3", "*.*")),
        ("sup?", '"sup?" has ?: only * stands for other characters here, all else for itself'),
        ("!a.b", '"!a.b" has ! at the beginning: only * stands for'),
        ("/a.+/", '"/a.+/" has / at both ends: only * stands for'),
        ("a.[bc]", '"a.[bc]" has [: only * stands for'),
        ("a.**", '"a.**" has **: each * stands for one character or more'),
    ],
)
def test_what_looks_like_another_language_is_doubted(pattern: str, said: str | None) -> None:
    doubted = doubt(pattern)
    assert doubted is None if said is None else str(doubted).startswith(said)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "is empty"),
        ("x" * (MAX_PATTERN + 1), "at most 769"),
        ("a\nb", r"printable throughout: a\\nb"),
        ("a\x1b[31m", "printable"),
        ("a\u202eb", "printable"),
        (" a", 'no blanks around it: " a"'),
        ("a ", "no blanks"),
    ],
)
def test_what_is_no_pattern_is_refused_in_one_line(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        check_pattern(pattern)
    assert str(refused.value).isprintable()


def test_a_tenants_subscription_gets_that_tenants_events_only() -> None:
    matcher = Matcher(
        [interest(1, "*"), interest(2, "*", tenant="a"), interest(3, "*", tenant="b")]
    )
    assert matcher.match("x", "", "a") == (1, 2)
    assert matcher.match("x", "", "b") == (1, 3)
    assert matcher.match("x", "", "c") == (1,)
    assert matcher.match("x", "", "") == (1,)


def test_a_subscription_is_found_once_and_keys_ascend() -> None:
    matcher = Matcher(
        [
            interest(9, "supplier.*", "*", "supplier.created", "*"),
            interest(3, "supplier.created", tenant="a"),
            interest(5, "*.created"),
            interest(4, "supplier.supplier.created"),
            interest(1, "article.*"),
        ]
    )
    for _ in range(2):
        assert matcher.match("supplier.created", "supplier", "a") == (3, 4, 5, 9)
    assert matcher.match("article.created", "article", "") == (1, 5, 9)
    assert matcher.match("other", "", "a") == (9,)


def test_own_events_are_for_those_who_name_them_and_have_no_tenant() -> None:
    matcher = Matcher(
        [
            interest(1, "*"),
            interest(2, "webhookd.*"),
            interest(3, "webhookd.*", tenant="a"),
            interest(4, "webhookd.events.rejected", "supplier.*"),
        ]
    )
    for tenant in ("", "a"):
        assert matcher.match("webhookd.events.rejected", "webhookd.events", tenant) == (2, 4)
    assert matcher.match("supplier.created", "supplier", "a") == (1, 4)


def test_no_subscriptions_match_nothing() -> None:
    assert Matcher([]).match("supplier.created", "supplier", "a") == ()
    assert Matcher([interest(1)]).match("supplier.created", "supplier", "") == ()


@pytest.mark.parametrize(
    ("limit", "value"), [("MEMO_LIMIT", 8), ("MEMO_WEIGHT", 20)], ids=["types", "patterns"]
)
def test_types_without_end_do_not_make_it_grow(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(matching, limit, value)
    matcher = Matcher([interest(1, "*"), interest(2, "x*"), interest(3, "x7")])
    for number in range(100):
        expected = (1, 2, 3) if number == 7 else (1, 2)
        assert matcher.match(f"x{number}", "", "") == expected
        assert len(matcher._memo) <= 10
        assert matcher._weight == sum(map(len, matcher._memo.values()))


PATTERNS = st.lists(st.sampled_from(["*", "a", "a.b", "a.*", "*.b", "b", "webhookd.*"]), max_size=4)
TENANTS = st.sampled_from(["", "t", "u"])


@given(
    st.lists(st.tuples(st.integers(1, 9), PATTERNS, TENANTS), max_size=8, unique_by=lambda x: x[0]),
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "a.b", "webhookd.x"]), st.sampled_from(["", "a"]), TENANTS
        ),
        max_size=6,
    ),
)
def test_finds_what_looking_at_every_subscription_would_find(
    wanted: list[tuple[int, list[str], str]], events: list[tuple[str, str, str]]
) -> None:
    matcher = Matcher(interest(key, *patterns, tenant=of) for key, patterns, of in wanted)
    for event_type, aggregate_type, tenant in events:
        own = event_type.startswith("webhookd.")
        expected = sorted(
            key
            for key, patterns, of in wanted
            if of in (("",) if own else ("", tenant))
            and any(matches(pattern, event_type, aggregate_type) for pattern in patterns)
        )
        assert matcher.match(event_type, aggregate_type, tenant) == tuple(expected)
