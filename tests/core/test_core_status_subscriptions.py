"""What `status` says of each subscription, and how much it needs a person."""

from dataclasses import replace
from typing import Any

import pytest

from tests.core.status_facts import ALIVE, FACTS, NOW, ONE, THRESHOLDS, judged, with_one
from webhookd.core.health import WELL, Health
from webhookd.core.holding import LOGGED
from webhookd.core.model import SubscriptionState
from webhookd.core.recent import IDLE, Recent
from webhookd.core.status import Urgency, compose
from webhookd.core.times import to_text

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
