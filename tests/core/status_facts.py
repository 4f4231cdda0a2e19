"""A file, a daemon and a subscription that are well, for `status` to judge."""

from dataclasses import replace
from typing import Any

from webhookd.core.health import WELL
from webhookd.core.model import Policy, SubscriptionState
from webhookd.core.recent import Recent
from webhookd.core.status import (
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
    key=1,
    id="wh_1",
    name="one",
    url_shown="https://one.example.com/?***",
    state=SubscriptionState.ENABLED,
    state_reason="",
    disabled_at=None,
    owed=2,
    delivered=7,
    failed=1,
    oldest_owed_at=to_text(NOW - 1_000),
    next_attempt_at=to_text(NOW + 1_000),
    last_status=500,
    last_error="http 500",
    last_attempt_at=to_text(NOW - 500),
    last_success_at=None,
    health=WELL,
    policy=Policy(timeout=15_000, retry_delays=(5_000,)),
    recent=Recent(6, 0, (0, 0, 8, 0, 0, 1, 0, 1, *(0,) * 8)),
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
    wal_bytes=100,
    free_bytes=8,
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
