"""The schema: what it may use, what it says of itself, and how older files come to it."""

import re
import sqlite3 as other_sqlite
import subprocess
from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.health import WELL
from webhookd.core.model import SubscriptionKey
from webhookd.core.times import to_text
from webhookd.errors import DatabaseError
from webhookd.store import create, driver, schema
from webhookd.store import file as files
from webhookd.store.transaction import Session

SCHEMAS = Path(__file__).parent / "schemas"
SHELL = Path("/usr/bin/sqlite3")

NEWER_THAN_3_8_3 = {
    "STRICT": r"\bSTRICT\b",  # 3.37
    "generated columns": r"\bGENERATED\b|\bVIRTUAL\b|\bSTORED\b|\bAS\s*\(",  # 3.31
    "upsert": r"\bON\s+CONFLICT\s*\(|\bDO\s+(UPDATE|NOTHING)\b",  # 3.24
    "RETURNING": r"\bRETURNING\b",  # 3.35
    "window functions": r"\bOVER\b|\bFILTER\b|\bPARTITION\b|\bWINDOW\b",  # 3.25
    "row values": r"\)\s*(=|<|>|IN)\s*\(\s*SELECT\b|\(\s*\w+\s*,\s*\w+\s*\)\s*(=|<|>|IN\b)",  # 3.15
    "JSON operators": r"->",  # 3.38
    "JSON functions": r"\bjson_?\w*\s*\(",  # 3.9
    "IIF": r"\bIIF\s*\(|\bIF\s*\(",  # 3.32
    "NULLS FIRST": r"\bNULLS\s+(FIRST|LAST)\b",  # 3.30
    "indexes on expressions": r"\bINDEX\b[^;]*?\bON\s+\w+\s*\([^)]*[(+|]",  # 3.9
    "table-valued functions": r"\bpragma_\w+|\bgenerate_series\b",  # 3.16
    "TRUE and FALSE": r"\bTRUE\b|\bFALSE\b",  # 3.23
    "IS DISTINCT FROM": r"\bDISTINCT\s+FROM\b",  # 3.39
    "right and full joins": r"\b(RIGHT|FULL)\s+(OUTER\s+)?JOIN\b",  # 3.39
    "RENAME and DROP COLUMN": r"\bRENAME\s+COLUMN\b|\bDROP\s+COLUMN\b",  # 3.25, 3.35
    "materialized": r"\bMATERIALIZED\b",  # 3.35
    "digit separators": r"\b\d+_\d",  # 3.46
    "triggers": r"\bTRIGGER\b",  # none run in the host's transaction
    "view columns": r"\bVIEW\s+\w+\s*\(",  # 3.9
}
FUNCTIONS_OF_3_8_3 = {"nullif", "coalesce", "max", "min", "substr"}


def as_written(script: str) -> str:
    return "\n".join(schema.statements(script))


@pytest.mark.parametrize("feature", NEWER_THAN_3_8_3)
@pytest.mark.parametrize("name", [name for name, _ in schema.MIGRATIONS] + ["outbox"])
def test_an_old_sqlite_understands_the_schema(name: str, feature: str) -> None:
    script = dict(schema.MIGRATIONS).get(name, schema.OUTBOX)
    found = re.search(NEWER_THAN_3_8_3[feature], as_written(script), re.IGNORECASE)
    assert found is None, f"{feature}: {found}"


def test_the_list_of_newer_features_finds_them() -> None:
    samples = {
        "STRICT": "CREATE TABLE a (b TEXT) STRICT",
        "generated columns": "CREATE TABLE a (b, c AS (b + 1))",
        "upsert": "INSERT INTO a VALUES (1) ON CONFLICT (a) DO NOTHING",
        "row values": "SELECT 1 WHERE (a, b) = (1, 2)",
        "indexes on expressions": "CREATE INDEX a ON b (lower(c))",
        "JSON operators": "SELECT a -> b",
    }
    for feature, sql in samples.items():
        assert re.search(NEWER_THAN_3_8_3[feature], sql, re.IGNORECASE), feature


def test_checks_and_views_use_old_functions_only() -> None:
    for _, script in schema.MIGRATIONS:
        text = re.sub(r"CREATE \w+ (INDEX )?\w+\s*\(|ON \w+ \(|INTO \w+ \(", "", as_written(script))
        called = {name.lower() for name in re.findall(r"\b([a-z_]+)\s*\(", text)}
        assert called <= FUNCTIONS_OF_3_8_3 | {"in"} | {"webhookd_feeds"}, called


@pytest.mark.parametrize("name", [name for name, _ in schema.MIGRATIONS])
def test_every_statement_is_cut_out_whole(name: str) -> None:
    script = dict(schema.MIGRATIONS)[name]
    statements = schema.statements(script)
    begins = ("CREATE ", "INSERT ", "ALTER ", "DROP ", "UPDATE ")
    assert len(statements) == len(re.findall(rf"^({'|'.join(begins)})", script, re.MULTILINE))
    assert all(statement.startswith(begins) for statement in statements)
    assert not any("--" in statement for statement in statements)


