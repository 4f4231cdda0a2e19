"""The status document: what `webhookd status --json` prints, and what is judged unwell in it.

Pure: the facts come from the file and the lock file beside it, the judgement from here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from webhookd.core import holding, wal
from webhookd.core.health import Health, Rule
from webhookd.core.model import Millis, Policy, SubscriptionState
from webhookd.core.recent import IDLE, Recent
from webhookd.core.text import counted
from webhookd.core.times import format_duration, from_text, to_text

HEARTBEAT_STALE: Final = 10_000
"""A heartbeat comes every second; after this long without one the daemon is stalled."""

MOST_OWED: Final = 100_000
LONGEST_DISABLED: Final = 30 * 86_400_000
"""Over these what a subscription is owed is a burden: every event of it is kept in the file."""


STOPPED: Final = "ingest has stopped: "
"""So begins the problem of a daemon that cannot read the outbox; why, comes behind it."""

WELL: Final = "well"
"""The health of a subscription of which there is nothing to say."""


class Urgency(IntEnum):
    """How much a subscription needs a person: the higher, the sooner it is shown."""

    NONE = 0
    SET_ASIDE = 1
    """Paused: somebody wanted it so."""
    UNEASY = 2
    """It is held back, its latest attempt failed, or a delivery of it did in the last hour."""
    FAILING = 3
    WRONG = 4
    """It is among the problems."""


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """What the file says of one subscription; `''` and None for what there is none of."""

    key: int
    id: str
    name: str
    url_shown: str
    state: SubscriptionState
    state_reason: str
    disabled_at: str | None
    owed: int
    delivered: int
    failed: int
    oldest_owed_at: str | None
    next_attempt_at: str | None
    last_status: int | None
    last_error: str
    last_attempt_at: str | None
    last_success_at: str | None
    health: Health
    policy: Policy
    """In force: its profile's with its own."""
    recent: Recent = IDLE
    """What it did in the last hour."""


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
    wal_bytes: int = 0
    """Of these, the write-ahead log's."""
    free_bytes: int = 0
    """Of these, what is free for rows to come."""
    refusals: tuple[str, ...] = ()
    """Why `run` would not start on it: moved, restored."""
    captures: tuple[str, ...] = ()
    """What is wrong with captures, each with its remedy."""
    outbox_faults: tuple[str, ...] = ()
    """Why `run` would not start on the outbox, though rows may be taken in now."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Over these `status` is degraded."""

    max_lag: Millis
    max_owed_age: Millis
    max_failed: int | None = None
    """In the last hour, over all subscriptions; None for any number."""


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
    fault: str = "",
) -> Status:
    """The whole status.

    Args:
        facts: from the file.
        lock: what the lock file says; empty where there is none.
        held: whether a daemon holds the lock.
        thresholds: from the configuration.
        now: for ages.
        fault: what is wrong with the configuration, so that the thresholds are the defaults.
    """
    heartbeat = _moment(lock.get("heartbeat_at"))
    stopped = _stopped(lock, held=held)
    stalled = held and (heartbeat is None or now - heartbeat > HEARTBEAT_STALE)
    lag_seconds = _lag_seconds(facts.lag_rows, _moment(lock.get("caught_up_at")), now)
    problems = [
        *(() if held else facts.refusals),  # the first: before that no start helps
        *_daemon_problems(lock, held=held, stalled=stalled, refused=bool(facts.refusals)),
        *_config_problems(fault, lock, held=held),
        *_outbox_problems(facts, lag_seconds, thresholds, told=bool(stopped)),
        *_failed_problems(facts, thresholds),
    ]
    shown, at_work = [], []
    told = lock.get("problems", []) if held else []
    problems += [one for one in (*facts.outbox_faults, *facts.captures) if one not in told]
    daemon = holding.seen(lock, held=held)
    if facts.wal_bytes > wal.LARGE and (stalled or not held):
        problems.append(wal.Why.NO_DAEMON.value)  # one at work tells itself, and knows why
    for one in facts.subscriptions:
        wrong = _subscription_problems(one, thresholds, now)
        problems += wrong
        held_back = daemon.holds_back(one.name, one.key)
        if not held_back:
            at_work.append(one)
        shown.append(_subscription(one, now, held_back, wrong=bool(wrong or held_back)))
    document = {
        "daemon": {
            "running": held and not stalled,
            "pid": lock.get("pid") if held else None,
            "version": lock.get("version"),
            "started_at": lock.get("started_at"),
            "heartbeat_at": lock.get("heartbeat_at"),
            "heartbeat_seconds": _age(heartbeat, now),
            "write_wait_seconds": lock.get("write_wait_seconds", 0) if held else 0,
            "unrecorded": lock.get("unrecorded", 0) if held else 0,
        },
        "database": {
            "path": facts.path,
            "bytes": facts.size,
            "wal_bytes": facts.wal_bytes,
            "free_bytes": facts.free_bytes,
            "epoch": facts.epoch,
            "sequence": facts.sequence,
        },
        "outbox": {
            "lag_rows": facts.lag_rows,
            "lag_seconds": lag_seconds,
            "rejected": facts.rejected,
            "fault": stopped or facts.outbox_fault or None,
        },
        "deliveries": facts.totals,
        "due": _due(at_work, now),
        "subscriptions": shown,
        "problems": problems,
        "at": to_text(now),
    }
    return Status(document, held and not stalled, tuple(problems))


