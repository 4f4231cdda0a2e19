"""Receivers whose fault shows only over many requests: gone, slow, flapping, away for days."""

import trio

from webhookd.core.model import Answer

DAY = 86_400


async def test_C7_a_410_disables_where_the_profile_says_so(world, autojump_clock, expected_logs):
    world.sender.script = lambda seen: Answer(410)
    world.subscribe("standard")
    world.insert("a")
    async with world.running():
        await trio.sleep(10)
    [row] = world.deliveries("standard")
    assert (row["state"], row["last_status"]) == ("pending", 410)
    [found] = world.table("SELECT state, state_reason FROM webhookd_subscriptions")
    assert found["state"] == "disabled"
    assert len(world.sender.seen) == 1


async def test_C7_a_410_is_an_ordinary_status_elsewhere(world, autojump_clock, expected_logs):
    world.sender.script = lambda seen: Answer(410)
    world.subscribe("plain", gone_disables=False, retry_delays=[1_000])
    world.insert("a")
    async with world.running():
        await trio.sleep(10)
    assert len(world.sender.seen) == 2
    assert world.states("plain") == ["failed"]
    [found] = world.table("SELECT state FROM webhookd_subscriptions")
    assert found["state"] == "enabled"


async def test_C29_a_slow_one_has_its_concurrency_and_no_more(world, autojump_clock):
    world.sender.script = lambda seen: world.after(29, world.ok) if seen.who == "slow" else world.ok
    world.subscribe("slow", timeout=60_000)
    world.subscribe("quick")
    for number in range(40):
        world.insert(f"a{number}")
    async with world.running():
        await trio.sleep(28)
        assert world.states("quick") == ["delivered"] * 40
        assert world.states("slow") == ["pending"] * 40
        await trio.sleep(29 * 5)
    assert world.states("slow") == ["delivered"] * 40
    assert world.sender.most["slow"] == 8


async def test_C33_a_flapping_one_is_probed_with_one_request(world, autojump_clock, expected_logs):
    """Down for half a minute, then well: what it is sent at once begins with one, and doubles."""
    at_once = []
    begun = trio.current_time()

    def script(seen):
        at = trio.current_time() - begun
        at_once.append((at, world.sender.under_way["flapping"]))
        return world.after(1, world.down if at < 30 else world.ok)

    world.sender.script = script
    world.subscribe("flapping", retry_delays=[5_000] * 20, concurrency=5)
    for number in range(30):
        world.insert(f"a{number}")
    async with world.running():
        await trio.sleep(200)
    assert world.states("flapping") == ["delivered"] * 30
    down = [count for at, count in at_once if 5 < at < 30]
    assert set(down) == {1}
    assert len(down) < 30
    well = [count for at, count in at_once if at >= 30]
    assert well[0] == 1
    assert max(well[1:3]) <= 2
    assert max(well) == 5


async def test_C34_after_three_days_the_backlog_comes_in_order_and_not_all_at_once(
    world, autojump_clock, long_polls, expected_logs
):
    begun = trio.current_time()
    world.sender.script = lambda seen: (
        world.down if trio.current_time() - begun < 3 * DAY else world.after(0.1, world.ok)
    )
    world.subscribe("away", retry_delays=[3_600_000] * 50 + [3_600_000] * 50, disable_after=0)
    for _ in range(5):
        for aggregate in "abcdefghij":
            world.insert(aggregate)
    async with world.running():
        await trio.sleep(3 * DAY + 3 * 3_600)
    assert world.states("away") == ["delivered"] * 50
    assert world.sender.most["away"] <= 8
    done = [seen for seen in world.sender.finished if seen.at - begun >= 3 * DAY]
    for aggregate in "abcdefghij":
        numbers = [seen.n for seen in done if seen.aggregate == aggregate]
        assert numbers == sorted(numbers)
        assert len(numbers) == 5
