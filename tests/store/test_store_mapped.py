"""Outboxes that the host has made: names, keys and orders of its own."""

from pathlib import Path
from typing import Any

import pytest

from tests.store.mapped import KINDS, LEDGERS, ORDERED, Mapped
from tests.store.test_store_plans import faults
from webhookd.core.columns import Columns
from webhookd.errors import DatabaseError, OutboxUnreadable, Refused
from webhookd.store import acceptance, explain, sources
from webhookd.store import status as facts_of
from webhookd.store.emit import NewRow, emit
from webhookd.store.rejected import Retry
from webhookd.store.transaction import Session


@pytest.fixture(params=list(KINDS))
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Mapped(tmp_path / "erp.db", request.param)
    yield made
    made.close()


def only(*kinds: str) -> Any:
    return pytest.mark.parametrize("mapped", kinds, indirect=True)


def session(box: Mapped, *, write: bool = False) -> Session:
    return Session(box.path, write=write, columns=box.columns)


def test_rows_become_events_under_the_hosts_names(mapped: Mapped) -> None:
    mapped.subscribe()
    mapped.row("b-1", payload='{"a": 1}')
    mapped.row("a-2", aggregateid=17, type="order.shipped")
    assert sorted(mapped.look()) == ["a-2", "b-1"]
    found = mapped.rows(
        "SELECT aggregate_type, aggregate_id, tenant, payload, event_type FROM webhookd_events"
        " WHERE event_id IN ('a-2', 'b-1') ORDER BY event_id"
    )
    assert found == [
        ("order", "17", "", b"{}", "order.shipped"),
        ("order", "A1", "", b'{"a": 1}', "order.changed"),
    ]
    assert mapped.look() == mapped.taken()
    assert len(mapped.results()) == 2


@only(*ORDERED)
def test_order_is_the_order_columns(mapped: Mapped) -> None:
    keys = [f"{n * 7 % 1000:03}" for n in range(700)]
    mapped.host.execute("BEGIN")
    for key in keys:
        mapped.row(key)
    mapped.host.execute("COMMIT")
    assert mapped.look() == keys


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "events"), [("beginning", 700), ("end", 0), (None, 0)])
def test_where_ingest_begins(tmp_path: Path, kind: str, start: Any, events: int) -> None:
    mapped = Mapped(tmp_path / "erp.db", kind, start=start, rows=700)
    assert len(mapped.look()) == events
    mapped.row("new")
    assert mapped.look()[events:] == ["new"]
    mapped.close()


def test_a_ledger_has_no_id_to_begin_at(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match='set `start` in \\[outbox\\] to "beginning" or "end"'):
        Mapped(tmp_path / "erp.db", "ordered", start=3)


def test_A14_A15_nothing_that_the_host_does_later_counts(mapped: Mapped) -> None:
    mapped.row("a")
    mapped.row("b")
    assert sorted(mapped.look()) == ["a", "b"]
    mapped.host.execute("UPDATE outboxevent SET payload = '[]' WHERE id = 'a'")
    mapped.host.execute("DELETE FROM outboxevent WHERE id = 'b'")
    mapped.reopen()
    assert sorted(mapped.look()) == ["a", "b"]
    assert mapped.one("SELECT payload FROM webhookd_events WHERE event_id = 'a'") == b"{}"


@only(*LEDGERS)
def test_A10_a_row_below_the_others_is_found(mapped: Mapped) -> None:
    for n in range(1200):
        mapped.row(f"k{n:05}")
    mapped.look()
    mapped.row("aaa", seq="000000000" if mapped.kind == "text order" else -5)
    mapped.row("no-order", seq=None)
    mapped.host.execute("UPDATE outboxevent SET seq = NULL WHERE id = 'no-order'")
    assert sorted(mapped.look()[1200:]) == ["aaa", "no-order"]


@only("keys alone")
def test_A10_row_numbers_that_come_back_hide_nothing(mapped: Mapped) -> None:
    for n in range(10):
        mapped.row(f"k{n}")
    mapped.look()
    mapped.host.execute("DELETE FROM outboxevent WHERE id > 'k3'")
    for n in range(8):  # now there are 12: the numbers 5 to 12
        mapped.row(f"n{n}")
    assert sorted(mapped.look()[10:]) == [f"n{n}" for n in range(8)]
    mapped.host.execute("DELETE FROM outboxevent")
    mapped.look(1)
    mapped.row("alone")
    assert mapped.look(1)[-1] == "alone"


@only("keys alone")
def test_B29_B31_a_vacuum_that_numbers_rows_anew_hides_nothing(mapped: Mapped) -> None:
    for n in range(50):
        mapped.row(f"k{n:02}")
    mapped.look()
    mapped.host.execute("DELETE FROM outboxevent WHERE id < 'k45'")
    mapped.host.execute("VACUUM")
    for n in range(20):
        mapped.row(f"n{n:02}")
    mapped.reopen()
    assert sorted(mapped.look()[50:]) == [f"n{n:02}" for n in range(20)]


