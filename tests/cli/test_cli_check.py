"""`check`, and the three things that it can be told to accept."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from webhookd.store import inspection
from webhookd.store.driver import connect
from webhookd.store.lockfile import LockFile, beside
from webhookd.store.schema import SCHEMA_VERSION


def findings(cli, *args, code=0):
    said = cli.json("check", *args, code=code)
    assert said["faults"] == sum(one["level"] == "fault" for one in said["findings"])
    assert all(set(one) == {"level", "place", "text"} for one in said["findings"])
    return [(one["level"], one["place"], one["text"]) for one in said["findings"]]


def unwell(cli, code):
    return [one for one in findings(cli, code=code) if one[0] != "ok"]


def lock_says(cli):
    return json.loads(beside(cli.database.resolve()).read_text())


def change_lock(cli, **changes):
    beside(cli.database.resolve()).write_text(json.dumps({**lock_says(cli), **changes}))


def test_all_is_well(webhookd):
    webhookd.add()
    path = webhookd.database.resolve()
    assert webhookd("check").stdout.splitlines() == [
        f"ok       config: {webhookd.config} was read; the database is {webhookd.database}",
        f"ok       database: {path}: prepared, schema {SCHEMA_VERSION}",
        "ok       outbox: table outbox can be read",
        "ok       subscription partner: enabled, https://partner.example/in",
    ]


def test_nobody_subscribed_is_a_warning(webhookd):
    assert unwell(webhookd, 0) == [
        (
            "warning",
            "subscriptions",
            "there are none, so nothing is sent; `webhookd subscriptions add URL` makes one",
        )
    ]


@pytest.mark.parametrize("content", [None, b"no database, but long enough to look at" * 30, b""])
def test_a_file_that_cannot_be_used_is_a_fault(bare, content):
    if content is not None:
        bare.database.write_bytes(content)
    ((level, place, text),) = unwell(bare, 1)
    assert (level, place) == ("fault", "database")
    assert any(word in text for word in ("no such file", "not an SQLite", "not prepared"))


def test_E21_a_newer_schema_is_a_fault(webhookd):
    webhookd.sql("UPDATE webhookd_file SET schema_version = 99")
    ((level, _, text),) = unwell(webhookd, 1)
    assert level == "fault"
    assert "version 99" in text


def test_an_older_schema_is_a_warning(webhookd):
    webhookd.sql("UPDATE webhookd_file SET schema_version = 0")
    assert "upgrades it" in unwell(webhookd, 0)[0][2]


def test_B19_another_journal_mode_is_a_warning(webhookd):
    webhookd.add()
    webhookd.sql("PRAGMA journal_mode = DELETE")
    ((level, place, text),) = unwell(webhookd, 0)
    assert (level, place) == ("warning", "database")
    assert "journal mode is delete" in text


def test_B20_an_affected_library_is_a_warning(webhookd, monkeypatch):
    webhookd.add()
    monkeypatch.setattr(inspection, "has_wal_reset_bug", lambda: True)
    ((level, place, text),) = unwell(webhookd, 0)
    assert (level, place) == ("warning", "SQLite")
    assert "3.51.3, 3.50.7, 3.44.6" in text


def test_a_write_lock_that_is_held_for_long_is_a_warning(webhookd, monkeypatch):
    webhookd.add()
    monkeypatch.setattr(inspection, "WAIT", 0.0)
    other = connect(webhookd.database, mode="rw")
    other.execute("BEGIN IMMEDIATE")
    try:
        ((level, _, text),) = unwell(webhookd, 0)
    finally:
        other.close()
    assert level == "warning"
    assert "has held the write lock" in text


def test_B13_a_file_that_cannot_be_written_is_a_fault(webhookd, monkeypatch):
    webhookd.add()
    plain = inspection.connect

    # What SQLite does by itself on a read-only file system.
    monkeypatch.setattr(inspection, "connect", lambda path, **_: plain(path, mode="ro"))
    assert any("cannot be written" in text for _, _, text in unwell(webhookd, 1))


def test_A11_an_exhausted_key_is_a_warning(webhookd):
    webhookd.add()
    webhookd.sql("INSERT INTO outbox (id, event_type) VALUES (9223372036854775807, 'last.one')")
    webhookd.sql("DELETE FROM outbox")
    ((level, place, text),) = unwell(webhookd, 0)
    assert (level, place) == ("warning", "outbox")
    assert "AUTOINCREMENT is exhausted" in text


def test_A23_a_dropped_outbox_is_a_fault(webhookd):
    webhookd.add()
    webhookd.sql("DROP TABLE outbox")
    assert unwell(webhookd, 1)[0][1] == "outbox"


def test_A22_a_column_that_has_gone_is_a_fault(webhookd):
    webhookd.add()
    webhookd.sql("ALTER TABLE outbox RENAME COLUMN payload TO body")
    remedy = "no column payload; give it that name again with ALTER TABLE, or add it where it was"
    assert remedy in unwell(webhookd, 1)[0][2]
    # That names of its own table could be mapped is not true, so it is not advised.
    assert remedy in webhookd.fails("init", code=4)


def test_A23_a_table_of_the_hosts_that_is_gone_is_to_be_put_back(bare):
    """Another name in the configuration would be refused."""
    bare.init_vouched_for()
    bare.sql("ALTER TABLE said RENAME TO elsewhere")
    remedy = "there is no table said; give it that name again, or let the host make it"
    assert any(text.endswith(remedy) for _, _, text in unwell(bare, 1))
    assert remedy in bare.fails("init", code=4)


def test_another_table_in_the_configuration_is_a_fault(webhookd):
    webhookd.add()
    webhookd.configure('[outbox]\ntable = "events_out"\n')
    assert "[outbox] table is events_out; set it back" in unwell(webhookd, 1)[0][2]
    assert "can be read" not in webhookd("check", code=1).stdout


def test_rejected_rows_are_a_warning(webhookd):
    webhookd.add()
    webhookd.sql("INSERT INTO outbox (event_type) VALUES ('no\nline')")
    webhookd.ingest()
    assert "1 row could not become events" in unwell(webhookd, 0)[0][2]


def test_each_subscription_is_looked_at(webhookd, tmp_path, monkeypatch):
    webhookd.configure('[egress]\nallow = ["10.0.0.1"]\n')
    for name, url in (("a", "https://10.0.0.1/"), ("b", "https://b.example/")):
        webhookd("subscriptions", "add", url, "--name", name)
    monkeypatch.setenv("PARTNER_KEY", "whsec_" + "A" * 44)
    webhookd("subscriptions", "add", "https://c.example/", "--secret", "env:PARTNER_KEY")
    key = tmp_path / "key"
    webhookd("subscriptions", "add", "https://d.example/", "--secret", f"file:{key}")
    webhookd.configure("")
    monkeypatch.delenv("PARTNER_KEY")
    webhookd.sql("UPDATE webhookd_subscriptions SET url = 'gopher://x' WHERE name = 'b'")
    assert [(place, text.partition(";")[0]) for _, place, text in unwell(webhookd, 1)] == [
        ("subscription a", "blocked: 10.0.0.1 is private"),
        ("subscription b", "invalid url: its scheme is neither https nor http"),
        ("subscription c.example", "secret env:PARTNER_KEY: cannot be seen from here"),
        ("subscription d.example", f"secret file:{key}: no such file"),
    ]
    assert [level for level, _, _ in unwell(webhookd, 1)] == ["fault"] * 2 + ["warning", "fault"]


def test_E25_a_moved_file_is_a_fault_until_it_is_accepted(webhookd):
    webhookd.add()
    webhookd.sql("UPDATE webhookd_file SET path = '/elsewhere/erp.db'")
    assert "was prepared at /elsewhere/erp.db" in unwell(webhookd, 1)[0][2]
    said = findings(webhookd, "--accept-move")
    assert ("ok", "move", "accepted: this machine and path are the file's home") in said
    assert ("ok", "move", "it is at home here") in findings(webhookd, "--accept-move")
    assert unwell(webhookd, 0) == []


def test_B9_a_restored_file_is_a_fault_until_it_is_accepted(webhookd):
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest()
    change_lock(webhookd, sequence=500, epoch=3, outbox_id=90)
    for said in (unwell(webhookd, 1)[0][2], webhookd.json("status", code=6)["problems"][0]):
        assert "a restored backup: its epoch is 1, but 3 was reached before; " in said
        assert said.endswith("`webhookd check --accept-restore`; start the ERP only after that")
    assert webhookd.fails("run", code=4).endswith("; start the ERP only after that")
    accepted = (
        "accepted: epoch 4 begins, so pollers start again at 0; 1 delivery owed by it; new rows "
        "of outbox get ids above 1000090; start the ERP only now"
    )
    assert ("ok", "restore", accepted) in findings(webhookd, "--accept-restore")
    assert webhookd.sql("SELECT epoch, sequence FROM webhookd_file") == [(4, 500)]
    after = lock_says(webhookd)
    assert (after["epoch"], after["sequence"]) == (4, 500)
    assert unwell(webhookd, 0) == []
    webhookd.emit("a.b")
    webhookd.ingest()
    said = json.loads(webhookd("feed-events").stdout.splitlines()[-1])
    assert (said["sequence"], said["outbox_id"]) == (501, 1_000_091)


def test_B9_without_a_restore_nothing_is_begun(webhookd):
    webhookd.emit("a.b")
    ((level, _, said),) = [
        one for one in findings(webhookd, "--accept-restore", code=1) if one[1] == "restore"
    ]
    assert (level, said.partition(":")[0]) == ("fault", "nothing was done")
    assert said.endswith("`webhookd check --accept-restore --yes`")
    (line,) = [
        line
        for line in webhookd("check", "--accept-restore", code=1).stdout.splitlines()
        if " restore: " in line
    ]
    assert line.startswith("fault    restore: nothing was done: ")
    assert webhookd.sql("SELECT epoch FROM webhookd_file") == [(1,)]
    findings(webhookd, "--accept-restore", "--yes")
    assert webhookd.sql("SELECT epoch FROM webhookd_file") == [(2,)]


def test_B9_rows_that_the_erp_wrote_before_the_restore_was_accepted(webhookd):
    """They can have the id and the content of a lost event, and receivers drop them."""
    webhookd.add()
    webhookd.emit("a.b")
    webhookd.ingest()
    change_lock(webhookd, outbox_id=3)
    for _ in range(3):
        webhookd.sql("INSERT INTO outbox (event_type) VALUES ('a.b')")
    warned = [one for one in findings(webhookd, "--accept-restore") if one[1] == "restore"][1]
    assert warned[0] == "warning"
    assert warned[2].startswith("2 rows of outbox not taken in yet, ids from 2 to 3: ")
    webhookd.sql("DELETE FROM outbox WHERE id = 3")
    said = findings(webhookd, "--accept-restore", "--yes")
    assert any(text.startswith("1 row of outbox not taken in yet, id 2: ") for _, _, text in said)
    webhookd.sql("DELETE FROM outbox WHERE id = 2")
    webhookd.sql("INSERT INTO outbox (event_type) VALUES ('a.b')")
    assert webhookd.sql("SELECT max(id) FROM outbox") == [(1_000_004,)]
    said = findings(webhookd, "--accept-restore", "--yes")
    assert not any("not taken in yet" in text for _, _, text in said)


def test_B9_rows_that_nobody_can_name_are_not_counted(webhookd):
    change_lock(webhookd, outbox_id=3)
    webhookd.sql("INSERT INTO outbox (event_type) VALUES ('a.b')")
    webhookd.sql("ALTER TABLE outbox RENAME COLUMN id TO nr")
    said = findings(webhookd, "--accept-restore", code=1)
    assert sum(place == "restore" for _, place, _ in said) == 1


def test_B9_one_yes_does_not_mean_two_things(webhookd):
    """Who only wants a test event sent is not to begin a new epoch by it."""
    said = webhookd.fails("check", "--online", "--yes", "--accept-restore", code=2)
    assert said.endswith("give `--accept-restore --yes` first, then `--online --yes`")
    assert webhookd.sql("SELECT epoch FROM webhookd_file") == [(1,)]


def test_B9_a_restore_says_where_ids_can_come_again(webhookd, tmp_path):
    webhookd.emit("a.b")
    beside(webhookd.database.resolve()).unlink()
    warned = [one for one in findings(webhookd, "--accept-restore") if one[1] == "restore"][1]
    assert warned[0] == "warning"
    assert "the lock file beside it does not say how far the ids of this file went" in warned[2]
    assert warned[2].endswith("UPDATE sqlite_sequence SET seq = max(seq, N) WHERE name = 'outbox'")

    home = tmp_path / "theirs"
    home.mkdir()
    theirs = Cli(home)
    theirs.configure('[outbox]\ntable = "said"\n')
    connect(theirs.database, mode="rwc", wait=5).execute(
        "CREATE TABLE said (id INTEGER PRIMARY KEY AUTOINCREMENT, event_type TEXT,"
        " aggregate_type TEXT, aggregate_id TEXT, tenant TEXT, payload TEXT, occurred_at TEXT,"
        " event_id TEXT)"
    ).connection.close()
    theirs("init")
    ((uuid,),) = theirs.sql("SELECT uuid FROM webhookd_file")
    lock = LockFile.acquire(theirs.database.resolve())
    lock.write(uuid=uuid, epoch=1, sequence=0, outbox_id=90)
    lock.release()
    warned = [one for one in findings(theirs, "--accept-restore") if one[1] == "restore"][1]
    assert "new rows of said can get ids up to 90 that were used before" in warned[2]
    assert "the table is the host's own" in warned[2]
    assert theirs.sql("SELECT * FROM sqlite_sequence WHERE name = 'said'") == []
    theirs.sql(warned[2].rpartition("the ERP is started: ")[2])
    theirs.sql("INSERT INTO said (event_type) VALUES ('a.b')")
    assert theirs.sql("SELECT max(id) FROM said") == [(1_000_091,)]
    theirs.sql("INSERT INTO said (id) VALUES (1000095)")
    change_lock(theirs, outbox_id=90)
    warned = [one for one in findings(theirs, "--accept-restore") if one[1] == "restore"][1]
    theirs.sql(warned[2].rpartition("the ERP is started: ")[2])
    theirs.sql("INSERT INTO said (event_type) VALUES ('a.b')")
    assert theirs.sql("SELECT max(id) FROM said") == [(1_000_096,)], "they never go down"


def test_B9_no_statement_raises_ids_that_nobody_counts(bare):
    bare.init_vouched_for()
    warned = [one for one in findings(bare, "--accept-restore") if one[1] == "restore"][1]
    assert warned[2].endswith("so let the host raise its ids before the ERP is started")


def test_E25_a_clone_owes_nothing_when_it_is_accepted(webhookd):
    webhookd.add()
    webhookd.insert(450)
    webhookd.ingest()
    webhookd.emit("late.one")
    webhookd.sql("UPDATE webhookd_file SET machine = 'another'")
    ((uuid, sequence),) = webhookd.sql("SELECT uuid, sequence FROM webhookd_file")
    said = findings(webhookd, "--accept-clone")
    (text,) = [text for _, place, text in said if place == "clone"]
    assert text.startswith("accepted: 450 deliveries cancelled, 1 waiting outbox row taken in")
    ((after, epoch, moved),) = webhookd.sql("SELECT uuid, epoch, sequence FROM webhookd_file")
    assert after != uuid
    assert epoch == 2
    assert moved == sequence + 450 + 1
    assert lock_says(webhookd)["uuid"] == after
    states = {row["state"] for row in webhookd.json("deliveries", "list", "--limit", "1000")}
    assert states == {"cancelled"}
    webhookd.ingest()
    assert len(webhookd("results").stdout.splitlines()) == 450
    assert unwell(webhookd, 0) == []


def test_A11_a_clone_whose_outbox_has_come_to_its_end(webhookd):
    webhookd.sql("INSERT INTO outbox (id, event_type) VALUES (9223372036854775807, 'last.one')")
    webhookd.ingest()
    webhookd.sql("UPDATE webhookd_file SET machine = 'another'")
    (text,) = [text for _, place, text in findings(webhookd, "--accept-clone") if place == "clone"]
    assert "0 waiting outbox rows" in text


@pytest.mark.parametrize("option", ["--accept-move", "--accept-restore", "--accept-clone"])
def test_nothing_is_accepted_while_a_daemon_runs(webhookd, option):
    lock = LockFile.acquire(webhookd.database.resolve())
    lock.write(pid=4711)
    try:
        assert "(pid 4711)" in webhookd.fails("check", option, code=5)
    finally:
        lock.release()


@pytest.mark.parametrize("option", ["--accept-move", "--accept-restore", "--accept-clone"])
def test_nothing_is_accepted_of_a_file_that_is_not_there(bare, option):
    assert "no such file" in bare.fails("check", option, code=4)
    assert not Path(f"{bare.database}-webhookd.lock").exists()
