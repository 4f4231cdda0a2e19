"""Captures: what a host does to its table is what the outbox says, whatever SQLite it has."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.conftest import Box
from tests.store.test_store_schema import NEWER_THAN_3_8_3, SHELL, shell
from webhookd.core.capture import Action, Capture
from webhookd.errors import NotFound, Refused, UsageError
from webhookd.store import capture_triggers, capture_watch, captures, driver, status
from webhookd.store.capture_triggers import Stored
from webhookd.store.host_table import quoted
from webhookd.store.transaction import Session

TABLE = "CREATE TABLE supplier (nr INTEGER PRIMARY KEY, code TEXT UNIQUE, name TEXT, owner TEXT)"
WANTED = Capture("supplier", "supplier", "code")


def capture(box: Box, wanted: Capture = WANTED, sql: str = TABLE) -> Stored:
    box.host.execute(sql)
    made = box.command(lambda t: captures.add(t, wanted, box.now))
    assert isinstance(made, Stored)
    return made


def told(box: Box) -> list[tuple[str, Any]]:
    """What the outbox says since the last time."""
    found = box.rows("SELECT event_type, aggregate_id FROM outbox ORDER BY id")
    box.host.execute("DELETE FROM outbox")
    return [(kind.rpartition(".")[2], number) for kind, number in found]


def findings(box: Box) -> list[str]:
    return [one.text for one in captures.findings(box.host, box.store._known)]


def test_each_change_is_one_id_only_event(box: Box) -> None:
    capture(box)
    run = box.host.execute
    run("INSERT INTO supplier (code, name) VALUES ('S1', 'a'), ('S2', 'b')")
    run("UPDATE supplier SET name = 'c' WHERE code = 'S1'")
    run("UPDATE supplier SET name = 'c'")
    run("UPDATE supplier SET name = 'C' WHERE code = 'S1'")
    run("DELETE FROM supplier")
    row = box.rows("SELECT payload, tenant, aggregate_type, event_id FROM outbox LIMIT 1")
    assert row == [(None, None, None, None)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
                        box.one("SELECT min(occurred_at) FROM outbox"))  # fmt: skip
    assert box.ingest().events == 7
    assert told(box) == [
        ("created", "S1"), ("created", "S2"), ("updated", "S1"), ("updated", "S2"),
        ("updated", "S1"), ("deleted", "S1"), ("deleted", "S2"),
    ]  # fmt: skip


def test_an_id_that_changes_is_another_aggregate(box: Box) -> None:
    capture(box, Capture("supplier", "s", "code", tenant_column="owner"))
    box.host.execute("INSERT INTO supplier (code, owner) VALUES ('S1', 'x'), (NULL, 'x')")
    assert told(box) == [("created", "S1")]
    box.host.execute("UPDATE supplier SET code = 'S2' WHERE code = 'S1'")
    assert told(box) == [("deleted", "S1"), ("created", "S2")]
    box.host.execute("UPDATE supplier SET owner = 'y', name = 'n' WHERE code = 'S2'")
    found = box.rows("SELECT event_type, tenant FROM outbox ORDER BY id")
    assert found == [("s.deleted", "x"), ("s.created", "y")]
    told(box)
    box.host.execute("UPDATE supplier SET code = 'S9' WHERE code IS NULL")
    box.host.execute("UPDATE supplier SET code = NULL WHERE code = 'S2'")
    assert told(box) == [("created", "S9"), ("deleted", "S2")]


@pytest.mark.parametrize(
    "sql", [TABLE, TABLE.replace("code TEXT UNIQUE", "code BLOB COLLATE RTRIM")]
)
def test_an_empty_id_is_a_rejected_row_with_its_reason(box: Box, sql: str) -> None:
    box.subscribe()
    capture(box, sql=sql)
    box.host.execute("INSERT INTO supplier (code) VALUES (''), (NULL), ('S1'), (' ')")
    box.host.execute("UPDATE supplier SET name = 'n' WHERE nr = 1")
    box.host.execute("UPDATE supplier SET code = 'S2' WHERE nr = 1")
    done = box.ingest()
    events = box.rows("SELECT event_type, aggregate_id FROM webhook_events ORDER BY sequence")
    assert events == [("supplier.created", code) for code in ("S1", " ", "S2")]
    assert {(one.reason, one.detail) for one in done.rejected} == {
        ("bad_aggregate_id", "aggregate_id: the captured row's id is an empty text")
    }
    assert len(done.rejected) == 3, "created, updated, deleted"


@pytest.mark.parametrize(("on", "expected"), [
    ("insert", ["created", "created"]),
    ("update", ["updated", "updated"]),
    ("delete", ["deleted", "deleted"]),
])  # fmt: skip
def test_only_what_was_asked_for(box: Box, on: str, expected: list[str]) -> None:
    capture(box, Capture("supplier", "s", "code", actions=(Action(on),)))
    box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")
    box.host.execute("UPDATE supplier SET name = 'n'")
    box.host.execute("UPDATE supplier SET code = 'S2'")
    box.host.execute("DELETE FROM supplier")
    assert [kind for kind, _ in told(box)] == expected


def test_only_watched_columns_count_and_null_is_a_value(box: Box) -> None:
    capture(
        box, Capture("supplier", "s", "code", columns=("name",)), TABLE.replace("name TEXT",
        "name TEXT COLLATE NOCASE"))  # fmt: skip
    box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")
    told(box)
    for value, expected in ((None, 0), ("a", 1), ("A", 1), ("A", 0), (None, 1)):
        box.host.execute("UPDATE supplier SET name = ?, owner = random()", (value,))
        assert len(told(box)) == expected, value


def test_replace_and_upsert(box: Box) -> None:
    """SQLite tells no trigger of a row that REPLACE removes, unless recursive_triggers is on."""
    capture(box)
    replace = "INSERT OR REPLACE INTO supplier (code, name) VALUES ('S1', 'b')"
    box.host.execute(replace)
    box.host.execute(replace)
    assert told(box) == [("created", "S1")] * 2
    box.host.execute("PRAGMA recursive_triggers = ON")
    box.host.execute(replace)
    assert told(box) == [("deleted", "S1"), ("created", "S1")]
    box.host.execute(
        "INSERT INTO supplier (code) VALUES ('S1') ON CONFLICT (code) DO UPDATE SET name = 'z'"
    )
    assert told(box) == [("updated", "S1")]
    box.host.execute("INSERT OR IGNORE INTO supplier (code) VALUES ('S1')")
    assert told(box) == []


def test_A17_what_the_host_takes_back_was_never_said(box: Box) -> None:
    capture(box)
    box.host.execute("BEGIN")
    box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")
    box.host.execute("ROLLBACK")
    assert told(box) == []


def test_tables_without_row_numbers_and_generated_columns(box: Box) -> None:
    capture(
        box,
        Capture("Odd \"t'able", "s", "code", columns=("twice",)),
        'CREATE TABLE "odd ""t\'able" (code TEXT PRIMARY KEY, a, twice AS (a * 2)) WITHOUT ROWID',
    )
    box.host.execute('INSERT INTO "odd ""t\'able" (code, a) VALUES (\'S1\', 1)')
    box.host.execute('UPDATE "odd ""t\'able" SET a = 2')
    assert told(box) == [("created", "S1"), ("updated", "S1")]


def test_the_triggers_are_old_sql(box: Box) -> None:
    made = capture(box, Capture("supplier", "s", "code", "owner", ("name",)))
    for sql in captures.made(box.host, made):
        for feature, pattern in NEWER_THAN_3_8_3.items():
            assert feature == "triggers" or not re.search(pattern, sql, re.IGNORECASE), feature
        assert set(re.findall(r"\b(\w+)\(", sql)) <= {"strftime"}


@pytest.mark.skipif(not SHELL.exists(), reason="no sqlite3 shell on this machine")
def test_a_host_with_another_sqlite(box: Box) -> None:
    capture(box)
    shell(box.path, "INSERT INTO supplier (code) VALUES ('S1'); UPDATE supplier SET name = 'n';"
                    "BEGIN; DELETE FROM supplier; ROLLBACK; DELETE FROM supplier;")  # fmt: skip
    assert box.ingest().events == 3
    assert [kind for kind, _ in told(box)] == ["created", "updated", "deleted"]


@pytest.mark.parametrize(("wanted", "kind", "said"), [
    (Capture("supplier", "s", "nope"), NotFound, "no column nope; it has nr, code, name, owner"),
    (Capture("nope", "s", "code"), Refused, "no such table"),
    (Capture("outbox", "s", "id"), Refused, "the outbox itself"),
    (Capture("webhookd_events", "s", "id"), Refused, "not a table of the host's"),
    (Capture("seen", "s", "code"), Refused, "is a view"),
    (Capture("supplier", "webhookd", "code"), UsageError, "kept for webhookd's own"),
    (Capture("supplier", "s p", "code"), UsageError, "visible ASCII"),
    (Capture("SUPPLIER", "s", "CODE"), Refused, "is captured already"),
])  # fmt: skip
def test_what_cannot_be_captured(box: Box, wanted: Capture, kind: Any, said: str) -> None:
    capture(box)
    box.host.execute("CREATE VIEW seen AS SELECT * FROM supplier")
    before = box.rows("SELECT name FROM sqlite_master")
    with pytest.raises(kind, match=said):
        box.command(lambda t: captures.add(t, wanted, box.now))
    assert box.rows("SELECT name FROM sqlite_master") == before


def test_a_mapped_outbox_is_not_written_into(box: Box) -> None:
    box.host.execute("UPDATE webhookd_file SET outbox_ours = 0")
    with pytest.raises(Refused, match="captures need the outbox that"):
        capture(box)


REBUILD = (
    "BEGIN", f"{TABLE.replace('supplier', 'new', 1)}", "INSERT INTO new SELECT * FROM supplier",
    "DROP TABLE supplier", "ALTER TABLE new RENAME TO supplier", "COMMIT",
)  # fmt: skip


def test_repair_makes_triggers_again_that_a_migration_has_lost(box: Box) -> None:
    capture(box)
    assert findings(box) == ["4 triggers are in place"]
    for sql in REBUILD:
        box.host.execute(sql)
    (said,) = findings(box)
    assert said.startswith("lost 4 of its 4 triggers")
    (done,) = box.command(captures.repair)
    assert (len(done.made), done.fault) == (4, "")
    assert box.command(captures.repair) == []
    box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")
    assert told(box) == [("created", "S1")]


def test_a_broken_capture_is_seen_by_whoever_looks_often(box: Box) -> None:
    capture(box)
    store = box.store
    assert store.capture_faults() == status_says(box) == ()
    for sql in REBUILD:
        box.host.execute(sql)
    (said,) = store.capture_faults()
    assert said == (
        "capture supplier: lost 4 of its 4 triggers: perhaps the host has made the table anew; "
        "`webhookd capture repair` mends it"
    )
    assert status_says(box) == (said,)
    box.command(captures.repair)
    assert store.capture_faults() == status_says(box) == ()
    box.host.execute("DROP TABLE supplier")
    (said,) = store.capture_faults()
    assert "the table is gone; `webhookd capture remove supplier`" in said
    box.command(lambda transaction: captures.remove(transaction, "supplier"))
    assert store.capture_faults() == status_says(box) == ()


def test_while_the_schema_stays_captures_are_not_looked_at_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture(box)
    assert box.store.capture_faults() == ()
    monkeypatch.delattr(capture_watch, "faults")
    box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")
    assert box.store.capture_faults() == ()


def status_says(box: Box) -> tuple[str, ...]:
    with Session(box.path, write=False) as session:
        return status.facts(session.connection, session.file, box.path, now=box.now).captures


def test_repair_follows_a_table_that_was_renamed_and_sees_new_columns(box: Box) -> None:
    capture(box)
    box.host.execute("ALTER TABLE supplier RENAME TO vendor")
    (said,) = findings(box)
    assert said == (
        "the host has renamed the table to vendor, and events still come; "
        "`webhookd capture repair` mends it"
    )
    (done,) = box.command(captures.repair)
    assert (done.table, done.made) == ("vendor", ()), "they are as they should be"
    assert findings(box) == ["4 triggers are in place"]
    box.host.execute("ALTER TABLE vendor ADD COLUMN phone TEXT")
    assert "not those of today's columns" in findings(box)[0]
    box.command(captures.repair)
    box.host.execute("INSERT INTO vendor (code) VALUES ('S1')")
    box.host.execute("UPDATE vendor SET phone = '1'")
    assert told(box) == [("created", "S1"), ("updated", "S1")]


@pytest.mark.parametrize(
    ("wanted", "columns"),
    [
        (Capture("supplier", "supplier", "code", columns=("name",)), ("name", 'it "is"')),
        (Capture("supplier", "supplier", "code"), ("code", "nummer")),
        (Capture("supplier", "supplier", "code", "owner", ("owner", "name")), ("owner", "a IS b")),
    ],
)
def test_a_renamed_column_is_followed(box: Box, wanted: Capture, columns: tuple[str, str]) -> None:
    capture(box, wanted)
    old, new = columns
    box.host.execute(f"ALTER TABLE supplier RENAME COLUMN {old} TO {quoted(new)}")
    (said,) = box.store.capture_faults()
    assert said == (
        f"capture supplier: the host has renamed its column {old} to {new}, and events still "
        "come; `webhookd capture repair` mends it"
    )
    assert status_says(box) == (said,)
    box.host.execute("INSERT INTO supplier VALUES (1, 'S1', 'a', 'b')")
    box.host.execute(f"UPDATE supplier SET {quoted(new)} = 'S2'")
    assert len(told(box)) > 1
    (done,) = box.command(captures.repair)
    assert (done.made, done.fault) == ((), "")
    assert box.store.capture_faults() == ()
    (stored,) = captures.load(box.host)
    assert stored.capture == Capture(
        "supplier",
        "supplier",
        *(new if name == old else name for name in (wanted.id_column, wanted.tenant_column)),
        tuple(new if name == old else name for name in wanted.columns),
    )


def test_names_that_columns_have_exchanged_are_followed(box: Box) -> None:
    capture(box, replace(WANTED, columns=("name",)))
    for old, new in (("name", "x"), ("owner", "name"), ("x", "owner"), ("code", "ref")):
        box.host.execute(f"ALTER TABLE supplier RENAME COLUMN {old} TO {new}")
    box.host.execute("ALTER TABLE supplier RENAME TO vendor")
    (said,) = findings(box)
    assert said.startswith(
        "the host has renamed the table to vendor, its column code to ref, its column name to "
        "owner, and events still come; "
    )
    box.command(captures.repair)
    (stored,) = captures.load(box.host)
    assert stored.capture == Capture("vendor", "supplier", "ref", columns=("owner",))


def test_a_table_with_the_name_of_another_captured_one_is_left_to_people(box: Box) -> None:
    capture(box)
    capture(box, Capture("buyer", "buyer", "code"), TABLE.replace("supplier", "buyer"))
    box.host.execute("DROP TABLE buyer")
    box.host.execute("ALTER TABLE supplier RENAME TO buyer")
    said = "the host has renamed the table to buyer, which another capture is for"
    found = findings(box)
    assert found[0].startswith(f"{said}; `webhookd capture remove supplier`")
    assert "lost 4 of its 4 triggers" in found[1]
    assert box.command(lambda t: captures.repair(t, "supplier"))[0].fault == said
    assert box.command(lambda t: captures.remove(t, "supplier")) == 4
    box.command(captures.repair)
    assert findings(box) == ["4 triggers are in place"]


def test_a_renamed_column_whose_triggers_are_lost_is_told_anew(box: Box) -> None:
    """First nothing is lost, then every event is: nobody may take the one for the other."""
    capture(box)
    box.host.execute("ALTER TABLE supplier RENAME COLUMN code TO nummer")
    (first,) = box.store.capture_faults()
    assert "and events still come" in first
    box.host.execute("DROP TRIGGER webhook_capture_1_insert")
    (some,) = box.store.capture_faults()
    assert "lost 1 of its 4 triggers" in some
    for sql in REBUILD:
        box.host.execute(sql.replace("code", "nummer"))
    (then,) = box.store.capture_faults()
    assert then == (
        "capture supplier: its column code is gone, its triggers too, and no event comes; "
        "`webhookd capture remove supplier`, then `capture add` with what there is now"
    )


def test_what_is_gone_is_found_and_removal_leaves_nothing(box: Box) -> None:
    capture(box)
    box.host.execute("DROP TABLE supplier")
    box.host.execute("CREATE TABLE supplier (nummer TEXT)")
    gone = "its column code is gone, its triggers too, and no event comes"
    assert findings(box)[0].startswith(f"{gone}; `webhookd capture remove supplier`")
    assert box.command(captures.repair)[0].fault == gone
    assert box.command(lambda t: captures.remove(t, "Supplier")) == 0
    assert findings(box) == []
    with pytest.raises(NotFound, match="is not captured"):
        box.command(lambda t: captures.remove(t, "supplier"))


def test_removal_takes_off_every_trigger(box: Box) -> None:
    capture(box)
    box.host.execute("ALTER TABLE supplier RENAME TO vendor")
    with pytest.raises(driver.sqlite3.OperationalError, match="no such column"):
        box.host.execute("ALTER TABLE vendor DROP COLUMN name")
    assert box.command(lambda t: captures.remove(t, "vendor")) == 4
    box.host.execute("ALTER TABLE vendor DROP COLUMN name")
    box.host.execute("INSERT INTO vendor (code) VALUES ('S1')")
    assert told(box) == []


def test_without_the_outbox_the_hosts_change_fails_so_check_says_so(box: Box) -> None:
    capture(box)
    box.host.execute("DROP TABLE outbox")
    gone = "the outbox table 'outbox' is gone, and every change that it watches fails"
    (found,) = findings(box)
    assert f"{gone}; `webhookd init` makes it again, or `webhookd capture remove" in found
    theirs = replace(box.store._known, outbox_ours=0)
    (said,) = captures.findings(box.host, theirs)
    assert f"{gone}; put it back, or " in said.text
    with pytest.raises(driver.sqlite3.OperationalError, match="no such table"):
        box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")
    box.host.execute("DELETE FROM webhookd_captures")
    assert "belongs to no capture" in findings(box)[0]
    assert box.command(captures.remove_all) == 4
    # A connection that was open learns of it with the first statement that is not the failing one.
    box.host.execute("SELECT 1 FROM supplier").close()
    box.host.execute("INSERT INTO supplier (code) VALUES ('S1')")


IDS = st.sampled_from(["A", "B", "C", None])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "set", "move", "drop"]), IDS, IDS,
                           st.booleans()), max_size=25)  # fmt: skip


@given(STEPS)
def test_what_is_told_is_what_the_table_came_to(steps: list[Any]) -> None:
    """A receiver that follows the events has exactly the ids that the table has."""
    host = driver.sqlite3.connect(":memory:", isolation_level=None)
    host.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event_type,"
                 " aggregate_id, tenant, occurred_at)")  # fmt: skip
    host.execute(TABLE)
    for sql in capture_triggers.statements(host, "outbox", Stored(1, WANTED, "")).values():
        host.execute(sql)
    for step, one, other, commit in steps:
        host.execute("BEGIN")
        if step == "put":
            host.execute("INSERT OR IGNORE INTO supplier (code) VALUES (?)", (one,))
        elif step == "set":
            host.execute("UPDATE supplier SET name = ? WHERE code IS ?", (other, one))
        elif step == "move":
            host.execute("UPDATE OR IGNORE supplier SET code = ? WHERE code IS ?", (other, one))
        else:
            host.execute("DELETE FROM supplier WHERE code IS ?", (one,))
        host.execute("COMMIT" if commit else "ROLLBACK")
    have: set[str] = set()
    for kind, number in host.execute("SELECT event_type, aggregate_id FROM outbox ORDER BY id"):
        if kind == "supplier.created":
            assert number not in have
            have.add(number)
        elif kind == "supplier.deleted":
            have.remove(number)
        else:
            assert number in have
    real = host.execute("SELECT code FROM supplier WHERE code IS NOT NULL").fetchall()
    assert have == {code for (code,) in real}
    host.close()
