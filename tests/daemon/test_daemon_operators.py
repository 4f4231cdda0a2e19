"""What operators change while requests wait or are under way counts from the next attempt on."""

import logging

import pytest
import trio

from webhookd.core.model import SubscriptionState
from webhookd.logs.actions import Action
from webhookd.store import subscriptions
from webhookd.store.subscriptions import NewSecret

PAUSED, ENABLED = SubscriptionState.PAUSED, SubscriptionState.ENABLED
OTHER = "whsec_" + "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItIQ=="


async def test_E12_paused_in_flight_the_outcome_counts_and_nothing_follows(world, autojump_clock):
    key = world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: world.after(5, world.ok)
    for n in range(5):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(1)
        world.state(key, PAUSED)
        await trio.sleep(60)
        assert [one.n for one in world.sender.seen] == [1]
        assert world.states() == ["delivered"] + ["pending"] * 4
        world.insert("x9")
        await trio.sleep(60)
        assert len(world.sender.seen) == 1
        world.state(key, ENABLED)
        await trio.sleep(60)
    assert [one.n for one in world.sender.seen] == [1, 2, 3, 4, 5, 6]
    assert world.states() == ["delivered"] * 6


async def test_E12_enabled_again_while_an_attempt_hangs_the_others_go_on_at_once(
    world, autojump_clock
):
    key = world.subscribe("a", concurrency=2, timeout=60_000)
    world.sender.script = lambda seen: world.hang if seen.aggregate == "slow" else world.ok
    world.insert("slow")
    async with world.running():
        await trio.sleep(1)
        world.state(key, PAUSED)
        await trio.sleep(1)
        world.insert("x")
        await trio.sleep(1)
        world.state(key, ENABLED)
        await trio.sleep(1)
        assert [one.aggregate for one in world.sender.seen] == ["slow", "x"]
        world.cancel(world.deliveries()[0]["delivery_id"])
        await trio.sleep(70)


async def test_E12_paused_before_a_retry_it_waits_and_goes_on_when_enabled(world, autojump_clock):
    key = world.subscribe("a")
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(2)
        world.state(key, PAUSED)
        await trio.sleep(100)
        assert len(world.sender.seen) == 1
        world.state(key, ENABLED)
        await trio.sleep(1)
    assert [one.attempt for one in world.sender.seen] == [1, 2]


async def test_E12_an_edit_counts_from_the_next_attempt_on(world, autojump_clock):
    key = world.subscribe("a", retry_delays=[5_000])
    world.sender.script = lambda seen: world.after(3, world.down) if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.update(key, url="https://b.example/other", policy={"retry_delays": [20_000]})
        await trio.sleep(40)
    one, two = world.sender.seen
    assert (one.url, two.url) == ("https://a.example/hook", "https://b.example/other")
    assert (one.id, one.body) == (two.id, two.body)
    assert 23 <= two.at - one.at < 26


async def test_E12_fewer_workers_after_an_edit_and_none_of_the_work_is_forgotten(
    world, autojump_clock
):
    key = world.subscribe("a", concurrency=6)
    world.sender.script = lambda _: world.after(0.5, world.ok)
    for n in range(6):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(1)
        assert world.sender.most["a"] == 6
        world.sender.most.clear()
        world.update(key, policy={"concurrency": 2})
        await trio.sleep(0.3)
        asked = trio.current_time()
        for n in range(10):
            world.insert(f"y{n}")
        await trio.sleep(10)
    assert world.sender.most["a"] == 2
    assert world.states() == ["delivered"] * 16
    assert world.sender.seen[6].at - asked < 0.5


async def test_E13_a_rotated_secret_signs_beside_the_old_one(world, autojump_clock):
    key = world.subscribe("a")
    async with world.running():
        world.insert("x")
        await trio.sleep(1)
        with world.command() as transaction:
            subscriptions.rotate(
                transaction, key, NewSecret(OTHER, False), 60_000, world.clock.now()
            )
        await trio.sleep(1)
        world.insert("x")
        await trio.sleep(1)
        await trio.sleep(60)
        world.insert("x")
        await trio.sleep(1)
    counts = [len(one.headers["webhook-signature"].split()) for one in world.sender.seen]
    assert counts == [1, 2, 1]


async def test_E13_without_a_live_secret_nothing_is_sent_unsigned(
    world, autojump_clock, expected_logs
):
    key = world.subscribe("a", concurrency=2)
    world.host.execute(
        "UPDATE webhookd_secrets SET expires_at = '2026-09-21T14:13:30.000Z'"
    )  # ten seconds after the beginning
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(12)
        world.insert("y")
        await trio.sleep(1)
        assert len(world.sender.seen) == 1
        assert "held back" in daemon.problems[0]
        await trio.sleep(120)
        with world.command() as transaction:
            subscriptions.rotate(transaction, key, NewSecret(OTHER, False), 0, world.clock.now())
        await trio.sleep(1)
        assert daemon.problems == []
    assert [one.n for one in world.sender.seen] == [1, 2]
    assert world.deliveries()[1]["attempts"] == 1
    actions = [r.action for r in expected_logs]
    assert actions.count(Action.SECRET_MISSING) == 1
    assert actions.count(Action.SECRET_FOUND) == 1


