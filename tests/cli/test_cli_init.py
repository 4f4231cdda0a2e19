"""`init` and `run`."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from webhookd.cli.commands import init
from webhookd.cli.main import cli
from webhookd.config.settings import Log
from webhookd.errors import AnotherDaemon, ConfigError
from webhookd.store.lockfile import LockFile
from webhookd.store.schema import MIGRATIONS

HOST = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.executescript(sys.argv[2])
"""


def host(database, script):
    subprocess.run([sys.executable, "-c", HOST, str(database), script], check=True, timeout=60)


def test_init_says_what_it_did(bare):
    result = bare("init")
    path = bare.database.resolve()
    assert result.stdout.splitlines() == [
        f"{path}: created, and prepared for webhookd",
        "outbox: table outbox (webhookd's own); ingest goes on at its beginning",
        "next: webhookd subscriptions add URL, then webhookd run",
    ]
    assert f"{path}: was prepared already; nothing was changed" in bare("init").stdout


def test_init_says_that_it_made_the_outbox_again(webhookd):
    webhookd.emit("a.b")
    webhookd.ingest()
    webhookd.sql("DROP TABLE outbox")
    path = webhookd.database.resolve()
    made = "its outbox table 'outbox' was gone and was made again, empty"
    assert webhookd("init").stdout.splitlines()[:2] == [
        f"{path}: was prepared already; {made}: rows that had not been taken in are lost",
        "outbox: table outbox (webhookd's own); ingest goes on after id 1",
    ]
    assert "nothing was changed" in webhookd("init").stdout
    webhookd.sql("DROP TABLE outbox")
    assert webhookd.json("init")["outbox_made"]
    assert not webhookd.json("init")["outbox_made"]


def test_a_table_of_the_hosts_is_not_promised_to_be_made(webhookd):
    webhookd.sql("UPDATE webhookd_file SET outbox_ours = 0")
    webhookd.sql("DROP TABLE outbox")
    assert ", or let the host make it" in webhookd.fails("init", code=4)
    assert "webhookd init" not in webhookd("status", code=6).stdout


def test_init_says_beforehand_that_an_upgrade_may_take_long(bare, monkeypatch):
    bare("init")
    monkeypatch.setattr(init, "upgrade_ahead", lambda path: 1_000_000)
    path = bare.database.resolve()
    assert bare("init").stderr == (
        f"{path}: being upgraded, with 1000000 deliveries; the host cannot write until it is done\n"
    )
    monkeypatch.undo()
    assert bare("init").stderr == ""


def test_init_json(bare):
    assert bare.json("init") == {
        "database": str(bare.database.resolve()),
        "created": True,
        "migrations": [name for name, _ in MIGRATIONS],
        "outbox": "outbox",
        "outbox_ours": True,
        "outbox_made": True,
        "begins_after": None,
    }
    again = bare.json("init")
    assert (again["created"], again["migrations"]) == (False, [])


def test_init_existing_never_creates(bare):
    assert "leave --existing out to create it" in bare.fails("init", "--existing", code=4)
    assert not bare.database.exists()


def test_init_of_a_host_with_an_outbox_begins_at_its_end(bare):
    host(
        bare.database,
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event_type, aggregate_type,"
        " aggregate_id, tenant, payload, occurred_at, event_id);"
        "INSERT INTO outbox (event_type) VALUES ('a'), ('b'), ('c');",
    )
    result = bare("init", "--existing")
    assert "table outbox (the host's own); ingest goes on after id 3" in result.stdout


def test_A13_init_refuses_ids_that_can_come_back(bare):
    host(
        bare.database,
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY, event_type, aggregate_type,"
        " aggregate_id, tenant, payload, occurred_at, event_id);",
    )
    assert "never-reused" in bare.fails("init", code=4)
    bare.configure('[outbox]\nids = "never-reused"\n')
    bare("init")


def test_run_hands_the_settings_to_the_daemon(webhookd, monkeypatch):
    from webhookd.daemon import run as daemon

    seen = []

    def main(settings, *, drain, load):
        seen.append((settings.database, drain, settings.log))
        loads.append(load)
        return 0

    loads = []
    monkeypatch.setattr(daemon, "main", main)
    webhookd("run", "--drain", "--log-format", "text", "--log-level", "error")
    webhookd("run")
    assert seen == [
        (webhookd.database, True, Log("text", "error")),
        (webhookd.database, False, Log("json", "info")),
    ]
    # What the command line says wins at each reload too.
    webhookd.configure('[log]\nformat = "json"\nlevel = "debug"\n[delivery]\nmax_in_flight = 3\n')
    given, plain = (load() for load in loads)
    assert (given.log, given.delivery.max_in_flight) == (Log("text", "error"), 3)
    assert plain.log == Log("json", "debug")
    webhookd.configure("nonsense = 1\n")
    with pytest.raises(ConfigError, match="nonsense: unknown key"):
        loads[0]()


def test_run_without_a_file_has_nothing_to_read_again(webhookd, monkeypatch):
    from webhookd.daemon import run as daemon

    loads = []
    monkeypatch.setattr(daemon, "main", lambda _settings, *, drain, load: loads.append(load))
    result = CliRunner().invoke(cli, ["--database", str(webhookd.database), "run"])
    assert (result.exit_code, loads) == (0, [None])


def test_run_that_fails_is_one_line(webhookd, monkeypatch):
    from webhookd.daemon import run as daemon

    def main(settings, *, drain, load):
        raise AnotherDaemon("another webhookd (pid 7) runs on this file; stop it first")

    monkeypatch.setattr(daemon, "main", main)
    assert "(pid 7)" in webhookd.fails("run", code=5)


def test_G10_run_on_a_held_file_exits_5(webhookd):
    lock = LockFile.acquire(webhookd.database.resolve())
    lock.write(pid=4711)
    try:
        assert "another webhookd (pid 4711)" in webhookd.fails("run", code=5)
    finally:
        lock.release()


@pytest.mark.parametrize("options", [["--log-format", "xml"], ["--log-level", "loud"]])
def test_run_judges_its_options(webhookd, options):
    webhookd.fails("run", *options, code=2)
