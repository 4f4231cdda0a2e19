"""How commands end: exit codes, one line on stderr, and what they do without."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from webhookd import __version__
from webhookd.cli import main as cli_main
from webhookd.cli.commands import status as status_command
from webhookd.cli.main import cli
from webhookd.store.schema import SCHEMA_VERSION


def spawn(*args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A real process with no other environment than `env`."""
    return subprocess.run(
        [sys.executable, "-m", "webhookd", *args],
        env={**env, **coverage_env()},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def coverage_env() -> dict[str, str]:
    """What lets a measured test measure its processes too."""
    names = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    return {name: os.environ[name] for name in names if name in os.environ}


def test_version():
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"webhookd {__version__}\n")


def every_command(group, path=()):
    context = group.make_context("webhookd", ["--help"], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if hasattr(command, "list_commands"):
            yield from every_command(command, (*path, name))


COMMANDS = dict(every_command(cli))


def test_the_commands():
    assert sorted(" ".join(path) for path in COMMANDS) == sorted(
        [
            *(
                "init",
                "run",
                "check",
                "status",
                "listen",
                "verify",
                "results",
                "changes",
                "feed-events",
                "replay",
                "prune",
                "demo",
            ),
            *("subscriptions", "events", "deliveries", "catalog", "capture"),
            *(
                f"subscriptions {name}"
                for name in (
                    *("add", "list", "show", "update", "enable", "pause", "rotate-secret"),
                    *("remove", "test", "apply"),
                )
            ),
            *(f"events {name}" for name in ("emit", "list", "show", "explain", "retry-rejected")),
            "events erase",
            *(f"capture {name}" for name in ("add", "list", "show", "remove", "repair")),
            *(f"deliveries {name}" for name in ("list", "show", "retry", "cancel")),
            *("catalog list", "catalog show"),
        ]
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_for_itself_and_its_options(path):
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    command = COMMANDS[path]
    assert command.help
    options = [one for one in command.params if one.param_type_name == "option"]
    undocumented = [one.name for one in options if not one.help and one.name != "state"]
    assert undocumented == []
    printing = not hasattr(command, "list_commands") and path != ("run",)
    assert ("--json" in result.stdout) == printing


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["staus"], "No such command 'staus'"),
        (["status", "--jsn"], "No such option"),
        (["results", "--after", "x"], "'x': takes a whole number from 0; see"),
        (["results", "--after", "-1"], "'-1': takes a whole number from 0; see"),
        (["deliveries", "list", "--since", "yesterday"], "'yesterday': takes a moment"),
        (["deliveries", "retry"], "Missing argument"),
        (["status", "--nagios", "--json"], "--nagios stands alone"),
        (["check", "--accept-clone", "--accept-move"], "--accept-clone stands alone"),
        (["subscriptions", "rotate-secret", "x", "--overlap", "1 day"], "a duration is seconds"),
    ],
)
def test_a_usage_error_is_one_line_and_exits_2(bare, args, said):
    line = bare.fails(*args, code=2)
    assert said in line
    assert "--help`" in line


def test_no_command_shows_the_help():
    result = CliRunner().invoke(cli, [])
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_E15_a_wrong_configuration_is_one_line_and_exits_3(bare):
    bare.configure("[outbox]\nmax_paylod = 1\n")
    line = bare.fails("init", code=3)
    assert line == (f"{bare.config}: outbox.max_paylod: unknown key; did you mean max_payload?")


def test_no_database_named_exits_3(monkeypatch):
    monkeypatch.delenv("WEBHOOKD_DATABASE", raising=False)
    monkeypatch.delenv("WEBHOOKD_CONFIG", raising=False)
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 3
    assert "--database PATH" in result.stderr


def test_the_environment_names_file_and_configuration(webhookd, monkeypatch, tmp_path):
    monkeypatch.setenv("WEBHOOKD_CONFIG", str(webhookd.config))
    assert CliRunner().invoke(cli, ["subscriptions", "list"]).exit_code == 0
    monkeypatch.setenv("WEBHOOKD_DATABASE", str(tmp_path / "other.db"))
    result = CliRunner().invoke(cli, ["subscriptions", "list"])
    assert result.exit_code == 4
    assert "other.db: no such file" in result.stderr


