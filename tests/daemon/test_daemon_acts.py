"""What operators do while the daemon runs leaves a line; so does a delivery that is given up."""

import logging

import trio

from webhookd.core.model import SubscriptionState
from webhookd.daemon.tailer import NAMED
from webhookd.logs.actions import Action
from webhookd.store.instructions import Kind, give

PAUSED, ENABLED = SubscriptionState.PAUSED, SubscriptionState.ENABLED


def changes(logs, action=Action.SUBSCRIPTION_CHANGED):
    return [record.fields for record in logs if record.action is action]


async def test_each_act_is_told_when_it_is_obeyed(world, autojump_clock, expected_logs):
    key = world.subscribe("a")
    async with world.running():
        await trio.sleep(1)
        assert changes(expected_logs) == [], "what it found at the start nobody has done now"
        world.state(key, PAUSED)
        await trio.sleep(2)
        world.state(key, ENABLED)
        await trio.sleep(2)
        world.update(key, events=("x.*",))
        await trio.sleep(2)
        other = world.subscribe("b")
        await trio.sleep(2)
        world.remove(other)
        await trio.sleep(2)
    told = [(one["subscription"], one["change"].split(" (")[0]) for one in changes(expected_logs)]
    assert told == [
        ("a", "paused"), ("a", "enabled"), ("a", "edited: events"), ("b", "added"),
        ("b", "removed"),
    ]  # fmt: skip
    assert all(one.levelno == logging.INFO for one in expected_logs
               if one.action is Action.SUBSCRIPTION_CHANGED)  # fmt: skip


async def test_a_bulk_change_is_told_though_it_is_done_at_once(
    world, autojump_clock, expected_logs
):
    key = world.subscribe("a")
    async with world.running():
        await trio.sleep(1)
        with world.command() as transaction:
            give(transaction, Kind.SKIP_BACKLOG, key, position=0, last=0, now=world.clock.now())
        await trio.sleep(5)
    assert [one["change"] for one in changes(expected_logs)] == ["skip_backlog"]


async def test_a_retry_and_the_failure_before_it(world, autojump_clock, expected_logs, warnings):
    world.subscribe("a", retry_delays=())
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(2)
        (one,) = world.deliveries()
        number = one["delivery_id"]
        assert changes(expected_logs, Action.DELIVERIES_CHANGED) == []
        world.retry(number)
        await trio.sleep(2)
    assert world.states() == ["delivered"]
    assert changes(expected_logs, Action.DELIVERY_FAILED) == [
        {"subscription": "a", "delivery": number, "reason": "exhausted", "status": 503,
         "fault": "http 503"},
    ]  # fmt: skip
    assert changes(expected_logs, Action.DELIVERIES_CHANGED) == [
        {"acts": 1, "deliveries": [number]}
    ]
    assert warnings() == {Action.DELIVERY_FAILED: 1}


async def test_a_cancelled_one_and_one_that_was_put_off_are_named(
    world, autojump_clock, expected_logs
):
    key = world.subscribe("a", retry_delays=[600_000], failing_after=100)
    world.sender.script = lambda seen: world.down
    for n in range(3):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(60)
        first, second, third = [one["delivery_id"] for one in world.deliveries()]
        world.state(key, PAUSED)  # so that what is due at once stays so
        world.retry(second)
        world.cancel(first)
        await trio.sleep(2)
        world.cancel(third)
        await trio.sleep(2)
    assert changes(expected_logs, Action.DELIVERIES_CHANGED) == [
        {"acts": 2, "deliveries": [first, second]},
        {"acts": 1, "deliveries": [third]},
    ]
    assert len(changes(expected_logs)) == 1


async def test_of_many_that_were_changed_the_first_are_named(world, autojump_clock, expected_logs):
    key = world.subscribe("a")
    world.state(key, PAUSED)
    for n in range(NAMED + 5):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(1)
        numbers = [one["delivery_id"] for one in world.deliveries()]
        for number in numbers:
            world.cancel(number)
        await trio.sleep(1)
    assert changes(expected_logs, Action.DELIVERIES_CHANGED) == [
        {"acts": NAMED + 5, "deliveries": numbers[:NAMED]}
    ]


async def test_failing_says_what_the_last_attempt_met(
    world, autojump_clock, expected_logs, warnings
):
    world.subscribe("a", failing_after=1)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(120)
    assert changes(expected_logs, Action.SUBSCRIPTION_FAILING) == [
        {"subscription": "a", "reason": None, "status": 503, "fault": "http 503"}
    ]
    assert changes(expected_logs, Action.SUBSCRIPTION_RECOVERED) == [
        {"subscription": "a", "reason": None, "status": 200, "fault": None}
    ]
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}
