"""The health of subscriptions as the file has it: six columns of their counters' row."""

from collections.abc import Sequence
from typing import Any, Final

from webhookd.core.health import WELL, Health
from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.times import from_text, to_text
from webhookd.store.driver import Connection

COLUMNS: Final = "ill, failing_since, failures, failures_since, no_success_since, held_until"
SELECT: Final = f"SELECT {COLUMNS} FROM webhookd_counters WHERE subscription = ?"
UPDATE: Final = (
    "UPDATE webhookd_counters SET ill = ?1, failing_since = ?2, failures = ?3, failures_since = ?4,"
    " no_success_since = ?5, held_until = ?6,"
    " failures_from = CASE WHEN ?3 = 0 THEN 0 ELSE failures_from END WHERE subscription = ?7"
)


def read(connection: Connection, key: SubscriptionKey) -> Health:
    """The subscription's health as recorded; well where nothing is known of it."""
    row = connection.execute(SELECT, (key,)).fetchone()
    return WELL if row is None else of(row)


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


def of(columns: Sequence[Any]) -> Health:
    """What `COLUMNS` say."""
    ill, failing, failures, failed, no_success, held = columns
    return Health(
        ill, _moment(failing), failures, _moment(failed), _moment(no_success), _moment(held)
    )


def _moment(text: str | None) -> Millis | None:
    return None if text is None else from_text(text)


def _text(moment: Millis | None) -> str | None:
    return None if moment is None else to_text(moment)
