import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.times import (
    EARLIEST,
    LATEST,
    LONGEST_SPAN,
    format_duration,
    from_text,
    parse_duration,
    parse_occurred_at,
    to_text,
    with_unit,
)

MOMENTS = st.integers(EARLIEST, LATEST)
NOON = "2024-05-06T12:00:00.000Z"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_714_979_289_007, "2024-05-06T07:08:09.007Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (EARLIEST, "0001-01-01T00:00:00.000Z"),
        (LATEST, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_moment_has_one_text(ms: int, text: str) -> None:
    assert to_text(ms) == text
    assert from_text(text) == ms


@given(MOMENTS)
def test_the_text_is_that_of_the_standard_library(ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert to_text(ms) == moment.isoformat(timespec="milliseconds")[:23] + "Z"
    assert from_text(to_text(ms)) == ms


@given(MOMENTS, MOMENTS)
def test_texts_sort_as_moments_do(one: int, other: int) -> None:
    assert (to_text(one) < to_text(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "as_span"),
    [("5", "5s"), ("0.25", "0.25s"), (" 7 ", "7s"), ("5s", "5s"), ("off", "off"), ("5e3", "5e3")],
)
def test_a_plain_number_on_the_command_line_is_seconds(text: str, as_span: str) -> None:
    assert with_unit(text) == as_span


@pytest.mark.parametrize("ms", [EARLIEST - 1, LATEST + 1, 10**30])
def test_no_text_beyond_the_years_1_to_9999(ms: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        to_text(ms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-05-06T12:00:00Z",
        "2024-05-06T12:00:00.000",
        "2024-05-06 12:00:00.000Z",
        "2024-05-06T12:00:00.000z",
        "2024-05-06T12:00:00.000+00:00",
        "2024-05-06T24:00:00.000Z",
        "2024-05-06T12:60:00.000Z",
        "2024-05-06T12:00:60.000Z",
        "2024-02-30T12:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        " 2024-05-06T12:00:00.000Z",
        "2024-05-06T12:00:00.000Z\n",
        "\uff12024-05-06T12:00:00.000Z",
    ],
)
def test_from_text_takes_no_other_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NOON, NOON),
        ("2024-05-06 12:00:00", NOON),
        ("2024-05-06t12:00:00z", NOON),
        ("2024-05-06T12:00", NOON),
        ("2024-05-06T12", NOON),
        ("20240506T120000Z", NOON),
        ("20240506 12:00", NOON),
        ("2024-05-06T14:00:00+02:00", NOON),
        ("2024-05-06T14:00:00+0200", NOON),
        ("2024-05-06 14:00:00+02", NOON),
        ("2024-05-06 14:00:00 +02:00", NOON),
        ("2024-05-06 08:30:00-03:30", NOON),
        ("2024-05-06T08-04", NOON),
        ("2024-05-06T12:00:00-00:00", NOON),
        ("  2024-05-06 12:00:00   ", NOON),
        ("2024-05-06", "2024-05-06T00:00:00.000Z"),
        ("20240506", "2024-05-06T00:00:00.000Z"),
        ("2024-05-06T12:00:00.5", "2024-05-06T12:00:00.500Z"),
        ("2024-05-06T12:00:00,25Z", "2024-05-06T12:00:00.250Z"),
        ("2024-05-06 12:00:00.123456+00", "2024-05-06T12:00:00.123Z"),
        ("2024-05-06 23:59:59.9999999", "2024-05-06T23:59:59.999Z"),
        ("2024-05-06T24:00:00Z", "2024-05-07T00:00:00.000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("2024-12-31T23:30:00-01:00", "2025-01-01T00:30:00.000Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T23:59:59.999+01:00", "9999-12-31T22:59:59.999Z"),
    ],
)
def test_A30_what_hosts_write_becomes_utc(text: str, expected: str) -> None:
    ms = parse_occurred_at(text)
    assert ms is not None
    assert to_text(ms) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "yesterday",
        "now",
        "1714996800",
        "2460437.0",
        "06.05.2024",
        "05/06/2024",
        "2024",
        "2024-05",
        "2024-0506",
        "2024-13-01",
        "2024-02-30",
        "0000-01-01",
        "0000-00-00 00:00:00",
        "-001-01-01",
        "+12024-01-01",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59.999-00:01",
        "9999-12-31T24:00:00Z",
        "9999-12-31T23:59:60Z",
        "2024-05-06T25:00",
        "2024-05-06T24:01",
        "2024-05-06T24:00:01",
        "2024-05-06T12:60",
        "2024-05-06T12:00:61",
        "2024-05-06T12:00:00+24:00",
        "2024-05-06T12:00:00+02:60",
        "2024-05-06T1200:00",
        "2024-05-06T12:0000",
        "2024-05-06T12:00:00.",
        "2024-05-06x12:00:00",
        "2024-05-06  12:00:00",
        "2024-05-06T12:00:00 UTC",
        "2024-05-06T12:00:00Z\x00",
        "2024-05-06T12:00:00Z\n",
        "\uff12\uff10\uff12\uff14-05-06",
        "2024-05-06T12:00:00." + "0" * 100,
        pytest.param("9" * 1_000_000, id="a megabyte"),
    ],
)
def test_A30_garbage_is_no_moment(text: str) -> None:
    assert parse_occurred_at(text) is None


