"""What operators did to subscriptions while the daemon ran, told when it obeys."""

import logging
from collections.abc import Iterator, Mapping

from webhookd.core.model import SubscriptionKey, SubscriptionState
from webhookd.core.storage import StoredSubscription
from webhookd.logs.actions import Action, log

Stored = Mapping[SubscriptionKey, StoredSubscription]

_SHOWN = ("name", "url", "events", "method", "headers", "policy")
"""What `subscriptions update` changes; of what it changed only the names are told."""


def tell(before: Stored, after: Stored) -> None:
    """A line for each act. What a rule did is told where the rule is."""
    for key, one in after.items():
        known = before.get(key)
        if known is None:
            log(Action.SUBSCRIPTION_CHANGED, logging.INFO, subscription=one.name, change="added")
        elif known != one:
            for change in _changes(known, one):
                log(Action.SUBSCRIPTION_CHANGED, logging.INFO, subscription=one.name, change=change)
    for key in before.keys() - after.keys():
        name = before[key].name
        log(Action.SUBSCRIPTION_CHANGED, logging.INFO, subscription=name, change="removed")


def _changes(before: StoredSubscription, after: StoredSubscription) -> Iterator[str]:
    edited = [name for name in _SHOWN if getattr(before, name) != getattr(after, name)]
    if edited:
        yield f"edited: {', '.join(edited)}"
    if before.secrets != after.secrets:
        yield "secrets"
    if after.latest is not None and (before.latest or (0, ""))[0] < after.latest[0]:
        yield after.latest[1]
    if before.state is not after.state and after.state is not SubscriptionState.DISABLED:
        reason = after.state_reason
        yield f"{after.state.value} ({reason})" if reason else after.state.value