def _lag_seconds(rows: int, caught_up: Millis | None, now: Millis) -> float | None:
    """How long the oldest row may have waited; None where nobody knows."""
    if rows == 0:
        return 0.0
    return None if caught_up is None else max(0, now - caught_up) / 1000


def _stopped(lock: dict[str, Any], *, held: bool) -> str:
    """Why the daemon takes nothing in, as it says; `''` where it says nothing of the kind.

    It goes by the configuration that it started with: who asks may have read a newer one.
    """
    told = (str(problem) for problem in lock.get("problems", []) if held)
    return next((one.removeprefix(STOPPED) for one in told if one.startswith(STOPPED)), "")


def _daemon_problems(
    lock: dict[str, Any], *, held: bool, stalled: bool, refused: bool
) -> list[str]:
    problems = []
    if not held and refused:
        problems.append("the daemon does not run, and would not start before that")
    elif not held:
        problems.append("the daemon does not run: start it with `webhookd run` or systemctl")
    elif stalled:
        problems.append(
            f"the daemon (pid {lock.get('pid')}) is stalled: no heartbeat since "
            f"{lock.get('heartbeat_at')}; see its log, restart it"
        )
    problems += [str(problem) for problem in lock.get("problems", []) if held]
    return problems


def _config_problems(fault: str, lock: dict[str, Any], *, held: bool) -> list[str]:
    told = held and any(fault in str(problem) for problem in lock.get("problems", []))
    if not fault or told:
        return []
    if held:
        return [f"{fault} (the daemon goes on with what it has, and would not start again)"]
    return [f"{fault} (the daemon would not start)"]


def _outbox_problems(
    facts: FileFacts, lag: float | None, thresholds: Thresholds, *, told: bool
) -> list[str]:
    """`told`: the daemon has said already that, and why, ingest has stopped."""
    problems = []
    if facts.outbox_fault and not told:
        problems.append(f"{STOPPED}{facts.outbox_fault}")
    if lag is not None and lag * 1000 > thresholds.max_lag:
        problems.append(
            f"the outbox is behind by {counted(facts.lag_rows, 'row')}, for "
            f"{format_duration(int(lag) * 1000)}; see whether the daemon can write to the file"
        )
    return problems


def _failed_problems(facts: FileFacts, thresholds: Thresholds) -> list[str]:
    failed = sum(one.recent.failed for one in facts.subscriptions)
    if thresholds.max_failed is None or failed <= thresholds.max_failed:
        return []
    many = f"deliveries failed {counted(failed, 'time')} in the last hour"
    until = "no repair lowers that, it clears by itself within 65 minutes"
    see = "`webhookd deliveries list --state failed` has those that still are, the log has all"
    return [f"{many}, over {thresholds.max_failed} ({until}); {see}"]


def _subscription_problems(
    one: SubscriptionFacts, thresholds: Thresholds, now: Millis
) -> list[str]:
    """At most one line: the gravest, which says the others' figures too."""
    since = "" if one.oldest_owed_at is None else f", the oldest since {one.oldest_owed_at}"
    disabled, burden = one.state is SubscriptionState.DISABLED, _burden(one, now)
    if disabled or burden:
        said = f"subscription {one.name} is {_standing(one)}" if disabled else ""
        said = f"{said}; it" if said else f"subscription {one.name}"
        return [f"{said} is owed {one.owed}{since}; {burden}{_remedy(one, giving_up=bool(burden))}"]
    oldest = _moment(one.oldest_owed_at)
    late = oldest is not None and now - oldest > thresholds.max_owed_age
    if late and one.state is SubscriptionState.ENABLED:
        look = f"`webhookd deliveries list --subscription {one.name} --state pending`"
        owed = f"subscription {one.name} is owed {one.owed}{since} (last: {_last(one)})"
        return [f"{owed}; {look} shows what waits"]
    return []


def _burden(one: SubscriptionFacts, now: Millis) -> str:
    """What it costs that so much is owed for so long; `''` where it is not worth a word."""
    disabled_at = _moment(one.disabled_at)
    disabled_for = 0 if disabled_at is None else now - disabled_at
    long = disabled_for >= LONGEST_DISABLED
    if not long and one.owed <= MOST_OWED:
        return ""
    span = f" for {disabled_for // 86_400_000} days" if long else ""
    return f"the file has kept them and their events{span}, and retention takes none of them; "


def _remedy(one: SubscriptionFacts, *, giving_up: bool) -> str:
    if one.state is SubscriptionState.ENABLED:
        return f"see what holds them up (last: {_last(one)})"
    enable = f"`webhookd subscriptions enable {one.name}`"
    return f"{enable} sends them" + (", with --skip-backlog it gives them up" if giving_up else "")


def _last(one: SubscriptionFacts) -> str:
    return str(one.last_error or one.last_status or "not attempted")


