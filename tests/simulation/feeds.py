"""What the feeds must say at the end, word by word, by the model's own account."""

from typing import TYPE_CHECKING, Any

from tests.simulation.facts import Delivery, Event, iso

if TYPE_CHECKING:
    from tests.simulation.model import Model


def check_feeds(model: "Model") -> None:
    """Each feed has a row for each thing, and it says what became of it."""
    _compare(model, "webhook_results", [_result(one) for one in model.deliveries.values()])
    events = sorted(model.events.values(), key=lambda event: event.sequence)
    _compare(model, "webhook_events", [_event(event) for event in events])
    newest = model.keeping.newest.values()
    _compare(model, "webhook_changes", [_change(event) for event in newest])


def _compare(model: "Model", feed: str, wanted: list[dict[str, Any]]) -> None:
    rows = model.mirror.table(f"SELECT * FROM {feed} ORDER BY sequence")
    wanted.sort(key=lambda row: row["sequence"])
    if len(rows) != len(wanted):
        model.wrong("G6", f"{feed} has {len(rows)} rows, not {len(wanted)}")
        return
    for row, want in zip(rows, wanted, strict=True):
        have = {name: row[name] for name in want}
        if have != want:
            model.wrong("G6", f"{feed} says {have}, not {want}")
            return
        if feed == "webhook_results":
            _check_moments(model, row)


def _about(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "tenant": event.tenant or None,
        "aggregate_type": event.aggregate_type or None,
        "aggregate_id": event.aggregate_id or None,
        "event_type": event.event_type,
    }


def _event(event: Event) -> dict[str, Any]:
    return _about(event) | {
        "sequence": event.sequence,
        "outbox_id": None if event.is_own else event.outbox_id,
        "occurred_at": event.occurred_at,
    }


def _change(event: Event) -> dict[str, Any]:
    return _about(event) | {"sequence": event.sequence, "occurred_at": event.occurred_at}


def _result(one: Delivery) -> dict[str, Any]:
    recorded = {request.attempt: request for request in one.requests if request.recorded}
    last = recorded.get(one.attempts)
    return _about(one.event) | {
        "sequence": one.sequence,
        "delivery_id": one.id,
        "outbox_id": None if one.event.is_own else one.event.outbox_id,
        "subscription_name": one.sub.name,
        "state": one.state,
        "reason": one.reason or None,
        "attempts": one.attempts,
        "last_status": None if last is None else getattr(last.result, "status", None),
        "first_attempt_at": iso(recorded[1].wall) if 1 in recorded else None,
    }


def _check_moments(model: "Model", row: dict[str, Any]) -> None:
    """Times are there exactly while they mean something."""
    if (row["finished_at"] is None) != (row["state"] == "pending"):
        model.wrong("G6", f"webhook_results: finished_at does not go with the state: {row}")
    if row["next_attempt_at"] is not None and row["state"] != "pending":
        model.wrong("G6", f"webhook_results: next_attempt_at does not go with the state: {row}")
