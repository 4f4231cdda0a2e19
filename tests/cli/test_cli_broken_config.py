"""A configuration with a fault: who only looks goes on, who writes is refused."""

import json

import pytest
from click.testing import CliRunner

from tests.cli.test_cli_status import daemon
from webhookd.cli.main import cli

FAULT = "outbox.max_paylod: unknown key; did you mean max_payload?"


@pytest.fixture
def broken(webhookd):
    webhookd.add()
    webhookd.emit("a.b", "--aggregate-id", "7", "--event-id", "e1")
    webhookd.ingest()
    webhookd.configure("[outbox]\nmax_paylod = 1\n")
    return webhookd


def test_status_goes_on_and_is_degraded(broken):
    said = f"{broken.config}: {FAULT} (the daemon goes on with what it has, and would not start"
    with daemon(broken):
        result = broken("status", code=1)
        assert f"! {said} again)\n" in result.stdout
        assert result.stderr == ""
        assert "partner  enabled  1" in result.stdout
        nagios = broken("status", "--nagios", code=1).stdout
        assert nagios.startswith(f"WEBHOOKD WARNING - {said}")
        (problem,) = broken.json("status", code=1)["problems"]
        assert problem.startswith(said)
    assert f"! {broken.config}: {FAULT} (the daemon would not start)\n" in (
        broken("status", code=6).stdout
    )


def test_what_the_daemon_says_of_the_same_fault_is_said_once(broken):
    refused = f"the configuration was not reloaded, the old one counts: {broken.config}: {FAULT}"
    with daemon(broken, problems=[refused]):
        assert broken.json("status", code=1)["problems"] == [refused]


@pytest.mark.parametrize(
    "args",
    [
        ("subscriptions", "list"),
        ("subscriptions", "show", "partner"),
        ("deliveries", "list"),
        ("deliveries", "show", "2"),
        ("events", "list"),
        ("events", "show", "e1"),
        ("events", "explain", "e1"),
        ("events", "explain", "--outbox-id", "1"),
        ("replay", "--subscription", "partner", "--since", "2020-01-01", "--dry-run"),
        ("results",),
    ],
)
def test_commands_that_read_go_on_and_say_so(broken, args):
    result = broken(*args)
    assert result.stdout
    database = broken.config.parent / "erp.db"
    warning = f"webhookd: warning: {broken.config}: {FAULT}; going on with {database} all the same"
    assert result.stderr.startswith(f"{warning}\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("subscriptions", "pause", "partner"), "partner is paused; 1 delivery is owed"),
        (("deliveries", "cancel", "2"), "delivery 2 is cancelled"),
    ],
)
def test_commands_of_an_emergency_go_on_and_say_so(broken, args, said):
    result = broken(*args)
    assert result.stdout.startswith(said)
    goes_on = f"going on with {broken.database} all the same"
    assert result.stderr == f"webhookd: warning: {broken.config}: {FAULT}; {goes_on}\n"
    broken.config.unlink()
    args = ["--config", str(broken.config), "--database", str(broken.database), *args]
    again = CliRunner().invoke(cli, args)
    assert "cannot be read: No such file or directory" in again.stderr
    assert again.exit_code == ("cancel" in args), "it is cancelled already"


def test_a_variable_that_names_no_file_is_told_with_the_way_out(broken, monkeypatch):
    broken.config.unlink()
    monkeypatch.setenv("WEBHOOKD_CONFIG", str(broken.config))

    def said(*args):
        result = CliRunner().invoke(cli, args)
        return result.exit_code, result.stderr

    way_out = (
        f"webhookd: {broken.config}: cannot be read: No such file or directory; WEBHOOKD_CONFIG "
        "names it: set it right, or `unset WEBHOOKD_CONFIG` and give --database PATH"
    )
    assert said("events", "emit", "a.b") == (3, f"{way_out}\n")
    goes_on = "; `webhookd --database PATH COMMAND` goes on with the file all the same\n"
    assert said("subscriptions", "list") == (3, way_out + goes_on)
    named = ("--database", str(broken.database))
    assert said(*named, "subscriptions", "list")[0] == 0
    assert said(*named, "events", "emit", "a.b") == (3, f"{way_out}\n")
    monkeypatch.delenv("WEBHOOKD_CONFIG")
    assert said(*named, "events", "emit", "a.b") == (0, "")


@pytest.mark.parametrize(
    "args",
    [
        ("deliveries", "retry", "2"),
        ("deliveries", "show", "2", "--curl"),
        ("subscriptions", "enable", "partner"),
        ("subscriptions", "test", "partner"),
        ("events", "emit", "a.b"),
        ("check",),
        ("init",),
        ("run",),
    ],
)
def test_commands_that_write_or_judge_refuse(broken, args):
    assert broken.fails(*args, code=3) == f"{broken.config}: {FAULT}"


def test_a_database_that_is_named_needs_no_configuration(broken, monkeypatch):
    broken.config.write_text("no TOML at all")
    line = broken.fails("status", code=3)
    assert line.startswith(f"{broken.config}: not valid TOML: ")
    assert line.endswith("; `webhookd --database PATH COMMAND` goes on with the file all the same")
    monkeypatch.setenv("WEBHOOKD_CONFIG", str(broken.config))
    with daemon(broken):
        args = ["--database", str(broken.database), "status", "--json"]
        result = CliRunner().invoke(cli, args)
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["problems"]) == 1
    assert CliRunner().invoke(cli, ["--database", "", "status"]).exit_code == 3


def test_a_file_that_the_configuration_names_and_is_not_there_says_who_named_it(webhookd):
    webhookd.config.write_text('database = "other.db"')
    line = webhookd.fails("status", code=4)
    assert line.endswith(
        f"; {webhookd.config} names it: a daemon that was started on another file is seen with"
        " --database"
    )
