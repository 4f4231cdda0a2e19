"""What writing transactions need to know of subscriptions: matching, ordering, policy."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhookd.core import policy
from webhookd.core.model import (
    Ordering,
    Policy,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.profiles import Known
from webhookd.store.driver import Connection

if TYPE_CHECKING:  # commands that only look need no matching
    from webhookd.core.matching import Matcher
    from webhookd.core.structure import Validation

WHOLE_SUBSCRIPTION: Final = -1
"""The order key of deliveries that stand in one line a subscription."""
NO_LINE: Final = 0
"""The order key of deliveries that wait for nothing."""

Crowd = tuple[SubscriptionKey, int]
"""The deliveries of one subscription, and one aggregate, that may take each other's place."""

_UNKNOWN: Final = Policy(timeout=1, retry_delays=())
"""Where this process does not know the profile, because a newer program wrote it or a configuration
has it no more: ordered as the subscription says itself, else in the usual way, and judged by no
other rule. The daemon holds such a subscription back until it knows what it means; meanwhile what
it is owed accrues."""

_SELECT: Final = (
    "SELECT id, name, state, profile, policy FROM webhookd_subscriptions"
    " WHERE key = ? AND removed_at IS NULL"
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One subscription, as far as ingest and recording go."""

    id: SubscriptionId
    name: str
    state: SubscriptionState
    policy: Policy


@dataclass(frozen=True, slots=True)
class Terms:
    """By what rules rows are judged and matched; made anew whenever subscriptions change."""

    matcher: "Matcher"
    recipients: dict[SubscriptionKey, Recipient]
    profiles: Known
    """By which their policies are known."""
    default_tenant: str
    max_payload: int
    validation: "Validation | None" = None
    """What payloads are held against; None where they are not."""


def find(connection: Connection, key: SubscriptionKey, known: Known) -> Recipient | None:
    """One subscription as it is in this transaction; None where it was removed."""
    row = connection.execute(_SELECT, (key,)).fetchone()
    if row is None:
        return None
    return Recipient(
        SubscriptionId(row[0]),
        row[1],
        SubscriptionState(row[2]),
        effective(known, row[3], json.loads(row[4])),
    )


def effective(known: Known, profile: str, own: dict[str, object]) -> Policy:
    """The policy in force: the profile's preset with the subscription's own laid over it."""
    try:
        preset = known.get(profile).policy
    except ValueError:
        preset = _UNKNOWN
    try:
        return policy.apply(preset, own)
    except ValueError:
        return _UNKNOWN


def order_key(ordering: Ordering, aggregate: int) -> int:
    """The line that a delivery stands in, by the ordering and its aggregate's key."""
    if ordering is Ordering.SUBSCRIPTION:
        return WHOLE_SUBSCRIPTION
    return aggregate if ordering is Ordering.AGGREGATE else NO_LINE


def merge_key(policy: Policy, aggregate: int, *, thin: bool) -> int:
    """The aggregate in which a newer ID-only (`thin`) delivery may take its place; 0 for none."""
    return aggregate if policy.coalesce and thin else 0


def own_order_key(ordering: Ordering, about: SubscriptionKey | None) -> int:
    """The line of webhookd's own events about one subscription, or about none.

    They have no aggregate of the host's; those about one subscription are in order all the same.
    """
    if ordering is Ordering.SUBSCRIPTION:
        return WHOLE_SUBSCRIPTION
    return NO_LINE if about is None else -1 - about
