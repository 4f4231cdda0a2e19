from dataclasses import replace
from typing import Any

import pytest

from webhookd.core import wal
from webhookd.core.health import WELL, Health
from webhookd.core.holding import LOGGED
from webhookd.core.model import Policy, SubscriptionState
from webhookd.core.recent import IDLE, Recent
from webhookd.core.status import (
    HEARTBEAT_STALE,
    FileFacts,
    Status,
    SubscriptionFacts,
    Thresholds,
    Urgency,
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


T = to_text(NOW - 86_400_000)
DISABLED = {"state": SubscriptionState.DISABLED, "disabled_at": T}
ENABLE = "`webhookd subscriptions enable one` sends them"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state_reason": "gone"}, "its endpoint answered 410 Gone"),
        (
            {
                "state_reason": "disable_after_failures",
                "health": Health(failures=3, failures_since=NOW - 86_500_000),
            },
            "3 deliveries in a row failed since 2026-01-30T11:58:20.000Z (disable_after_failures)",
        ),
        (
            {
                "state_reason": "disable_after_failures",
                "health": Health(failures=1, failures_since=NOW),
            },
            f"1 delivery in a row failed since {to_text(NOW)} (disable_after_failures)",
        ),
        # What was in flight when it was disabled succeeded after all.
        (
            {"state_reason": "disable_after_failures"},
            "deliveries in a row failed (disable_after_failures)",
        ),
        (
            {"state_reason": "disable_after", "health": Health(no_success_since=NOW - 86_500_000)},
            "no attempt has succeeded since 2026-01-30T11:58:20.000Z (disable_after)",
        ),
        ({"state_reason": "disable_after"}, "no attempt has succeeded (disable_after)"),
        ({"state_reason": "operator"}, "by an operator"),
        ({"state_reason": ""}, "no reason was given"),
        ({"state_reason": "of_a_newer_program"}, "of_a_newer_program"),
    ],
)
def test_a_subscription_that_was_disabled(changes: dict[str, Any], why: str) -> None:
    status = judged(with_one(**DISABLED, **changes))
    oldest = to_text(NOW - 1_000)
    (problem,) = status.problems
    assert problem == (
        f"subscription one is disabled since {T}: {why}; it is owed 2, the oldest since {oldest}; "
        f"{ENABLE}"
    )
    (one,) = status.document["subscriptions"]
    assert one["health"] == f"disabled since {T}: {why}"
    assert (one["state_reason"], one["disabled_at"]) == (changes["state_reason"] or None, T)


def test_a_disabled_one_of_which_little_is_known() -> None:
    status = judged(with_one(**DISABLED | {"disabled_at": None}, owed=0, oldest_owed_at=None))
    (problem,) = status.problems
    assert problem == (f"subscription one is disabled: no reason was given; it is owed 0; {ENABLE}")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("operator", "paused: by an operator"),
        ("removed_from_config", "paused: its block is gone from the configuration"),
        (
            "operator, removed_from_config",
            "paused: by an operator, its block is gone from the configuration",
        ),
    ],
)
def test_a_paused_one_is_no_problem(reason: str, words: str) -> None:
    status = judged(with_one(state=SubscriptionState.PAUSED, state_reason=reason))
    assert status.problems == ()
    assert status.document["subscriptions"][0]["health"] == words


DAY = 86_400_000


@pytest.mark.parametrize(
    ("age", "costs"), [(30 * DAY - 1, ""), (30 * DAY, " for 30 days"), (45 * DAY, " for 45 days")]
)
def test_disabled_for_30_days_says_what_it_costs(age: int, costs: str) -> None:
    since = to_text(NOW - age)
    oldest = to_text(NOW - age - 1_000)
    status = judged(
        with_one(
            state=SubscriptionState.DISABLED,
            state_reason="gone",
            disabled_at=since,
            owed=7,
            oldest_owed_at=oldest,
        )
    )
    kept = f"the file has kept them and their events{costs}, and retention takes none of them; "
    (problem,) = status.problems
    assert problem == (
        f"subscription one is disabled since {since}: its endpoint answered 410 Gone; it is owed 7,"
        f" the oldest since {oldest}; {kept if costs else ''}{ENABLE}"
        f"{', with --skip-backlog it gives them up' if costs else ''}"
    )


