"""One delivery in words: where it stands, what it waits for, and each of its attempts."""

from collections.abc import Iterator
from typing import Any

from webhookd.core.model import DeliveryState, Reason
from webhookd.core.text import counted


def standing(delivery: dict[str, Any]) -> str:
    """What became of it, and after how many attempts."""
    return f"{_became(delivery)}, {counted(delivery['attempts'], 'attempt')}"


def prospects(delivery: dict[str, Any]) -> Iterator[str]:
    """What comes next for one that is pending, and what held up others."""
    if delivery["passed_at"]:
        yield f"it held up those behind it, so they passed at {delivery['passed_at']}"
    for wait in delivery["waits_for"]:
        yield f"waits: {wait['text']}"
    if delivery["expires_at"]:
        yield f"ends as expired at {delivery['expires_at']} (max_age is {delivery['max_age']})"


def remedy(delivery: dict[str, Any], *, removed: bool) -> Iterator[str]:
    """How one that ended without success is sent after all."""
    if removed or delivery["state"] not in (DeliveryState.FAILED, DeliveryState.CANCELLED):
        return
    if delivery["unsendable"]:
        yield f"it cannot be sent again: {delivery['unsendable']}"
    else:
        yield f"`webhookd deliveries retry {delivery['delivery_id']}` sends it again"


def attempts(made: list[dict[str, Any]]) -> Iterator[str]:
    """Each attempt: when, how long, what came of it, and the beginning of what was answered."""
    for one in made:
        came = one["error"] or f"http {one['status']}"
        kind = f" ({one['error_class']})" if one["error_class"] else ", taken"
        yield f"attempt {one['number']}  {one['started_at']}  {one['duration_ms']} ms  {came}{kind}"
        if one["note"]:
            yield f"  note: {one['note']}"
        if one["excerpt"]:
            yield f"  answered: {one['excerpt']}"


def _became(delivery: dict[str, Any]) -> str:
    state, reason = delivery["state"], delivery["reason"]
    if delivery["finished_at"] is None:
        return f"is {state}"
    if reason == Reason.EXPIRED and delivery["max_age"]:
        reason = f"{reason}: max_age is {delivery['max_age']}"
    if delivery["superseded_by"] is not None:
        reason = f"{reason}: delivery {delivery['superseded_by']} is newer"
    verb = state if state == DeliveryState.FAILED else f"was {state}"
    return f"{verb}{f' ({reason})' if reason else ''} at {delivery['finished_at']}"