@only("keys alone", "ordered")
def test_a_row_without_a_key_waits_for_one(mapped: Mapped) -> None:
    mapped.row(None)
    mapped.row("k")
    assert mapped.look() == ["k"]
    with session(mapped) as command, command.read() as connection:
        outbox = sources.open_outbox(connection, mapped.path, command.file, mapped.columns, 9)
        assert outbox.rows_without_key(connection)  # type: ignore[attr-defined]
    mapped.host.execute("UPDATE outboxevent SET id = 'late' WHERE id IS NULL")
    assert mapped.look() == ["k", "late"]


@only(*LEDGERS)
def test_keys_are_told_apart_by_their_bytes(mapped: Mapped) -> None:
    bad = "CAST(x'ff' || 'x' AS TEXT)"
    mapped.row("A")
    mapped.row("a")
    mapped.row("placeholder")
    mapped.host.execute(f"UPDATE outboxevent SET id = {bad} WHERE id = 'placeholder'")
    mapped.row("a\0b")
    mapped.row("")
    mapped.look()
    assert {"A", "a"} < set(mapped.taken())
    reasons = mapped.rows("SELECT reason FROM webhookd_rejected")
    assert reasons == [("bad_event_id",)] * 2, "the two whose key is no event id"
    assert len(mapped.taken()) == 3, "the empty one got an id of our making"
    mapped.reopen()
    mapped.look()
    assert len(mapped.taken()) == 3
    assert mapped.one("SELECT count(*) FROM webhookd_rejected") == 2


@only(*LEDGERS)
def test_a_row_restored_gets_the_same_made_id(mapped: Mapped, tmp_path: Path) -> None:
    """B9: by its key, whatever number it gets this time."""
    ids = []
    for name, keys in (("one", ["x", "y"]), ("two", ["y"])):
        box = Mapped(tmp_path / f"{name}.db", mapped.kind)
        box.host.execute("UPDATE webhookd_file SET uuid = 'same'")
        plain = Columns(**{n: getattr(box.columns, n) for n in box.columns.__slots__} | {
            "event_id": ""})  # fmt: skip
        box.options["columns"] = plain
        box.reopen()
        for key in keys:
            box.row(key)
        box.look()
        number = box.one("SELECT number FROM webhookd_ledger WHERE key = 'y'")
        ids.append(box.one("SELECT event_id FROM webhookd_events WHERE outbox_id = ?", number))
        box.close()
    assert ids[0] == ids[1]


@pytest.mark.parametrize("sql", [
    "ALTER TABLE outboxevent RENAME COLUMN payload TO body",
    "ALTER TABLE outboxevent RENAME COLUMN aggregateid TO entity",
    "ALTER TABLE outboxevent RENAME COLUMN id TO uid",
    "ALTER TABLE outboxevent RENAME TO elsewhere",
])  # fmt: skip
def test_A22_A23_what_is_gone_stops_ingest_until_it_is_back(mapped: Mapped, sql: str) -> None:
    mapped.row("a")
    mapped.look()
    mapped.row("b")
    mapped.host.execute(sql)
    mapped.reopen()
    what = mapped.store.outlook().unreadable
    _, _, old = sql.partition("COLUMN ")
    column = old.partition(" ")[0]
    expected = f"column outboxevent.{column}" if column else "table outboxevent"
    remedy = "give it that name again, or let the host make it"
    if column:
        remedy = "put it right in the table, or in [outbox.columns] and start webhookd again"
    wanted = f"schema: {expected} missing; {remedy}"
    assert what in ("", wanted)
    mapped.store.begin()
    with pytest.raises(OutboxUnreadable, match=f"schema: {expected} missing"):
        mapped.store.ingest(0)
    mapped.store.rollback()
    with session(mapped) as command, command.read() as connection:
        said = facts_of.facts(
            connection, command.file, mapped.path, columns=mapped.columns, now=mapped.now
        ).outbox_fault
    assert said == wanted
    if column:
        new = sql.rpartition(" ")[2]
        back = f"ALTER TABLE outboxevent RENAME COLUMN {new} TO {column}"
    else:
        back = "ALTER TABLE elsewhere RENAME TO outboxevent"
    mapped.host.execute(back)
    assert sorted(mapped.look()) == ["a", "b"]


def test_A23_a_table_made_anew_by_a_migration_loses_and_doubles_nothing(mapped: Mapped) -> None:
    sql = KINDS[mapped.kind][0]
    for n in range(5):
        mapped.row(f"k{n}")
    mapped.look()
    mapped.row("waits")
    mapped.host.execute("BEGIN")
    mapped.host.execute("ALTER TABLE outboxevent RENAME TO old")
    mapped.host.execute("DROP INDEX IF EXISTS by_seq")
    mapped.host.execute(sql.replace("payload TEXT", "extra, payload TEXT"))
    names = "id, aggregatetype, aggregateid, type, payload, seq"
    mapped.host.execute(f"INSERT INTO outboxevent ({names}) SELECT {names} FROM old ORDER BY seq")
    mapped.host.execute("DROP TABLE old")
    mapped.host.execute("COMMIT")
    mapped.row("new")
    assert sorted(mapped.look()) == [*(f"k{n}" for n in range(5)), "new", "waits"]


