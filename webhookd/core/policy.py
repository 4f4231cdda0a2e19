"""A subscription's policy: its profile's preset, with what the subscription has of its own."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from webhookd.core import proxies
from webhookd.core.model import Millis, Ordering, Policy
from webhookd.core.text import printable
from webhookd.core.times import format_duration, parse_duration

LONGEST_TIMEOUT: Final = 120_000
"""An attempt holds a place in the daemon for as long as this."""
MOST_CONCURRENT: Final = 256
MOST_RETRIES: Final = 50
MOST_STATUSES: Final = 50
HIGHEST_RATE: Final = 100_000.0
"""Attempts a second: more than one machine can make."""

MOST_IN_A_ROW: Final = 1_000_000

LONGEST_PATH: Final = 1_000
MOST_PINS: Final = 8
"""Fingerprints: one in use, the next one, and some to spare."""

_COLONS: Final = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){31}")
_PIN: Final = re.compile("[0-9a-f]{64}")

_OFF: Final = ("off", "0", 0)
_SWITCHES: Final = {
    "true": True,
    "on": True,
    "yes": True,
    "false": False,
    "off": False,
    "no": False,
}
_STATUS: Final = re.compile("[345](xx|[0-9][0-9])")
_RATE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?/ ?(s|m|h|d)")
_PER: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def apply(preset: Policy, overrides: Mapping[str, Any]) -> Policy:
    """The policy in force. `overrides` is what `parse` returned, perhaps by way of JSON.

    Raises:
        ValueError: a key or an ordering that there is not, or delays that are no list.
    """
    if not overrides:
        return preset  # as most have it, and there may be ten thousand
    values = dict(overrides)
    try:
        for name in ("retry_delays", "permanent_statuses", "tls_pin"):
            if name in values:
                values[name] = tuple(values[name])
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
        "rate_limit": show_rate(policy.rate_limit) if policy.rate_limit else "off",
        "max_age": _shown_span(policy.max_age),
        "max_block": _shown_span(policy.max_block),
        "coalesce": policy.coalesce,
        "permanent_statuses": list(policy.permanent_statuses),
        "gone_disables": policy.gone_disables,
        "failing_after": policy.failing_after,
        "disable_after_failures": policy.disable_after_failures or "off",
        "disable_after": _shown_span(policy.disable_after),
        "send_feed_sequence": policy.send_feed_sequence,
        "tls_ca": policy.tls_ca or "system",
        "tls_client_cert": policy.tls_client_cert or "none",
        "tls_pin": list(policy.tls_pin),
        "proxy": _shown_proxy(policy.proxy),
    }


def is_reference(text: str) -> bool:
    """Whether a value of `proxy` or of a TLS key says where it is kept instead of being it."""
    return text.startswith(("env:", "file:"))


def has_terms(policy: Policy) -> bool:
    """Whether its receiver is connected to otherwise than by the system's trust, as everyone is."""
    return bool(policy.tls_ca or policy.tls_client_cert or policy.tls_pin or policy.proxy)


def refers(policy: Policy) -> bool:
    """Whether something that it needs is kept elsewhere, and may be another one by now."""
    return any(is_reference(text) for text in (policy.tls_ca, policy.tls_client_cert, policy.proxy))


def _shown_proxy(proxy: str) -> str:
    if not proxy or proxy == proxies.OFF or is_reference(proxy):
        return proxy or "default"
    try:
        return proxies.parse(proxy).shown
    except ValueError:
        return "***"


def show_rate(rate: float) -> str:
    """The rate as `parse` reads it back: a whole number, over the shortest time that allows it."""
    for unit, seconds in _PER.items():
        text = f"{rate * seconds:.0f}"
        if float(text) / seconds == rate:
            return f"{text}/{unit}"
    return f"{Decimal(repr(rate)):f}/s"


def _shown_span(span: Millis) -> str:
    return format_duration(span) if span else "off"


def _timeout(value: object) -> int:
    timeout = parse_duration(value)
    if not 1 <= timeout <= LONGEST_TIMEOUT:
        raise ValueError(f"takes 1ms to {format_duration(LONGEST_TIMEOUT)}, not {value}")
    return timeout


def _delays(value: object) -> list[int]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError('takes durations, like "5s,5m,2h"')  # noqa: TRY004 - an operator's text
    delays = [_delay(part.strip() if isinstance(part, str) else part) for part in parts]
    if len(delays) > MOST_RETRIES:
        raise ValueError(f"takes at most {MOST_RETRIES} delays")
    return delays


