"""An event as a profile is given it."""

from typing import Any

from webhookd.core.model import Event, Sequence


def event(event_type: str, aggregate_id: str, **changed: Any) -> Event:
    """One of a tenant's aggregate; ID-only, unless `changed` says otherwise."""
    fields: dict[str, Any] = {
        "sequence": Sequence(41),
        "outbox_id": 41,
        "event_id": "evt_1",
        "aggregate_type": event_type.rpartition(".")[0],
        "tenant": "org_1",
        "payload": None,
        "occurred_at": "2024-01-15T10:30:00.000Z",
    }
    return Event(event_type=event_type, aggregate_id=aggregate_id, **(fields | changed))
