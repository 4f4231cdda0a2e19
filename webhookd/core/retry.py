"""Where the next attempt's time is decided."""

import re
from typing import Final

from webhookd.core.model import Millis, Policy
from webhookd.core.times import LATEST, parse_http_date

_SECONDS: Final = re.compile(r"[0-9]+")
_MOST_DIGITS: Final = 11
"""Digits of seconds that are still within the years that can be written."""


def parse_retry_after(text: str, now: Millis) -> Millis | None:
    """How long a `Retry-After` header asks to wait from `now`, in ms (RFC 9110, section 10.2.3).

    It takes whole seconds or an HTTP-date; a date that has passed is 0. Nothing is capped here but
    what no clock can show. None for anything else: absent, negative, garbage.
    """
    text = text.strip(" \t")
    if _SECONDS.fullmatch(text):
        digits = text.lstrip("0") or "0"
        return min(int(digits) * 1000, LATEST) if len(digits) <= _MOST_DIGITS else LATEST
    moment = parse_http_date(text, now)
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
