"""The health of subscriptions in the file: moved with the outcomes that move it."""

from typing import Final

from webhookd.core import health
from webhookd.core.delivery import Move
from webhookd.core.health import Change, Health, Rule
from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Notice, Step
from webhookd.core.times import from_text, to_text
from webhookd.store.driver import Connection
from webhookd.store.recipients import Terms

SELECT: Final = (
    "SELECT ill, failing_since, failures, failures_since, no_success_since, held_until"
    " FROM webhookd_counters WHERE subscription = ?"
)
UPDATE: Final = (
    "UPDATE webhookd_counters SET ill = ?, failing_since = ?, failures = ?, failures_since = ?,"
    " no_success_since = ?, held_until = ? WHERE subscription = ?"
)
UNWELL: Final = (
    "SELECT subscription FROM webhookd_counters WHERE failing_since IS NOT NULL"
    " OR failures_since IS NOT NULL OR no_success_since IS NOT NULL"
)
"""A look at every subscription: asked once a jump of the clock."""
DISABLE: Final = (
    "UPDATE webhookd_subscriptions SET state = 'disabled', state_reason = ?, disabled_at = ?"
    " WHERE key = ? AND state = 'enabled' AND removed_at IS NULL"
)


def read(connection: Connection, key: SubscriptionKey) -> Health:
    """The subscription's health as recorded; well where nothing is known of it."""
    row = connection.execute(SELECT, (key,)).fetchone()
    if row is None:
        return health.WELL
    ill, failing, failures, failed, no_success, held = row
    return Health(
        ill, _moment(failing), failures, _moment(failed), _moment(no_success), _moment(held)
    )


def write(connection: Connection, key: SubscriptionKey, found: Health) -> None:
    """Put a subscription's health into the file."""
    connection.execute(
        UPDATE,
        (
            found.ill,
            _text(found.failing_since),
            found.failures,
            _text(found.failures_since),
            _text(found.no_success_since),
            _text(found.held_until),
            key,
        ),
    )


def shift(connection: Connection, by: Millis, now: Millis) -> Step:
    """Move the moments of all health by what the wall clock has jumped."""
    found = connection.execute(UNWELL).fetchall()
    for (key,) in found:
        write(connection, key, health.shifted(read(connection, key), by, now))
    return Step(0)


class Checkup:
    """The health of the subscriptions that one batch of outcomes concerns."""

    def __init__(self, connection: Connection, terms: Terms) -> None:
        self._connection = connection
        self._terms = terms
        self._before: dict[SubscriptionKey, Health] = {}
        self._now: dict[SubscriptionKey, Health] = {}
        self._notices: list[Notice] = []

    def note(self, key: SubscriptionKey, happened: Move, signs: Signs | None) -> None:
        """Judge one attempt. One of a subscription that was removed meanwhile concerns nobody."""
        recipient = self._terms.recipients.get(key)
        if recipient is None:
            return
        known = self._now.get(key)
        if known is None:
            known = self._before[key] = read(self._connection, key)
        verdict = health.after(known, happened, signs, recipient.policy)
        self._now[key] = verdict.health
        for change in verdict.changes:
            rule = verdict.rule if change is Change.DISABLED else None
            if rule is None or self._disable(key, rule, happened.at):
                self._notices.append(Notice(key, recipient.name, change, rule))

    def close(self) -> tuple[Notice, ...]:
        """Write down what has changed; returns what people are told of, in its order."""
        for key, found in self._now.items():
            if found != self._before[key]:
                write(self._connection, key, found)
        return tuple(self._notices)

    def _disable(self, key: SubscriptionKey, rule: Rule, at: Millis) -> bool:
        """Returns whether it was enabled: one that an operator paused meanwhile stays paused."""
        return self._connection.execute(DISABLE, (rule.value, to_text(at), key)).rowcount > 0


def _moment(text: str | None) -> Millis | None:
    return None if text is None else from_text(text)


def _text(moment: Millis | None) -> str | None:
    return None if moment is None else to_text(moment)
