"""`Retry-After` of a throttling answer: the whole subscription is left alone for that long."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import trio

from webhookd.core.model import Answer, SubscriptionState

HOUR = 3_600


def _date(world, ahead: int) -> str:
    """An HTTP-date so many seconds after the test's beginning."""
    return format_datetime(datetime.fromtimestamp(world.epoch / 1000 + ahead, UTC), usegmt=True)


def _once(world, reply):
    """`a` answers its very first request with `reply`, and everything else well."""

    def script(seen):
        first = seen.who == "a" and len(world.sender.of("a")) == 1
        return reply if first else world.ok

    world.sender.script = script


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_C9_the_whole_subscription_is_held_back_and_no_other(world, autojump_clock, status):
    world.subscribe("a", retry_delays=[1_000] * 9)
    world.subscribe("b")
    _once(world, Answer(status, retry_after="60"))
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        for n in range(20):
            world.insert(f"y{n}")
        await trio.sleep(55)
        assert len(world.sender.of("a")) == 1
        assert len(world.sender.of("b")) == 21
        assert [row["attempts"] for row in world.deliveries("a")] == [1] + [0] * 20
        await trio.sleep(10)
    assert 60 <= world.sender.of("a")[1].at < 60.5
    assert set(world.states()) == {"delivered"}


@pytest.mark.parametrize("status", [400, 408, 425, 500])
async def test_C10_others_speak_for_one_delivery_alone(world, autojump_clock, status):
    world.subscribe("a", retry_delays=[1_000] * 9)
    _once(world, Answer(status, retry_after="60"))
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.insert("y")
        await trio.sleep(70)
    one, two, three = world.sender.seen
    assert (one.n, two.n, three.n) == (1, 2, 1)
    assert two.at < 1.5
    assert 60 <= three.at < 60.5


@pytest.mark.parametrize(
    ("header", "until"),
    [
        ("20", 20),
        ("in 20", 20),
        ("in -20", 0),
        ("0", 0),
        ("-20", 0),
        ("soon", 0),
        ("1e3", 0),
        ("315360000", HOUR),
        ("in 315360000", HOUR),
    ],
)
@pytest.mark.usefixtures("long_polls")
async def test_C9_what_a_receiver_may_ask_for(world, autojump_clock, header, until):
    """Seconds or a date; what has passed and what is garbage asks for nothing; an hour at most."""
    ahead = header.removeprefix("in ")
    header = ahead if header == ahead else _date(world, int(ahead))
    world.subscribe("a", retry_delays=[10_000] * 9)
    world.insert("x")
    world.insert("y")
    world.sender.script = lambda seen: (
        Answer(503, retry_after=header) if seen.n == 1 and seen.attempt == 1 else world.ok
    )
    world.update(1, policy={"concurrency": 1, "jitter": 0.0, "retry_delays": [10_000] * 9})
    async with world.running():
        await trio.sleep(2 * HOUR)
    at = {(one.n, one.attempt): one.at for one in world.sender.seen}
    assert until <= at[2, 1] < until + 1.2
    assert max(10, until) <= at[1, 2] < max(10, until) + 1.2
    assert world.states() == ["delivered"] * 2


async def test_C9_a_second_wish_only_lengthens(world, autojump_clock):
    world.subscribe("a", retry_delays=[1_000] * 9, failing_after=100)
    replies = {1: (1, "100"), 2: (2, "10"), 3: (3, "garbage")}

    def script(seen):
        if seen.attempt > 1 or seen.n not in replies:
            return world.ok
        seconds, header = replies[seen.n]
        return world.after(seconds, Answer(503, retry_after=header))

    world.sender.script = script
    for n in range(3):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(5)
        world.insert("y")
        await trio.sleep(110)
    assert min(one.at for one in world.sender.seen[3:]) >= 101
    assert world.states() == ["delivered"] * 4


