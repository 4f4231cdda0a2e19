"""E4: a jump of the clock is noticed whatever else is going on, and destroys nothing."""

import pytest
import trio

from webhookd.core.model import SubscriptionState
from webhookd.daemon.clock import DOUBT, Steadiness
from webhookd.daemon.upkeep import EVERY
from webhookd.logs.actions import Action

HOUR = 3_600_000
DAY = 24 * HOUR
YEARS = 3_650 * DAY
PAUSED, ENABLED = SubscriptionState.PAUSED, SubscriptionState.ENABLED


async def test_E4_what_was_never_tried_waits_for_no_clock(world, autojump_clock, warnings):
    """A rate limit holds it up alone, though its delays are of ten hours."""
    world.subscribe("a", retry_delays=[5_000, 10 * HOUR], rate_limit=1.0)
    for n in range(60):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(10)
        world.clock.offset -= 2 * HOUR
        await trio.sleep(EVERY + 60)
    assert world.states() == ["delivered"] * 60
    assert [seen.n for seen in world.sender.seen] == list(range(1, 61))
    assert warnings() == {Action.CLOCK_JUMPED: 1}


async def test_E4_a_time_that_lies_too_far_ahead_is_found_without_any_jump(world, autojump_clock):
    world.subscribe("a", retry_delays=[60_000], retry_after_max=60_000)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(20)
        world.host.execute(
            "UPDATE webhookd_deliveries SET due_at = '2040-01-01T00:00:00.000Z',"
            " retry_at = '2040-01-01T00:00:00.000Z'"
        )
        await trio.sleep(EVERY + 62)
    assert world.states() == ["delivered"]


async def test_E4_whoever_holds_the_lock_keeps_no_jump_from_being_noticed(
    world, autojump_clock, warnings
):
    """Upkeep waits for the file, having something to expire; alarms were set by the old clock."""
    world.subscribe("old", max_age=60_000, events=["old.*"])
    world.sender.script = lambda seen: world.hang if seen.who == "old" else world.ok
    key = world.subscribe("a", rate_limit=0.05, events=["a.*"])
    world.state(key, PAUSED)
    for n in range(30):
        world.insert(f"x{n}", "a.x")
    async with world.running():
        await trio.sleep(1)
        # Due by either clock, so that none has to be brought forward.
        world.host.execute("UPDATE webhookd_deliveries SET due_at = '2026-09-01T00:00:00.000Z'")
        world.insert("o", "old.x")
        world.state(key, ENABLED)
        await trio.sleep(58)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(20)
        before = len(world.sender.of("a"))
        world.clock.offset -= 2 * HOUR
        await trio.sleep(200)
        assert len(world.sender.of("a")) >= before + 9
        assert warnings()[Action.CLOCK_JUMPED] == 1
        world.host.execute("COMMIT")
        await trio.sleep(10)
        world.sender.script = lambda _: world.ok


async def test_E4_a_jump_in_the_first_seconds(world, autojump_clock, warnings, monkeypatch):
    monkeypatch.delenv("WEBHOOKD_TEST_SECRET", raising=False)
    world.subscribe("a", secret="env:WEBHOOKD_TEST_SECRET")
    world.insert("x")
    async with world.running():
        await trio.sleep(0.5)
        world.clock.offset -= DAY
        await trio.sleep(10)
        monkeypatch.setenv("WEBHOOKD_TEST_SECRET", world.secret)
        await trio.sleep(65)
    assert world.states() == ["delivered"]
    assert warnings()[Action.CLOCK_JUMPED] == 1


async def test_E4_a_clock_that_is_ahead_for_moments_ends_nothing(world, autojump_clock, warnings):
    """Neither by upkeep nor at an attempt, nor in the second before it is noticed."""
    delays = [1_000] * 500
    policy = {"max_age": 7 * DAY, "retry_after_max": 60_000, "failing_after": 500}
    world.subscribe("a", retry_delays=delays, **policy)
    world.sender.script = lambda seen: world.down if seen.at < 60 else world.ok
    for n in range(5):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(20.5)
        world.clock.offset += YEARS
        await trio.sleep(12)
        world.clock.offset -= YEARS
        await trio.sleep(100)
    assert world.states() == ["delivered"] * 5
    assert warnings() == {Action.CLOCK_JUMPED: 2}


async def test_E4_a_clock_that_stays_ahead_is_believed_after_a_minute(
    world, autojump_clock, warnings
):
    world.subscribe("a", max_age=7 * DAY, retry_delays=[300_000] * 9)
    world.sender.script = lambda _: world.down
    world.insert("x")
    async with world.running():
        await trio.sleep(20)
        world.clock.offset += YEARS
        await trio.sleep(DOUBT - 5)
        assert world.states() == ["pending"]
        await trio.sleep(5 + 2 * EVERY)
    assert [row["reason"] for row in world.deliveries()] == ["expired"]
    assert warnings().keys() == {Action.CLOCK_JUMPED, Action.DELIVERIES_EXPIRED}


async def test_steadiness(world, autojump_clock):
    found = Steadiness(world.clock)
    assert (found.jumped(), found.is_trusted) == (0, True)
    await trio.sleep(5)
    world.clock.offset += 1_999
    assert (found.is_trusted, found.jumped(), found.is_trusted) == (True, 0, True)
    world.clock.offset += 2_000
    assert not found.is_trusted, "before anybody has noticed, too"
    assert (found.jumped(), found.jumped()) == (2_000, 0)
    await trio.sleep(DOUBT - 1)
    assert not found.is_trusted
    await trio.sleep(1)
    assert found.is_trusted
    world.clock.offset -= DAY
    assert found.is_trusted, "what is set back ends nothing too early"
    assert found.jumped() == -DAY


@pytest.mark.parametrize("secret", ["env:WEBHOOKD_TEST_NO_SUCH_SECRET", None])
async def test_who_is_held_back_is_looked_after_too(world, autojump_clock, warnings, secret):
    """What it is owed expires, and what a clock that was ahead put off is brought forward."""
    key = world.subscribe("a", max_age=60_000, secret=secret, events=["a.*"])
    world.subscribe("b", secret=secret, events=["b.*"])
    world.insert("x", "a.x")
    world.clock.offset = 365 * DAY
    world.insert("y", "b.x")
    async with world.running():
        await trio.sleep(3)
    world.clock.offset = 0
    world.host.execute("UPDATE webhookd_deliveries SET since = created_at WHERE subscription = 2")
    world.host.execute(
        "UPDATE webhookd_deliveries SET since = '2026-09-21T14:13:20.000Z' WHERE subscription = ?",
        (key,),
    )
    async with world.running():
        await trio.sleep(80)
        (one,) = world.table("SELECT due_at FROM webhookd_deliveries WHERE subscription = 2")
        assert one["due_at"] < "2026-12"
    assert world.states("a") == ["failed"]
    assert world.states("b") == ["pending"]
    assert warnings()[Action.DELIVERIES_EXPIRED] == 1
