"""What pending deliveries wait for: read beside them, for whoever asks when they are sent."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from webhookd.core import explaining, policy
from webhookd.core import upcoming as coming
from webhookd.core.explaining import Head, Line, Wait, Waiting
from webhookd.core.holding import Daemon
from webhookd.core.model import DeliveryState, Millis, SubscriptionState
from webhookd.core.profiles import Known
from webhookd.core.times import from_text, to_text
from webhookd.store import book, health, recipients
from webhookd.store.driver import Connection
from webhookd.store.recipients import WHOLE_SUBSCRIPTION

_SURROUNDINGS: Final = (
    "SELECT s.key, s.id, s.name, s.events, s.tenant, s.state, s.state_reason, s.created_at,"
    " s.removed_at, s.profile, s.policy, c.failing_since,"
    " EXISTS (SELECT 1 FROM webhookd_instructions AS i"
    " WHERE i.subscription = s.key AND i.done_at IS NULL) AS instructed"
    " FROM webhookd_subscriptions AS s"
    " CROSS JOIN webhookd_counters AS c ON c.subscription = s.key"
)
ALL: Final = f"{_SURROUNDINGS} ORDER BY s.key"
ONE: Final = f"{_SURROUNDINGS} WHERE s.key = ?"
HEAD: Final = "SELECT attempts, last_error, due_at FROM webhookd_deliveries WHERE id = ?"
DELIVERY: Final = (
    "SELECT subscription, id AS delivery_id, order_key, state, due_at"
    " FROM webhookd_deliveries WHERE id = ?"
)
POLICY: Final = (
    "SELECT s.profile, s.policy FROM webhookd_deliveries AS d"
    " CROSS JOIN webhookd_subscriptions AS s ON s.key = d.subscription WHERE d.id = ?"
)
NEWER: Final = (
    "SELECT n.id FROM webhookd_deliveries AS d"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event"
    " CROSS JOIN webhookd_events AS f INDEXED BY webhookd_events_aggregate"
    " CROSS JOIN webhookd_deliveries AS n ON n.event = f.sequence"
    " AND n.subscription = d.subscription"
    " WHERE d.id = ? AND e.aggregate <> 0 AND f.aggregate = e.aggregate AND f.aggregate <> 0"
    " AND f.sequence > e.sequence AND n.state = ? ORDER BY f.sequence DESC LIMIT 1"
)

Surroundings = dict[str, Any]
"""A subscription, as far as it decides about its deliveries; `held_until`, `rate_limit` and
`max_age` by its policy in force."""


def everything(connection: Connection, known: Known, now: Millis) -> list[Surroundings]:
    """Every subscription, removed ones too, in the order in which they were made."""
    return [_judged(connection, known, row, now) for row in rows_of(connection, ALL)]


def one(connection: Connection, known: Known, key: int, now: Millis) -> Surroundings:
    """One subscription, removed or not."""
    return _judged(connection, known, rows_of(connection, ONE, key)[0], now)


def _judged(connection: Connection, known: Known, one: Surroundings, now: Millis) -> Surroundings:
    in_force = recipients.effective(known, one["profile"], json.loads(one["policy"]))
    held = health.read(connection, one["key"]).holds(now, in_force)
    return one | {
        "held_until": None if held is None else to_text(held),
        "rate_limit": str(policy.show(in_force)["rate_limit"]) if in_force.rate_limit else "",
        "max_age": in_force.max_age,
    }


def waits(
    connection: Connection, one: Surroundings, row: dict[str, Any], *, daemon: Daemon, now: Millis
) -> tuple[Head | None, list[Wait]]:
    """Who stands before a delivery, and all that it waits for; nothing where it is finished.

    Args:
        connection: best in a snapshot.
        one: its subscription.
        row: with `delivery_id`, `subscription` (its key), `order_key`, `state` and `due_at`.
        daemon: what can be seen of it.
        now: the time.
    """
    if row["state"] != DeliveryState.PENDING:
        return None, []
    head = _head(connection, row)
    waiting = Waiting(
        subscription=one["name"],
        state=SubscriptionState(one["state"]),
        state_reason=one["state_reason"],
        removed=one["removed_at"] is not None,
        instructed=bool(one["instructed"]),
        failing_since=one["failing_since"],
        held_until=one["held_until"],
        due_at=row["due_at"],
        head=head,
        held_back=daemon.holds_back(one["name"], one["key"]),
        rate_limit=one["rate_limit"],
    )
    return head, explaining.waits(waiting, running=daemon.running, now=now)


def waits_of(
    connection: Connection, known: Known, delivery: int, *, daemon: Daemon, now: Millis
) -> list[Wait]:
    """All that one delivery waits for; nothing where it is finished, or was pruned meanwhile."""
    for row in rows_of(connection, DELIVERY, delivery):
        its = one(connection, known, row["subscription"], now)
        return waits(connection, its, row, daemon=daemon, now=now)[1]
    return []


def attempts_of_schedule(connection: Connection, known: Known, delivery: int) -> int | None:
    """How many attempts its policy gives a delivery each time that it is opened.

    None where nobody can tell: its profile is gone from the configuration.
    """
    profile, own = connection.execute(POLICY, (delivery,)).fetchone()
    try:
        known.get(profile)
    except ValueError:
        return None
    return len(recipients.effective(known, profile, json.loads(own)).retry_delays) + 1


def newer(connection: Connection, delivery: int, state: DeliveryState) -> int | None:
    """The newest delivery in that state, of a newer event of its aggregate, to whom it is owed."""
    found = connection.execute(NEWER, (delivery, state)).fetchone()
    return None if found is None else int(found[0])


def upcoming(
    connection: Connection,
    known: Known,
    deliveries: Iterable[int],
    *,
    daemon: Daemon,
    now: Millis,
) -> dict[int, str | None]:
    """When each of these deliveries is attempted next, in a word; None for what never is."""
    met: dict[int, Surroundings] = {}
    found: dict[int, str | None] = {}
    for delivery in deliveries:
        for row in rows_of(connection, DELIVERY, delivery):
            key = row["subscription"]
            if row["state"] != DeliveryState.PENDING:
                continue
            if key not in met:
                met[key] = one(connection, known, key, now)
            its = met[key]
            found[delivery] = coming.upcoming(
                row["due_at"],
                to_text(now),
                sends=its["state"] == SubscriptionState.ENABLED and its["removed_at"] is None,
                failing=its["failing_since"] is not None,
                held_until=its["held_until"],
                held_back=bool(daemon.holds_back(its["name"], its["key"])),
            )
    return found


def expires_at(since: str, max_age: Millis) -> str | None:
    """When a delivery that was opened at `since` is not worth sending any more; None for never."""
    return to_text(from_text(since) + max_age) if max_age else None


def _head(connection: Connection, row: dict[str, Any]) -> Head | None:
    """Who comes first in the line that a pending delivery waits in; None if it is first itself."""
    if row["due_at"] is not None or not row["order_key"]:
        return None
    line: Sequence[int] = (row["subscription"], row["order_key"])
    first = connection.execute(book.HEAD_OF_LINE, line).fetchone()[0]
    if first == row["delivery_id"]:
        return None
    attempts, error, due_at = connection.execute(HEAD, (first,)).fetchone()
    return Head(first, attempts, error, due_at, _line(row["order_key"]))


def _line(order_key: int) -> Line:
    if order_key == WHOLE_SUBSCRIPTION:
        return Line.SUBSCRIPTION
    return Line.AGGREGATE if order_key > 0 else Line.OWN


def rows_of(connection: Connection, sql: str, *values: object) -> list[dict[str, Any]]:
    """What a statement finds, each row by the names of its columns."""
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
