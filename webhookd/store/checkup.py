"""The health of subscriptions, moved with outcomes that move it, and by a clock that jumps."""

from typing import Final

from webhookd.core import health
from webhookd.core.delivery import Move
from webhookd.core.health import Change, Health, Rule
from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Notice, Step
from webhookd.core.times import to_text
from webhookd.store.driver import Connection
from webhookd.store.health import read, write
from webhookd.store.recipients import Terms

FAILURES_FROM: Final = "SELECT failures_from FROM webhookd_counters WHERE subscription = ?"
SET_FAILURES_FROM: Final = "UPDATE webhookd_counters SET failures_from = ? WHERE subscription = ?"
UNWELL: Final = (
    "SELECT subscription FROM webhookd_counters WHERE subscription > ?"
    " AND (failing_since IS NOT NULL OR no_success_since IS NOT NULL)"
    " ORDER BY subscription LIMIT ?"
)
"""A look at every subscription: asked once a jump of the clock."""
SHIFTED_AT_ONCE: Final = 250
"""Subscriptions whose health one transaction shifts: some milliseconds of the write lock."""
DISABLE: Final = (
    "UPDATE webhookd_subscriptions SET state = 'disabled', state_reason = ?, disabled_at = ?"
    " WHERE key = ? AND state = 'enabled' AND removed_at IS NULL"
)


def failures_from(connection: Connection, key: SubscriptionKey) -> int:
    """The sequence at which the first of the deliveries in a row ended failed; 0 for none."""
    found: int = connection.execute(FAILURES_FROM, (key,)).fetchone()[0]
    return found


def shift(connection: Connection, by: Millis, now: Millis, above: int = 0) -> tuple[Step, int]:
    """Move the moments of health by what the wall clock has jumped: a batch of subscriptions.

    Args:
        connection: in a writing transaction.
        by: how far the clock has jumped.
        now: by the clock as it is now.
        above: the subscription after which to go on. None may have its turn twice.

    Returns:
        The step, and after which subscription the next one goes on; 0 once all had their turn.
    """
    found = connection.execute(UNWELL, (above, SHIFTED_AT_ONCE)).fetchall()
    for (key,) in found:
        write(connection, key, health.shifted(read(connection, key), by, now))
    more = len(found) == SHIFTED_AT_ONCE
    return Step(0, more=more), found[-1][0] if more else 0


class Checkup:
    """The health of the subscriptions that one batch of outcomes concerns."""

    def __init__(self, connection: Connection, terms: Terms) -> None:
        self._connection = connection
        self._terms = terms
        self._before: dict[SubscriptionKey, Health] = {}
        self._now: dict[SubscriptionKey, Health] = {}
        self._streaks: dict[SubscriptionKey, int] = {}
        self._notices: list[Notice] = []

    def note(
        self, key: SubscriptionKey, happened: Move, signs: Signs | None, sequence: int
    ) -> None:
        """Judge one attempt. One of a subscription that was removed meanwhile concerns nobody.

        `sequence`: of its delivery, once that was moved.
        """
        recipient = self._terms.recipients.get(key)
        if recipient is None:
            return
        known = self._now.get(key)
        if known is None:
            known = self._before[key] = read(self._connection, key)
        verdict = health.after(known, happened, signs, recipient.policy)
        self._now[key] = verdict.health
        if not known.failures and verdict.health.failures:
            self._streaks[key] = sequence
        for change in verdict.changes:
            rule = verdict.rule if change is Change.DISABLED else None
            if rule is None or self._disable(key, rule, happened.at):
                self._notices.append(
                    Notice(key, recipient.name, change, rule, happened.status, happened.error)
                )

    def close(self) -> tuple[Notice, ...]:
        """Write down what has changed; returns what people are told of, in its order."""
        for key, found in self._now.items():
            if found != self._before[key]:
                write(self._connection, key, found)
            if found.failures and key in self._streaks:
                self._connection.execute(SET_FAILURES_FROM, (self._streaks[key], key))
        return tuple(self._notices)

    def _disable(self, key: SubscriptionKey, rule: Rule, at: Millis) -> bool:
        """Returns whether it was enabled: one that an operator paused meanwhile stays paused."""
        return self._connection.execute(DISABLE, (rule.value, to_text(at), key)).rowcount > 0
