"""The status document: what `webhookd status --json` prints, and what is judged unwell in it.

Pure: the facts come from the file and the lock file beside it, the judgement from here.
"""

from dataclasses import dataclass
from typing import Any, Final

from webhookd.core.model import Millis, SubscriptionState
from webhookd.core.text import counted
from webhookd.core.times import format_duration, from_text, to_text

HEARTBEAT_STALE: Final = 10_000
"""A heartbeat comes every second; after this long without one the daemon is stalled."""


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """What the file says of one subscription; `''` and None for what there is none of."""

    id: str
    name: str
    url_shown: str
    state: SubscriptionState
    state_reason: str
    owed: int
    delivered: int
    failed: int
    oldest_owed_at: str | None
    next_attempt_at: str | None
    last_status: int | None
    last_error: str
    last_attempt_at: str | None
    last_success_at: str | None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the file says as a whole."""

    path: str
    epoch: int
    sequence: int
    lag_rows: int
    rejected: int
    outbox_fault: str
    totals: dict[str, int]
    """Deliveries by state, over all subscriptions, removed ones included."""
    subscriptions: tuple[SubscriptionFacts, ...]
    size: int
    """Bytes on disk, the WAL included."""
    refusals: tuple[str, ...] = ()
    """Why `run` would not start on it: moved, restored."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Over these `status` is degraded."""

    max_lag: Millis
    max_owed_age: Millis


@dataclass(frozen=True, slots=True)
class Status:
    """The document and the judgement."""

    document: dict[str, Any]
    running: bool
    """A daemon holds the file and its heart beats."""
    problems: tuple[str, ...]
    """What is wrong and what to do about it, one line each; empty when all is well."""


def compose(
    facts: FileFacts,
    lock: dict[str, Any],
    *,
    held: bool,
    thresholds: Thresholds,
    now: Millis,
) -> Status:
    """The whole status.

    Args:
        facts: from the file.
        lock: what the lock file says; empty where there is none.
        held: whether a daemon holds the lock.
        thresholds: from the configuration.
        now: for ages.
    """
    heartbeat = _moment(lock.get("heartbeat_at"))
    stalled = held and (heartbeat is None or now - heartbeat > HEARTBEAT_STALE)
    lag_seconds = _lag_seconds(facts.lag_rows, _moment(lock.get("caught_up_at")), now)
    problems = [
        *_daemon_problems(lock, held=held, stalled=stalled),
        *(() if held else facts.refusals),
        *_outbox_problems(facts, lock, lag_seconds, thresholds, held=held),
    ]
    for one in facts.subscriptions:
        problems += _subscription_problems(one, thresholds, now)
    document = {
        "daemon": {
            "running": held and not stalled,
            "pid": lock.get("pid") if held else None,
            "version": lock.get("version"),
            "started_at": lock.get("started_at"),
            "heartbeat_at": lock.get("heartbeat_at"),
            "write_wait_seconds": lock.get("write_wait_seconds", 0) if held else 0,
            "unrecorded": lock.get("unrecorded", 0) if held else 0,
        },
        "database": {
            "path": facts.path,
            "bytes": facts.size,
            "epoch": facts.epoch,
            "sequence": facts.sequence,
        },
        "outbox": {
            "lag_rows": facts.lag_rows,
            "lag_seconds": lag_seconds,
            "rejected": facts.rejected,
            "fault": facts.outbox_fault or None,
        },
        "deliveries": facts.totals,
        "subscriptions": [_subscription(one) for one in facts.subscriptions],
        "problems": problems,
        "at": to_text(now),
    }
    return Status(document, held and not stalled, tuple(problems))


def _lag_seconds(rows: int, caught_up: Millis | None, now: Millis) -> float | None:
    """How long the oldest row may have waited; None where nobody knows."""
    if rows == 0:
        return 0.0
    return None if caught_up is None else max(0, now - caught_up) / 1000


def _daemon_problems(lock: dict[str, Any], *, held: bool, stalled: bool) -> list[str]:
    problems = []
    if not held:
        problems.append("the daemon does not run: start it with `webhookd run` or systemctl")
    elif stalled:
        problems.append(
            f"the daemon (pid {lock.get('pid')}) is stalled: no heartbeat since "
            f"{lock.get('heartbeat_at')}; see its log, restart it"
        )
    problems += [str(problem) for problem in lock.get("problems", []) if held]
    return problems


def _outbox_problems(
    facts: FileFacts,
    lock: dict[str, Any],
    lag: float | None,
    thresholds: Thresholds,
    *,
    held: bool,
) -> list[str]:
    problems = []
    stopped = f"ingest has stopped: {facts.outbox_fault}"
    told = held and stopped in lock.get("problems", [])
    if facts.outbox_fault and not told:
        problems.append(stopped)
    if lag is not None and lag * 1000 > thresholds.max_lag:
        problems.append(
            f"the outbox is behind by {counted(facts.lag_rows, 'row')}, for "
            f"{format_duration(int(lag) * 1000)}; see whether the daemon can write to the file"
        )
    return problems


def _subscription_problems(
    one: SubscriptionFacts, thresholds: Thresholds, now: Millis
) -> list[str]:
    if one.state is SubscriptionState.DISABLED:
        return [
            (
                f"subscription {one.name} is disabled ({one.state_reason}) and is owed {one.owed}; "
                f"`webhookd subscriptions enable {one.name}` sends them"
            )
        ]
    oldest = _moment(one.oldest_owed_at)
    late = oldest is not None and now - oldest > thresholds.max_owed_age
    if late and one.state is SubscriptionState.ENABLED:
        return [
            (
                f"subscription {one.name} is owed {one.owed}, the oldest since {one.oldest_owed_at}"
                f" (last: {one.last_error or one.last_status or 'not attempted'})"
            )
        ]
    return []


def _subscription(one: SubscriptionFacts) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "url": one.url_shown,
        "state": one.state.value,
        "state_reason": one.state_reason or None,
        "owed": one.owed,
        "oldest_owed_at": one.oldest_owed_at,
        "delivered": one.delivered,
        "failed": one.failed,
        "last_status": one.last_status,
        "last_error": one.last_error or None,
        "last_attempt_at": one.last_attempt_at,
        "last_success_at": one.last_success_at,
        # While it is paused or disabled nothing is attempted, whatever is due.
        "next_attempt_at": (
            one.next_attempt_at if one.state is SubscriptionState.ENABLED else None
        ),
    }


def _moment(text: object) -> Millis | None:
    """The moment that the lock file gives; None for what it does not, or has damaged."""
    try:
        return from_text(text) if isinstance(text, str) else None
    except ValueError:
        return None