@pytest.mark.parametrize(
    ("state", "begins", "remedy"),
    [
        (
            SubscriptionState.ENABLED,
            "subscription one is owed",
            "see what holds them up (last: http 500)",
        ),
        (
            SubscriptionState.PAUSED,
            "subscription one is owed",
            f"{ENABLE}, with --skip-backlog it gives them up",
        ),
        (
            SubscriptionState.DISABLED,
            "subscription one is disabled: by an operator; it is owed",
            f"{ENABLE}, with --skip-backlog it gives them up",
        ),
    ],
)
def test_over_100_000_owed_says_what_it_costs(
    state: SubscriptionState, begins: str, remedy: str
) -> None:
    changes = {"state": state, "state_reason": "operator"}
    oldest = to_text(NOW - 1_000)
    status = judged(with_one(owed=100_001, **changes))
    (problem,) = status.problems
    assert problem == (
        f"{begins} 100001, the oldest since {oldest}; the file has kept them and their events, and "
        f"retention takes none of them; {remedy}"
    )
    for problem in judged(with_one(owed=100_000, **changes)).problems:
        assert "the file has kept them" not in problem


def test_one_that_is_late_and_owed_much_is_told_of_once() -> None:
    late = to_text(NOW - 10**9)
    (problem,) = judged(with_one(owed=100_001, oldest_owed_at=late)).problems
    assert f"is owed 100001, the oldest since {late}; the file has kept" in problem


def test_a_failing_one_is_probed() -> None:
    status = judged(with_one(health=Health(ill=5, failing_since=NOW - 60_000)))
    (one,) = status.document["subscriptions"]
    since = to_text(NOW - 60_000)
    assert one["health"] == f"failing since {since} (probing with one request at a time)"
    assert one["failing_since"] == since
    assert status.problems == (), "what is being dealt with is no problem yet"


def test_a_disabled_one_is_not_probed() -> None:
    health = Health(ill=5, failing_since=NOW - 60_000)
    (one,) = judged(with_one(**DISABLED, state_reason="gone", health=health)).document[
        "subscriptions"
    ]
    assert one["health"] == (
        f"disabled since {T}: its endpoint answered 410 Gone; failing since {to_text(NOW - 60_000)}"
    )


@pytest.mark.parametrize(
    ("held_until", "due", "following"),
    [
        (NOW + 60_000, NOW + 1_000, NOW + 60_000),
        (NOW + 60_000, NOW + 90_000, NOW + 90_000),
        (NOW, NOW + 1_000, NOW + 1_000),
        (NOW + 10**10, NOW + 1_000, NOW + 1_000),
        (None, NOW + 1_000, NOW + 1_000),
    ],
)
def test_one_that_is_held_back(held_until: int | None, due: int, following: int) -> None:
    status = judged(with_one(health=Health(held_until=held_until), next_attempt_at=to_text(due)))
    (one,) = status.document["subscriptions"]
    holds = held_until == NOW + 60_000
    until = to_text(NOW + 60_000)
    assert one["health"] == (f"held back until {until} (Retry-After)" if holds else "well")
    assert one["held_until"] == (until if holds else None)
    assert one["next_attempt_at"] == to_text(following)
    assert status.problems == ()


