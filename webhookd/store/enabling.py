"""Enabling a subscription, with a word on what it has been owed meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis, SubscriptionKey, SubscriptionState
from webhookd.core.profiles import Known
from webhookd.core.times import to_text
from webhookd.store import checkup, health, instructions, recipients, subscriptions
from webhookd.store.driver import Connection
from webhookd.store.instructions import Kind
from webhookd.store.transaction import Transaction

OWED: Final = "SELECT pending FROM webhookd_counters WHERE subscription = ?"
MOST_COUNTED: Final = 1_000
"""Deliveries that are looked at for a figure that is only said to a person."""
TOO_OLD: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM webhookd_deliveries INDEXED BY webhookd_deliveries_since"
    " WHERE subscription = ? AND state = 'pending' AND since <= ? LIMIT ?)"
)
EXPIRED: Final = (
    "SELECT count(*) FROM (SELECT reason, finished_at FROM webhookd_deliveries"
    " INDEXED BY webhookd_deliveries_failed WHERE subscription = ?1 AND state = 'failed'"
    " ORDER BY ended_sequence DESC LIMIT ?2) WHERE reason = 'expired' AND finished_at >"
    " (SELECT coalesce(last_success_at, '') FROM webhookd_counters WHERE subscription = ?1)"
)


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
    since = health.read(connection, key).failures_since
    failures_from = checkup.failures_from(connection, key)
    subscriptions.set_state(transaction, key, SubscriptionState.ENABLED, "")
    last = transaction.file.sequence
    given: list[int] = []
    if backlog is not None and owed:
        given.append(
            instructions.give(transaction, backlog, key, position=last + 1, last=last, now=now)
        )
    if retry_failed and failures_from:
        first = failures_from - 1
        given.append(
            instructions.give(
                transaction, Kind.RETRY_FAILED, key, position=first, last=last, now=now
            )
        )
    return Enabled(owed, since, given)


def too_old(connection: Connection, known: Known, key: SubscriptionKey, now: Millis) -> int:
    """How many of what is owed, up to `MOST_COUNTED`, will expire rather than be sent."""
    found = recipients.find(connection, key, known)
    if found is None or not found.policy.max_age:
        return 0
    before = to_text(now - found.policy.max_age)
    return int(connection.execute(TOO_OLD, (key, before, MOST_COUNTED)).fetchone()[0])


def expired(connection: Connection, key: SubscriptionKey) -> int:
    """How many of the last `MOST_COUNTED` that failed have expired since the last success."""
    return int(connection.execute(EXPIRED, (key, MOST_COUNTED)).fetchone()[0])