def test_every_column_of_every_table_is_explained() -> None:
    silent = []
    for _, script in (*schema.MIGRATIONS, ("outbox", schema.OUTBOX)):
        for table in re.findall(r"^CREATE TABLE .*?^\)", script, re.MULTILINE | re.DOTALL):
            lines = table.splitlines()
            for number, line in enumerate(lines):
                if not re.match(r"    [a-z_]+ +(INTEGER|TEXT|BLOB)", line):
                    continue
                if "--" not in line and not lines[number - 1].lstrip().startswith("--"):
                    silent.append(f"{lines[0]} {line.strip()}")
        lines = script.splitlines()
        silent += [
            line
            for number, line in enumerate(lines)
            if line.startswith("ALTER TABLE") and not lines[number - 1].startswith("--")
        ]
    assert silent == []


def test_every_table_and_view_is_introduced() -> None:
    for _, script in schema.MIGRATIONS:
        before: list[str] = []
        for line in script.splitlines():
            if line.startswith("CREATE TABLE"):
                assert before[-1].startswith("--"), line
            before.append(line)


def objects(connection: driver.Connection) -> set[tuple[str, str, str, str]]:
    found = connection.execute(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"
        " WHERE name NOT LIKE 'sqlite_stat%'"
    ).fetchall()
    return {
        (kind, name, table, re.sub(r"\s+|\"|IF NOT EXISTS ", "", sql))
        for kind, name, table, sql in found
    }


def built(script: Path, path: Path) -> Path:
    connection = driver.connect(path, mode="rwc")
    connection.executescript(script.read_text())
    connection.execute("UPDATE webhookd_file SET path = ?", (str(path),))
    connection.close()
    return path


def test_each_version_of_the_schema_is_kept() -> None:
    kept = {int(script.stem) for script in SCHEMAS.glob("*.sql")}
    assert kept == set(range(1, schema.SCHEMA_VERSION + 1))
    assert len(schema.MIGRATIONS) == schema.SCHEMA_VERSION


@pytest.mark.parametrize("version", sorted(int(one.stem) for one in SCHEMAS.glob("*.sql")))
@pytest.mark.parametrize("way", ["init", "run"])
def test_an_older_file_is_upgraded(version: int, way: str, tmp_path: Path, path: Path) -> None:
    old = built(SCHEMAS / f"{version}.sql", tmp_path / "old.db")
    before = driver.connect(old, mode="ro")
    tables = [
        name
        for (name,) in before.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            " AND name NOT IN ('webhookd_file', 'webhookd_migrations')"
        ).fetchall()
    ]
    columns = {
        name: ", ".join(row[1] for row in before.execute(f"PRAGMA table_info({name})").fetchall())
        for name in tables
    }
    kept = {
        name: before.execute(f"SELECT {columns[name]} FROM {name}").fetchall() for name in tables
    }
    before.close()

    if way == "init":
        done = create.prepare(
            old, table="outbox", start=None, ids_never_reused=False, may_create=False, now=NOW
        )
        assert len(done.migrations) == schema.SCHEMA_VERSION - version
    box = Box(old)
    assert way == "init" or len(box.store.applied) == schema.SCHEMA_VERSION - version
    fresh = driver.connect(path, mode="ro")
    assert objects(box.host) == objects(fresh)
    fresh.close()
    assert kept == {
        name: box.host.execute(f"SELECT {columns[name]} FROM {name}").fetchall() for name in tables
    }
    assert box.one("SELECT schema_version FROM webhookd_file") == schema.SCHEMA_VERSION
    # And it works on: the waiting one is delivered, a new row comes after it.
    box.put("supplier.removed", aggregate_id="S-1")
    assert box.ingest().deliveries == 1
    box.succeed(4)
    assert [row["state"] for row in box.results()] == ["delivered", "delivered", "pending"]
    box.close()


def test_what_an_upgrade_is_about_to_go_through_is_known_beforehand(
    tmp_path: Path, path: Path
) -> None:
    old = built(SCHEMAS / "1.sql", tmp_path / "old.db")
    assert create.upgrade_ahead(old) == 2
    assert create.upgrade_ahead(old) == 2, "to ask changes nothing"
    Box(old).close()
    assert create.upgrade_ahead(old) is None
    assert create.upgrade_ahead(path) is None
    connection = driver.connect(tmp_path / "hosts.db", mode="rwc")
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    connection.close()
    assert create.upgrade_ahead(tmp_path / "hosts.db") is None, "not webhookd's yet"


