"""Aggregates by the ID that a host knows: without a look at every event, or at every aggregate."""

from typing import Final

from webhookd.store.driver import Connection

KINDS: Final = (
    "SELECT tenant, aggregate_type FROM webhookd_aggregates"
    " INDEXED BY webhookd_aggregates_identity WHERE (tenant, aggregate_type) > (?, ?)"
    " ORDER BY tenant, aggregate_type LIMIT 1"
)
FIND: Final = (
    "SELECT key FROM webhookd_aggregates INDEXED BY webhookd_aggregates_identity"
    " WHERE tenant = ? AND aggregate_type = ? AND aggregate_id = ?"
)
NEWEST: Final = (
    "SELECT event_id FROM webhookd_events INDEXED BY webhookd_events_aggregate"
    " WHERE aggregate = ? AND aggregate <> 0 ORDER BY sequence DESC LIMIT ?"
)
ABOUT_SUBSCRIPTION: Final = "SELECT EXISTS (SELECT 1 FROM webhookd_subscriptions WHERE id = ?)"


def find(connection: Connection, aggregate_id: str) -> list[int]:
    """The keys of all aggregates with that id, of whatever tenant and type.

    Two steps in the index for each tenant and type that there is.
    """
    found: list[int] = []
    # Absent ones are '', and so the first: nothing is below them to begin from.
    kind: tuple[str, str] | None = ("", "")
    while kind is not None:
        row = connection.execute(FIND, (*kind, aggregate_id)).fetchone()
        if row is not None:
            found.append(row[0])
        kind = connection.execute(KINDS, kind).fetchone()
    return sorted(found)


def events_of(connection: Connection, aggregate_id: str) -> str:
    """A query of the sequences of all events with that aggregate id, for use in another."""
    if connection.execute(ABOUT_SUBSCRIPTION, (aggregate_id,)).fetchone()[0]:
        # webhookd's own events are about a subscription, which is no aggregate of the host's.
        escaped = aggregate_id.replace("'", "''")
        return f"SELECT sequence FROM webhookd_events WHERE aggregate_id = '{escaped}'"
    keys = ", ".join(map(str, find(connection, aggregate_id)))
    if not keys:
        return "SELECT sequence FROM webhookd_events WHERE 0"
    return (
        "SELECT sequence FROM webhookd_events INDEXED BY webhookd_events_aggregate"
        f" WHERE aggregate <> 0 AND aggregate IN ({keys})"
    )


def newest_events(connection: Connection, aggregate_id: str, limit: int) -> list[str]:
    """Ids of the newest events with that aggregate id: the newest of each aggregate first."""
    keys = find(connection, aggregate_id)
    found = [event for key in keys[:limit] for (event,) in connection.execute(NEWEST, (key, limit))]
    return found[:limit]
