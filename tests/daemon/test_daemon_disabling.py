"""Rules that disable a subscription, and 410: nothing is sent from then on, nothing is lost."""

import pytest
import trio

from webhookd.core.model import Answer, Fault, FaultKind, Phase, SubscriptionState
from webhookd.logs.actions import Action

GONE = Answer(410)
DAY = 86_400


def _state(world, key) -> tuple[str, str]:
    (row,) = world.table(
        "SELECT state, state_reason AS reason FROM webhookd_subscriptions WHERE key = ?", key
    )
    return row["state"], row["reason"]


async def test_410_disables_and_the_delivery_that_met_it_stays_owed(
    world, autojump_clock, warnings
):
    key = world.subscribe("a", concurrency=1)
    world.subscribe("b")
    world.subscribe("ops", events=["webhookd.*"])
    world.sender.script = lambda seen: GONE if seen.who == "a" and seen.n == 3 else world.ok
    for n in range(9):
        world.insert(f"x{n % 4}")
    async with world.running():
        await trio.sleep(2)
        assert [one.n for one in world.sender.of("a")] == [1, 2, 3]
        assert _state(world, key) == ("disabled", "gone")
        third = world.deliveries("a")[2]
        assert (third["state"], third["attempts"], third["last_status"]) == ("pending", 1, 410)
        world.insert("x9")
        await trio.sleep(600)
        assert len(world.sender.of("a")) == 3
        assert len(world.sender.of("b")) == 10
        world.sender.script = lambda _: world.ok
        world.state(key, SubscriptionState.ENABLED)
        await trio.sleep(5)
    again = [one.n for one in world.sender.of("a")[3:]]
    assert sorted(again) == list(range(3, 11))
    for line in range(4):
        mine = [n for n in again if n % 4 == line and n < 10]
        assert mine == sorted(mine)
    assert set(world.states("a")) == {"delivered"}
    (told,) = world.sender.of("ops")
    event = world.table("SELECT event_type FROM webhook_events WHERE event_id = ?", told.id)
    assert event == [{"event_type": "webhookd.subscription.disabled"}]
    assert (told.data["subscription_name"], told.data["reason"]) == ("a", "gone")
    changes = world.table("SELECT event_type FROM webhook_changes")
    assert not [one for one in changes if one["event_type"].startswith("webhookd.")]
    assert warnings() == {Action.SUBSCRIPTION_DISABLED: 1}


async def test_410_nothing_follows_although_the_file_cannot_be_written(
    world, autojump_clock, warnings
):
    key = world.subscribe("a", concurrency=2)
    world.sender.script = lambda seen: world.after(1, GONE if seen.n == 1 else world.ok)
    for n in range(20):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(0.5)
        assert len(world.sender.seen) == 2
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(8)
        world.host.execute("COMMIT")
        await trio.sleep(10)
    assert len(world.sender.seen) <= 3  # the other worker may have been the first to go on
    assert _state(world, key) == ("disabled", "gone")
    assert warnings()[Action.SUBSCRIPTION_DISABLED] == 1


async def test_410_that_does_not_disable_is_an_ordinary_failure(world, autojump_clock, warnings):
    key = world.subscribe("a", gone_disables=False, retry_delays=[1_000])
    world.sender.script = lambda seen: GONE if seen.n == 1 else world.ok
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(5)
    assert [(one.n, one.attempt) for one in world.sender.seen] == [(1, 1), (1, 2), (2, 1)]
    assert [(row["state"], row["reason"]) for row in world.deliveries()] == [
        ("failed", "exhausted"),
        ("delivered", None),
    ]
    assert _state(world, key) == ("enabled", "")
    assert warnings() == {Action.DELIVERY_FAILED: 1}


async def test_paused_meanwhile_it_stays_paused(world, autojump_clock, warnings):
    key = world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: world.after(3, GONE)
    world.insert("x")
    world.insert("y")
    async with world.running():
        await trio.sleep(1)
        world.state(key, SubscriptionState.PAUSED)
        await trio.sleep(10)
        assert _state(world, key) == ("paused", "operator")
        assert len(world.sender.seen) == 1
        world.sender.script = lambda _: world.ok
        world.state(key, SubscriptionState.ENABLED)
        await trio.sleep(2)
    assert world.states() == ["delivered"] * 2
    assert not warnings()