def _standing(one: SubscriptionFacts) -> str:
    """Paused or disabled, by whom, since when and why; `enabled`."""
    if one.state is SubscriptionState.DISABLED:
        since = "" if one.disabled_at is None else f" since {one.disabled_at}"
        return f"disabled{since}: {_why(one)}"
    return f"paused: {_why(one)}" if one.state is SubscriptionState.PAUSED else "enabled"


def _why(one: SubscriptionFacts) -> str:
    return ", ".join(_reason(word, one.health) for word in one.state_reason.split(", "))


def _reason(reason: str, health: Health) -> str:
    """One `state_reason` in words; what a newer program wrote stays as it is."""
    match reason:
        case Rule.GONE:
            return "its endpoint answered 410 Gone"
        case Rule.FAILURES:
            count = health.failures
            # A request that was in flight meanwhile may have succeeded after all.
            many = f"{counted(count, 'delivery', 'deliveries')} " if count else "deliveries "
            since = _since(health.failures_since)
            return f"{many}in a row failed{since} ({reason})"
        case Rule.NO_SUCCESS:
            return f"no attempt has succeeded{_since(health.no_success_since)} ({reason})"
        case "operator":
            return "by an operator"
        case "removed_from_config":
            return "its block is gone from the configuration"
        case "":
            return "no reason was given"
        case _:
            return reason


def _since(moment: Millis | None) -> str:
    return "" if moment is None else f" since {to_text(moment)}"


def _health(one: SubscriptionFacts, held_until: Millis | None, held_back: str) -> str:
    """How it is, in words."""
    enabled = one.state is SubscriptionState.ENABLED
    said = [] if enabled else [_standing(one)]
    if held_back:
        said.append(f"held back: {held_back}")
    if one.health.failing_since is not None:
        probing = " (probing with one request at a time)" if enabled else ""
        said.append(f"failing{_since(one.health.failing_since)}{probing}")
    if held_until is not None:
        said.append(f"held back until {to_text(held_until)} (Retry-After)")
    return "; ".join(said) or WELL


def _subscription(
    one: SubscriptionFacts, now: Millis, held_back: str, *, wrong: bool
) -> dict[str, Any]:
    held_until = one.health.holds(now, one.policy)
    return {
        "id": one.id,
        "name": one.name,
        "url": one.url_shown,
        "state": one.state.value,
        "state_reason": one.state_reason or None,
        "disabled_at": one.disabled_at,
        "health": _health(one, held_until, held_back),
        "failing_since": _text(one.health.failing_since),
        "held_until": _text(held_until),
        "held_back": held_back or None,
        "owed": one.owed,
        "oldest_owed_at": one.oldest_owed_at,
        "delivered": one.delivered,
        "failed": one.failed,
        "last_status": one.last_status,
        "last_error": one.last_error or None,
        "last_attempt_at": one.last_attempt_at,
        "last_success_at": one.last_success_at,
        "next_attempt_at": None if held_back else _next_attempt(one, held_until),
        "last_hour": {
            "delivered": one.recent.delivered,
            "failed": one.recent.failed,
            "attempts": one.recent.attempts,
            "latency_p50_ms": one.recent.quantile(0.50),
            "latency_p95_ms": one.recent.quantile(0.95),
        },
        "urgency": (Urgency.WRONG if wrong else _urgency(one, held_until)).value,
    }


def _due(subscriptions: Iterable[SubscriptionFacts], now: Millis) -> dict[str, Any]:
    """The delivery that has been due for the longest, of all that may be sent now."""
    waits = [
        (moment, one.name)
        for one in subscriptions
        if (moment := _moment(_next_attempt(one, one.health.holds(now, one.policy)))) is not None
        and moment <= now
    ]
    if not waits:
        return {"oldest_at": None, "oldest_seconds": 0.0, "subscription": None}
    oldest, name = min(waits)
    return {"oldest_at": to_text(oldest), "oldest_seconds": _age(oldest, now), "subscription": name}


def _age(moment: Millis | None, now: Millis) -> float | None:
    """Seconds since then; never negative, as a clock may have been set back."""
    return None if moment is None else max(0, now - moment) / 1000


def _urgency(one: SubscriptionFacts, held_until: Millis | None) -> Urgency:
    if one.state is SubscriptionState.PAUSED:
        return Urgency.SET_ASIDE
    if one.health.failing_since is not None:
        return Urgency.FAILING
    if held_until is not None or one.recent.failed or (one.owed and one.last_error):
        return Urgency.UNEASY
    return Urgency.NONE


def _next_attempt(one: SubscriptionFacts, held_until: Millis | None) -> str | None:
    """While it is paused or disabled nothing is attempted, whatever is due."""
    following = one.next_attempt_at
    if one.state is not SubscriptionState.ENABLED or following is None:
        return None
    return following if held_until is None else max(following, to_text(held_until))


def _text(moment: Millis | None) -> str | None:
    return None if moment is None else to_text(moment)


def _moment(text: object) -> Millis | None:
    """The moment that the lock file gives; None for what it does not, or has damaged."""
    try:
        return from_text(text) if isinstance(text, str) else None
    except ValueError:
        return None
