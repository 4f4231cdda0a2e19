from dataclasses import replace
from typing import Any

import pytest

from webhookd.core.model import SubscriptionState
from webhookd.core.status import (
    HEARTBEAT_STALE,
    FileFacts,
    Status,
    SubscriptionFacts,
    Thresholds,
    compose,
)
from webhookd.core.times import from_text, to_text

NOW = from_text("2026-01-31T12:00:00.000Z")
THRESHOLDS = Thresholds(max_lag=60_000, max_owed_age=3_600_000)
ONE = SubscriptionFacts(
    id="wh_1",
    name="one",
    url_shown="https://one.example.com/?***",
    state=SubscriptionState.ENABLED,
    state_reason="",
    owed=2,
    delivered=7,
    failed=1,
    oldest_owed_at=to_text(NOW - 1_000),
    next_attempt_at=to_text(NOW + 1_000),
    last_status=500,
    last_error="http 500",
    last_attempt_at=to_text(NOW - 500),
    last_success_at=None,
)
FACTS = FileFacts(
    path="/srv/erp.db",
    epoch=1,
    sequence=12,
    lag_rows=0,
    rejected=3,
    outbox_fault="",
    totals={"pending": 2, "delivered": 7},
    subscriptions=(ONE,),
    size=4096,
)
ALIVE = {
    "pid": 4711,
    "version": "1.0",
    "started_at": to_text(NOW - 60_000),
    "heartbeat_at": to_text(NOW - 500),
    "caught_up_at": to_text(NOW - 500),
    "write_wait_seconds": 0.5,
    "unrecorded": 4,
    "problems": [],
}


def judged(facts: FileFacts = FACTS, *, held: bool = True, **lock: Any) -> Status:
    return compose(facts, ALIVE | lock, held=held, thresholds=THRESHOLDS, now=NOW)


def with_one(**changes: Any) -> FileFacts:
    return replace(FACTS, subscriptions=(replace(ONE, **changes),))


def test_all_is_well() -> None:
    status = judged()
    assert (status.running, status.problems) == (True, ())
    assert status.document == {
        "daemon": {
            "running": True,
            "pid": 4711,
            "version": "1.0",
            "started_at": to_text(NOW - 60_000),
            "heartbeat_at": to_text(NOW - 500),
            "write_wait_seconds": 0.5,
            "unrecorded": 4,
        },
        "database": {"path": "/srv/erp.db", "bytes": 4096, "epoch": 1, "sequence": 12},
        "outbox": {"lag_rows": 0, "lag_seconds": 0.0, "rejected": 3, "fault": None},
        "deliveries": {"pending": 2, "delivered": 7},
        "subscriptions": [
            {
                "id": "wh_1",
                "name": "one",
                "url": "https://one.example.com/?***",
                "state": "enabled",
                "state_reason": None,
                "owed": 2,
                "oldest_owed_at": to_text(NOW - 1_000),
                "delivered": 7,
                "failed": 1,
                "last_status": 500,
                "last_error": "http 500",
                "last_attempt_at": to_text(NOW - 500),
                "last_success_at": None,
                "next_attempt_at": to_text(NOW + 1_000),
            }
        ],
        "problems": [],
        "at": to_text(NOW),
    }


def test_no_daemon() -> None:
    status = judged(held=False, problems=["of the last one"])
    assert not status.running
    (problem,) = status.problems
    assert problem.startswith("the daemon does not run: start it with")
    daemon = status.document["daemon"]
    assert (daemon["running"], daemon["pid"], daemon["unrecorded"]) == (False, None, 0)
    assert daemon["version"] == "1.0"


def test_no_lock_file() -> None:
    status = compose(FACTS, {}, held=False, thresholds=THRESHOLDS, now=NOW)
    assert not status.running
    assert status.document["daemon"]["version"] is None


@pytest.mark.parametrize(
    ("heartbeat", "running"),
    [
        (to_text(NOW - HEARTBEAT_STALE), True),
        (to_text(NOW - HEARTBEAT_STALE - 1), False),
        (to_text(NOW + 60_000), True),
        (None, False),
        (17, False),
        ("garbage", False),
    ],
)
def test_a_heart_that_does_not_beat(heartbeat: object, running: bool) -> None:
    status = judged(heartbeat_at=heartbeat)
    assert status.running is running
    if not running:
        (problem,) = status.problems
        assert problem.startswith("the daemon (pid 4711) is stalled: no heartbeat since")


def test_what_the_daemon_says_is_passed_on() -> None:
    assert judged(problems=["a", "b"]).problems == ("a", "b")


FAULT = "schema: column outbox.payload missing"


def test_A22_a_fault_of_the_outbox_is_told_once() -> None:
    facts = replace(FACTS, outbox_fault=FAULT)
    status = judged(facts)
    assert status.problems == (f"ingest has stopped: {FAULT}",)
    assert status.document["outbox"]["fault"] == FAULT
    told = f"ingest has stopped: {FAULT}"
    assert judged(facts, problems=[told]).problems == (told,)


def test_A22_what_a_dead_daemon_said_hides_no_fault() -> None:
    status = judged(replace(FACTS, outbox_fault=FAULT), held=False, problems=[FAULT])
    assert f"ingest has stopped: {FAULT}" in status.problems


@pytest.mark.parametrize(
    ("rows", "caught_up", "seconds", "problem"),
    [
        (0, to_text(NOW - 10**9), 0.0, False),
        (5, to_text(NOW - 60_000), 60.0, False),
        (5, to_text(NOW - 60_001), 60.001, True),
        (5, to_text(NOW + 5), 0.0, False),
        (5, None, None, False),
    ],
)
def test_a_lag(rows: int, caught_up: str | None, seconds: float | None, problem: bool) -> None:
    status = judged(replace(FACTS, lag_rows=rows), caught_up_at=caught_up)
    assert status.document["outbox"]["lag_seconds"] == seconds
    if problem:
        assert status.problems == (
            "the outbox is behind by 5 rows, for 1m; see whether the daemon can write to the file",
        )
    else:
        assert status.problems == ()


def test_a_subscription_that_was_disabled() -> None:
    status = judged(with_one(state=SubscriptionState.DISABLED, state_reason="gone"))
    (problem,) = status.problems
    assert problem == (
        "subscription one is disabled (gone) and is owed 2; "
        "`webhookd subscriptions enable one` sends them"
    )
    assert status.document["subscriptions"][0]["state_reason"] == "gone"


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({}, "http 500"),
        ({"last_error": ""}, "500"),
        ({"last_error": "", "last_status": None}, "not attempted"),
    ],
)
def test_a_subscription_that_is_late(changes: dict[str, Any], last: str) -> None:
    since = to_text(NOW - 3_600_001)
    status = judged(with_one(oldest_owed_at=since, **changes))
    assert status.problems == (
        f"subscription one is owed 2, the oldest since {since} (last: {last})",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"oldest_owed_at": to_text(NOW - 3_600_000)},
        {"oldest_owed_at": None, "owed": 0},
        {"oldest_owed_at": to_text(NOW - 10**9), "state": SubscriptionState.PAUSED},
    ],
)
def test_a_subscription_that_is_not(changes: dict[str, Any]) -> None:
    assert judged(with_one(**changes)).problems == ()


@pytest.mark.parametrize("state", SubscriptionState)
def test_nothing_is_attempted_next_unless_it_is_enabled(state: SubscriptionState) -> None:
    (one,) = judged(with_one(state=state)).document["subscriptions"]
    assert (one["next_attempt_at"] is None) is (state is not SubscriptionState.ENABLED)