async def test_disable_after_failures_counts_deliveries_in_a_row(world, autojump_clock, warnings):
    key = world.subscribe(
        "a", concurrency=1, retry_delays=[], permanent_statuses=["4xx"], disable_after_failures=3
    )
    bad = {1, 2, 4, 5, 6}
    world.sender.script = lambda seen: Answer(404) if seen.n in bad else world.ok
    async with world.running():
        for n in range(9):
            world.insert(f"x{n}")
        await trio.sleep(5)
        assert [one.n for one in world.sender.seen] == [1, 2, 3, 4, 5, 6]
        assert _state(world, key) == ("disabled", "disable_after_failures")
        assert world.states()[3:] == ["failed"] * 3 + ["pending"] * 3
        world.state(key, SubscriptionState.ENABLED)
        await trio.sleep(5)
    assert world.states()[6:] == ["delivered"] * 3
    assert warnings() == {Action.SUBSCRIPTION_DISABLED: 1, Action.DELIVERY_FAILED: 5}


async def test_expired_and_bugs_of_our_own_do_not_count(
    world, autojump_clock, expected_logs, warnings
):
    key = world.subscribe(
        "a", concurrency=1, retry_delays=[], disable_after_failures=2, max_age=30_000
    )
    bug = {"bug1", "bug2", "bug3"}
    world.sender.script = lambda seen: (
        RuntimeError("bug")
        if seen.aggregate in bug
        else Answer(400)
        if seen.aggregate == "bad"
        else world.ok
    )
    world.insert("bad")
    for aggregate in sorted(bug):
        world.insert(aggregate)
    async with world.running():
        await trio.sleep(2)
        world.state(key, SubscriptionState.PAUSED)
        await trio.sleep(1)
        for n in range(4):
            world.insert(f"old{n}")
        await trio.sleep(40)
        (counters,) = world.table("SELECT failures FROM webhookd_counters")
        assert counters == {"failures": 1}
        world.state(key, SubscriptionState.ENABLED)
        world.insert("x")
        await trio.sleep(5)
    assert [(row["state"], row["reason"]) for row in world.deliveries()] == [
        *[("failed", "exhausted")] * 4,
        *[("failed", "expired")] * 4,
        ("delivered", None),
    ]
    assert [row["error_class"] for row in world.attempts()][1:4] == ["internal_error"] * 3
    assert warnings() == {
        Action.LANE_CRASHED: 3,
        Action.DELIVERIES_EXPIRED: 1,
        Action.DELIVERY_FAILED: 4,
    }


@pytest.mark.usefixtures("long_polls")
async def test_disable_after_is_judged_at_a_failed_attempt(world, autojump_clock, warnings):
    key = world.subscribe("a", retry_delays=[6 * 3_600_000] * 50, disable_after=5 * DAY * 1_000)
    world.sender.script = lambda seen: (
        Fault(FaultKind.REFUSED, "connection refused", Phase.CONNECT)
        if seen.n == 1
        else Answer(400)
    )
    async with world.running():
        world.insert("x")
        world.insert("x")
        await trio.sleep(5 * DAY - 600)
        assert _state(world, key) == ("enabled", "")
        await trio.sleep(DAY // 4)
        assert _state(world, key) == ("disabled", "disable_after")
        sent = len(world.sender.seen)
        assert sent == 21
        await trio.sleep(2 * DAY)
        assert len(world.sender.seen) == sent
    assert world.states() == ["pending"] * 2
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1, Action.SUBSCRIPTION_DISABLED: 1}


async def test_E9_a_bug_in_an_attempt_is_among_the_problems(
    world, autojump_clock, expected_logs, warnings
):
    key = world.subscribe("a", retry_delays=[1_000] * 9, disable_after_failures=1)
    world.sender.script = lambda seen: RuntimeError("bug") if seen.attempt < 8 else world.ok
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(5)
        assert any("a has met a bug" in problem for problem in daemon.problems)
        await trio.sleep(10)
    assert world.states() == ["delivered"]
    assert _state(world, key) == ("enabled", "")
    assert world.table("SELECT ill, failing_since FROM webhookd_counters")[0]["ill"] == 0
    assert warnings() == {Action.LANE_CRASHED: 7}
