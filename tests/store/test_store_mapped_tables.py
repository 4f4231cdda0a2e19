"""Which tables of a host's can serve as its outbox, by which keys, and what is said of the rest."""

from pathlib import Path
from typing import Any

import pytest

from tests.store.mapped import DEBEZIUM, KINDS, Mapped, ordered
from webhookd.core.columns import Columns, Constant
from webhookd.core.findings import Level
from webhookd.errors import DatabaseError
from webhookd.store import create, driver, host_table, inspection
from webhookd.store.status import facts
from webhookd.store.transaction import Session


@pytest.fixture
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Mapped(tmp_path / "erp.db", request.param)
    yield made
    made.close()


def only(*kinds: str) -> Any:
    return pytest.mark.parametrize("mapped", kinds, indirect=True)


def check(path: Path, columns: Columns, **changes: Any) -> list[str]:
    given: dict[str, Any] = {"table": "outboxevent", "ids_never_reused": True} | changes
    found = inspection.inspect(
        path, columns=columns, egress=None, profiles=None, resolve=None, now=0, **given
    )  # type: ignore[arg-type]
    return [one.text for one in found if one.place == "outbox" and one.level is not Level.OK]


@pytest.mark.parametrize(("kind", "said"), [
    ("integer", []),
    ("ordered", []),
    ("keys alone", ["no order column, so its events have no promise of order"]),
    ("no row numbers", ["no promise of order", "by reading all of it, piece by piece"]),
])  # fmt: skip
def test_check_says_what_a_key_costs(tmp_path: Path, kind: str, said: list[str]) -> None:
    mapped = Mapped(tmp_path / "erp.db", kind)
    found = check(mapped.path, mapped.columns)
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))
    mapped.row("a")
    mapped.close()


@pytest.mark.parametrize("kind", KINDS)
def test_A13_keys_that_can_come_back_are_refused_unless_vouched_for(
    tmp_path: Path, kind: str
) -> None:
    mapped = Mapped(tmp_path / "erp.db", kind)
    mapped.options["ids_never_reused"] = False
    if kind == "integer":
        mapped.reopen()
    else:
        with pytest.raises(DatabaseError, match='say ids = "never-reused" in'):
            mapped.reopen()
        (said,) = check(mapped.path, mapped.columns, ids_never_reused=False)
        assert "can come back after a delete" in said
    mapped.close()


@pytest.mark.parametrize(("sql", "columns", "said"), [
    ("CREATE TABLE t (id TEXT, type)", DEBEZIUM, "has no column aggregatetype"),
    ("CREATE TABLE t (id TEXT, event_type)", Columns(tenant="", payload="", occurred_at="",
     event_id="", aggregate_type="", aggregate_id=""), "neither PRIMARY KEY nor UNIQUE"),
    ("CREATE TABLE t (id TEXT PRIMARY KEY)", Columns(id="nr"), "has no column nr"),
    ("CREATE TABLE t (id TEXT PRIMARY KEY)", Columns(order_column="at"), "has no column at"),
    ("CREATE VIEW t AS SELECT 1 AS id", DEBEZIUM, "t is a view"),
    ("CREATE VIEW t AS SELECT 1 AS id", Columns(), "t is a view"),
    ("CREATE VIRTUAL TABLE t USING fts5(id)", DEBEZIUM, "t is a virtual table"),
    ("CREATE TABLE u (id)", DEBEZIUM, "no table t; name the host's table"),
])  # fmt: skip
def test_tables_that_cannot_serve(tmp_path: Path, sql: str, columns: Columns, said: str) -> None:
    path = tmp_path / "erp.db"
    host = driver.connect(path, mode="rwc")
    host.execute(sql)
    host.close()
    with pytest.raises(DatabaseError, match=said):
        create.prepare(
            path, table="t", start=None, columns=columns, ids_never_reused=True,
            may_create=False, now=0,
        )  # fmt: skip


def nothing_but(**columns: Any) -> Columns:
    rest = dict.fromkeys(("aggregate_type", "aggregate_id", "tenant", "payload", "occurred_at"), "")
    return Columns(**rest | {"event_id": "", "event_type": Constant("it's.so")} | columns)


@pytest.mark.parametrize(("sql", "columns", "said"), [
    ("id TEXT PRIMARY KEY, at", nothing_but(order_column="at"), "at has no index"),
    ("id TEXT UNIQUE, k TEXT PRIMARY KEY) WITHOUT ROWID", nothing_but(), "not its PRIMARY KEY"),
])  # fmt: skip
def test_orders_that_cannot_serve(tmp_path: Path, sql: str, columns: Columns, said: str) -> None:
    test_tables_that_cannot_serve(
        tmp_path, f"CREATE TABLE t ({sql}" + ")" * ("ROWID" not in sql), columns, said
    )