@only("keys alone")
def test_A23_a_table_that_comes_back_made_otherwise_is_read_as_it_is(mapped: Mapped) -> None:
    mapped.row("a")
    mapped.look()
    mapped.host.execute("ALTER TABLE outboxevent RENAME TO old")
    assert mapped.store.outlook().unreadable
    mapped.host.execute(KINDS["no row numbers"][0])
    mapped.host.execute("INSERT INTO outboxevent SELECT * FROM old")
    mapped.row("b")
    assert mapped.look() == ["a", "b"]


@only(*LEDGERS)
def test_what_was_numbered_and_deleted_leaves_nothing_behind(mapped: Mapped) -> None:
    mapped.row("a")
    mapped.look()
    mapped.host.execute("INSERT INTO webhookd_ledger (key) VALUES ('gone'), ('gone-2')")
    assert mapped.look() == ["a"]
    assert mapped.rows("SELECT key FROM webhookd_ledger") == [("a",)]
    assert mapped.store.outlook().outbox_end == 1


def test_A18_a_rejected_row_is_taken_in_once_it_is_mended(mapped: Mapped) -> None:
    mapped.row("a", payload="{")
    mapped.row("b")
    assert mapped.look() == ["b"]
    with session(mapped, write=True) as command:
        retry = Retry(
            command, default_tenant="", max_payload=100, ids_never_reused=True,
            clock=lambda: mapped.now,
        )  # fmt: skip
        assert [one.rejected[0].reason for one in retry.all()] == ["bad_payload"]
        mapped.host.execute("UPDATE outboxevent SET payload = NULL WHERE id = 'a'")
        assert [len(one.events) for one in retry.all()] == [1]
    assert mapped.look() == ["b", "a"]
    assert mapped.one("SELECT rejected FROM webhookd_file") == 0


def test_a_row_is_explained_by_its_number(mapped: Mapped) -> None:
    mapped.row("a")
    mapped.row("b")
    mapped.look()
    rules = explain.Rules("", 100)
    number = mapped.one("SELECT outbox_id FROM webhookd_events WHERE event_id = 'b'")
    with session(mapped) as command:
        found = explain.outbox_row(command, number, rules, mapped.now)
    assert (found["standing"], found["event"]["event_id"]) == ("event", "b")


def test_the_lag_is_what_waits(mapped: Mapped) -> None:
    for n in range(30):
        mapped.row(f"k{n}")

    def lag() -> int:
        with session(mapped) as command, command.read() as connection:
            columns = mapped.columns
            found = facts_of.facts(
                connection, command.file, mapped.path, columns=columns, now=mapped.now
            )
            return found.lag_rows

    assert lag() == 30
    mapped.look()
    assert lag() == 0
    mapped.row("zz")
    assert lag() == (0 if mapped.kind == "no row numbers" and lag() == 0 else 1)


def test_E25_a_copy_takes_in_for_nobody_what_waits(mapped: Mapped, tmp_path: Path) -> None:
    mapped.subscribe()
    mapped.row("a")
    mapped.look()
    for n in range(600):
        mapped.row(f"k{n}")
    copy = tmp_path / "copy.db"
    mapped.host.execute("VACUUM INTO ?", (str(copy),))
    done = acceptance.accept_clone(
        copy, default_tenant="", max_payload=99, now=mapped.now, columns=mapped.columns
    )
    assert (done.cancelled, done.taken_in) == (1, 600)


def test_nothing_is_written_into_it(mapped: Mapped) -> None:
    with pytest.raises(Refused, match="the host's own table"):
        mapped.command(
            lambda t: emit(t, NewRow("a.b"), default_tenant="", max_payload=9, now=mapped.now)
        )


def test_no_look_scans_or_sorts(mapped: Mapped) -> None:
    """Above a place, that is: a walk begins at an end of the table, and stops after a piece."""
    with session(mapped) as command, command.read() as connection:
        outbox = sources.open_outbox(connection, mapped.path, command.file, mapped.columns, 9)
        if mapped.kind == "integer":
            assert faults(mapped, outbox._rows.select) == []
            return
        for sql in outbox.statements():  # type: ignore[attr-defined]
            bad = [one for one in faults(mapped, sql) if "subquery" not in one]
            bounded = " > (" not in sql and " > CASE" not in sql and "LIMIT" in sql
            assert not bad or (bounded and bad == ["SCAN t"]), (sql, bad)
