from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.model import Policy
from webhookd.core.retry import longest_wait, next_attempt_at, parse_retry_after
from webhookd.core.times import EARLIEST, LATEST, from_text, to_text

NOW = from_text("2025-11-22T02:16:17.123Z")
POLICY = Policy(
    timeout=15_000, retry_delays=(5_000, 300_000), jitter=0.1, retry_after_max=3_600_000
)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0", 0),
        ("120", 120_000),
        (" 120\t", 120_000),
        ("000000000000000000120", 120_000),
        ("315360000", 315_360_000_000),
        ("99999999999", 99_999_999_999_000),
        ("999999999999", LATEST),
        ("9" * 100_000, LATEST),
        ("Sat, 22 Nov 2025 02:17:17 GMT", 59_877),
        ("Saturday, 22-Nov-25 02:17:17 GMT", 59_877),
        ("Sat Nov 22 02:17:17 2025", 59_877),
        ("Mon Dec  1 02:17:17 2025", 9 * 86_400_000 + 59_877),
        ("Sat, 22 Nov 2025 02:17:60 GMT", 102_877),
        ("Sat, 22 Nov 2025 02:16:17 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("Friday, 22-Nov-75 02:16:17 GMT", from_text("2075-11-22T02:16:17.000Z") - NOW),
        ("Monday, 22-Nov-76 02:16:17 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LATEST - 999 - NOW),
    ],
    ids=lambda value: str(value)[:40],
)
def test_C9_seconds_and_dates(text: str, span: int) -> None:
    assert parse_retry_after(text, NOW) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5",
        "+5",
        "1.5",
        "5s",
        "soon",
        "5, 5",
        "\u0665",
        "²",
        "5\n",
        "Sat, 30 Feb 2025 02:17:17 GMT",
        "Sat, 22 Nov 0000 02:17:17 GMT",
        "Sat, 22 Nov 2025 24:17:17 GMT",
        "Sat, 22 Nov 2025 02:17:17 CET",
        "Sat, 22 Nov 2025 02:17:17",
        "Sat, 22 nov 2025 02:17:17 GMT",
        "22 Nov 2025 02:17:17 GMT",
        "2025-11-22T02:17:17Z",
    ],
)
def test_C9_garbage_and_negative_values_ask_for_nothing(text: str) -> None:
    assert parse_retry_after(text, NOW) is None


@given(
    st.datetimes().filter(lambda moment: moment.year >= 1000),  # strftime pads no year
    st.integers(EARLIEST, LATEST),
)
def test_http_dates_of_the_standard_library_are_read(moment: datetime, now: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    expected = max(0, ms - now)
    assert parse_retry_after(format_datetime(moment, usegmt=True), now) == expected
    assert parse_retry_after(moment.strftime("%a %b %d %H:%M:%S %Y"), now) == expected


@given(st.integers(0, 99), st.integers(EARLIEST, LATEST))
def test_a_year_of_two_digits_is_at_most_50_years_ahead(year: int, now: int) -> None:
    span = parse_retry_after(f"Monday, 01-Jan-{year:02} 00:00:00 GMT", now)
    assert span is None or 0 <= span < 51 * 366 * 86_400_000


@given(st.text(max_size=40), st.integers(EARLIEST, LATEST))
def test_C9_whatever_it_says_is_a_span_or_nothing(text: str, now: int) -> None:
    span = parse_retry_after(text, now)
    assert span is None or 0 <= span <= LATEST


@pytest.mark.parametrize(
    ("tries", "jitter", "retry_after", "wait"),
    [
        (0, 0.0, None, 5_000),
        (1, 0.0, None, 300_000),
        (0, 0.5, None, 5_250),
        (0, 0.999, None, 5_499),
        (0, 0.0, 0, 5_000),
        (0, 0.0, 4_999, 5_000),
        (0, 0.0, 60_000, 60_000),
        (0, 0.5, 60_000, 60_000),
        (0, 0.5, 5_100, 5_250),
        (0, 0.0, LATEST, 3_600_000),
        (1, 0.0, 60_000, 300_000),
    ],
)
def test_the_wait(tries: int, jitter: float, retry_after: int | None, wait: int) -> None:
    assert next_attempt_at(POLICY, tries, NOW, jitter, retry_after) == NOW + wait


@pytest.mark.parametrize("tries", [2, 3, 1000])
@pytest.mark.parametrize("retry_after", [None, 60_000])
def test_after_the_last_delay_there_is_no_next_attempt(tries: int, retry_after: int | None) -> None:
    assert next_attempt_at(POLICY, tries, NOW, 0.0, retry_after) is None


def test_no_delays_no_second_attempt() -> None:
    assert next_attempt_at(Policy(1_000, ()), 0, NOW, 0.0, None) is None


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=5).map(tuple),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.integers(0, LATEST),
    st.integers(0, 10**9),
)
def test_delays_are_minima_and_a_receivers_wish_is_capped(
    delays: tuple[int, ...], share: float, jitter: float, retry_after: int | None, cap: int
) -> None:
    policy = Policy(1_000, delays, jitter=share, retry_after_max=cap)
    for tries, delay in enumerate(delays):
        at = next_attempt_at(policy, tries, NOW, jitter, retry_after)
        assert at is not None
        asked = min(retry_after or 0, cap)
        assert max(delay, asked) <= at - NOW <= max(delay * (1 + share), asked)
        assert to_text(at)


@pytest.mark.parametrize(
    ("delays", "jitter", "retry_after_max", "longest"),
    [
        ((), 0.5, 0, 0),
        ((), 0.5, 7_000, 7_000),
        ((5_000, 300_000, 60_000), 0.0, 7_000, 300_000),
        ((5_000, 300_000, 60_000), 0.1, 7_000, 330_000),
        ((5_000,), 1.0, 3_600_000, 3_600_000),
    ],
)
def test_no_wait_is_longer(
    delays: tuple[int, ...], jitter: float, retry_after_max: int, longest: int
) -> None:
    policy = Policy(15_000, delays, jitter, retry_after_max=retry_after_max)
    assert longest_wait(policy) == longest
    for tries in range(len(delays)):
        for retry_after in (None, 0, LATEST):
            at = next_attempt_at(policy, tries, NOW, 0.999, retry_after)
            assert at is not None
            assert at - NOW <= longest