READERS = [
    ["status"],
    ["subscriptions", "list"],
    ["events", "list"],
    ["deliveries", "list"],
    ["results"],
    ["subscriptions", "pause", "x"],
]


@pytest.mark.parametrize("args", READERS, ids=" ".join)
def test_B5_a_missing_file_exits_4_and_is_not_made(bare, args):
    assert "no such file; `webhookd init` creates one" in bare.fails(*args, code=4)
    assert not bare.database.exists()


@pytest.mark.parametrize("args", READERS, ids=" ".join)
@pytest.mark.parametrize("content", [b"", b"no database, but long enough to look at" * 30])
def test_B10_what_is_no_database_exits_4(bare, args, content):
    bare.database.write_bytes(content)
    line = bare.fails(*args, code=4)
    assert "not an SQLite database" in line or "not prepared" in line


def test_B6_a_missing_directory_exits_4(bare):
    bare.config.write_text('database = "nowhere/erp.db"')
    assert "does not exist" in bare.fails("init", code=4)


@pytest.mark.parametrize("args", [*READERS, ["init"]], ids=" ".join)
def test_E21_a_newer_schema_exits_4_with_both_versions(webhookd, args):
    webhookd.sql("UPDATE webhookd_file SET schema_version = 99")
    line = webhookd.fails(*args, code=4)
    assert "version 99" in line
    assert f"knows {SCHEMA_VERSION}" in line


