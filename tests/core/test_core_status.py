"""What `status` says of the file and of the daemon."""

from dataclasses import replace

import pytest

from tests.core.status_facts import ALIVE, FACTS, NOW, THRESHOLDS, judged
from webhookd.core import wal
from webhookd.core.recent import Recent
from webhookd.core.status import HEARTBEAT_STALE, compose
from webhookd.core.times import to_text


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
            "heartbeat_seconds": 0.5,
            "write_wait_seconds": 0.5,
            "unrecorded": 4,
        },
        "database": {
            "path": "/srv/erp.db",
            "bytes": 4096,
            "wal_bytes": 100,
            "free_bytes": 8,
            "epoch": 1,
            "sequence": 12,
        },
        "outbox": {"lag_rows": 0, "lag_seconds": 0.0, "rejected": 3, "fault": None},
        "deliveries": {"pending": 2, "delivered": 7},
        "due": {"oldest_at": None, "oldest_seconds": 0.0, "subscription": None},
        "subscriptions": [
            {
                "id": "wh_1",
                "name": "one",
                "url": "https://one.example.com/?***",
                "state": "enabled",
                "state_reason": None,
                "disabled_at": None,
                "health": "well",
                "failing_since": None,
                "held_until": None,
                "held_back": None,
                "owed": 2,
                "oldest_owed_at": to_text(NOW - 1_000),
                "delivered": 7,
                "failed": 1,
                "last_status": 500,
                "last_error": "http 500",
                "last_attempt_at": to_text(NOW - 500),
                "last_success_at": None,
                "next_attempt_at": to_text(NOW + 1_000),
                "last_hour": {
                    "delivered": 6,
                    "failed": 0,
                    "attempts": 10,
                    "latency_p50_ms": 26,
                    "latency_p95_ms": 768,
                },
                "urgency": 2,
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


def test_A22_what_the_daemon_says_of_ingest_counts() -> None:
    """It goes by the configuration of its start: by a newer one the outbox may look well."""
    other = "schema: column outbox.body missing"
    for facts in (FACTS, replace(FACTS, outbox_fault=other)):
        status = judged(facts, problems=["a", f"ingest has stopped: {FAULT}"])
        assert status.document["outbox"]["fault"] == FAULT
        assert status.problems == ("a", f"ingest has stopped: {FAULT}")
    gone = judged(held=False, problems=[f"ingest has stopped: {FAULT}"])
    assert gone.document["outbox"]["fault"] is None


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


@pytest.mark.parametrize(
    ("held", "told", "problem"),
    [
        (True, [], "c.toml: bad (the daemon goes on with what it has, and would not start again)"),
        (True, ["not reloaded: c.toml: bad"], "not reloaded: c.toml: bad"),
        (False, ["not reloaded: c.toml: bad"], "c.toml: bad (the daemon would not start)"),
    ],
)
def test_a_fault_of_the_configuration_is_told_once(
    held: bool, told: list[str], problem: str
) -> None:
    lock = ALIVE | {"problems": told}
    limits = THRESHOLDS
    status = compose(FACTS, lock, held=held, thresholds=limits, now=NOW, fault="c.toml: bad")
    assert [one for one in status.problems if "c.toml" in one] == [problem]


def test_no_heartbeat_has_no_age() -> None:
    assert judged(heartbeat_at=None).document["daemon"]["heartbeat_seconds"] is None
    assert judged(heartbeat_at=to_text(NOW + 9)).document["daemon"]["heartbeat_seconds"] == 0


@pytest.mark.parametrize("heart", ["beats", "stalled", "none"])
def test_B4_a_large_wal_is_told_of_unless_a_daemon_at_work_knows_more(heart: str) -> None:
    lock = ALIVE | ({"heartbeat_at": to_text(NOW - 60_000)} if heart == "stalled" else {})
    for size, is_large in ((wal.LARGE, False), (wal.LARGE + 1, True)):
        file = replace(FACTS, wal_bytes=size)
        status = compose(file, lock, held=heart != "none", thresholds=THRESHOLDS, now=NOW)
        told = wal.Why.NO_DAEMON.value in status.problems
        assert told is (is_large and heart != "beats")


def test_deliveries_that_failed_in_the_last_hour() -> None:
    two = tuple(replace(FACTS.subscriptions[0], recent=Recent(0, count)) for count in (2, 1))
    facts = replace(FACTS, subscriptions=two)

    def problems(most: int | None) -> tuple[str, ...]:
        limits = replace(THRESHOLDS, max_failed=most)
        return compose(facts, ALIVE, held=True, thresholds=limits, now=NOW).problems

    assert problems(None) == problems(3) == ()
    until = "no repair lowers that, it clears by itself within 65 minutes"
    see = "`webhookd deliveries list --state failed` has those that still are, the log has all"
    said = f"deliveries failed 3 times in the last hour, over 2 ({until}); {see}"
    assert problems(2) == (said,)
    assert problems(0)


def test_B9_that_the_file_was_restored_is_told_first() -> None:
    facts = replace(FACTS, refusals=("a restored backup: accept it",))
    status = compose(facts, {}, held=False, thresholds=THRESHOLDS, now=NOW)
    assert status.problems == (
        "a restored backup: accept it",
        "the daemon does not run, and would not start before that",
    )