def _delay(part: object) -> int:
    try:
        return parse_duration(part)
    except ValueError as error:
        raise ValueError(f"{printable(str(part), 40)!r}: {error}") from None


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


def _failing_after(value: object) -> int:
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= MOST_IN_A_ROW:
        raise ValueError(f"takes a whole number from 1 to {MOST_IN_A_ROW}")
    return int(text)


def _failures(value: object) -> int:
    if value in _OFF:
        return 0
    text = str(value)
    if not text.isdecimal() or int(text) > MOST_IN_A_ROW:
        raise ValueError(f'takes a whole number up to {MOST_IN_A_ROW}, or "off"')
    return int(text)


def _span_or_off(value: object) -> int:
    return 0 if value in _OFF else parse_duration(value)


def _rate(value: object) -> float:
    if value in _OFF:
        return 0.0
    found = _RATE.fullmatch(str(value).strip())
    rate = float(found[1]) / _PER[found[2]] if found else 0.0
    if not 0 < rate <= HIGHEST_RATE:
        raise ValueError('takes attempts over time, like "10/s", "600/m" or "1000/h", or "off"')
    return rate


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _SWITCHES:
        return _SWITCHES[value]
    raise ValueError("takes true or false")


def _statuses(value: object) -> list[str]:
    if value == "":
        return []
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) > MOST_STATUSES:
        raise ValueError(f'takes at most {MOST_STATUSES} statuses, like "404,4xx"')
    statuses = [str(part).strip().lower() for part in parts]
    for status in statuses:
        if not _STATUS.fullmatch(status):
            raise ValueError(
                f'takes statuses from 300 to 599 and classes, like "404" or "4xx", not {status!r}'
            )
    return statuses


def _reference(value: object) -> str:
    """Where a PEM is kept; a bare path is one of a file."""
    if value in ("", "system", "none"):
        return ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST_PATH:
        raise ValueError(
            f"takes a path, file:PATH or env:NAME, of at most {LONGEST_PATH} printable characters"
        )
    if "-----BEGIN" in value:
        raise ValueError("takes the path of a file, not what is in it")
    reference = value if is_reference(value) else f"file:{value}"
    if reference.endswith(":"):
        raise ValueError("names no file and no variable; write file:PATH or env:NAME")
    return reference


def _pins(value: object) -> list[str]:
    if value in ("", "none"):
        return []
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) > MOST_PINS:
        raise ValueError(f"takes at most {MOST_PINS} fingerprints")
    pins = []
    for part in parts:
        text = str(part).strip().lower().removeprefix("sha256:")
        if _COLONS.fullmatch(text):
            text = text.replace(":", "")
        if not _PIN.fullmatch(text):
            raise ValueError(
                "takes the SHA-256 fingerprint of a certificate, 64 hexadecimal digits, as `openssl"
                " x509 -noout -fingerprint -sha256` prints it"
            )
        pins.append(text)
    return list(dict.fromkeys(pins))


def _proxy(value: object) -> str:
    """As it was written: it may be shown to nobody."""
    if not isinstance(value, str) or not value:
        raise ValueError(
            "takes a proxy's URL, a reference to one (env:NAME, file:PATH), off or default"
        )
    if value == "default":
        return ""
    if value == proxies.OFF:
        return value
    if is_reference(value):
        return _reference(value)
    proxies.parse(value)
    return value


PARSERS: Final[dict[str, Callable[[object], object]]] = {
    "timeout": _timeout,
    "retry_delays": _delays,
    "jitter": _jitter,
    "ordering": _ordering,
    "concurrency": _concurrency,
    "retry_after_max": parse_duration,
    "rate_limit": _rate,
    "max_age": _span_or_off,
    "max_block": _span_or_off,
    "coalesce": _switch,
    "permanent_statuses": _statuses,
    "gone_disables": _switch,
    "failing_after": _failing_after,
    "disable_after_failures": _failures,
    "disable_after": _span_or_off,
    "send_feed_sequence": _switch,
    "tls_ca": _reference,
    "tls_client_cert": _reference,
    "tls_pin": _pins,
    "proxy": _proxy,
}
"""How each policy key is read; the keys of `webhookd.core.model.Policy`."""
