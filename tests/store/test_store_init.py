"""`init`: what it makes, what it leaves alone, and where ingest begins."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.errors import DatabaseError
from webhookd.store import driver, lockfile, ranges, schema
from webhookd.store.create import Prepared, prepare
from webhookd.store.host_table import quoted

HOSTS_OWN = """
CREATE TABLE suppliers (code TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE "order" (id INTEGER PRIMARY KEY AUTOINCREMENT, code REFERENCES suppliers, total REAL);
CREATE INDEX order_code ON "order" (code);
CREATE VIEW totals AS SELECT code, sum(total) AS total FROM "order" GROUP BY code;
CREATE TRIGGER no_delete BEFORE DELETE ON suppliers BEGIN SELECT raise(ABORT, 'no'); END;
CREATE TABLE migrations (version INTEGER);
INSERT INTO suppliers VALUES ('S-1', 'Größe & Söhne'), ('S-2', x'00ff');
INSERT INTO "order" (code, total) VALUES ('S-1', 1.5), ('S-2', 2e300);
PRAGMA user_version = 77;
PRAGMA application_id = 4711;
"""


def init(path: Path, **changes: Any) -> Prepared:
    given: dict[str, Any] = {
        "table": "outbox",
        "start": None,
        "ids_never_reused": False,
        "may_create": True,
        "now": NOW,
    }
    return prepare(path, **given | changes)


@pytest.fixture(scope="module")
def hosts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("host") / "erp.db"
    connection = driver.connect(path, mode="rwc")
    connection.executescript(HOSTS_OWN)
    connection.close()
    return path


@pytest.fixture
def erp(hosts_file: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "erp.db"
    shutil.copyfile(hosts_file, copy)
    return copy


def everything(path: Path, *, ours: bool) -> dict[str, Any]:
    """Schema and data of all that is (or is not) webhookd's."""
    connection = driver.connect(path, mode="ro")
    found: dict[str, Any] = {}
    for kind, name, sql in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE tbl_name <> 'sqlite_sequence'"
    ).fetchall():
        table = name.removeprefix("sqlite_autoindex_")
        if table.startswith(("webhookd_", "webhook_", "outbox")) is not ours:
            continue
        found[name] = [sql]
        if kind == "table":
            found[name] += connection.execute(f'SELECT * FROM "{name}"').fetchall()
    for pragma in ("user_version", "application_id", "encoding", "auto_vacuum", "page_size"):
        found[pragma] = connection.execute(f"PRAGMA {pragma}").fetchone()
    connection.close()
    return found


NAMES = tuple(name for name, _ in schema.MIGRATIONS)


def test_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    done = init(path)
    assert done == Prepared(path, True, NAMES, "outbox", True, None, True)
    assert everything(path, ours=False).keys() == {
        "user_version", "application_id", "encoding", "auto_vacuum", "page_size",
    }  # fmt: skip
    box = Box(path)
    assert box.store.journal_mode == "wal"
    assert box.one("SELECT path FROM webhookd_file") == str(path)
    box.close()
    assert lockfile.read(path)["uuid"]
    assert not lockfile.is_held(path)


