"""`onestock`: the webhooks of the OneStock order management system.

Its documentation names the header of the signature with its time and its three keys, and leaves
open the algorithm, the signed text and the separators. Ours: lower-case hex of HMAC-SHA256 over
`{t}.{body}`, keyed by the caller's own `hash_key` as it stands.
"""

import re
from collections.abc import Sequence
from typing import Final

from webhookd.core import secrets
from webhookd.core.model import Event, Ordering, Policy, Subscription
from webhookd.core.profiles import envelope, standard
from webhookd.core.profiles.profile import Content, Profile
from webhookd.core.signing import Encoding, Key, Offer, Scheme
from webhookd.core.times import from_text

_SECOND: Final = 1_000
_DAY: Final = 86_400 * _SECOND
_KEYS: Final = 3
"""The header has `h0`, `h1` and `h2`."""
_HEADER: Final = re.compile(r"t=([0-9]+)((?:,h[0-9]=[^,]+)+)")


def render(_subscription: Subscription, event: Event, _number: int) -> Content:
    """The topic's structure, which is the payload itself; ID-only: which entity, and when."""
    body = envelope.payload(event)
    if body is None:
        seconds = from_text(event.occurred_at) // 1000
        body = envelope.members(
            (b"site_id", envelope.text(event.tenant)),
            (b"entity_type", envelope.text(event.aggregate_type)),
            (b"entity_id", envelope.text(event.aggregate_id)),
            (b"date", b"%d" % seconds),
        )
    return Content(envelope.JSON, body, (("X-Webhook-Event", event.event_type),))


def _write(signatures: Sequence[str], timestamp: str) -> str:
    keys = [f"h{place}={signature}" for place, signature in enumerate(signatures)]
    return ",".join([f"t={timestamp}", *keys])


def _read(value: str) -> Offer:
    found = _HEADER.fullmatch(value)
    if found is None:
        return Offer(())
    return Offer([part.partition("=")[2] for part in found[2].split(",")[1:]], found[1])


def check_secret(text: str) -> Key:
    """The key of any text of at least 16 characters: the text as it stands.

    Raises:
        ValueError: it has another form. One line, without the secret.
    """
    return Key(secrets.check_utf8(text, prefix=""))


PROFILE: Final = Profile(
    name="onestock",
    policy=Policy(
        timeout=15 * _SECOND,
        retry_delays=tuple(delay * _SECOND for delay in (30, 60, 120, 240, 480, 840)),
        ordering=Ordering.SUBSCRIPTION,
        max_age=7 * _DAY,
        failing_after=3,
        disable_after_failures=1,
    ),
    methods=("POST", "PUT", "PATCH"),
    requires_secret=True,
    scheme=Scheme(
        header="Onestock-Signature",
        signed="{timestamp}.{body}",
        encoding=Encoding.HEX,
        carries_list=True,
        write=_write,
        read=_read,
        most=_KEYS,
    ),
    render=render,
    check_secret=check_secret,
    check_events=standard.check_events,
    own_headers=frozenset({"x-webhook-event"}),
)