def test_odd_names_and_constants(tmp_path: Path) -> None:
    path, table, key = tmp_path / "erp.db", 'o"ut; box--', 'k"e y'
    host = driver.connect(path, mode="rwc")
    quoted = host_table.quoted
    host.execute(
        f"CREATE TABLE {quoted(table)} ({quoted(key)} BLOB PRIMARY KEY, rowid, oid, "
        f"{quoted('select')} TEXT)"
    )
    columns = nothing_but(id=key, aggregate_id="select", tenant=Constant("O'Hara"))
    prepared = {
        "table": table, "columns": columns, "ids_never_reused": True,
    }  # fmt: skip
    create.prepare(path, start="beginning", may_create=False, now=0, **prepared)  # type: ignore[arg-type]
    host.execute(f"INSERT INTO {quoted(table)} VALUES (x'00ff', 1, 2, 'A1'), (7, 1, 2, 'A2')")
    host.close()
    box = Mapped.__new__(Mapped)
    super(Mapped, box).__init__(path, **prepared)
    box.look()
    found = box.rows("SELECT event_type, aggregate_id, tenant FROM webhookd_events ORDER BY 2")
    assert found == [("it's.so", "A1", "O'Hara"), ("it's.so", "A2", "O'Hara")]
    box.close()


@only("ordered")
def test_columns_that_give_other_ids_are_refused(mapped: Mapped) -> None:
    mapped.options["columns"] = ordered("seq")
    mapped.reopen()
    mapped.host.execute("CREATE UNIQUE INDEX by_type ON outboxevent (type)")
    other = {n: getattr(DEBEZIUM, n) for n in DEBEZIUM.__slots__} | {"id": "type"}
    mapped.options["columns"] = Columns(**other)
    with pytest.raises(DatabaseError, match=r"was prepared with the key outboxevent\.id, and by"):
        mapped.reopen()


@only("integer", "keys alone")
def test_a_key_that_the_host_has_renamed_is_accepted_by_init(mapped: Mapped) -> None:
    mapped.row("a")
    mapped.look()
    old = "seq" if mapped.kind == "integer" else "id"
    mapped.host.execute(f"ALTER TABLE outboxevent RENAME COLUMN {old} TO nr")
    names = {n: getattr(mapped.columns, n) for n in DEBEZIUM.__slots__}
    names = {n: "nr" if name == old else name for n, name in names.items()}
    mapped.columns = mapped.options["columns"] = Columns(**names)
    with pytest.raises(DatabaseError, match=r"which is gone; if it is nr now run `webhookd init`"):
        mapped.reopen()
    assert mapped.prepare(mapped.path).key_renamed == "nr"
    assert mapped.prepare(mapped.path).key_renamed == ""
    mapped.reopen()
    mapped.host.execute("INSERT INTO outboxevent (nr, type) VALUES ('9', 'b.c')")
    assert len(mapped.look()) == 2


def test_our_own_table_has_our_own_names(tmp_path: Path) -> None:
    path = tmp_path / "erp.db"
    given: dict[str, Any] = {"table": "outbox", "start": None, "ids_never_reused": True, "now": 0}
    create.prepare(path, may_create=True, **given)
    with pytest.raises(DatabaseError, match="the table that `webhookd init` made"):
        create.prepare(path, may_create=False, columns=Columns(tenant=""), **given)


@pytest.mark.parametrize("kind", ["ordered", "no row numbers, ordered"])
def test_an_index_that_was_lost_is_seen_by_whoever_looks_often(tmp_path: Path, kind: str) -> None:
    mapped = Mapped(tmp_path / "erp.db", kind)

    def status_says() -> tuple[str, ...]:
        with Session(mapped.path, write=False) as session:
            return facts(
                session.connection,
                session.file,
                mapped.path,
                columns=mapped.columns,
                now=mapped.now,
                ids_never_reused=True,
            ).outbox_faults

    assert mapped.store.outbox_faults() == status_says() == ()
    mapped.host.execute("DROP INDEX by_seq")
    mapped.row("a")
    assert mapped.look() == ["a"], "taken in all the same"
    (said,) = mapped.store.outbox_faults()
    assert said.startswith("the next start of `webhookd run` would be refused: ")
    assert "outboxevent.seq has no index" in said
    assert said.endswith('CREATE INDEX NAME ON "outboxevent" ("seq")')
    assert status_says() == (said,)
    mapped.host.execute('CREATE INDEX by_seq ON "outboxevent" ("seq")')
    assert mapped.store.outbox_faults() == status_says() == ()
    mapped.close()
