"""An outbox whose rows the host knows by keys of its own: what is shown, and what is taken."""

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Cli
from tests.store.mapped import Mapped
from webhookd.cli.main import cli
from webhookd.store.lockfile import LockFile
from webhookd.store.walk import PIECE

CONFIG = """
[outbox]
table = "outboxevent"
ids = "never-reused"
order_column = "seq"
[outbox.columns]
id = "id"
event_type = "type"
aggregate_type = "aggregatetype"
aggregate_id = "aggregateid"
tenant = ""
payload = "payload"
occurred_at = ""
event_id = "id"
"""


@pytest.fixture
def keyed(tmp_path, monkeypatch):
    """ORD-1 is an event; ORD-2 and ORD-3 are rejected."""
    for name in ("WEBHOOKD_CONFIG", "WEBHOOKD_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    box = Mapped(tmp_path / "erp.db", "ordered")
    box.row("ORD-1")
    for key in ("ORD-2", "ORD-3"):
        box.row(key, payload="{")
    box.look()
    box.close()
    cli = Cli(tmp_path)
    cli.configure(CONFIG)
    return cli


def test_rejected_rows_are_shown_by_their_keys(keyed):
    rejected = keyed.json("events", "list", "--rejected")
    assert [(one["outbox_id"], one["outbox_key"]) for one in rejected] == [
        (3, "ORD-3"),
        (2, "ORD-2"),
    ]
    heading, first, _ = keyed("events", "list", "--rejected").stdout.splitlines()
    assert heading.split()[:4] == ["OUTBOX", "ID", "KEY", "REASON"]
    assert first.split()[:3] == ["3", "ORD-3", "bad_payload"]


def test_a_row_is_explained_by_its_key(keyed):
    by_number = keyed.json("events", "explain", "--outbox-id", "2")
    assert keyed.json("events", "explain", "--outbox-key", "ORD-2") == by_number
    assert (by_number["outbox_id"], by_number["outbox_key"]) == (2, "ORD-2")
    said = keyed("events", "explain", "--outbox-key", "ORD-2").stdout
    assert said.startswith("outbox row 2 (key ORD-2) was rejected at ")
    assert keyed.json("events", "explain", "--outbox-key", "ORD-1")["standing"] == "event"
    assert "no outbox row with the key 'ORD-9'" in keyed.fails(
        "events", "explain", "--outbox-key", "ORD-9", code=1
    )
    for wrong in (("2", "--outbox-key", "ORD-2"), ("--outbox-id", "2", "--outbox-key", "ORD-2")):
        assert "name one event" in keyed.fails("events", "explain", *wrong, code=2)


def test_a_row_without_a_number_has_not_been_taken_in_yet(keyed, monkeypatch):
    row = (
        "INSERT INTO outboxevent (id, type, aggregatetype, payload, seq) VALUES (?, 'a', 'o', ?, 9)"
    )
    keyed.sql(row, "n1", "{}")
    keyed.sql(row, "n2", "{")
    assert keyed.json("events", "explain", "--outbox-key", "n1") == {
        "outbox_id": None,
        "outbox_key": "n1",
        "in_outbox": True,
        "below_cursor": False,
        "daemon_running": False,
        "rejected": None,
        "would_be_rejected": None,
        "event": None,
        "standing": "waiting",
    }
    waits = "the outbox row with the key n1 has not been taken in yet: "
    said = keyed("events", "explain", "--outbox-key", "n1").stdout
    assert said == f"{waits}the daemon does not run; start it with `webhookd run` or systemctl\n"
    _, wrong = keyed("events", "explain", "--outbox-key", "n2").stdout.splitlines()
    assert wrong.startswith("as it is now it will be rejected: bad_payload: payload: expecting")
    monkeypatch.setattr("webhookd.store.lockfile.is_held", lambda _: True)
    said = keyed("events", "explain", "--outbox-key", "n1").stdout
    assert said.startswith(f"{waits}the daemon takes it in when its turn comes")
    assert "no outbox row with the key 'N1'" in keyed.fails(
        "events", "explain", "--outbox-key", "N1", code=1
    )
    keyed.sql("ALTER TABLE outboxevent RENAME TO elsewhere")
    assert "schema: table outboxevent missing" in keyed.fails(
        "events", "explain", "--outbox-key", "n1", code=4
    )


def test_rows_are_ingested_again_by_their_keys(keyed):
    keyed.sql("UPDATE outboxevent SET payload = '{}' WHERE id = 'ORD-2'")
    said = keyed.json("events", "retry-rejected", "--outbox-key", "ORD-2", "--outbox-key", "ORD-3")
    assert said["events"] == [2]
    (still,) = said["rejected"]
    assert (still["outbox_id"], still["outbox_key"]) == (3, "ORD-3")
    assert said["outbox_keys"] == {"3": "ORD-3"}
    assert (
        "\n  3 (key ORD-3)  bad_payload: " in keyed("events", "retry-rejected", "3", code=1).stdout
    )
    keyed.sql("DELETE FROM outboxevent WHERE id = 'ORD-3'")
    gone = keyed("events", "retry-rejected", "--all", code=1).stdout
    assert "stays rejected: 3 (key ORD-3); --forget-gone" in gone
    assert "no outbox row with the key" in keyed.fails(
        "events", "retry-rejected", "--outbox-key", "x", code=1
    )


def test_init_says_in_words_where_it_goes_on(keyed):
    said = keyed("init").stdout
    assert "ingest goes on with rows that are new: 3 rows are done with\n" in said
    assert "id 3" not in said


def test_whoever_asks_for_no_event_is_told_of_the_hosts_keys(keyed):
    for asked, shown in (("7", "7"), ("ORD-9", "ORD-9"), ("a b", "'a b'")):
        said = keyed.fails("events", "explain", asked, code=1)
        assert said.endswith(f"; `--outbox-key {shown}` asks by the host's own key")


def test_B9_a_restore_raises_no_numbers_that_a_ledger_gives(keyed):
    """An event id is made of the host's key: a number that comes again does no harm."""
    path = keyed.database.resolve()
    ((uuid,),) = keyed.sql("SELECT uuid FROM webhookd_file")
    lock = LockFile.acquire(path)
    lock.write(uuid=uuid, epoch=1, sequence=0, outbox_id=17)
    lock.release()
    found = keyed.json("check", "--accept-restore")["findings"]
    assert [one["text"] for one in found if one["place"] == "restore"] == [
        "accepted: epoch 2 begins, so pollers start again at 0; 0 deliveries owed by it"
    ]


def test_a_lost_index_is_told_by_status(keyed):
    keyed.sql("DROP INDEX by_seq")
    remedy = 'CREATE INDEX NAME ON "outboxevent" ("seq")'
    assert remedy in keyed("status", code=6).stdout
    assert remedy in keyed("status", "--nagios", code=2).stdout
    assert sum(remedy in one for one in keyed.json("status", code=6)["problems"]) == 1
    # Without a configuration nobody knows what the outbox is to be.
    keyed.configure("nonsense = 1\n")
    assert remedy not in keyed("status", code=6).stdout


def test_A13_what_a_configuration_vouches_for_is_not_judged_without_one(bare):
    bare.init_vouched_for()
    for options in ((), ("--nagios",)):
        told = CliRunner().invoke(cli, ["--database", str(bare.database), "status", *options])
        assert "the daemon does not run" in told.stdout
        assert "would be refused" not in told.stdout
    bare.configure('[outbox]\ntable = "said"\n')
    assert "would be refused" in bare("status", code=6).stdout


def test_a_drain_finds_what_is_behind_a_row_that_is_far_ahead(tmp_path, monkeypatch):
    for name in ("WEBHOOKD_CONFIG", "WEBHOOKD_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    box = Mapped(tmp_path / "erp.db", "ordered")
    for n in range(3 * PIECE):
        box.row(f"ORD-{n}")
    box.row("FAR", seq=10**9)
    box.look(100)
    box.row("LATE")
    box.close()
    webhookd = Cli(tmp_path)
    webhookd.configure(CONFIG)
    assert _lag(webhookd) == 1
    assert webhookd("run", "--drain").exit_code == 0
    assert webhookd.json("events", "explain", "--outbox-key", "LATE")["outbox_key"] == "LATE"
    assert _lag(webhookd) == 0


def _lag(webhookd: Cli) -> int:
    """As `status` has it; no daemon runs, so it is degraded."""
    return int(webhookd.json("status", code=6)["outbox"]["lag_rows"])
