"""Where the next attempt's time is decided."""

import re
from datetime import date
from typing import Final

from webhookd.core.model import Millis, Policy
from webhookd.core.times import LATEST, to_text

_SECONDS: Final = re.compile(r"[0-9]+")
_MOST_DIGITS: Final = 11
"""Digits of seconds that are still within the years that can be written."""

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_DATES: Final = tuple(
    re.compile(form)
    for form in (
        rf"[A-Z][a-z]{{2}}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)
"""The three forms of RFC 9110, section 5.6.7: IMF-fixdate, RFC 850's, and asctime's."""


def parse_retry_after(text: str, now: Millis) -> Millis | None:
    """How long a `Retry-After` header asks to wait from `now`, in ms (RFC 9110, section 10.2.3).

    It takes whole seconds or an HTTP-date; a date that has passed is 0. Nothing is capped here but
    what no clock can show. None for anything else: absent, negative, garbage.
    """
    text = text.strip(" \t")
    if _SECONDS.fullmatch(text):
        digits = text.lstrip("0") or "0"
        return min(int(digits) * 1000, LATEST) if len(digits) <= _MOST_DIGITS else LATEST
    moment = _http_date(text, now)
    return None if moment is None else max(0, moment - now)


def next_attempt_at(
    policy: Policy, tries: int, now: Millis, jitter: float, retry_after: Millis | None
) -> Millis | None:
    """When the attempt after one that has just failed may be made; None if none is left.

    Args:
        policy: its delays are minima: jitter and the receiver's wish only ever lengthen them.
        tries: attempts since the delivery was opened, before the one that has just failed.
        now: when that one ended.
        jitter: from [0, 1), drawn anew for each call: the share of the policy's jitter to add.
        retry_after: the span that the receiver asked for, or None.
    """
    if tries >= len(policy.retry_delays):
        return None
    delay = policy.retry_delays[tries]
    wait = delay + int(delay * policy.jitter * jitter)
    if retry_after is not None:
        wait = max(wait, min(retry_after, policy.retry_after_max))
    return now + wait


def longest_wait(policy: Policy) -> Millis:
    """The longest that a delivery can be put off by this policy: later than that no due time is."""
    longest = max(policy.retry_delays, default=0)
    return max(longest + int(longest * policy.jitter), policy.retry_after_max)


def _http_date(text: str, now: Millis) -> Millis | None:
    found = next(filter(None, (form.fullmatch(text) for form in _DATES)), None)
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
        day = date(year, _MONTHS[found["month"]], int(found["day"]))
    except ValueError:
        return None
    hours = (day - date(1970, 1, 1)).days * 24 + int(found["hour"])
    return ((hours * 60 + int(found["minute"])) * 60 + int(found["second"])) * 1000
