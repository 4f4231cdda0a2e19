"""Reading what is due: always a whole small batch, straight from an index, never a scan.

A window holds no payloads. They are read one by one, by whoever has a place to send from, so that
memory follows the attempts under way and not the subscriptions times what they are owed.
"""

from collections.abc import Callable, Collection, Iterable
from itertools import islice, zip_longest
from typing import Final, NamedTuple

from webhookd.core.model import DeliveryId, Event, Millis, Sequence, SubscriptionKey
from webhookd.core.rows import made_aggregate_type
from webhookd.core.storage import Due
from webhookd.core.times import from_text, to_text
from webhookd.store.driver import Connection


class Both(NamedTuple):
    """One statement for each of the two queues."""

    first: str
    """First attempts."""
    again: str
    """All further ones."""


def both(template: str) -> Both:
    """The same statement for each queue: of `{index}`, with `{kind}` as its condition."""
    return Both(
        template.format(index="webhookd_deliveries_first", kind="tries = 0"),
        template.format(index="webhookd_deliveries_again", kind="tries > 0"),
    )


DUE: Final = both(
    "SELECT id, number, attempts, tries, order_key, event, since"
    " FROM webhookd_deliveries INDEXED BY {index}"
    " WHERE subscription = ? AND due_at IS NOT NULL AND {kind} AND due_at <= ?"
    " ORDER BY due_at, id LIMIT ?"
)
"""The columns in the order of `Due`'s fields."""
EARLIEST: Final = both(
    "SELECT due_at FROM webhookd_deliveries INDEXED BY {index} WHERE subscription = ?"
    " AND due_at IS NOT NULL AND {kind} AND due_at > ? ORDER BY due_at LIMIT 1"
)
LATEST: Final = both(
    "SELECT due_at FROM webhookd_deliveries INDEXED BY {index} WHERE subscription = ?"
    " AND due_at IS NOT NULL AND {kind} ORDER BY due_at DESC LIMIT 1"
)
WAITING: Final = both(
    "SELECT subscription FROM webhookd_deliveries INDEXED BY {index}"
    " WHERE subscription > ? AND due_at IS NOT NULL AND {kind} ORDER BY subscription LIMIT 1"
)
EVENT: Final = (
    "SELECT sequence, outbox_id, event_id, event_type, aggregate_type, aggregate_id, tenant,"
    " payload, occurred_at, aggregate_type_made FROM webhookd_events WHERE sequence = ?"
)
NEXT_PASSED: Final = (
    "SELECT pass_at FROM webhookd_deliveries INDEXED BY webhookd_deliveries_pass"
    " WHERE pass_at IS NOT NULL ORDER BY pass_at LIMIT 1"
)


def due(
    connection: Connection,
    key: SubscriptionKey,
    now: Millis,
    limit: int,
    without: Collection[DeliveryId],
) -> list[Due]:
    """Deliveries of one subscription whose time has come: first attempts and others in turn.

    Each kind oldest due time first; together at most `limit`, none of `without`. Without the
    events: see `event`.
    """
    # What is in flight is still due in the file, so it is asked for too and passed over.
    terms = (key, to_text(now), limit + len(without))
    kinds = [
        [Due(*row) for row in connection.execute(sql, terms).fetchall() if row[0] not in without]
        for sql in DUE
    ]
    in_turn = (one for pair in zip_longest(*kinds) for one in pair if one is not None)
    return list(islice(in_turn, limit))


def event(connection: Connection, sequence: Sequence) -> Event | None:
    """An event with its payload; None if it is gone."""
    row = connection.execute(EVENT, (sequence,)).fetchone()
    if row is None:
        return None
    made = row[9]
    if made is None:  # from before it was kept
        made = row[4] == made_aggregate_type(row[3])
    return Event(*(*row[:9], bool(made)))


def next_due(
    connection: Connection, key: SubscriptionKey, after: Millis | None = None
) -> Millis | None:
    """The subscription's earliest due time (later than `after`); None if there is none."""
    terms = (key, "" if after is None else to_text(after))
    return _moment(min, _found(connection, EARLIEST, terms))


def latest_due(connection: Connection, key: SubscriptionKey, again: bool) -> Millis | None:
    """The latest due time of the subscription's first attempts, or of its further ones (`again`);
    None if there is none."""
    return _moment(max, _found(connection, (LATEST.again if again else LATEST.first,), (key,)))


def waiting(connection: Connection, after: SubscriptionKey, limit: int) -> list[SubscriptionKey]:
    """The next subscriptions, by key, that have anything due, now or later: two steps for each."""
    found: set[int] = set()
    for sql in WAITING:
        place: int = after
        for _ in range(limit):
            row = connection.execute(sql, (place,)).fetchone()
            if row is None:
                break
            place = row[0]
            found.add(place)
    return [SubscriptionKey(key) for key in sorted(found)[:limit]]


def next_pass(connection: Connection) -> Millis | None:
    """When the next line may pass a head that keeps failing; None where none may."""
    return _moment(min, _found(connection, (NEXT_PASSED,), ()))


def _found(connection: Connection, sql: Iterable[str], terms: tuple[object, ...]) -> list[str]:
    rows = (connection.execute(one, terms).fetchone() for one in sql)
    return [row[0] for row in rows if row is not None]


def _moment(choose: Callable[[list[str]], str], texts: list[str]) -> Millis | None:
    return from_text(choose(texts)) if texts else None
