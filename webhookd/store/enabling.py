"""Enabling a subscription, with a word on what it has been owed meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis, SubscriptionKey, SubscriptionState
from webhookd.core.times import to_text
from webhookd.store import checkup, instructions, subscriptions
from webhookd.store.instructions import Kind
from webhookd.store.transaction import Transaction

OWED: Final = "SELECT pending FROM webhookd_counters WHERE subscription = ?"


@dataclass(frozen=True, slots=True)
class Enabled:
    """What was found, and what is to be done about it."""

    owed: int
    """Deliveries that were pending."""
    streak_since: Millis | None
    """When the first of the deliveries in a row failed; None where the last one did not fail."""
    given: Sequence[int] = ()
    """Keys of the instructions, in their order."""


def enable(
    transaction: Transaction,
    key: SubscriptionKey,
    *,
    backlog: Kind | None,
    retry_failed: bool,
    now: Millis,
) -> Enabled:
    """Let a subscription be sent to again, from the end of the instructions that it needs.

    The rules that disable count anew, and what holds it back ends, also where it is enabled.

    Args:
        transaction: the instructions are in force with it: nothing of what they concern is sent
            before they are done.
        key: of a subscription that is not removed.
        backlog: `SKIP_BACKLOG` or `NEWEST_ONLY`; None keeps all that is owed.
        retry_failed: open again what failed in the streak that led to here.
        now: the time.
    """
    connection = transaction.connection
    owed = connection.execute(OWED, (key,)).fetchone()[0]
    since = checkup.read(connection, key).failures_since
    subscriptions.set_state(transaction, key, SubscriptionState.ENABLED, "")
    last = transaction.file.sequence
    given: list[int] = []
    if backlog is not None and owed:
        given.append(
            instructions.give(transaction, backlog, key, position=last + 1, last=last, now=now)
        )
    if retry_failed and since is not None:
        given.append(
            instructions.give(
                transaction,
                Kind.RETRY_FAILED,
                key,
                position=0,
                last=last,
                now=now,
                options={"since": to_text(since)},
            )
        )
    return Enabled(owed, since, given)
