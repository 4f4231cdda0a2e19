"""`prune` and `events erase`, and what other commands say of what is gone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.store.mapped import Mapped

DAY = 86_400_000
LONG_AGO = 1_700_000_000_000


@pytest.fixture
def old(webhookd):
    """Two events of long ago: one delivered, one owed."""
    webhookd.add()
    for number in (1, 2):
        webhookd.emit(
            "a.b", "--aggregate-id", f"S-{number}", "--payload", '{"secret": 7}',
            "--event-id", f"e{number}",
        )  # fmt: skip
    webhookd.ingest(now=LONG_AGO)
    webhookd.deliver(2)
    # `deliver` records by its own clock; it was as long ago.
    for table, column in (
        ("deliveries", "finished_at"), ("attempts", "started_at"),
    ):  # fmt: skip
        webhookd.sql(
            f"UPDATE webhookd_{table} SET {column} = '2023-11-15T00:00:00.000Z'"
            f" WHERE {column} IS NOT NULL"
        )
    return webhookd


def test_prune_takes_away_what_is_done_with_and_says_so(old):
    dry = old.json("prune", "--dry-run")
    assert old("prune", "--dry-run").stdout == (
        "would go: 1 delivered delivery, 1 attempt, 1 event, 2 rows of the outbox\n"
        "nothing was changed: this was a dry run\n"
    )
    assert old.sql("SELECT count(*) FROM webhookd_deliveries") == [(2,)]
    assert old("prune").stdout == (
        "gone: 1 delivered delivery, 1 attempt, 1 event, 2 rows of the outbox\n"
    )
    assert dry["rows"]["delivered"] == dry["rows"]["events"] == 1
    assert old.sql("SELECT state FROM webhookd_deliveries") == [("pending",)]
    assert old("prune").stdout == "nothing is kept longer than [retention] says\n"
    assert not any(old.json("prune")["rows"].values())


def test_what_is_gone_is_said_in_one_line(old):
    old("prune")
    assert "no event 'e1'" in old.fails("events", "explain", "e1", code=1)
    assert "no delivery 2" in old.fails("deliveries", "retry", "2", code=1)
    said = old("events", "explain", "--outbox-id", "1").stdout
    assert "is done with, and there is no event of it" in said
    assert "kept no longer" in said
    line = old.fails("results", "--after", "1", code=7)
    assert line.endswith("; start again with --after 0 --epoch 1")
    old("results", *line.partition("again with ")[2].split())
    assert "start again with --after 0" not in old("results", "--after", "0").stderr
    replayed = old.json("replay", "--subscription", "partner", "--since", "2000-01-01")
    assert (replayed["reopened"], replayed["pending"]) == (0, 1)


def test_replay_says_that_events_were_pruned(old):
    replay = ("replay", "--subscription", "partner", "--since")
    assert "cannot be sent again" not in old(*replay, "2000-01-01", "--dry-run").stderr
    old("prune")
    oldest = "the oldest that is kept came in at 2023-11-14T22:13:20.000Z ([retention] events)"
    said = f"events that retention has taken cannot be sent again; {oldest}\n"
    assert old(*replay, "2000-01-01", "--dry-run").stderr == said
    assert old(*replay, "2000-01-01").stderr == said
    assert old(*replay, "2024-01-01").stderr == ""
    assert old.json(*replay, "2000-01-01")["events_pruned"]
    old("deliveries", "cancel", "4")
    old.sql("UPDATE webhookd_deliveries SET finished_at = '2023-11-15T00:00:00.000Z'")
    old("prune")
    assert "; none is kept (" in old(*replay, "2000-01-01").stderr


def test_an_event_whose_delivery_is_gone_was_not_for_nobody(old):
    old.configure('[retention]\nevents = "never"\noutbox = "never"\n')
    old.sql("UPDATE webhookd_subscriptions SET created_at = '2020-01-01T00:00:00.000Z'")
    old.add("--events", "x.y", name="other")
    assert "nothing is kept" not in old("events", "explain", "e1").stdout
    old("prune")
    said = old("events", "explain", "e1").stdout
    assert "\nmatched 0 of 2 subscriptions; of 1 nothing is kept\n" in said
    _, kept, others = said.split("\n\n")[1:]
    assert kept.startswith("kept no longer ([retention]):\n  partner  it matches, and")
    assert "`webhookd replay` would make it anew" in kept
    assert others == "not for:\n  other  no pattern of [x.y] matches a.b\n"
    one, _ = old.json("events", "explain", "e1")["subscriptions"]
    assert (one["why"], one["matched"]) == ("may_be_pruned", False)

    replay = ("replay", "--subscription", "partner", "--since", "2000-01-01")
    anew = "made anew is also what retention has taken the delivery of, so it may have been"
    dry = old(*replay, "--dry-run").stdout
    assert "1 would be made" in dry
    assert anew in dry
    assert anew in old(*replay).stdout
    assert anew not in old(*replay).stdout, "nothing is made any more"


def test_attempts_that_are_gone_are_counted(old):
    old.sql("UPDATE webhookd_deliveries SET finished_at = '2999-01-01T00:00:00.000Z' WHERE id = 2")
    assert old.json("prune")["rows"]["attempts"] == 1
    assert "1 attempt of them kept no longer" in old("events", "explain", "e1").stdout


def test_a_host_that_keeps_its_rows_is_told_of(old):
    old.sql("CREATE TRIGGER keep BEFORE DELETE ON outbox BEGIN SELECT raise(ABORT, 'mine'); END")
    said = old("prune", code=1)
    assert said.stdout == "gone: 1 delivered delivery, 1 attempt\n"
    assert "the rows of table outbox cannot be changed (mine)" in said.stderr
    assert old.sql("SELECT count(*) FROM webhookd_deliveries") == [(1,)]


def test_A23_an_outbox_that_is_gone_is_told_with_its_own_remedy(old):
    old.sql("DROP TABLE outbox")
    said = old("prune", code=1)
    assert said.stderr == "webhookd: schema: table outbox missing; `webhookd init` makes it again\n"
    assert old.sql("SELECT count(*) FROM webhookd_events") != [(0,)], "by them its rows are found"


def test_erase_without_the_outbox_names_what_makes_it_again(old):
    old.sql("DROP TABLE outbox")
    said = old("events", "erase", "--before", "2024-01-01", code=4)
    assert "schema: table outbox missing; `webhookd init` makes it again" in said.stderr
    assert old.json("events", "show", "e1")["erased"] is False, "nothing by halves"


def test_erase_leaves_the_event_and_takes_what_it_said(old):
    said = old("events", "erase", "--before", "2024-01-01", code=1)
    assert said.stdout == "1 payload erased, with 1 row of the outbox and 1 kept answer\n"
    assert "1 event still owed, so left as before; --include-pending" in said.stderr
    shown = old.json("events", "show", "e1")
    assert (shown["payload"], shown["erased"]) == (None, True)
    assert old.json("events", "show", "e2")["payload"] == '{"secret": 7}'
    assert old.sql("SELECT payload FROM outbox ORDER BY id") == [(None,), ('{"secret": 7}',)]
    assert old.sql("SELECT excerpt FROM webhookd_attempts") == [(b"",)]


def test_erase_of_an_aggregate_by_type_and_tenant(old):
    missed = ("events", "erase", "--aggregate-id", "S-2", "--tenant", "other")
    assert old.fails(*missed, code=1).startswith(
        "nothing was erased: no event has aggregate id 'S-2', tenant 'other'; "
    )
    assert old("events", "erase", "--aggregate-id", "S-1", "--dry-run").stdout == (
        "1 payload would be erased\nnothing was changed: this was a dry run\n"
    )
    done = old(
        "events", "erase", "--aggregate-id", "S-2", "--aggregate-type", "a", "--include-pending"
    )
    assert done.stdout == "1 payload erased, with 1 row of the outbox\n"
    assert old.json("events", "erase", "--aggregate-id", "S-2")["erased"] == 0
    assert old.json("events", "show", "e1")["payload"] == '{"secret": 7}'
    assert old.json("events", "show", "e2")["erased"]


@pytest.mark.parametrize("options", [(), ("--delivered",)])
def test_what_was_erased_is_not_opened_again_only_to_fail(old, options):
    old("events", "erase", "--before", "2024-01-01", code=1)
    said = old.fails("deliveries", "retry", *options, "2", code=1)
    assert said == (
        "delivery 2: its event was erased, and profile standard sends what the event said: nothing "
        "is left to send, so it stays delivered"
    )
    assert old.sql("SELECT state FROM webhookd_deliveries WHERE id = 2") == [("delivered",)]


def test_replay_passes_over_what_was_erased(old):
    old.give_up(4)
    old("events", "erase", "--before", "2024-01-01")
    before = old.sql("SELECT sequence, state FROM webhookd_deliveries ORDER BY id")
    replay = ("replay", "--subscription", "partner", "--since", "2000-01-01", "--include-stale")
    for options in ("--dry-run",), ():
        assert ", 2 passed over as erased" in old(*replay, *options).stdout
        assert old.json(*replay, *options)["erased"] == 2
    assert old.sql("SELECT sequence, state FROM webhookd_deliveries ORDER BY id") == before


def test_the_hint_to_retry_is_not_given_of_what_was_erased(old):
    old("deliveries", "cancel", "4")
    hint = "`webhookd deliveries retry 4` sends it again"
    told = ("events", "explain", "e2"), ("deliveries", "show", "4")
    assert all(hint in old(*one).stdout for one in told)
    old("events", "erase", "--before", "2024-01-01")
    assert not any(hint in old(*one).stdout for one in told)
    gone = "it cannot be sent again: its event was erased, and profile standard sends what"
    assert all(gone in old(*one).stdout for one in told)


def test_ids_alone_are_sent_again_of_what_was_erased(webhookd):
    webhookd.add("--profile", "floriday", "--tenant", "o-1")
    webhookd.emit("a.b", "--aggregate-id", "S-1", "--tenant", "o-1", "--payload", "{}")
    webhookd.ingest(now=LONG_AGO)
    webhookd("deliveries", "cancel", "2")
    webhookd("events", "erase", "--before", "2024-01-01")
    assert "`webhookd deliveries retry 2` sends it" in webhookd("deliveries", "show", "2").stdout
    assert webhookd.json("deliveries", "retry", "2")[0]["state"] == "pending"


def test_erase_again_takes_the_answer_that_came_afterwards(old):
    """Its request was in flight, and receivers may quote what they got."""
    erase = ("events", "erase", "--before", "2024-01-01", "--include-pending")
    old(*erase)
    old.sql("UPDATE webhookd_attempts SET excerpt = CAST('got secret 7' AS BLOB)")
    assert old.json(*erase, "--dry-run")["erased"] == 0
    shown = old.json(*erase)
    assert (shown["erased"], shown["excerpts"]) == (0, 1)
    assert old.sql("SELECT sum(length(excerpt)) FROM webhookd_attempts") == [(0,)]


@pytest.mark.parametrize(
    "given", [(), ("--tenant", "x"), ("--before", "2024-01-01", "--tenant", "x")]
)
def test_erase_wants_to_know_which(webhookd, given):
    assert "erase: " in webhookd.fails("events", "erase", *given, code=2)


def traces(database: Path) -> int:
    """How often the secret stands in the file and its -wal, as the disk has them."""
    script = (
        "import pathlib, sys\n"
        "names = (p for p in map(pathlib.Path, sys.argv[1:]) if p.exists())\n"
        "print(sum(p.read_bytes().count(b'\"secret\"') for p in names))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(database), f"{database}-wal"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def test_the_erased_bytes_are_in_no_page_of_the_file_after_a_vacuum(old):
    """Nor in its -wal once that is emptied; until then in no row, but in what SQLite left behind
    when it moved rows between pages. The files are read in a process of its own: to open and close
    them here would take SQLite's locks away."""
    for n in range(40):  # small ones that share pages, and some that fill pages of their own
        text = '{"secret": "' + "x" * (n % 4) * 3_000 + '"}'
        old.emit("a.b", "--aggregate-id", f"T-{n}", "--payload", text, "--event-id", f"t{n}")
    old.ingest(now=LONG_AGO)
    assert traces(old.database) > 40
    old("events", "erase", "--before", "2024-01-01", "--include-pending", "--json")
    old.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert traces(old.database) < 20, "what was overwritten, and what was left behind before"
    old.sql("VACUUM")
    old.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert traces(old.database) == 0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("delivered = 10", "retention.delivered: 10s is too short: at least 5m"),
        ('failed = "1m"', "retention.failed: 1m is too short: at least 5m"),
        ('failed = "soon"', '"never", to keep it for ever'),
        ('outbox = "40d"', "retention.outbox: is longer than retention.events (30d)"),
    ],
)
def test_E15_a_span_that_cannot_be(webhookd, text, fault):
    webhookd.configure(f"[retention]\n{text}\n")
    assert fault in webhookd.fails("prune", code=3)


