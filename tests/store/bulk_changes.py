"""Words for tests of bulk changes: giving one, carrying it out by turns, and what always holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.store.conftest import Box
from webhookd.core.delivery import Happening
from webhookd.core.model import Reason, SubscriptionKey
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Recorded, Step, StoredSubscription
from webhookd.store import bulk, enabling, instructions, replay, subscriptions
from webhookd.store.instructions import Instruction, Kind
from webhookd.store.newest import Budget
from webhookd.store.transaction import Session

SKIPPED, OLDER, PENDING = "cancelled backlog_skipped", "cancelled newest_only", "pending"
ORDERINGS = ("aggregate", "subscription", "none")


@contextmanager
def small_steps(looks: int = 15) -> Iterator[None]:
    """Transactions that do next to nothing, so that there are many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "Budget", lambda: Budget(looks))
        yield


def daemon_step(box: Box) -> Step:
    box.store.begin()
    done = box.store.carry_out(box.now)
    box.store.commit()
    return done


def command_step(box: Box, key: int) -> Instruction | None:
    """One transaction of the command that gave the instruction."""
    with Session(box.path, write=True) as session, session.write() as transaction:
        one = instructions.find(transaction.connection, key)
        if one is not None and not one.is_done:
            bulk._carry_out_of(transaction, one.subscription, box.now)
        return instructions.find(transaction.connection, key)


def finish(box: Box) -> int:
    """The daemon carries out all there is; returns how many steps that took."""
    steps = 1
    while daemon_step(box).more:
        steps += 1
        assert steps < 10_000
    return steps


def held(box: Box, key: int = 1) -> bool:
    return next(one.instructed for one in box.store.subscriptions() if one.key == key)


def enable(box: Box, key: int = 1, **wanted: Any) -> enabling.Enabled:
    given: dict[str, Any] = {"backlog": None, "retry_failed": False} | wanted
    done = box.command(lambda t: enabling.enable(t, SubscriptionKey(key), now=box.now, **given))
    assert isinstance(done, enabling.Enabled)
    return done


def skip(box: Box, key: int = 1) -> int:
    return enable(box, key, backlog=Kind.SKIP_BACKLOG).given[0]


def newest_only(box: Box, key: int = 1) -> int:
    return enable(box, key, backlog=Kind.NEWEST_ONLY).given[0]


def order_replay(
    box: Box, key: int = 1, since: int = 0, until: int | None = None, **options: bool
) -> int:
    def give(transaction: Any) -> int | None:
        span = replay.span(transaction.connection, since, until, **options)
        return replay.order(transaction, SubscriptionKey(key), span, box.now)

    given = box.command(give)
    assert isinstance(given, int)
    return given


def counts(box: Box, key: int) -> dict[str, int]:
    """What came of an instruction."""
    found = box.command(lambda t: instructions.find(t.connection, key))
    assert found is not None
    assert found.is_done
    return {name: count for name, count in found.counts.items() if count}


def reorder(box: Box, one: StoredSubscription, **policy: Any) -> int | None:
    given = box.command(lambda t: subscriptions.update(t, one.key, {"policy": policy}, box.now))
    assert given is None or isinstance(given, int)
    return given


def states(box: Box, key: int = 1) -> list[str]:
    """State (and reason) of each delivery, in the order of their events."""
    return [
        f"{state} {reason}".strip()
        for state, reason in box.rows(
            "SELECT state, reason FROM webhookd_deliveries WHERE subscription = ? ORDER BY event",
            key,
        )
    ]


def check(box: Box) -> None:
    """What always holds: exactly the head of each line is due, and the figures are right."""
    for key, line, event, due in box.rows(
        "SELECT subscription, order_key, event, due_at FROM webhookd_deliveries"
        " WHERE state = 'pending'"
    ):
        head = box.rows(
            "SELECT min(event) FROM webhookd_deliveries WHERE subscription = ? AND order_key = ?"
            " AND state = 'pending'",
            key,
            line,
        )[0][0]
        assert (due is not None) == (line == 0 or event == head), (key, line, event)
    for key, *figures in box.rows(
        "SELECT subscription, pending, delivered, failed, cancelled, superseded, numbers"
        " FROM webhookd_counters"
    ):
        found = box.rows(
            "SELECT count(CASE state WHEN 'pending' THEN 1 END),"
            " count(CASE state WHEN 'delivered' THEN 1 END),"
            " count(CASE state WHEN 'failed' THEN 1 END),"
            " count(CASE state WHEN 'cancelled' THEN 1 END),"
            " count(CASE state WHEN 'superseded' THEN 1 END), coalesce(max(number), 0)"
            " FROM webhookd_deliveries WHERE subscription = ?",
            key,
        )[0]
        assert tuple(figures) == found, key
    assert box.one(
        "SELECT (SELECT count(*) FROM webhookd_deliveries)"
        " = (SELECT count(DISTINCT sequence) FROM webhookd_deliveries)"
    )


def fill(box: Box, *aggregates: str | None) -> list[int]:
    """An event for each; returns the ids of the deliveries that they owe the first subscription."""
    for name in aggregates:
        box.put(aggregate_id=name)
    box.ingest_all()
    return [
        row[0]
        for row in box.rows(
            "SELECT id FROM webhookd_deliveries WHERE subscription = 1 ORDER BY id DESC LIMIT ?",
            len(aggregates),
        )
    ][::-1]


def fail(box: Box, delivery: int, reason: Reason = Reason.EXHAUSTED, status: int = 500) -> Recorded:
    """Its last attempt failed, and that speaks of ill health."""
    made = box.outcome(delivery, Happening.FAILED, reason=reason, status=status)
    return box.record(made._replace(signs=Signs(ill=True)))


def is_done(box: Box, key: int) -> bool:
    found = box.command(lambda t: instructions.find(t.connection, key))
    return found is None or found.is_done