WORK_OF_1 = """
UPDATE webhookd_file SET sequence = 40, cursor = 10;
UPDATE webhookd_ranges SET last = 10;
UPDATE webhookd_counters SET numbers = 8, pending = 4, delivered = 2, failed = 1, cancelled = 1;
"""
"""Beside the delivered one and the one that is due again: deliveries in every other standing."""
MORE_OF_1 = (
    # id, sequence, event, order_key, state, reason, attempts, due_at, finished_at
    (12, 12, 11, 2, "pending", "", 0, None, None),
    (14, 14, 13, 2, "pending", "", 0, None, None),
    (16, 35, 15, 3, "failed", "exhausted", 2, None, "2026-01-31T12:00:01.000Z"),
    (18, 36, 17, 3, "delivered", "", 1, None, "2026-01-31T12:00:02.000Z"),
    (20, 37, 19, 3, "cancelled", "operator", 0, None, "2026-01-31T12:00:03.000Z"),
    (22, 22, 21, 3, "pending", "", 0, "2026-01-31T12:00:03.000Z", None),
)


def file_of_1(path: Path) -> Path:
    """A file of version 1 in the middle of its work."""
    built(SCHEMAS / "1.sql", path)
    connection = driver.connect(path, mode="rw")
    connection.executescript(WORK_OF_1)
    connection.execute(
        "INSERT INTO webhookd_aggregates VALUES (3, '', 'supplier', 'S-2', 21, 'a', 'E-22', ?)",
        (to_text(NOW),),
    )
    for number, (id_, sequence, event, key, state, reason, tries, due, end) in enumerate(
        MORE_OF_1, 3
    ):
        connection.execute(
            "INSERT INTO webhookd_events SELECT ?, ?, ?, ?, 'a', 'supplier', ?, '', NULL,"
            " occurred_at, 0, ingested_at FROM webhookd_events WHERE sequence = 1",
            (event, number, f"E-{id_}", key, f"S-{key - 1}"),
        )
        connection.execute(
            "INSERT INTO webhookd_deliveries SELECT ?, ?, ?, 1, 'one', ?, ?, ?, ?, ?, ?, 500,"
            " '', ?, ?, NULL, created_at, NULL, ?, NULL FROM webhookd_deliveries WHERE id = 2",
            (id_, sequence, event, number, key, state, reason, tries, tries, due, due, end),
        )
    connection.close()
    return path


def test_E22_a_file_of_version_1_at_work_goes_on(tmp_path: Path, path: Path) -> None:
    old = file_of_1(tmp_path / "old.db")
    before = driver.connect(old, mode="ro")
    shown = {
        view: before.execute(f"SELECT * FROM {view} ORDER BY 1").fetchall()
        for view in ("webhook_results", "webhook_changes", "webhook_events", "webhook_feeds")
    }
    before.close()
    box = Box(old)
    fresh = Box(path)
    assert box.store.applied == ("0002_engine", "0003_retention", "0004_mapped", "0005_recent")
    for table in ("webhookd_file", "webhookd_counters", "webhookd_deliveries",
                  "webhookd_subscriptions", "webhookd_instructions"):  # fmt: skip
        columns = f"PRAGMA table_info({table})"
        assert box.rows(columns) == fresh.rows(columns)
    assert objects(box.host) == objects(fresh.host)
    fresh.close()
    # Nobody noted then whether an aggregate type was the row's own: 'a' of 'supplier' must be.
    noted = [box.store.event(number).aggregate_type_made for number in (1, 11)]  # type: ignore[union-attr,arg-type]
    assert noted == [True, False]
    for view, rows in shown.items():
        assert box.rows(f"SELECT * FROM {view} ORDER BY 1") == rows, "no poller sees a difference"
    # Nobody's health was known then, and nothing was held up by a rule.
    assert box.store.health(SubscriptionKey(1)) == WELL
    assert box.store.next_pass() is None
    assert box.store.waiting(SubscriptionKey(0), 9) == [1]

    box.now += 60_000
    seen = []
    while due := box.due(1):
        seen.append(due[0])
        box.succeed(due[0])
    assert seen == [22, 4, 12, 14]
    assert box.rows("SELECT pending, delivered, failed FROM webhookd_counters") == [(0, 6, 1)]
    box.reopen_delivery(16)
    assert box.due(1) == [16]
    assert box.one("PRAGMA integrity_check") == "ok"
    box.close()


def test_E21_a_newer_schema_is_refused_with_both_versions(box: Box) -> None:
    newer = schema.SCHEMA_VERSION + 1
    box.host.execute("UPDATE webhookd_file SET schema_version = ?", (newer,))
    wanted = rf"schema is version {newer}, and this webhookd knows {schema.SCHEMA_VERSION}"
    with pytest.raises(DatabaseError, match=wanted):
        Session(box.path, write=False)
    with pytest.raises(DatabaseError, match=wanted):
        box.store.begin()
    assert not box.store._writer.in_transaction
    with pytest.raises(DatabaseError, match=wanted):
        box.store.outlook()
    with pytest.raises(DatabaseError, match=wanted):
        box.reopen()
    with pytest.raises(DatabaseError, match=wanted):
        create.prepare(
            box.path, table="outbox", start=None, ids_never_reused=False, may_create=False, now=NOW
        )
    assert box.one("SELECT schema_version FROM webhookd_file") == newer