@pytest.mark.parametrize("mode", ["delete", "wal", "truncate"])
def test_a_hosts_database_keeps_all_its_own(erp: Path, mode: str) -> None:
    connection = driver.connect(erp, mode="rw")
    connection.execute(f"PRAGMA journal_mode = {mode}")
    persistent = "wal" if mode == "wal" else "delete"
    connection.close()
    before = everything(erp, ours=False)
    assert "order_code" in before
    done = init(erp)
    assert (done.created_file, done.outbox_ours, done.begins_after) == (False, True, None)
    assert everything(erp, ours=False) == before
    connection = driver.connect(erp, mode="rw")
    assert connection.execute("PRAGMA journal_mode").fetchone() == (persistent,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    made = everything(erp, ours=True)
    assert {"outbox", "webhookd_file", "webhook_results"} <= made.keys()


def test_init_is_idempotent(erp: Path) -> None:
    init(erp)
    before = everything(erp, ours=True)
    again = init(erp)
    assert again == Prepared(erp, False, (), "outbox", True, None)
    assert everything(erp, ours=True) == before


def test_a_file_is_created_only_where_that_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no such file; leave --existing out to create it"):
        init(tmp_path / "new.db", may_create=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatabaseError, match=r"directory .* does not exist"):
        init(tmp_path / "no" / "new.db")


def test_an_init_that_fails_leaves_the_hosts_file_as_it_was(erp: Path) -> None:
    before = everything(erp, ours=True), everything(erp, ours=False)
    with pytest.raises(DatabaseError, match="table suppliers has no column id"):
        init(erp, table="suppliers")
    assert (everything(erp, ours=True), everything(erp, ours=False)) == before


def test_the_lock_of_a_former_database_says_nothing_of_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "erp.db"
    init(path)
    lock = lockfile.LockFile.acquire(path)
    lock.write(sequence=1000)
    lock.release()
    path.unlink()
    init(path)
    box = Box(path, known_mark=lockfile.read(path))
    mark = box.store.mark()
    assert lockfile.read(path) == {"pid": None, **mark, lockfile.HIGHEST_ID: mark["outbox_id"]}
    box.close()


def make_outbox(path: Path, sql: str, *rows: str) -> None:
    connection = driver.connect(path, mode="rw")
    connection.execute(sql)
    for event_type in rows:
        connection.execute("INSERT INTO outbox (event_type) VALUES (?)", (event_type,))
    connection.close()


REST = (
    "event_type TEXT, aggregate_type TEXT, aggregate_id TEXT, tenant TEXT, payload TEXT,"
    " occurred_at TEXT, event_id TEXT"
)


@pytest.mark.parametrize(
    ("start", "begins_after", "taken"),
    [(None, 3, 1), ("end", 3, 1), ("beginning", None, 4), (2, 1, 3), (4, 3, 1), (100, 99, 0)],
)
def test_where_ingest_begins_in_a_table_of_the_hosts(
    erp: Path, start: Any, begins_after: int | None, taken: int
) -> None:
    make_outbox(erp, f"CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, {REST})", *"abc")
    done = init(erp, start=start)
    assert (done.outbox_ours, done.begins_after) == (False, begins_after)
    box = Box(erp)
    box.put("d")
    assert box.ingest().events == taken
    assert [done.events for done in box.sweep_all()] == [0], "history is never taken up"
    again = init(erp, start="beginning")
    assert again.begins_after is None
    assert box.ingest().events == 0
    box.close()


def test_the_end_of_an_empty_table_is_its_beginning(erp: Path) -> None:
    make_outbox(erp, f"CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, {REST})")
    assert init(erp).begins_after is None
    box = Box(erp)
    box.put("a")
    assert box.ingest().events == 1
    box.close()


def test_a_start_in_our_own_new_table_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    assert init(path, start=1000).begins_after == 999
    box = Box(path)
    assert box.put("a") == 1000
    assert box.ingest().events == 1
    box.close()


def test_our_outbox_when_dropped_is_made_again_above_the_ids_that_are_done(box: Box) -> None:
    for _ in range(3):
        box.put()
    assert box.ingest().events == 3
    box.host.execute("DROP TABLE outbox")
    init(box.path)
    assert box.put() == 4
    assert box.ingest().events == 1, "a row that begins at 1 again would count as done with"


def test_our_outbox_when_dropped_before_it_was_used(box: Box) -> None:
    box.host.execute("DROP TABLE outbox")
    init(box.path)
    assert box.put() == 1
    assert box.ingest().events == 1


@pytest.mark.parametrize(
    ("key", "vouched", "fault"),
    [
        ("id INTEGER PRIMARY KEY", False, "AUTOINCREMENT, so an id can come back"),
        ("id INTEGER PRIMARY KEY -- no AUTOINCREMENT\n", False, "an id can come back"),
        ("id INTEGER PRIMARY KEY DEFAULT 'AUTOINCREMENT'", False, "an id can come back"),
        ("id INTEGER PRIMARY KEY", True, None),
        ("[id] INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", False, None),
        ("ID integer primary key autoincrement", False, None),
        ("id TEXT PRIMARY KEY", True, "gives rows no order"),
        ("id BIGINT PRIMARY KEY", True, "gives rows no order"),
        ("id INTEGER", True, "gives rows no order"),
    ],
)
def test_A13_a_key_that_can_come_back_is_refused(
    erp: Path, key: str, vouched: bool, fault: str | None
) -> None:
    make_outbox(erp, f"CREATE TABLE outbox ({key}, {REST})")
    if fault is None:
        init(erp, ids_never_reused=vouched)
        box = Box(erp, ids_never_reused=vouched)
        box.put()
        assert box.ingest().events == 1
        box.close()
        return
    with pytest.raises(DatabaseError, match=fault):
        init(erp, ids_never_reused=vouched)
    assert everything(erp, ours=True).keys() & {"webhookd_file"} == set()


def test_A13_a_table_without_row_numbers_is_refused(erp: Path) -> None:
    make_outbox(erp, f"CREATE TABLE outbox (id INTEGER PRIMARY KEY, {REST}) WITHOUT ROWID")
    with pytest.raises(DatabaseError, match="gives rows no order"):
        init(erp, ids_never_reused=True)


def test_A24_extra_columns_and_other_cases_are_ignored(erp: Path) -> None:
    columns = REST.replace("tenant", "Tenant").replace("payload", "PAYLOAD")
    make_outbox(
        erp,
        "CREATE TABLE OutBox (extra BLOB, id INTEGER PRIMARY KEY AUTOINCREMENT,"
        f" {columns}, t TEXT, more INTEGER DEFAULT 7)",
    )
    done = init(erp)
    assert not done.outbox_ours
    box = Box(erp)
    box.put("a", tenant="acme", payload="{}")
    assert box.ingest().events == 1
    assert box.rows("SELECT tenant, payload FROM webhookd_events") == [("acme", b"{}")]
    box.close()


def test_another_outbox_than_before_is_refused(path: Path) -> None:
    with pytest.raises(DatabaseError, match="prepared with the outbox outbox, not events"):
        init(path, table="events")


@pytest.mark.parametrize("table", ['o"dd', "select", "größe", "a b;--"])
def test_any_name_will_do_for_the_outbox(tmp_path: Path, table: str) -> None:
    path = tmp_path / "new.db"
    init(path, table=table)
    box = Box(path)
    box.host.execute(f"INSERT INTO {quoted(table)} (event_type) VALUES ('a')")
    assert box.ingest().events == 1
    assert box.store.outlook().outbox_end == 1
    box.close()


@pytest.mark.parametrize(
    "name", ["webhookd_file", "webhookd_deliveries", "webhookd_ranges", "webhook_results"]
)
def test_A25_tables_of_ours_that_were_dropped_are_not_guessed_at(box: Box, name: str) -> None:
    box.subscribe()
    box.put()
    kind = "VIEW" if name.startswith("webhook_") else "TABLE"
    box.host.execute(f"DROP {kind} {name}")
    if kind == "TABLE":
        with pytest.raises(DatabaseError, match="webhookd init"):
            box.ingest()
        box.store.rollback()
    with pytest.raises(DatabaseError, match=f"{name} was dropped.*restore a backup"):
        init(box.path)
    assert box.one("SELECT count(*) FROM outbox") == 1


def test_a_store_on_a_file_that_was_never_prepared(erp: Path) -> None:
    with pytest.raises(DatabaseError, match="not prepared for webhookd; run `webhookd init`"):
        Box(erp)


def test_an_emptied_file_row_is_no_new_file(box: Box) -> None:
    box.host.execute("DELETE FROM webhookd_file")
    with pytest.raises(DatabaseError, match="webhookd_file is empty; restore"):
        box.store.begin()
    assert ranges.LOWEST == -(2**63)
