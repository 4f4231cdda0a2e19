"""Writing a new subscription down, with the identity that it is given here."""

import secrets as randomness

from webhookd.core.model import Millis, SubscriptionId
from webhookd.core.registration import ID_PREFIX, Definition, derive_name
from webhookd.core.storage import StoredSubscription
from webhookd.store import subscriptions
from webhookd.store.subscriptions import NewSecret, NewSubscription
from webhookd.store.transaction import Transaction

ID_BYTES = 16
"""Random bytes of an id: 22 url-safe characters."""


def register(
    transaction: Transaction,
    definition: Definition,
    *,
    name: str,
    secrets: list[NewSecret],
    now: Millis,
    managed_by: str = "cli",
) -> StoredSubscription:
    """Write a subscription; `name` is judged, or `''` for one that is made of its host.

    `managed_by` says who may edit it: commands (`cli`) or the configuration (`config`).

    Raises:
        Refused: the name is taken.
    """
    if not name:
        taken = {one.name for one in subscriptions.load(transaction.connection)}
        name = derive_name(definition.url.host, taken)
    new = NewSubscription(
        id=SubscriptionId(ID_PREFIX + randomness.token_urlsafe(ID_BYTES)),
        name=name,
        url=definition.url.text,
        events=definition.events,
        tenant=definition.tenant,
        profile=definition.profile.name,
        mode=definition.mode,
        method=definition.method,
        headers=definition.headers,
        policy=definition.policy,
        managed_by=managed_by,
    )
    return subscriptions.add(transaction, new, secrets, now)
