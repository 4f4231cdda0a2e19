"""`standard`, the default: Standard Webhooks 1.0.0.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from collections.abc import Sequence
from typing import Final

from webhookd.core import secrets
from webhookd.core.model import Event, Policy, Subscription
from webhookd.core.profiles import envelope
from webhookd.core.profiles.profile import Content, Profile
from webhookd.core.signing import Algorithm, Encoding, Key, Offer, Scheme

_SYMMETRIC: Final = "v1,"
_ASYMMETRIC: Final = "v1a,"
_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE


def render(_subscription: Subscription, event: Event, _number: int) -> Content:
    """`type`, `timestamp`, `data`; for an ID-only event `data` says which aggregate to ask for."""
    data = envelope.payload(event)
    if data is None:
        data = reference(event)
    body = envelope.members(
        (b"type", envelope.text(event.event_type)),
        (b"timestamp", envelope.text(event.occurred_at)),
        (b"data", data),
    )
    return Content(envelope.JSON, body)


def reference(event: Event) -> bytes:
    """Which aggregate an event is about: the aggregate's type and id, and the tenant if any."""
    pairs = [
        (b"aggregate_type", envelope.text(event.aggregate_type)),
        (b"aggregate_id", envelope.text(event.aggregate_id)),
    ]
    if event.tenant:
        pairs.append((b"tenant", envelope.text(event.tenant)))
    return envelope.members(*pairs)


def _write(signatures: Sequence[str], _timestamp: str) -> str:
    return " ".join(signatures)


def _read(value: str) -> Offer:
    # Other versions in the list are other keys' business: the standard has receivers skip them.
    return Offer(value.split(" "))


def check_secret(text: str) -> Key:
    """The key of a `whsec_` secret, or of a `whsk_` one, which is an Ed25519 key.

    Raises:
        ValueError: it has another form. One line, without the secret.
    """
    if text.startswith(secrets.PRIVATE_PREFIX):
        return Key(secrets.check_private(text), algorithm=Algorithm.PRIVATE)
    if text.startswith(secrets.PUBLIC_PREFIX):
        raise ValueError(
            f"the secret is a public key: give that one ({secrets.PUBLIC_PREFIX}...) to the"
            f" receiver, and the private one ({secrets.PRIVATE_PREFIX}...) here"
        )
    return Key(secrets.check_standard(text))


def check_events(_patterns: Sequence[str]) -> None:
    """Every well-formed pattern will do."""


SCHEME: Final = Scheme(
    header="webhook-signature",
    signed="{id}.{timestamp}.{body}",
    encoding=Encoding.BASE64,
    carries_list=True,
    write=_write,
    read=_read,
    prefix=_SYMMETRIC,
    ed25519_prefix=_ASYMMETRIC,
)
"""Also the signature of the formats that have none of their own."""

PROFILE: Final = Profile(
    name="standard",
    policy=Policy(
        timeout=15 * _SECOND,
        retry_delays=(
            5 * _SECOND,
            5 * _MINUTE,
            30 * _MINUTE,
            2 * _HOUR,
            5 * _HOUR,
            10 * _HOUR,
            14 * _HOUR,
            20 * _HOUR,
            24 * _HOUR,
        ),
        jitter=0.1,
        gone_disables=True,
        disable_after=5 * 24 * _HOUR,
    ),
    methods=("POST",),
    requires_secret=True,
    scheme=SCHEME,
    render=render,
    check_secret=check_secret,
    check_events=check_events,
)
