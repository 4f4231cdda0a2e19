"""`subscriptions apply`, and what commands may do with what the configuration declares."""

import re

import pytest
from click.testing import CliRunner

from webhookd.cli.main import cli

KEY = "whsec_" + "QUFB" * 8
ONE = """
[[subscriptions]]
name = "one"
url = "https://one.example/in?key=HUSH"
secret = "env:ONE_SECRET"
"""
TWO = ONE.replace("one", "two")


@pytest.fixture
def declared(webhookd, monkeypatch):
    """A file in which `one` was applied."""
    monkeypatch.setenv("ONE_SECRET", KEY)
    webhookd.configure(ONE)
    assert webhookd("subscriptions", "apply").stderr == ""
    return webhookd


def control(cli):
    return cli.sql("SELECT control FROM webhookd_file")


def show(cli, name="one"):
    return cli.json("subscriptions", "show", name)


def test_apply_prints_the_difference_and_a_dry_run_writes_nothing(webhookd, monkeypatch):
    monkeypatch.setenv("ONE_SECRET", KEY)
    webhookd.configure(ONE + TWO)
    nothing = {"changed": [], "paused": [], "resumed": [], "noted": [], "unchanged": 0}
    added = {"added": ["one", "two"], **nothing}
    before = control(webhookd)
    assert webhookd.json("subscriptions", "apply", "--dry-run") == {**added, "dry_run": True}
    said = webhookd("subscriptions", "apply", "--dry-run").stdout
    assert said == "added      one\nadded      two\nunchanged  0 subscriptions\n"
    assert webhookd.json("subscriptions", "list") == []
    assert control(webhookd) == before
    assert webhookd.json("subscriptions", "apply") == {**added, "dry_run": False}
    assert [one["managed_by"] for one in webhookd.json("subscriptions", "list")] == ["config"] * 2
    after = control(webhookd)
    assert after > before
    assert webhookd("subscriptions", "apply").stdout == "unchanged  2 subscriptions\n"
    assert control(webhookd) == after
    webhookd.configure(ONE.replace("key=HUSH", "key=OTHER") + "events = ['a']\n")
    assert webhookd.json("subscriptions", "apply")["changed"] == [
        {"name": "one", "fields": ["url", "events"]}
    ]
    two = show(webhookd, "two")
    assert (two["state"], two["state_reason"]) == ("paused", "removed_from_config")
    webhookd.configure(ONE + TWO)
    result = webhookd("subscriptions", "apply")
    assert "resumed    two: it is declared again\n" in result.stdout
    assert "HUSH" not in result.output


def test_what_is_declared_can_be_told_from_what_was_added(declared):
    declared.add()
    said = declared("subscriptions", "list").stdout.splitlines()
    assert re.search(r"PROFILE +MANAGED BY +URL$", said[0])
    assert re.search(r"one .* standard +config +https://one\.example/in\?\*\*\*$", said[1])
    assert re.search(r"partner .* standard +cli +https://partner\.example/in$", said[2])
    assert re.search(
        r"^managed_by +config$", declared("subscriptions", "show", "one").stdout, re.MULTILINE
    )
    assert show(declared, "partner")["managed_by"] == "cli"


@pytest.mark.parametrize(
    "command",
    [
        ["update", "one", "--url", "https://x.example/"],
        ["update", "one", "--timeout", "1s"],
        ["rotate-secret", "one"],
        ["rotate-secret", "one", "--secret", "env:ONE_SECRET"],
        ["rotate-secret", "one", "--activate"],
    ],
)
def test_its_definition_is_the_files_to_change(declared, command):
    before, at = show(declared), control(declared)
    line = declared.fails("subscriptions", *command, code=1)
    assert line == (
        f"one: is defined in {declared.config}: subscriptions[1]; change it there, then reload the "
        "daemon or say `webhookd subscriptions apply`"
    )
    declared.configure("")
    line = declared.fails("subscriptions", *command, code=1)
    assert line == (
        f"one: was defined in a configuration, and {declared.config} does not declare it; name the "
        "one that does with --config, or remove the subscription and add another one"
    )
    assert (show(declared), control(declared)) == (before, at)


def test_its_state_is_the_operators(declared):
    assert declared.json("subscriptions", "pause", "one")["state"] == "paused"
    declared("subscriptions", "apply")
    assert show(declared)["state_reason"] == "operator"
    enabled = declared("subscriptions", "enable", "one")
    assert enabled.stderr == ""
    assert show(declared)["state"] == "enabled"


def test_remove_takes_only_what_would_not_come_back(declared):
    line = declared.fails("subscriptions", "remove", "one", "--yes", code=1)
    assert line == (
        f"one: stands in {declared.config}: subscriptions[1], so it would come back; take the "
        "block out of the file first, or pause it"
    )
    assert show(declared)["state"] == "enabled"
    declared.configure("")
    declared("subscriptions", "apply")
    declared("subscriptions", "remove", "one", "--yes")
    assert declared.json("subscriptions", "list") == []
    # One that was made by hand under a name that is declared is not the file's.
    declared.add(name="one")
    declared.configure(ONE)
    declared("subscriptions", "remove", "one", "--yes")


