"""`ntropy`: the webhooks of the N'entropy EUDR platform.

Its documentation names the signature's algorithm and header, and leaves open the encoding, the
signed text and the form of the key. Ours: lower-case hex over the raw body, keyed by the whole
`whsec_...` text.
"""

from collections.abc import Sequence
from typing import Final

from webhookd.core import secrets
from webhookd.core.model import Event, Policy, Subscription
from webhookd.core.profiles import envelope
from webhookd.core.profiles.profile import Content, Profile
from webhookd.core.signing import Encoding, Key, Offer, Scheme


def render(subscription: Subscription, event: Event, _number: int) -> Content:
    """`event`, `timestamp`, `integrationId`, `data`; ID-only: `data` is the external id alone.

    `X-Webhook-Id` is the subscription's id and `X-Webhook-Timestamp` the event's time: what tells
    one event or one attempt from another is in the headers that every profile has.
    """
    data = envelope.payload(event)
    if data is None:
        data = envelope.members((b"externalId", envelope.text(event.aggregate_id)))
    body = envelope.members(
        (b"event", envelope.text(event.event_type)),
        (b"timestamp", envelope.text(event.occurred_at)),
        (b"integrationId", envelope.text(event.tenant)),
        (b"data", data),
    )
    headers = (
        ("X-Webhook-Event", event.event_type),
        ("X-Webhook-Id", subscription.id),
        ("X-Webhook-Timestamp", event.occurred_at),
    )
    return Content(envelope.JSON, body, headers)


def _write(signatures: Sequence[str], _timestamp: str) -> str:
    return signatures[0]


def _read(value: str) -> Offer:
    return Offer([value])


def check_secret(text: str) -> Key:
    """The key of a `whsec_` secret: the text as it stands.

    Raises:
        ValueError: it has another form. One line, without the secret.
    """
    return Key(secrets.check_utf8(text))


def check_events(patterns: Sequence[str]) -> None:
    """Exact types, or `*` for all of them.

    Raises:
        ValueError: a pattern has a `*` among other characters.
    """
    for pattern in patterns:
        if "*" in pattern and pattern != "*":
            raise ValueError(
                f"{pattern!r}: profile ntropy takes exact event types or '*' alone;"
                " name each type, or take '*'"
            )


PROFILE: Final = Profile(
    name="ntropy",
    policy=Policy(timeout=10_000, retry_delays=(1_000, 5_000, 30_000), disable_after_failures=10),
    methods=("POST",),
    requires_secret=True,
    scheme=Scheme(
        header="X-Webhook-Signature",
        signed="{body}",
        encoding=Encoding.HEX,
        carries_list=False,
        write=_write,
        read=_read,
    ),
    render=render,
    check_secret=check_secret,
    check_events=check_events,
    own_headers=frozenset({"x-webhook-event", "x-webhook-id", "x-webhook-timestamp"}),
    user_agent="EUDR-Platform-Webhook/1.0",
)
