"""E9: a bug costs one attempt, or a lane for a while; in recorder or tailer, the daemon."""

import itertools
import logging

import pytest
import trio

from webhookd.core.request import Renderer
from webhookd.daemon.lane import Lane
from webhookd.daemon.run import _ended_badly
from webhookd.errors import EXIT_BUG, DatabaseError
from webhookd.logs.actions import Action


def _critical(records) -> list[Action]:
    return [r.action for r in records if r.levelno == logging.CRITICAL]


async def test_E9_a_bug_while_sending_costs_one_attempt(world, autojump_clock, expected_logs):
    world.subscribe("a")
    world.subscribe("b")
    world.sender.script = lambda seen: (
        RuntimeError("whsec_not_to_be_stored")
        if (seen.who, seen.n, seen.attempt) == ("a", 1, 1)
        else world.ok
    )
    world.insert("x")
    world.insert("y")
    async with world.running():
        await trio.sleep(10)
    first = world.attempts()[0]
    assert (first["error_class"], first["status"]) == ("internal_error", None)
    assert "whsec" not in first["error"]
    assert set(world.states()) == {"delivered"}
    assert [one.attempt for one in world.sender.of("a") if one.n == 1] == [1, 2]
    assert [one.attempt for one in world.sender.of("b")] == [1, 1]
    assert _critical(expected_logs) == [Action.LANE_CRASHED]


async def test_E9_a_bug_while_rendering_is_recorded_as_such(
    world, autojump_clock, expected_logs, monkeypatch
):
    real = Renderer.render

    def render(self, event, **options):
        if event.outbox_id == 1:
            raise KeyError("bug")
        return real(self, event, **options)

    monkeypatch.setattr(Renderer, "render", render)
    world.subscribe("a", retry_delays=[1_000])
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(5)
    first, second = world.deliveries()
    assert (first["state"], first["reason"], first["attempts"]) == ("failed", "exhausted", 2)
    assert first["last_error"].startswith("internal_error")
    assert second["state"] == "delivered"


async def test_E9_a_bug_in_the_lane_restarts_it_with_a_growing_pause(
    world, autojump_clock, expected_logs, monkeypatch
):
    a = world.subscribe("a")
    world.subscribe("b")
    real, broken, tried = Lane._take, True, []

    def take(self):
        if broken and self.member.subscription.key == a:
            tried.append(trio.current_time())
            raise RuntimeError("bug")
        return real(self)

    monkeypatch.setattr(Lane, "_take", take)
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(0.5)
        world.insert("y")  # wakes a lane that is no more
        await trio.sleep(130)
        assert len(world.sender.of("b")) == 2
        gaps = [round(b - a) for a, b in itertools.pairwise(tried)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60]
        assert any("crashed" in problem for problem in daemon.problems)
        broken = False
        await trio.sleep(61)
    assert [one.n for one in world.sender.of("a")] == [1, 2]
    assert Action.LANE_RESTARTED in [r.action for r in expected_logs]


async def test_E9_a_crashing_lane_lets_its_other_attempts_finish_and_be_recorded(
    world, autojump_clock, expected_logs
):
    world.subscribe("a", concurrency=4)
    world.sender.script = lambda _: world.after(3, world.ok)
    real, made = world.sender.channel, 0

    def channel():
        nonlocal made
        made += 1
        if made == 3:
            raise RuntimeError("bug")
        return real()

    world.sender.channel = channel
    for n in range(6):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(1)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(10)
        world.insert("x0")
        # Not before the file has the outcomes is there another lane: no line is open too soon.
        assert len(world.sender.seen) == 2
        assert daemon._supervisor.is_busy
        world.host.execute("COMMIT")
        await trio.sleep(20)
    assert world.states() == ["delivered"] * 7
    assert sorted(one.n for one in world.sender.seen) == list(range(1, 8))
    assert _critical(expected_logs) == [Action.LANE_CRASHED]


async def test_E9_stopping_does_not_wait_for_a_lane_that_rests_after_a_crash(
    world, autojump_clock, expected_logs, monkeypatch
):
    def take(self):
        raise RuntimeError("bug")

    monkeypatch.setattr(Lane, "_take", take)
    world.subscribe("a")
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(20)
        asked = trio.current_time()
        daemon.stop()
    assert trio.current_time() == asked
    assert world.states() == ["pending"]


async def test_E9_a_drain_ends_though_a_lane_crashes(
    world, autojump_clock, expected_logs, monkeypatch
):
    def take(self):
        raise RuntimeError("bug")

    monkeypatch.setattr(Lane, "_take", take)
    world.subscribe("a")
    world.insert("x")
    with trio.fail_after(100):
        await world.daemon(linger=0.0).run(drain=True)
    assert world.states() == ["pending"]


async def test_E9_a_bug_in_the_recorder_ends_the_daemon_with_70(
    world, autojump_clock, expected_logs
):
    world.subscribe("a")
    world.insert("x")
    store = world.store()

    def record(*_):
        raise ZeroDivisionError("bug")

    store.record = record
    with pytest.raises(BaseExceptionGroup) as caught, trio.fail_after(100):
        await world.daemon(store=store).run()
    assert _ended_badly(caught.value) == EXIT_BUG
    assert _critical(expected_logs) == [Action.DAEMON_FAILED]
    assert world.states() == ["pending"]
    assert world.sender.under_way.total() == 0


async def test_E9_a_file_that_a_lane_cannot_read_ends_the_daemon_with_4(
    world, autojump_clock, expected_logs
):
    world.subscribe("a")
    world.insert("x")
    store = world.store()

    def due(*_):
        raise DatabaseError("damaged")

    store.due = due
    with pytest.raises(BaseExceptionGroup) as caught, trio.fail_after(100):
        await world.daemon(store=store).run()
    with pytest.raises(DatabaseError, match="damaged"):
        _ended_badly(caught.value)
    assert _critical(expected_logs) == [Action.DAEMON_FAILED]


async def test_E9_a_bug_beside_a_bad_file_is_still_a_bug(expected_logs):
    both = BaseExceptionGroup("", [DatabaseError("damaged"), RuntimeError("bug")])
    assert _ended_badly(both) == EXIT_BUG