def test_one_that_is_failing_and_held_back() -> None:
    health = Health(failing_since=NOW - 1, held_until=NOW + 1)
    (one,) = judged(with_one(health=health, next_attempt_at=None)).document["subscriptions"]
    assert one["health"].startswith("failing since ")
    assert one["health"].endswith(f"; held back until {to_text(NOW + 1)} (Retry-After)")
    assert one["next_attempt_at"] is None, "nothing is due, held back or not"


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
    look = "`webhookd deliveries list --subscription one --state pending` shows what waits"
    assert status.problems == (
        f"subscription one is owed 2, the oldest since {since} (last: {last}); {look}",
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


@pytest.mark.parametrize("held", [True, False])
def test_one_that_the_daemon_cannot_deliver_to(held: bool) -> None:
    due = replace(ONE, next_attempt_at=to_text(NOW - 9_000), last_error="", recent=IDLE)
    file = replace(FACTS, subscriptions=(due, replace(due, name="two")))
    lock = ALIVE | {"problems": ["subscription one is held back: env:KEY: not there"]}
    status = compose(file, lock, held=held, thresholds=THRESHOLDS, now=NOW)
    one, two = status.document["subscriptions"]
    assert one["held_back"] == ("env:KEY: not there" if held else None)
    assert one["health"] == ("held back: env:KEY: not there" if held else "well")
    assert one["next_attempt_at"] == (None if held else due.next_attempt_at)
    assert one["urgency"] == (Urgency.WRONG if held else Urgency.NONE)
    assert status.document["due"]["subscription"] == ("two" if held else "one")
    assert two["held_back"] is None


def test_beyond_the_problems_that_are_named_it_is_held_back_all_the_same() -> None:
    due = replace(ONE, next_attempt_at=to_text(NOW - 9_000))
    file = replace(FACTS, subscriptions=(due, replace(due, key=2, name="two")))
    lock = ALIVE | {"problems": ["and 1 more; see the log"], "held_back": [[2, 2]]}
    document = compose(file, lock, held=True, thresholds=THRESHOLDS, now=NOW).document
    one, two = document["subscriptions"]
    assert (one["held_back"], two["held_back"]) == (None, LOGGED)
    assert two["next_attempt_at"] is None
    assert two["urgency"] == Urgency.WRONG
    assert document["due"]["subscription"] == "one"


def test_the_oldest_that_is_due() -> None:
    due = {"next_attempt_at": to_text(NOW - 9_000)}
    paused = {"state": SubscriptionState.PAUSED, "next_attempt_at": to_text(NOW - 50_000)}
    held = {
        "health": replace(WELL, held_until=NOW + 5_000),
        "next_attempt_at": to_text(NOW - 7_000),
    }
    several = tuple(
        replace(ONE, name=name, **changes)
        for name, changes in {
            "a": {}, "b": {"next_attempt_at": to_text(NOW)}, "c": due, "d": paused, "e": held,
            "f": {"next_attempt_at": None},
        }.items()
    )  # fmt: skip
    assert judged(replace(FACTS, subscriptions=several)).document["due"] == {
        "oldest_at": to_text(NOW - 9_000),
        "oldest_seconds": 9.0,
        "subscription": "c",
    }


@pytest.mark.parametrize(
    ("changes", "urgency"),
    [
        ({"last_error": "", "recent": IDLE}, Urgency.NONE),
        ({"owed": 0, "recent": IDLE}, Urgency.NONE),
        ({"recent": IDLE}, Urgency.UNEASY),
        ({"last_error": "", "recent": Recent(failed=1)}, Urgency.UNEASY),
        ({"last_error": "", "health": replace(WELL, held_until=NOW + 1_000)}, Urgency.UNEASY),
        ({"health": replace(WELL, failing_since=NOW - 1_000)}, Urgency.FAILING),
        ({"state": SubscriptionState.PAUSED}, Urgency.SET_ASIDE),
        ({"state": SubscriptionState.DISABLED}, Urgency.WRONG),
        ({"oldest_owed_at": to_text(NOW - 3_600_001), "last_error": ""}, Urgency.WRONG),
    ],
)
def test_how_much_a_subscription_needs_a_person(changes: dict[str, Any], urgency: Urgency) -> None:
    assert judged(with_one(**changes)).document["subscriptions"][0]["urgency"] == urgency


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
