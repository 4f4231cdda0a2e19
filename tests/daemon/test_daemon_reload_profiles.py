"""Profiles and what payloads are held against, when the configuration is read again."""

import pytest
import trio

from tests.daemon.reloading import Config, at_work, of
from webhookd.logs.actions import Action
from webhookd.store.record import BODY_CHANGED

MINE = """
[profiles.mine]
base = "standard"
signature_header = "X-Mine"
headers = { X-Topic = "HUSH" }
"""


@pytest.fixture
def config(world, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", world.secret)
    return Config(world)


def signed_with(world):
    """The header that each request so far was signed in."""
    names = ({name.lower() for name in one.headers} for one in world.sender.seen)
    return ["x-mine" if "x-mine" in found else "x-other" for found in names]


async def test_a_profile_that_is_changed_counts_from_the_next_attempt_on(
    world, config, autojump_clock, expected_logs
):
    world.subscribe("by-hand", profile="mine")
    config.write(MINE)
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        world.insert("x")
        await trio.sleep(1)
        await reloader.reload()  # says the same: nobody is looked at anew
        config.write(MINE.replace("X-Mine", "X-Other"))
        await reloader.reload()
        world.insert("x")
        await trio.sleep(1)
    assert signed_with(world) == ["x-mine", "x-other"]
    (_, same), (_, other) = of(expected_logs, Action.CONFIG_APPLIED)
    assert same["changed"] == []
    assert other["changed"] == ["profiles.mine.signature_header: changed"]


async def test_a_profile_that_goes_holds_back_and_one_that_comes_sends(
    world, config, autojump_clock, expected_logs
):
    world.subscribe("by-hand", profile="mine")
    config.write("")
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        world.insert("x")
        await trio.sleep(1)
        (problem,) = daemon.problems
        assert "no profile 'mine'" in problem
        assert world.sender.seen == []
        config.write(MINE)
        await reloader.reload()
        await trio.sleep(1)
        assert daemon.problems == []
        assert world.states() == ["delivered"]
        config.write("")
        await reloader.reload()
        world.insert("x")
        await trio.sleep(1)
        assert len(daemon.problems) == 1
    assert world.states() == ["delivered", "pending"]
    said = [fields["changed"] for _, fields in of(expected_logs, Action.CONFIG_APPLIED)]
    assert said == [["profiles.mine: added"], ["profiles.mine: removed"]]
    assert "HUSH" not in str(said)


async def test_a_declared_one_may_have_a_profile_of_the_same_reload(
    world, config, autojump_clock, expected_logs
):
    config.write("")
    async with at_work(world, config.daemon(), config.read) as reloader:
        config.write(MINE + "ordering = 'subscription'\n", "a", profile='"mine"')
        await reloader.reload()
        world.insert("x")
        world.insert("y")
        await trio.sleep(1)
        assert signed_with(world) == ["x-mine"] * 2
        lines = {row["order_key"] for row in world.table("SELECT * FROM webhookd_deliveries")}
        assert lines == {-1}, "taken in by the profile's own ordering"


async def test_another_source_of_cloudevents_counts_for_what_is_owed(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a", profile='"cloudevents"')
    async with at_work(world, config.daemon(), config.read) as reloader:
        config.write('[cloudevents]\nsource = "/erp"\n', "a", profile='"cloudevents"')
        await reloader.reload()
        world.insert("x")
        await trio.sleep(1)
    (sent,) = world.sender.seen
    assert b'"source":"/erp"' in sent.body
    ((_, said),) = of(expected_logs, Action.CONFIG_APPLIED)[1:]
    assert said["changed"] == ["cloudevents.source: changed"]


@pytest.mark.parametrize("restart", [False, True])
async def test_G3_a_body_that_another_configuration_changes_is_noted_and_warned_of(
    world, config, autojump_clock, expected_logs, restart
):
    text = '[profiles.mine]\nbase = "standard"\nretry_delays = ["1m", "1m"]\n'
    world.subscribe("by-hand", profile="mine")
    world.sender.script = lambda seen: world.ok if seen.attempt == 3 else world.down
    config.write(text)
    async with at_work(world, config.daemon(), config.read) as reloader:
        world.insert("x")
        await trio.sleep(90)
        config.write(text + 'envelope = ["id = id"]\n')
        if not restart:
            await reloader.reload()
            await trio.sleep(120)
    if restart:
        async with at_work(world, config.daemon(), config.read):
            await trio.sleep(120)
    first, second, third = (one.body for one in world.sender.seen)
    assert first == second
    assert third.startswith(b'{"id":')
    notes = [row["note"] for row in world.table("SELECT note FROM webhookd_attempts")]
    assert notes == ["", "", BODY_CHANGED]
    (event,) = {one.headers["webhook-id"] for one in world.sender.seen}
    said = {"subscription": "by-hand", "delivery": 2, "event": event}
    assert of(expected_logs, Action.BODY_CHANGED) == [("WARNING", said)]


async def test_what_payloads_are_held_against_changes_at_work(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a")
    async with at_work(world, config.daemon(), config.read) as reloader:
        world.insert("", "sync.completed")
        await trio.sleep(1)
        config.write('[outbox]\nvalidate = "reject"\ncatalog = ["ntropy"]\n', "a")
        await reloader.reload()
        world.insert("", "sync.completed")
        await trio.sleep(1)
    assert len(world.sender.seen) == 1
    assert world.table("SELECT outbox_id, reason FROM webhookd_rejected") == [
        {"outbox_id": 2, "reason": "payload_mismatch"}
    ]
    ((_, said),) = of(expected_logs, Action.CONFIG_APPLIED)[1:]
    assert said["changed"] == [
        "outbox.validate: off -> reject",
        "outbox.catalog: [ntropy, floriday, onestock] -> [ntropy]",
    ]


async def test_E14_a_form_that_a_declared_ones_secret_has_not_refuses_the_whole(
    world, config, autojump_clock, expected_logs, monkeypatch
):
    monkeypatch.setenv("TEST_SECRET", "no base64, and long enough!")
    text = '[profiles.mine]\nbase = "ntropy"\n'
    config.write(text + 'secret = "utf8"\n', "a", profile='"mine"')
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        config.write(text + 'secret = "base64"\n', "a", profile='"mine"')
        await reloader.reload()
        assert "subscriptions[1].secret: env:TEST_SECRET: " in daemon.refused
        world.insert("x")
        await trio.sleep(1)
    assert world.states() == ["delivered"], "the old one counts"
    assert len(of(expected_logs, Action.CONFIG_REFUSED)) == 1