def test_prune_goes_once_round_the_ledger_of_a_hosts_own_outbox(tmp_path):
    box = Mapped(tmp_path / "erp.db", "ordered")
    box.now = LONG_AGO
    for n in range(9):
        box.row(f"k{n}")
    box.look()
    box.host.execute("DELETE FROM outboxevent WHERE id <> 'k3'")
    box.close()
    cli = Cli(tmp_path)
    cli.configure(
        '[outbox]\ntable = "outboxevent"\nids = "never-reused"\norder_column = "seq"\n'
        'columns = { event_id = "id", event_type = "type", aggregate_type = "aggregatetype",'
        ' aggregate_id = "aggregateid", tenant = "", occurred_at = "" }\n'
    )
    assert cli("prune", "--dry-run").stdout.startswith("would go: 9 events\n")
    assert cli("prune").stdout == "gone: 9 events, 7 keys of the ledger\n"
    assert cli.sql("SELECT key FROM webhookd_ledger") == [("k3",), ("k8",)]
    assert cli.sql("SELECT count(*) FROM outboxevent") == [(1,)], "the host's own"
    assert cli("prune").stdout == "nothing is kept longer than [retention] says\n"


@pytest.mark.parametrize("given", [(), ("--dry-run",)])
def test_A23_prune_does_what_it_can_without_the_outbox(old, given):
    old.sql("DROP TABLE outbox")
    said = old("prune", *given, code=0 if given else 1)
    assert "1 delivered delivery, 1 attempt" in said.stdout
    assert "of the outbox" not in said.stdout


def test_A23_erase_says_that_the_outbox_is_gone(old):
    old.sql("DROP TABLE outbox")
    assert "outbox" in old.fails("events", "erase", "--before", "2024-01-01", code=4)
