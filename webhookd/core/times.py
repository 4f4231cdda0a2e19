"""Moments and spans as text, and back.

Inside, a moment is `Millis`. Text is for the edges: the database, JSON, config and people. There is
one form of text for a moment, `YYYY-MM-DDTHH:MM:SS.sssZ`: it sorts as the moments do.
"""

import re
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Final

from webhookd.core.model import Millis

EARLIEST: Final[Millis] = -62_135_596_800_000
"""0001-01-01T00:00:00.000Z."""
LATEST: Final[Millis] = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()

_EXACT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
)
_LENIENT: Final = re.compile(
    r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})"  # year, dash, month, day
    r"(?:[Tt ]([0-9]{2})(?:(:?)([0-9]{2})(?:\6([0-9]{2})(?:[.,]([0-9]+))?)?)?"  # time of day
    r"(?: ?(?:[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?))?)?"  # zone
)
_LONGEST_MOMENT: Final = 64
"""Characters of a moment's text that are looked at; nobody counts finer than the attoseconds that
fit in, and a host's column may hold megabytes."""

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_HTTP_DATES: Final = tuple(
    re.compile(form)
    for form in (
        rf"[A-Z][a-z]{{2}}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)
"""The three forms of RFC 9110, section 5.6.7: IMF-fixdate, RFC 850's, and asctime's."""

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_SPAN: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)")
LONGEST_SPAN: Final[Millis] = 36_500 * 86_400_000
"""A hundred years: any moment of our lifetime plus this is still a moment that can be written."""


@lru_cache(maxsize=256)
def _to_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def to_text(ms: Millis) -> str:
    """The moment as `YYYY-MM-DDTHH:MM:SS.sssZ`.

    Raises:
        ValueError: it lies outside the years 1 to 9999.
    """
    if not EARLIEST <= ms <= LATEST:
        raise ValueError("a moment outside the years 1 to 9999 has no text")
    return f"{_to_second(ms // 1000)}.{ms % 1000:03d}Z"


def from_text(text: str) -> Millis:
    """The moment that `to_text` wrote: its strict inverse, no other form is taken.

    Raises:
        ValueError: the text is in another form, or no such day exists.
    """
    if _EXACT.fullmatch(text) is None:
        raise ValueError("a moment is written YYYY-MM-DDTHH:MM:SS.sssZ")
    return _from_second(text[:19]) * 1000 + int(text[20:23])


@lru_cache(maxsize=256)
def _from_second(text: str) -> int:
    days = date(int(text[:4]), int(text[5:7]), int(text[8:10])).toordinal() - _EPOCH_DAY
    return ((days * 24 + int(text[11:13])) * 60 + int(text[14:16])) * 60 + int(text[17:19])


def parse_occurred_at(text: str) -> Millis | None:
    """The moment that a host wrote in ISO 8601 (calendar dates); None for anything else.

    Taken: a date alone; a date and a time, with `T` or a blank between them, to the hour, minute,
    second or any fraction of it (cut, not rounded, to milliseconds); `Z`, an offset, or no zone,
    which means UTC. So SQLite's own `YYYY-MM-DD HH:MM:SS` is taken too. 24:00 is the next midnight,
    and a leap second is the first second of the next minute, as POSIX counts it.
    Blanks around it (columns of fixed width) are passed over. Outside the years 1 to 9999: None.
    """
    if len(text) > _LONGEST_MOMENT:
        return None
    found = _LENIENT.fullmatch(text.strip(" "))
    if found is None:
        return None
    year, _, month, day, hours, _, minutes, seconds, fraction, sign, zone_hours, zone_minutes = (
        found.groups()
    )
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    hour, minute, second = int(hours or 0), int(minutes or 0), int(seconds or 0)
    if minute > 59 or second > 60 or hour > 24 or (hour == 24 and (minute or second)):
        return None
    ms = int((fraction + "00")[:3]) if fraction else 0
    if sign is not None:
        zone_hour, zone_minute = int(zone_hours), int(zone_minutes or 0)
        if zone_hour > 23 or zone_minute > 59:
            return None
        offset = zone_hour * 60 + zone_minute
        minute += offset if sign == "-" else -offset
    ms += (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000
    return ms if EARLIEST <= ms <= LATEST else None


def parse_http_date(text: str, now: Millis) -> Millis | None:
    """The moment of an HTTP-date in any of its three forms; None for anything else.

    `now` tells the century of a year that has two digits.
    """
    found = next(filter(None, (form.fullmatch(text) for form in _HTTP_DATES)), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        # RFC 9110: what seems more than 50 years ahead is the latest such year in the past.
        this_year = int(to_text(now)[:4])
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    try:
        days = date(year, _MONTHS[found["month"]], int(found["day"])).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    hours = days * 24 + int(found["hour"])
    return ((hours * 60 + int(found["minute"])) * 60 + int(found["second"])) * 1000


def parse_duration(value: object) -> Millis:
    """A span in milliseconds from a number of seconds, or from text: a number and its unit.

    Units are `ms`, `s`, `m`, `h` and `d`; a number may have decimals. The span is a whole number of
    milliseconds, never negative, and at most `LONGEST_SPAN`.

    Raises:
        ValueError: with one line that says what is wrong; the caller names the place.
    """
    found = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        exact = Fraction(found[1]) * _UNITS[found[2]]
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError('a duration is seconds, or text with a unit (ms, s, m, h, d): "30s"')
    elif 0 <= value <= LONGEST_SPAN // 1000:
        # repr gives the decimal that was written: 0.1 is 100 ms, not a little more.
        exact = Fraction(repr(value)) * 1000
    else:
        raise ValueError("a duration lies between 0 and 36500 days")
    if exact.denominator != 1:
        raise ValueError("a duration is a whole number of milliseconds")
    if exact.numerator > LONGEST_SPAN:
        raise ValueError("a duration lies between 0 and 36500 days")
    return exact.numerator


def with_unit(text: str) -> str:
    """The text of a span where everything is text, as `parse_duration` takes it: `5` is `5s`."""
    return f"{text.strip()}s" if _NUMBER.fullmatch(text.strip()) else text


def format_duration(ms: Millis) -> str:
    """The span as a whole number of the largest unit that is exact: `90s`, `2h`, `1500ms`, `0s`.

    `parse_duration` reads it back. A negative span (a clock that was set back) gets a minus.
    """
    if ms == 0:
        return "0s"
    size, unit = max((size, unit) for unit, size in _UNITS.items() if ms % size == 0)
    return f"{ms // size}{unit}"