async def test_E13_a_missing_secret_is_looked_for_each_minute(
    world, autojump_clock, expected_logs, monkeypatch
):
    monkeypatch.delenv("WEBHOOKD_TEST_SECRET", raising=False)
    world.subscribe("a", secret="env:WEBHOOKD_TEST_SECRET")
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(200)
        assert world.sender.seen == []
        assert "WEBHOOKD_TEST_SECRET" in daemon.problems[0]
        monkeypatch.setenv("WEBHOOKD_TEST_SECRET", world.secret)
        found = trio.current_time()
        await trio.sleep(61)
        assert world.sender.seen[0].at - found <= 60
        assert daemon.problems == []
    warnings = [r for r in expected_logs if r.levelno >= logging.WARNING]
    assert [r.action for r in warnings] == [Action.SECRET_MISSING]
    assert world.secret not in str([r.fields for r in expected_logs])


async def test_E13_what_is_held_back_is_tried_by_its_newest_definition_alone(
    world, autojump_clock, expected_logs, monkeypatch
):
    for name in ("ONE", "TWO"):
        monkeypatch.delenv(f"WEBHOOKD_TEST_{name}", raising=False)
    key = world.subscribe("a", secret="env:WEBHOOKD_TEST_ONE")
    world.insert("x")
    async with world.running():
        await trio.sleep(2)
        monkeypatch.setenv("WEBHOOKD_TEST_ONE", world.secret)
        with world.command() as transaction:
            subscriptions.update(transaction, key, {"url": "https://new.example/hook"})
            subscriptions.rotate(
                transaction, key, NewSecret("env:WEBHOOKD_TEST_TWO", True), 0, world.clock.now()
            )
        await trio.sleep(5)
        assert world.sender.seen == []
        monkeypatch.setenv("WEBHOOKD_TEST_TWO", OTHER)
        await trio.sleep(61)
    assert [one.url for one in world.sender.seen] == ["https://new.example/hook"]


async def test_E13_a_secret_that_goes_missing_stops_the_lane(
    world, autojump_clock, expected_logs, monkeypatch
):
    monkeypatch.setenv("WEBHOOKD_TEST_SECRET", world.secret)
    key = world.subscribe("a", secret="env:WEBHOOKD_TEST_SECRET", concurrency=1)
    world.sender.script = lambda _: world.after(1, world.ok)
    for n in range(10):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(0.5)
        monkeypatch.delenv("WEBHOOKD_TEST_SECRET")
        world.update(key, method="POST", name="b")
        await trio.sleep(20)
        assert len(world.sender.seen) == 1
        world.remove(key)
        await trio.sleep(100)
    assert world.states() == ["delivered"] + ["cancelled"] * 9


@pytest.mark.parametrize(
    ("answer", "state", "attempts"), [("ok", "delivered", 1), ("down", "cancelled", 1)]
)
async def test_E12_cancelled_in_flight(world, autojump_clock, answer, state, attempts):
    world.subscribe("a")
    reply = getattr(world, answer)
    world.sender.script = lambda seen: world.after(5, reply) if seen.n == 1 else world.ok
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.cancel(world.deliveries()[0]["delivery_id"])
        await trio.sleep(3)
        # The aggregate stays closed until the outcome is recorded, whatever the row says.
        assert [one.n for one in world.sender.seen] == [1]
        assert world.states() == ["cancelled", "pending"]
        await trio.sleep(30)
    first, second = world.deliveries()
    assert (first["state"], first["attempts"]) == (state, attempts)
    assert (first["reason"] is None) == (state == "delivered")
    assert second["state"] == "delivered"
    assert [one.n for one in world.sender.seen] == [1, 2]


async def test_E12_cancelled_while_it_waits_for_its_retry_the_next_goes(world, autojump_clock):
    world.subscribe("a", retry_delays=[300_000])
    world.sender.script = lambda seen: world.down if seen.n == 1 else world.ok
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(2)
        world.cancel(world.deliveries()[0]["delivery_id"])
        await trio.sleep(1)
    assert [one.n for one in world.sender.seen] == [1, 2]
    assert world.states() == ["cancelled", "delivered"]