def test_a_damaged_file_exits_4(webhookd):
    webhookd.add()
    webhookd.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(webhookd.database.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    webhookd.database.write_bytes(data)
    assert "damaged" in webhookd.fails("subscriptions", "list", code=4)


@pytest.mark.parametrize("args", READERS[1:], ids=" ".join)
@pytest.mark.parametrize(
    "dropped",
    [
        *("TABLE webhookd_deliveries", "TABLE webhookd_counters", "TABLE webhookd_events"),
        *("TABLE webhookd_subscriptions", "TABLE webhookd_secrets", "VIEW webhook_results"),
        *("TABLE webhookd_feeds", "VIEW webhook_events"),
    ],
)
def test_A25_a_dropped_table_is_no_bug_of_ours(webhookd, args, dropped):
    webhookd.add(name="x")
    webhookd.sql(f"DROP {dropped}")
    result = webhookd.invoke(*args)
    assert result.exit_code in (0, 4)
    assert "Traceback" not in result.stderr


def test_a_restored_file_takes_no_changes(webhookd):
    lock = webhookd.database.with_name("erp.db-webhookd.lock")
    mark = json.loads(lock.read_text())
    lock.write_text(json.dumps({**mark, "sequence": 70}))
    line = webhookd.fails("subscriptions", "add", "https://partner.example/", code=4)
    assert "a restored backup" in line
    webhookd("subscriptions", "list")


def test_a_bug_is_told_in_full_and_exits_70(webhookd, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(status_command, "facts", broken)
    result = webhookd("status", code=70)
    assert "ZeroDivisionError: of all things" in result.stderr
    assert result.stderr.endswith("this is a bug in webhookd; the lines above say where\n")


def test_an_error_of_the_system_that_nobody_foresaw_is_a_bug(webhookd, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(status_command, "facts", broken)
    assert "Input/output error" in webhookd("status", code=70).stderr


def test_ctrl_c_is_quiet(webhookd, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(status_command, "facts", interrupted)
    assert webhookd("status", code=130).stderr.strip() == ""


def test_an_argument_that_is_no_text_is_refused(bare):
    assert "argument 4 is not UTF-8 text" in bare.fails("events", "show"[:4] + "\udcff", code=2)


def test_E20_it_works_in_a_poor_environment(webhookd):
    webhookd.add("--tenant", "Müller", name="Bürger")
    poor = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = spawn("--database", str(webhookd.database), "subscriptions", "list", **poor)
    assert (done.returncode, done.stderr) == (0, "")
    assert "B\\xfcrger" in done.stdout
    shown = spawn("--database", str(webhookd.database), "subscriptions", "show", "Bürger", **poor)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"^tenant +M\\xfcller$", shown.stdout, re.MULTILINE)
    unreachable = spawn("--database", "/nowhere/Bürger.db", "status", **poor)
    assert unreachable.returncode == 3
    assert unreachable.stderr.endswith("or set LC_ALL=C.UTF-8\n")
    missing = spawn("--database", "/nowhere/Bürger.db", "status", LANG="C")
    assert missing.returncode == 4
    assert len(missing.stderr.splitlines()) == 1
    isolated = subprocess.run(
        [sys.executable, "-I", "-O", "-m", "webhookd", "--database", webhookd.database, "status"],
        env=coverage_env(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (isolated.returncode, isolated.stderr) == (6, "")


@pytest.mark.parametrize(
    ("rows", "said"),
    [(3, "next: --after 3 --epoch 1\n"), (200, "")],
    ids=["at the end", "in between"],
)
def test_E17_a_reader_that_has_gone_is_no_error(webhookd, rows, said):
    webhookd.insert(rows)
    webhookd.ingest()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "webhookd", "--database", webhookd.database, "feed-events"],
            env=coverage_env(),
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, said)


def test_a_full_disk_behind_stdout_is_one_line(webhookd):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "webhookd", "--database", webhookd.database, "status"],
            env=coverage_env(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "webhookd: standard output: No space left on device; what was printed is not complete\n"
    )


def test_without_stdout_and_stderr(webhookd):
    done = subprocess.run(
        [
            *("sh", "-c", 'exec "$@" >&- 2>&-', "sh"),
            *(sys.executable, "-m", "webhookd", "--database", webhookd.database, "status"),
        ],
        env=coverage_env(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 6


HEAVY = {
    *("trio", "httpx", "sqlite_utils", "httptools", "asyncio", "ssl", "idna"),
    *("webhookd.core.storage", "webhookd.core.registration", "webhookd.core.catalog"),
}


def test_status_imports_nothing_heavy(webhookd):
    script = (
        "import sys\n"
        "from webhookd.cli.main import cli\n"
        "try:\n"
        "    cli.main(sys.argv[1:], prog_name='webhookd')\n"
        "except SystemExit as ended:\n"
        "    print('ENDED', ended.code)\n"
        "print('LOADED', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--database", webhookd.database, "status"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *_, ended, loaded = done.stdout.splitlines()
    assert ended == "ENDED 6"
    names = set(loaded.split())
    assert "webhookd.store.status" in names
    assert not names & HEAVY
    others = {name for name in names if name.startswith("webhookd.cli.commands.")}
    assert others == {"webhookd.cli.commands.status"}


def test_main_is_the_entry_point(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["webhookd", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli_main.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"webhookd {__version__}\n"


@pytest.mark.parametrize(
    "zone", ["Pacific/Kiritimati", "America/New_York", "right/UTC", "nonsense"]
)
def test_E5_no_zone_of_the_machine_changes_a_time(webhookd, zone):
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest(now=1_774_751_400_000)  # in the hour that Europe leaves out
    done = spawn("--database", str(webhookd.database), "feed-events", TZ=zone)
    assert done.returncode == 0
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["ingested_at"] == "2026-03-29T02:30:00.000Z"
    until = ("events", "list", "--until", "2026-03-29T02:30:00Z", "--json")
    listed = spawn("--database", str(webhookd.database), *until, TZ=zone)
    assert json.loads(listed.stdout) == []


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1, 2)], ids=["stdin", "stdout", "all"])
def test_E20_streams_that_are_closed_cost_no_file(webhookd, closed):
    """A descriptor 0, 1 or 2 that is free would be the database's own; nothing may write there."""
    before = webhookd.sql("SELECT count(*) FROM sqlite_master")
    program = (
        "import os, sys\n"
        f"for number in {closed!r}: os.close(number)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'webhookd', *sys.argv[1:]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--database", webhookd.database, "status"],
        env=coverage_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 6
    assert webhookd.sql("SELECT count(*) FROM sqlite_master") == before
    assert webhookd.sql("PRAGMA integrity_check") == [("ok",)]
