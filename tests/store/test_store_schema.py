"""The schema: what it may use, what it says of itself, and how older files come to it."""

import re
import sqlite3 as other_sqlite
import subprocess
from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
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
FUNCTIONS_OF_3_8_3 = {"nullif", "coalesce", "max", "min"}


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


def test_every_statement_is_cut_out_whole() -> None:
    statements = schema.statements(schema.FIRST)
    assert len(statements) == len(re.findall(r"^(CREATE|INSERT)", schema.FIRST, re.MULTILINE))
    assert all(statement.startswith(("CREATE ", "INSERT ")) for statement in statements)
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
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(files, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("0002_broken", broken)))
    with pytest.raises(driver.sqlite3.OperationalError, match="already exists"):
        create.upgrade(connection, path)
    assert not connection.in_transaction
    assert objects(connection) == before
    assert connection.execute("SELECT schema_version FROM webhookd_file").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM webhookd_migrations").fetchone() == (1,)

    good = "CREATE TABLE webhookd_new (a TEXT);"
    monkeypatch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], ("0002_good", good)))
    assert create.upgrade(connection, path) == ("0002_good",)
    assert create.upgrade(connection, path) == ()
    assert connection.execute("SELECT schema_version FROM webhookd_file").fetchone() == (2,)
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
