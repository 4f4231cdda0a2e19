"""`cloudevents`: CloudEvents 1.0 over HTTP, signed as Standard Webhooks says.

Sources: the CloudEvents specification, its JSON format, its HTTP binding and its webhook
specification, https://github.com/cloudevents/spec
"""

import re
from dataclasses import replace
from functools import partial
from typing import Final

from webhookd.core.model import Event, Subscription
from webhookd.core.profiles import envelope, standard
from webhookd.core.profiles.profile import Content, Headers, Profile, Unrenderable

STRUCTURED: Final = "structured"
BINARY: Final = "binary"
SOURCE: Final = "/webhookd"
"""The `source` attribute unless a configuration names another."""
ORIGIN: Final = "WebHook-Request-Origin"
"""The header that a handshake gives a subscription: who asked to be let in."""

_CONTENT_TYPE: Final = "application/cloudevents+json"
_SPEC_VERSION: Final = "1.0"
_DIGITS: Final = 19
"""Of a delivery's number: as many as the highest integer of the file has, so that it sorts."""
_REFERENCE: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_TO_ENCODE: Final = re.compile(rb'[^!-~]|["%]')
"""Bytes that the binding has percent-encoded in a header's value."""


def check_source(text: str) -> str:
    """A `source`, which is a URI reference: `/erp`, `https://erp.example/acme`.

    Raises:
        ValueError: it is none.
    """
    if not _REFERENCE.fullmatch(text) or text.count("#") > 1 or len(text) > 512:
        raise ValueError(
            "is a URI or the path of one, at most 512 characters, like"
            ' "https://erp.example/acme" or "/erp"'
        )
    return text


def render(source: str, subscription: Subscription, event: Event, number: int) -> Content:
    """The event with the payload as its data; an ID-only event has none, and goes structured."""
    data = envelope.payload(event)
    if subscription.mode == BINARY and data is not None:
        return Content(envelope.JSON, data, _headers(source, event, number))
    content = (
        []
        if data is None
        else [(b"datacontenttype", envelope.text(envelope.JSON)), (b"data", data)]
    )
    pairs = [
        (b"specversion", envelope.text(_SPEC_VERSION)),
        (b"id", envelope.text(event.event_id)),
        (b"source", envelope.text(source)),
        (b"type", envelope.text(event.event_type)),
        *_present(b"subject", event.aggregate_id),
        (b"time", envelope.text(event.occurred_at)),
        *content,
        *_present(b"tenant", event.tenant),
        *_present(b"aggregatetype", event.aggregate_type),
        (b"sequence", envelope.text(_sequence(number))),
    ]
    return Content(_CONTENT_TYPE, envelope.members(*pairs))


def _present(name: bytes, value: str) -> list[tuple[bytes, bytes]]:
    return [(name, envelope.text(value))] if value else []


def _headers(source: str, event: Event, number: int) -> Headers:
    attributes = (
        ("specversion", _SPEC_VERSION),
        ("id", event.event_id),
        ("source", source),
        ("type", event.event_type),
        ("subject", event.aggregate_id),
        ("time", event.occurred_at),
        ("tenant", event.tenant),
        ("aggregatetype", event.aggregate_type),
        ("sequence", _sequence(number)),
    )
    return tuple((f"ce-{name}", encoded(value)) for name, value in attributes if value)


def _sequence(number: int) -> str:
    return f"{number:0{_DIGITS}}"


def encoded(value: str) -> str:
    """A value as the HTTP binding has it in a header.

    Raises:
        Unrenderable: it holds half a surrogate pair, which UTF-8 has no bytes for.
    """
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise Unrenderable("a text of the event is not Unicode: it has half a character") from None
    return _TO_ENCODE.sub(lambda found: b"%%%02X" % found[0][0], data).decode("ascii")


def make(source: str) -> Profile:
    """The profile for events of that `source`, which `check_source` has passed."""
    return Profile(
        name="cloudevents",
        policy=replace(standard.PROFILE.policy, permanent_statuses=("415",)),
        methods=("POST",),
        requires_secret=True,
        scheme=standard.SCHEME,
        render=partial(render, source),
        check_secret=standard.check_secret,
        check_events=standard.check_events,
        own_headers=frozenset(
            f"ce-{name}"
            for name in (
                *("specversion", "id", "source", "type", "subject", "time", "datacontenttype"),
                *("dataschema", "tenant", "aggregatetype", "sequence"),
            )
        ),
        modes=(STRUCTURED, BINARY),
        body_id="id",
        echoes=frozenset({ORIGIN.lower()}),
    )


PROFILE: Final = make(SOURCE)
