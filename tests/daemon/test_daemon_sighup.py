"""SIGHUP, and a start that cannot apply what is declared, by the whole of `run.main`."""

import signal
import sys

import pytest

from tests.daemon.reloading import Config, of
from webhookd.daemon import run
from webhookd.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from webhookd.logs.actions import Action
from webhookd.store import lockfile


@pytest.fixture
def config(world, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", world.secret)
    return Config(world)


def test_E3_sighup_reloads_and_a_refusal_is_in_the_lock_file(
    world, config, monkeypatch, expected_logs
) -> None:
    monkeypatch.setattr(run, "HttpSender", lambda _egress: world.sender)
    before = sys.getswitchinterval()
    config.write("", "a")
    world.settings = config.read()
    steps = iter(["bad", "good", "end"])

    def script(_seen):
        match next(steps):
            case "bad":
                config.path.write_text("nonsense")
                signal.raise_signal(signal.SIGHUP)
            case "good":
                problems.extend(lockfile.read(world.path)["problems"])
                config.write("[delivery]\nmax_in_flight = 9\n", "a")
                signal.raise_signal(signal.SIGHUP)
            case "end":
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGHUP)  # too late to matter, and no second signal
        return world.after(1.5, world.ok)

    problems: list[str] = []
    world.sender.script = script
    for _ in range(3):
        world.insert("x")
    try:
        assert run.main(world.settings, drain=False, load=config.read) == EXIT_OK
    finally:
        sys.setswitchinterval(before)
    assert world.states() == ["delivered"] * 3
    assert len(problems) == 1
    assert "not valid TOML" in problems[0]
    assert len(of(expected_logs, Action.CONFIG_REFUSED)) == 1
    changed = [said["changed"] for _, said in of(expected_logs, Action.CONFIG_APPLIED)]
    assert changed == [[], ["delivery.max_in_flight: 256 -> 9"]]
    assert [level for level, _ in of(expected_logs, Action.DAEMON_STOPPING)] == ["INFO"]


def test_E15_a_start_that_cannot_apply_what_is_declared_exits_with_3(
    world, config, monkeypatch, expected_logs
) -> None:
    monkeypatch.setattr(run, "HttpSender", lambda _egress: world.sender)
    before = sys.getswitchinterval()
    world.subscribe("a")
    world.insert("x")
    config.write("", "a")
    try:
        with pytest.raises(ConfigError) as caught:
            run.main(config.read(), drain=True)
    finally:
        sys.setswitchinterval(before)
    assert caught.value.exit_code == EXIT_CONFIG
    assert ": subscriptions[1].name: a (wh_" in str(caught.value)
    assert [level for level, _ in of(expected_logs, Action.DAEMON_FAILED)] == ["CRITICAL"]
    assert world.sender.seen == []
    assert not lockfile.is_held(world.path)