@given(
    st.datetimes(timezones=st.timezones() | st.just(UTC)),
    st.sampled_from(["T", " "]),
    st.sampled_from(["auto", "minutes", "seconds", "milliseconds", "microseconds"]),
)
def test_any_zone_and_precision_is_read_as_the_standard_library_does(
    moment: datetime, separator: str, precision: str
) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    # Historic zones count seconds, which ISO 8601 does not know.
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=offset // timedelta(minutes=1))))
    text = moment.isoformat(separator, precision)
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    ms = since // timedelta(milliseconds=1)
    assert parse_occurred_at(text) == (ms if EARLIEST <= ms <= LATEST else None)


@given(st.text(alphabet="0123456789-:.+TZ ", max_size=30))
def test_whatever_is_read_can_be_written(text: str) -> None:
    ms = parse_occurred_at(text)
    assert ms is None or from_text(to_text(ms)) == ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (-0.0, 0),
        (30, 30_000),
        (0.5, 500),
        (0.1, 100),
        (1.001, 1_001),
        ("0s", 0),
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1.5h", 5_400_000),
        ("0.001s", 1),
        (" 30s ", 30_000),
        ("36500d", LONGEST_SPAN),
        (LONGEST_SPAN // 1000, LONGEST_SPAN),
    ],
)
def test_durations(value: object, ms: int) -> None:
    assert parse_duration(value) == ms


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "with a unit"),
        ("30", "with a unit"),
        ("30 s", "with a unit"),
        ("30sec", "with a unit"),
        ("1h30m", "with a unit"),
        ("-1s", "with a unit"),
        ("1e3s", "with a unit"),
        ("٣s", "with a unit"),
        ("30S", "with a unit"),
        (True, "with a unit"),
        (None, "with a unit"),
        ([30], "with a unit"),
        (b"30s", "with a unit"),
        (-1, "between 0"),
        (-0.001, "between 0"),
        (float("nan"), "between 0"),
        (float("inf"), "between 0"),
        (1e300, "between 0"),
        pytest.param(10**5000, "between 0", id="5001 digits"),
        ("36501d", "between 0"),
        ("999999999999999d", "between 0"),
        ("0.5ms", "whole number"),
        (0.0001, "whole number"),
    ],
)
def test_what_is_no_duration_is_refused_in_one_line(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parse_duration(value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (500, "500ms"),
        (1_500, "1500ms"),
        (1_000, "1s"),
        (90_000, "90s"),
        (5_400_000, "90m"),
        (7_200_000, "2h"),
        (604_800_000, "7d"),
        (-5_000, "-5s"),
    ],
)
def test_a_span_is_shown_in_its_largest_exact_unit(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(0, LONGEST_SPAN))
def test_a_shown_span_is_read_back_and_no_unit_would_be_shorter(ms: int) -> None:
    text = format_duration(ms)
    assert parse_duration(text) == ms
    assert re.fullmatch(r"[0-9]+(ms|s|m|h|d)", text)
    sizes = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    assert len(text) <= min(
        len(f"{ms // size}{unit}") for unit, size in sizes.items() if ms % size == 0
    )