async def test_E12_reopened_while_the_next_is_in_flight_it_goes_first_after_it(
    world, autojump_clock, warnings
):
    world.subscribe("a", retry_delays=[])
    world.sender.script = lambda seen: (
        world.down if (seen.n, seen.attempt) == (1, 1) else world.after(3, world.ok)
    )
    for _ in range(3):
        world.insert("x")
    async with world.running():
        await trio.sleep(1)
        assert [one.n for one in world.sender.seen] == [1, 2]
        world.retry(world.deliveries()[0]["delivery_id"])
        await trio.sleep(1)
        assert len(world.sender.seen) == 2
        await trio.sleep(20)
    assert [(one.n, one.attempt) for one in world.sender.seen] == [(1, 1), (2, 1), (1, 2), (3, 1)]
    assert world.states() == ["delivered"] * 3
    assert len({one.body for one in world.sender.seen if one.n == 1}) == 1
    assert warnings() == {Action.DELIVERY_FAILED: 1}


async def test_E12_reopened_while_the_next_waits_for_a_place_it_goes_first(
    world, autojump_clock, warnings
):
    world.subscribe("a", retry_delays=[])
    world.subscribe("b", events=["other.*"], timeout=60_000)
    world.set(max_in_flight=1)
    world.sender.script = lambda seen: (
        world.after(10, world.ok)
        if seen.who == "b"
        else (world.down if (seen.n, seen.attempt) == (1, 1) else world.ok)
    )
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.insert("y", "other.thing")
        await trio.sleep(1)
        world.insert("x")
        await trio.sleep(1)
        world.retry(world.deliveries("a")[0]["delivery_id"])
        await trio.sleep(20)
    mine = [(one.n, one.attempt) for one in world.sender.of("a") if one.aggregate == "x"]
    assert mine == [(1, 1), (1, 2), (3, 1)]
    assert warnings() == {Action.DELIVERY_FAILED: 1}


async def test_E12_one_that_waits_is_hastened(world, autojump_clock):
    world.subscribe("a", retry_delays=[3_600_000])
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(10)
        world.retry(world.deliveries()[0]["delivery_id"])
        await trio.sleep(1)
    assert [one.attempt for one in world.sender.seen] == [1, 2]


async def test_E12_removed_nothing_is_sent_after_and_what_was_owed_is_cancelled(
    world, autojump_clock
):
    key = world.subscribe("a", concurrency=1)
    world.subscribe("b", concurrency=1)
    world.sender.script = lambda _: world.after(0.5, world.ok)
    for n in range(1_000):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(3.1)
        world.remove(key)
        world.sender.finished.clear()
        await trio.sleep(0.3)
        sent = len(world.sender.of("a"))
        await trio.sleep(20)
        assert len(world.sender.of("a")) == sent
        assert len(world.sender.of("b")) > 40
    states = world.states("a")
    assert set(states) == {"delivered", "cancelled"}
    assert states.count("delivered") == sent
    assert {row["reason"] for row in world.deliveries("a") if row["state"] == "cancelled"} == {
        "subscription_removed"
    }


async def test_E12_a_removed_ones_lane_stops_before_its_backlog_is_cancelled(world, autojump_clock):
    key = world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: world.after(0.5, world.ok)
    for n in range(1_000):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(3.1)
        fast = daemon.store._commit

        async def slow(commit):
            await fast(commit)
            await trio.sleep(2)

        daemon.store._commit = slow
        world.remove(key)
        asked = trio.current_time()
        await trio.sleep(30)
        daemon.store._commit = fast
    assert [one.at for one in world.sender.seen if one.at > asked + 0.6] == []
    assert world.states().count("pending") == 0


async def test_a_pause_is_obeyed_between_two_batches_of_a_long_ingest(world, autojump_clock):
    key = world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: world.after(0.5, world.ok)
    for n in range(2_000):
        world.insert(f"x{n}")
    daemon = world.daemon()
    fast = daemon.store._commit

    async def slow(commit):
        await fast(commit)
        await trio.sleep(2)

    daemon.store._commit = slow
    async with world.running(daemon):
        await trio.sleep(4.5)
        assert world.sender.seen
        world.state(key, PAUSED)
        paused = trio.current_time()
        await trio.sleep(60)
    assert max(one.at for one in world.sender.seen) <= paused + 4.5
    assert len(world.table("SELECT 1 FROM webhook_events")) == 2_000


async def test_a_new_subscription_is_matched_from_its_next_row_on(world, autojump_clock):
    async with world.running():
        world.insert("x")
        await trio.sleep(1)
        world.subscribe("a")
        world.insert("x")
        await trio.sleep(1)
    assert [one.n for one in world.sender.seen] == [2]


async def test_a_hundred_and_more_subscriptions_are_loaded_with_pauses(world, autojump_clock):
    for n in range(101):
        world.subscribe(f"s{n}")
    world.insert("x")
    async with world.running():
        await trio.sleep(5)
    assert len({one.who for one in world.sender.seen}) == 101
