"""A subscription's policy: its profile's preset, with what the subscription has of its own."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from webhookd.core.model import Ordering, Policy
from webhookd.core.times import format_duration, parse_duration

LONGEST_TIMEOUT: Final = 120_000
"""An attempt holds a place in the daemon for as long as this."""
MOST_CONCURRENT: Final = 256
MOST_RETRIES: Final = 50


def apply(preset: Policy, overrides: Mapping[str, Any]) -> Policy:
    """The policy in force. `overrides` is what `parse` returned, perhaps by way of JSON.

    Raises:
        ValueError: a key or an ordering that there is not, or delays that are no list.
    """
    values = dict(overrides)
    try:
        if "retry_delays" in values:
            values["retry_delays"] = tuple(values["retry_delays"])
        if "ordering" in values:
            values["ordering"] = Ordering(values["ordering"])
        return replace(preset, **values)
    except TypeError as error:
        raise ValueError(f"unknown policy: {error}") from None


def parse(name: str, value: object) -> object:
    """A policy value as a person wrote it, as JSON that `apply` takes; spans in milliseconds.

    Raises:
        ValueError: one line that says what the key takes.
    """
    parser = PARSERS.get(name)
    if parser is None:
        raise ValueError(f"unknown policy {name}; there are {', '.join(sorted(PARSERS))}")
    return parser(value)


def show(policy: Policy) -> dict[str, object]:
    """The policy as people read it: spans with their unit."""
    return {
        "timeout": format_duration(policy.timeout),
        "retry_delays": [format_duration(delay) for delay in policy.retry_delays],
        "jitter": policy.jitter,
        "ordering": policy.ordering.value,
        "concurrency": policy.concurrency,
        "retry_after_max": format_duration(policy.retry_after_max),
    }


def _timeout(value: object) -> int:
    timeout = parse_duration(value)
    if not 1 <= timeout <= LONGEST_TIMEOUT:
        raise ValueError(f"takes 1ms to {format_duration(LONGEST_TIMEOUT)}, not {value}")
    return timeout


def _delays(value: object) -> list[int]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError('takes durations, like "5s,5m,2h"')  # noqa: TRY004 - an operator's text
    delays = [parse_duration(part.strip() if isinstance(part, str) else part) for part in parts]
    if len(delays) > MOST_RETRIES:
        raise ValueError(f"takes at most {MOST_RETRIES} delays")
    return delays


def _jitter(value: object) -> float:
    try:
        share = float(str(value))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("takes a share from 0 to 1")
    return share


def _ordering(value: object) -> str:
    try:
        return Ordering(str(value)).value
    except ValueError:
        raise ValueError(f"takes one of {', '.join(Ordering)}") from None


def _concurrency(value: object) -> int:
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= MOST_CONCURRENT:
        raise ValueError(f"takes a whole number from 1 to {MOST_CONCURRENT}")
    return int(text)


PARSERS: Final[dict[str, Callable[[object], object]]] = {
    "timeout": _timeout,
    "retry_delays": _delays,
    "jitter": _jitter,
    "ordering": _ordering,
    "concurrency": _concurrency,
    "retry_after_max": parse_duration,
}
"""How each policy key is read; the keys of `webhookd.core.model.Policy`."""
