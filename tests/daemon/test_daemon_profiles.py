"""Profiles and secrets that come and go: held back with the reason, and never sent unsigned."""

from dataclasses import replace

import trio

from webhookd.core.profiles import BUILT_IN, own
from webhookd.logs.actions import Action

MINE = BUILT_IN.with_these(
    {
        "mine": own.make(
            "mine",
            {
                "base": "standard",
                "signature_header": "X-Mine",
                "layout": "{signature}",
                "ordering": "subscription",
            },
            BUILT_IN,
        )
    },
    "/etc/webhookd.toml",
)


async def test_a_profile_that_the_configuration_has_no_more_holds_back_and_accrues(
    world, autojump_clock, expected_logs
) -> None:
    world.settings = replace(world.settings, profiles=MINE)
    world.subscribe("a", profile="mine")
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
    assert "x-mine" in {name.lower() for name in world.sender.seen[0].headers}

    world.settings = replace(world.settings, profiles=BUILT_IN.with_these({}, "/etc/webhookd.toml"))
    async with world.running() as daemon:
        world.insert("x")
        world.insert("y")
        await trio.sleep(1)
        (problem,) = daemon.problems
        assert problem.startswith("subscription a is held back: no profile 'mine'; ")
        assert "[profiles.NAME] in /etc/webhookd.toml" in problem
    assert len(world.sender.seen) == 1
    assert world.states() == ["delivered", "pending", "pending"]

    world.settings = replace(world.settings, profiles=MINE)
    async with world.running() as daemon:
        await trio.sleep(1)
        assert daemon.problems == []
    assert world.states() == ["delivered"] * 3
    assert [one.n for one in world.sender.seen] == [1, 2, 3]
    assert [r.action for r in expected_logs].count(Action.SECRET_MISSING) == 1


async def test_E13_an_optional_secret_that_cannot_be_found_is_no_missing_one(
    world, autojump_clock, expected_logs, monkeypatch
) -> None:
    monkeypatch.delenv("WEBHOOKD_TEST_SECRET", raising=False)
    world.subscribe("bare", profile="floriday", secret=None)
    world.subscribe("signed", profile="floriday", secret="env:WEBHOOKD_TEST_SECRET")
    async with world.running() as daemon:
        world.insert("x", tenant="org_1")
        await trio.sleep(100)
        (sent,) = world.sender.seen
        assert "webhook-signature" not in sent.headers
        (problem,) = daemon.problems
        assert problem.startswith("subscription signed is held back: env:WEBHOOKD_TEST_SECRET: ")
        monkeypatch.setenv("WEBHOOKD_TEST_SECRET", world.secret)
        await trio.sleep(61)
        assert daemon.problems == []
    assert "webhook-signature" in world.sender.seen[1].headers
    assert len(world.sender.seen) == 2


async def test_what_floriday_cannot_do_without_ends_unrenderable(
    world, autojump_clock, expected_logs
) -> None:
    world.subscribe("a", profile="floriday", secret=None)
    async with world.running():
        world.insert("x")
        world.insert("", tenant="org_1")
        world.insert("x", tenant="org_1")
        await trio.sleep(1)
    assert [(row["state"], row["reason"]) for row in world.deliveries()] == [
        ("failed", "unrenderable"),
        ("failed", "unrenderable"),
        ("delivered", None),
    ]
    assert [r.action for r in expected_logs].count(Action.UNRENDERABLE) == 2
