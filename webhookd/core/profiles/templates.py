"""Bodies, headers and signatures by template: what profiles of one's own are made of.

Placeholders are filled in by name, in one pass, and never by `str.format`, which could reach into
objects: what an event brings along is not looked at for placeholders again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from webhookd.core.model import Event, Subscription
from webhookd.core.profiles import envelope, standard
from webhookd.core.profiles.profile import TIMESTAMP, Content, Headers
from webhookd.core.signing import Offer
from webhookd.core.times import from_text

Render = Callable[[Subscription, Event, int], Content]
Members = tuple[tuple[str, str], ...]
"""The keys of a body, each with the field that it holds."""

PAYLOAD: Final = "payload"
"""The field that only a body can hold."""
FIELDS: Final[Mapping[str, Callable[[Subscription, Event, int], str]]] = {
    "id": lambda _subscription, event, _number: event.event_id,
    "type": lambda _subscription, event, _number: event.event_type,
    "time": lambda _subscription, event, _number: event.occurred_at,
    "seconds": lambda _subscription, event, _number: str(from_text(event.occurred_at) // 1000),
    "tenant": lambda _subscription, event, _number: event.tenant,
    "aggregate_type": lambda _subscription, event, _number: event.aggregate_type,
    "aggregate_id": lambda _subscription, event, _number: event.aggregate_id,
    "subscription": lambda subscription, _event, _number: subscription.id,
    "number": lambda _subscription, _event, number: str(number),
}
"""What a body and a header can hold: the same at every attempt."""
HEADER_FIELDS: Final = (*FIELDS, "timestamp")
"""A header's can differ at each attempt: `timestamp` is the attempt's, in unix seconds."""

_NUMBERS: Final = frozenset({"seconds", "number"})
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def fields_of(template: str) -> list[str]:
    """The names in braces, in their order."""
    return _PLACEHOLDER.findall(template)


def outside(template: str) -> str:
    """What stands outside of them."""
    return _PLACEHOLDER.sub("", template)


def render(
    base: Render,
    body: str | Members,
    headers: Headers | None,
    subscription: Subscription,
    event: Event,
    number: int,
) -> Content:
    """The content by a body's and the headers' templates.

    Args:
        base: for what the templates leave as it is.
        body: `event` (the base's), `payload` (alone; the base's for an ID-only event) or members.
        headers: templates; None for the base's own.
        subscription: to whom.
        event: what.
        number: the delivery's own.

    Raises:
        Unrenderable: the base, or a member, cannot say this event.
    """
    content = base(subscription, event, number)
    fill = partial(_field, subscription, event, number)
    if isinstance(body, tuple):
        written = envelope.members(*(_member(fill, event, key, name) for key, name in body))
        content = content._replace(content_type=envelope.JSON, body=written)
    elif body == PAYLOAD and (payload := envelope.payload(event)) is not None:
        content = content._replace(content_type=envelope.JSON, body=payload)
    if headers is not None:
        filled = [(name, _filled(template, fill)) for name, template in headers]
        content = content._replace(headers=tuple((name, text) for name, text in filled if text))
    return content


def _filled(template: str, fill: Callable[[str], str]) -> str:
    return _PLACEHOLDER.sub(lambda one: fill(one[1]), template)


def _field(subscription: Subscription, event: Event, number: int, name: str) -> str:
    return TIMESTAMP if name == "timestamp" else FIELDS[name](subscription, event, number)


def _member(fill: Callable[[str], str], event: Event, key: str, name: str) -> tuple[bytes, bytes]:
    if name == PAYLOAD:
        data = envelope.payload(event)
        value = standard.reference(event) if data is None else data
    elif name in _NUMBERS:
        value = fill(name).encode()
    else:
        value = envelope.text(fill(name))
    return envelope.text(key)[1:-1], value


def write(layout: str, signatures: Sequence[str], timestamp: str) -> str:
    """A signature's header by its layout, which has room for one."""
    given = {"signature": signatures[0], "timestamp": timestamp}
    return _PLACEHOLDER.sub(lambda one: given[one[1]], layout)


def reader(layout: str) -> Callable[[str], Offer]:
    """What takes such a header apart again."""
    pattern = re.escape(layout)
    pattern = pattern.replace(re.escape("{timestamp}"), "(?P<timestamp>[0-9]+)")
    pattern = pattern.replace(re.escape("{signature}"), "(?P<signature>.+)")
    return partial(_read, re.compile(pattern))


def _read(pattern: "re.Pattern[str]", value: str) -> Offer:
    found = pattern.fullmatch(value)
    if found is None:
        return Offer(())
    return Offer([found["signature"]], found.groupdict().get("timestamp"))
