"""E19: one bad endpoint does not flood the log."""

from collections import Counter

import trio

from webhookd.daemon.repeats import A_MINUTE, TOLD
from webhookd.logs.actions import Action


def lines(records, action, subscription):
    return [
        r.fields for r in records if r.action is action and r.fields["subscription"] == subscription
    ]


async def test_E19_failures_of_one_endpoint_are_summed_up(world, autojump_clock, expected_logs):
    world.subscribe("bad", retry_delays=[1_000])
    world.subscribe("good")
    answer = world.ok.__class__(400)
    world.sender.script = lambda seen: answer if seen.who == "bad" else world.ok
    for n in range(10 * TOLD):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(2 * A_MINUTE)
        assert len(lines(expected_logs, Action.ATTEMPT, "bad")) == TOLD
        (said,) = lines(expected_logs, Action.REPEATED, "bad")
        assert (said["of"], said["more"], said["given_up"]) == ("attempt", 19 * TOLD, 10 * TOLD)
        # Who succeeds is told in full, and after a minute the bad one has lines again.
        assert len(lines(expected_logs, Action.ATTEMPT, "good")) == 10 * TOLD
        world.insert("again")
        await trio.sleep(0.5)
        assert len(lines(expected_logs, Action.ATTEMPT, "bad")) == TOLD + 1
    assert Counter(world.states("bad")) == {"failed": 10 * TOLD, "pending": 1}


async def test_E19_what_was_counted_is_told_at_the_end(world, autojump_clock, expected_logs):
    world.subscribe("bad", retry_delays=[600_000])
    world.sender.script = lambda _: world.ok.__class__(400)
    for n in range(TOLD + 5):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(3)
        assert lines(expected_logs, Action.REPEATED, "bad") == []
    assert [said["more"] for said in lines(expected_logs, Action.REPEATED, "bad")] == [5]


async def test_few_failures_are_never_summed_up(world, autojump_clock, expected_logs):
    world.subscribe("a", retry_delays=[10_000] * 100)
    world.sender.script = lambda _: world.down
    world.insert("x")
    async with world.running():
        await trio.sleep(10 * A_MINUTE)
    assert len(lines(expected_logs, Action.ATTEMPT, "a")) == len(world.sender.of("a")) > 10
    assert lines(expected_logs, Action.REPEATED, "a") == []
