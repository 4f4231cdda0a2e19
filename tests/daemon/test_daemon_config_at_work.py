"""What a reload hands over: the log, the line that tells of it, room for outcomes."""

import sys
from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.daemon.reloading import Config, at_work
from webhookd.config.settings import Delivery, Log, Outbox, Settings, Status
from webhookd.core.egress import parse_policy
from webhookd.daemon import reload
from webhookd.daemon.recorder import Recorder


@pytest.fixture
def config(world, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", world.secret)
    return Config(world)


async def test_the_log_changes_its_form_and_level(
    world, config, autojump_clock, expected_logs, monkeypatch
):
    config.write("")
    made = []
    monkeypatch.setattr(reload, "setup", lambda stream, **how: made.append((stream, how)))
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        await reloader.reload()
        assert made == []
        config.write('[log]\nformat = "text"\nlevel = "debug"\n')
        await reloader.reload()
    assert made == [(sys.stderr, {"format": "text", "level": "debug"})]
    assert daemon.settings.log == Log("text", "debug")


def test_the_line_says_old_and_new_of_every_key(world):
    before = Settings(world.path)
    after = replace(
        before,
        outbox=Outbox(start="end"),
        delivery=Delivery(max_in_flight=2),
        log=Log(level="error"),
        status=Status(max_owed_age=1_500, max_failed=3),
        egress=parse_policy(["10.0.0.0/8"], [f"{n}.example" for n in range(100)]),
    )
    said = list(reload.changes(before, after))
    assert said[:-1] == [
        "outbox.start: unset -> end",
        "delivery.max_in_flight: 256 -> 2",
        "log.level: info -> error",
        "status.max_owed_age: 1h -> 1500ms",
        "status.max_failed: off -> 3",
        "egress.allow: [] -> [10.0.0.0/8]",
    ]
    assert said[-1].startswith("egress.deny: [] -> [0.example, ")
    assert len(said[-1]) < 400
    assert list(reload.changes(after, after)) == []


def test_the_line_names_so_many_subscriptions_and_counts_the_rest():
    names = [f"n{number}" for number in range(reload.MOST_NAMES + 2)]
    assert reload._few(names) == [*names[: reload.MOST_NAMES], "and 2 more"]
    assert reload._few(names[:3]) == ["n0", "n1", "n2"]


async def test_room_for_outcomes_grows_and_shrinks_at_work(world, autojump_clock):
    recorder = Recorder(
        world.daemon().store,
        world.clock,
        max_unrecorded=3,
        on_ready=lambda _: None,
        on_notices=lambda _: None,
    )
    taken = []

    async def take(number):
        await recorder.place()
        taken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
        assert taken == [0, 1, 2]
        recorder.resize(5)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(taken) == [0, 1, 2, 3, 4]
        recorder.resize(2)
        for _ in range(3):
            recorder.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert len(taken) == 5, "three more than there is room for are gone"
        recorder.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert taken[5:] == [5]
        recorder.resize(4)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(taken) == [0, 1, 2, 3, 4, 5, 6, 7]
        for _ in range(4):
            recorder.leave()
        for _ in range(4):
            recorder.resize(4)
            await recorder.place()