async def test_its_own_cap_counts(world, autojump_clock):
    world.subscribe("a", retry_delays=[1_000], retry_after_max=30_000)
    _once(world, Answer(429, retry_after="600"))
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
        world.insert("z")
        await trio.sleep(40)
    late = world.sender.seen[1:]
    assert {one.n for one in late} == {1, 2}
    assert all(30 <= one.at < 31 for one in late)


async def test_a_new_daemon_keeps_to_it(world, autojump_clock):
    world.subscribe("a", retry_delays=[1_000] * 9)
    _once(world, Answer(429, retry_after="120"))
    world.insert("x")
    async with world.running():
        await trio.sleep(10)
    world.insert("y")
    async with world.running():
        await trio.sleep(100)
        assert len(world.sender.seen) == 1
        await trio.sleep(20)
    assert [one.n for one in world.sender.seen[1:]] == [2, 1]
    assert all(120 <= one.at < 121 for one in world.sender.seen[1:])


@pytest.mark.parametrize("hanging", [False, True])
async def test_to_enable_it_ends_the_wait(world, autojump_clock, hanging):
    """Whether the lane has gone home, or still has a request under way that hangs."""
    key = world.subscribe("a", retry_delays=[1_000] * 9, timeout=100_000)

    def script(seen):
        replies = {"slow": world.hang, "x": Answer(429, retry_after="600")}
        return replies.get(seen.aggregate, world.ok)

    world.sender.script = script
    if hanging:
        world.insert("slow")
    async with world.running():
        await trio.sleep(1)
        world.insert("x")
        await trio.sleep(20)
        world.insert("y")
        world.insert("z")
        await trio.sleep(10)
        before = len(world.sender.seen)
        assert before == 1 + hanging
        world.state(key, SubscriptionState.ENABLED)
        await trio.sleep(1)
        # The one that was answered so has its own time, which is a minimum.
        assert [one.aggregate for one in world.sender.seen[before:]] == ["y", "z"]
        for row in world.deliveries():
            if row["state"] == "pending":
                world.cancel(row["delivery_id"])


async def test_to_edit_it_does_not_end_the_wait(world, autojump_clock):
    key = world.subscribe("a", retry_delays=[1_000] * 9)
    _once(world, Answer(429, retry_after="60"))
    world.insert("x")
    async with world.running():
        await trio.sleep(2)
        world.update(key, method="POST")
        world.insert("y")
        await trio.sleep(50)
        assert len(world.sender.seen) == 1
        await trio.sleep(20)
    assert world.states() == ["delivered"] * 2


@pytest.mark.usefixtures("long_polls")
async def test_E4_one_that_a_clock_ahead_has_set_is_not_kept_to(world, autojump_clock, warnings):
    world.subscribe("a", retry_delays=[1_000] * 9)
    _once(world, Answer(429, retry_after="1800"))
    world.clock.offset = 10 * 24 * HOUR * 1000
    world.insert("x")
    async with world.running():
        await trio.sleep(10)
    world.clock.offset = 0
    world.insert("y")
    async with world.running():
        await trio.sleep(2 * HOUR)
    assert world.states() == ["delivered"] * 2
    _one, two, three = world.sender.seen
    assert (two.n, two.at < 12) == (2, True)
    assert three.at < 2 * HOUR
    assert not warnings()


async def test_a_success_that_was_under_way_does_not_end_the_hold(world, autojump_clock):
    world.subscribe("a", concurrency=2)

    def script(seen):
        if seen.aggregate == "x":
            return world.after(1, Answer(429, retry_after="60"))
        return world.after(2, world.ok) if seen.aggregate == "y" else world.ok

    world.sender.script = script
    async with world.running():
        for name in ("x", "y"):
            world.insert(name)
        await trio.sleep(3)
        world.insert("z")
        await trio.sleep(57)
        assert [seen.aggregate for seen in world.sender.seen] == ["x", "y"]
        await trio.sleep(10)
        assert {seen.aggregate for seen in world.sender.seen[2:]} == {"x", "z"}
        assert min(seen.at for seen in world.sender.seen[2:]) >= 61