def test_E22_an_upgrade_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = driver.connect(path, mode="rw")
    before = objects(connection)
    broken = "CREATE TABLE webhookd_new (a TEXT);\nCREATE TABLE webhookd_file (b TEXT);"
    known, count = schema.MIGRATIONS, schema.SCHEMA_VERSION
    for module in (schema, files):
        monkeypatch.setattr(module, "SCHEMA_VERSION", count + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*known, ("9999_broken", broken)))
    with pytest.raises(driver.sqlite3.OperationalError, match="already exists"):
        create.upgrade(connection, path)
    assert not connection.in_transaction
    assert objects(connection) == before
    assert connection.execute("SELECT schema_version FROM webhookd_file").fetchone() == (count,)
    assert connection.execute("SELECT count(*) FROM webhookd_migrations").fetchone() == (count,)

    good = "CREATE TABLE webhookd_new (a TEXT);"
    monkeypatch.setattr(schema, "MIGRATIONS", (*known, ("9999_good", good)))
    assert create.upgrade(connection, path) == ("9999_good",)
    assert create.upgrade(connection, path) == ()
    version = connection.execute("SELECT schema_version FROM webhookd_file").fetchone()
    assert version == (count + 1,)
    connection.close()


def shell(path: Path, sql: str) -> str:
    done = subprocess.run(
        [SHELL, "-batch", path, sql], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(not SHELL.exists(), reason="no sqlite3 shell on this machine")
def test_the_systems_own_sqlite_inserts_and_polls_beside_us(box: Box) -> None:
    box.subscribe()
    shell(box.path, "INSERT INTO outbox (event_type, aggregate_id) VALUES ('a.b', '1')")
    assert box.store.changed()
    assert box.ingest().events == 1
    box.succeed(2)
    assert shell(box.path, "SELECT state, sequence FROM webhook_results") == "delivered|3\n"
    assert shell(box.path, "SELECT aggregate_id FROM webhook_changes") == "1\n"
    assert shell(box.path, "SELECT event_type FROM webhook_events") == "a.b\n"
    assert shell(box.path, "SELECT feed, maximum_sequence FROM webhook_feeds ORDER BY 1") == (
        "changes|1\nevents|1\nresults|3\n"
    )
    assert shell(box.path, "PRAGMA integrity_check") == "ok\n"


def test_the_schema_loads_in_the_standard_librarys_sqlite(tmp_path: Path) -> None:
    """Another copy of the library, on a file that ours never opens."""
    connection = other_sqlite.connect(tmp_path / "other.db", isolation_level=None)
    connection.executescript((SCHEMAS / f"{schema.SCHEMA_VERSION}.sql").read_text())
    rows = connection.execute("SELECT state FROM webhook_results ORDER BY sequence").fetchall()
    assert rows == [("delivered",), ("pending",)]
    connection.close()


@pytest.mark.parametrize("name", [name for name, _ in schema.MIGRATIONS])
def test_E22_a_schema_only_grows(name: str) -> None:
    """Indexes and views may be made anew; what holds data is only added to."""
    text = as_written(dict(schema.MIGRATIONS)[name])
    assert re.findall(r"DROP TABLE|DROP COLUMN|RENAME|DELETE FROM", text, re.IGNORECASE) == []
    changed = re.findall(r"^ALTER TABLE \w+ (\w+ \w+)", text, re.MULTILINE)
    assert set(changed) <= {"ADD COLUMN"}


def test_E22_no_view_loses_a_column(tmp_path: Path, path: Path) -> None:
    views = ("webhook_results", "webhook_changes", "webhook_events", "webhook_feeds")
    newest = driver.connect(path, mode="ro")
    for script in SCHEMAS.glob("*.sql"):
        old = driver.connect(built(script, tmp_path / f"{script.stem}.db"), mode="ro")
        for view in views:
            columns = [
                [row[1] for row in one.execute(f"PRAGMA table_info({view})").fetchall()]
                for one in (old, newest)
            ]
            assert columns[1][: len(columns[0])] == columns[0]
        old.close()
    newest.close()


def test_what_operators_are_told_to_drop_is_all_that_there_is(box: Box) -> None:
    told = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    script = told[told.index("BEGIN IMMEDIATE;\nDROP VIEW") :]
    box.store.close()
    box.host.executescript(script[: script.index("```")])
    left = box.host.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    assert left.fetchall() == []