def test_what_is_enabled_although_it_is_not_declared_is_warned_of(declared):
    declared.configure("")
    declared("subscriptions", "apply")
    result = declared("subscriptions", "enable", "one")
    assert result.stderr == (
        f"webhookd: warning: one: {declared.config} does not declare it, so the next start or "
        "reload with a configuration that does not pauses it again\n"
    )
    assert show(declared)["state"] == "enabled"


def test_what_is_taken_with_a_doubt_is_warned_of_once(webhookd, monkeypatch):
    monkeypatch.delenv("ONE_SECRET", raising=False)
    webhookd.configure(
        '[egress]\nallow = ["10.0.0.0/8"]\n'
        + ONE.replace("https://", "http://")
        + 'events = ["a.?"]\n'
    )
    place = f"webhookd: warning: {webhookd.config}: subscriptions[1]"
    said = webhookd("subscriptions", "apply").stderr.splitlines()
    assert said[0].startswith(f"{place}.secret: env:ONE_SECRET: no such environment variable")
    assert said[0].endswith("until the daemon finds it, nothing is sent")
    assert said[1].startswith(f"{place}.url: http to one.example is blocked at each attempt")
    assert said[2].startswith(f'{place}.events: "a.?" has')
    assert len(said) == 3
    assert webhookd("subscriptions", "apply").stderr == ""


def test_many_missing_secrets_are_two_lines(webhookd, monkeypatch):
    monkeypatch.delenv("ONE_SECRET", raising=False)
    webhookd.configure(ONE + TWO + ONE.replace('"one"', '"three"').replace("env:ONE", "env:THREE"))
    first, others = webhookd("subscriptions", "apply").stderr.splitlines()
    assert "subscriptions[1].secret: env:ONE_SECRET: no such environment variable" in first
    assert others == (
        "webhookd: warning: missing too, so that nothing is sent: the secrets of two "
        "(env:ONE_SECRET), three (env:THREE_SECRET)"
    )


def test_E14_a_secret_that_is_unfit_applies_nothing(webhookd, monkeypatch):
    monkeypatch.setenv("ONE_SECRET", "whsec_HUSH")
    webhookd.configure(ONE)
    for options in ([], ["--dry-run"]):
        line = webhookd.fails("subscriptions", "apply", *options, code=3)
        assert line.startswith(
            f"{webhookd.config}: subscriptions[1].secret: env:ONE_SECRET: the secret must hold"
        )
        assert "HUSH" not in line
    assert webhookd.json("subscriptions", "list") == []


def test_E15_a_fault_in_any_block_applies_none(declared):
    declared.configure(ONE + TWO + "\nevents = ['a b']\n")
    line = declared.fails("subscriptions", "apply", code=3)
    assert line.startswith(f"{declared.config}: subscriptions[2].events: no event can match")
    assert declared.sql("SELECT name, events FROM webhookd_subscriptions") == [("one", '["*"]')]


def test_a_name_that_was_given_by_hand_is_refused(webhookd):
    webhookd.add(name="one")
    webhookd.configure(TWO + ONE)
    line = webhookd.fails("subscriptions", "apply", code=3)
    assert line.startswith(f"{webhookd.config}: subscriptions[2].name: one (wh_")
    assert [one["name"] for one in webhookd.json("subscriptions", "list")] == ["one"]


def test_without_a_configuration_there_is_nothing_to_apply(declared):
    arguments = ["--database", str(declared.database), "subscriptions"]
    result = CliRunner().invoke(cli, [*arguments, "apply"])
    assert result.exit_code == 2
    assert result.stderr == (
        "webhookd: no configuration is named; give --config PATH or WEBHOOKD_CONFIG\n"
    )
    result = CliRunner().invoke(cli, [*arguments, "update", "one", "--timeout", "1s"])
    assert result.exit_code == 1
    assert "this command line (no --config) does not declare it" in result.stderr


def test_a_slip_in_a_pattern_is_said_by_apply_and_check(webhookd, monkeypatch):
    monkeypatch.setenv("ONE_SECRET", KEY)
    webhookd.configure(ONE + 'events = ["suplier.created", "order.*", "a?"]\n')
    place = f"{webhookd.config}: subscriptions[1].events"
    slip = f"{place}: no known type matches `suplier.created`; near: supplier.created"
    (found, odd) = (
        one.removeprefix("webhookd: warning: ")
        for one in sorted(webhookd("subscriptions", "apply", "--dry-run").stderr.splitlines())
        if place in one
    )
    assert slip in (found, odd)
    said = [one for one in webhookd("check").stdout.splitlines() if place in one]
    assert [one.startswith("warning  ") for one in said] == [True, True]
    assert f"warning  {slip}" in said
    webhookd("subscriptions", "apply")
    assert webhookd("subscriptions", "apply").stderr == "", "only what is changed is told of"
    webhookd("events", "emit", "suplier.created")
    webhookd.ingest()
    assert slip not in webhookd("check").stdout, "the host sends it"
    webhookd.configure('[egress]\nallow = ["127.0.0.1"]\n')
    assert place not in webhookd("check").stdout
    webhookd.configure(ONE + 'events = ["suplier.created"]\n')
    webhookd.database.unlink()
    assert place not in webhookd("check", code=1).stdout, "of a file that is gone this is the least"
