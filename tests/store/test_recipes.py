"""The recipes in docs: each is taken out of them and lives through a begin, a page and a reset.

What cannot run here is skipped, with the reason. `make recipes` fetches what Node and Java need.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import Box
from webhookd.core.retention import DAY, Retention, Work

ROOT = Path(__file__).parents[2]
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
FETCHED = Path(os.environ.get("WEBHOOKD_RECIPES") or ROOT / ".cache" / "recipes")
LANGUAGES = ("sql", "python", "node", "php", "csharp", "java")
SLOW = ("csharp", "java")
"""Seconds a run, for their compilers and machines."""


def recipe(name: str) -> str:
    """The code block of that name."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", RECIPES, re.MULTILINE | re.DOTALL)
    (found,) = [one for one in blocks if f"recipe: {name}\n" in one.partition("\n")[0] + "\n"]
    return str(found)


def needed(program: str) -> str:
    """Where a runtime is; skips the test where there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on this machine")
    return found


def sql(home: Path) -> Sequence[str]:
    """The shell reads the recipe as its input."""
    (home / "recipe.sql").write_text(recipe("sql"))
    script = 'exec "$0" -cmd ".parameter set :code \'$2\'" "$1" < recipe.sql'
    return ("sh", "-c", script, needed("sqlite3"))


def python(home: Path) -> Sequence[str]:
    """The machine's own Python, or the one of the tests."""
    (home / "recipe.py").write_text(recipe("python"))
    return (needed("python3"), "-W", "error", "recipe.py")


def node(home: Path) -> Sequence[str]:
    """With better-sqlite3 where that was fetched, else with Node's own from 22.5 on."""
    program, code = needed("node"), recipe("node")
    if (FETCHED / "node_modules" / "better-sqlite3").is_dir():
        (home / "node_modules").symlink_to(FETCHED / "node_modules")
    else:
        version = subprocess.check_output([program, "--version"], text=True)
        if tuple(map(int, version[1:].split(".")[:2])) < (22, 13):
            pytest.skip("Node is too old for node:sqlite, and better-sqlite3 was not fetched")
        own = 'const { DatabaseSync: Database } = require("node:sqlite");'
        assert own in RECIPES
        code = code.replace('const Database = require("better-sqlite3");', own)
    (home / "recipe.js").write_text(code)
    return (program, "recipe.js")


def php(home: Path) -> Sequence[str]:
    """With the extension for SQLite."""
    program = needed("php")
    if "pdo_sqlite" not in subprocess.check_output([program, "-m"], text=True):
        pytest.skip("this PHP has no pdo_sqlite")
    (home / "recipe.php").write_text(recipe("php"))
    return (program, "recipe.php")


def csharp(home: Path) -> Sequence[str]:
    """From a project that was fetched: to restore its packages takes the network."""
    program = needed("dotnet")
    if not (FETCHED / "csharp").is_dir():
        pytest.skip("Microsoft.Data.Sqlite was not fetched")
    shutil.copytree(FETCHED / "csharp", home / "csharp")
    (home / "csharp" / "Program.cs").write_text(recipe("csharp"))
    return (program, "run", "--no-restore", "--project", "csharp", "--")


def java(home: Path) -> Sequence[str]:
    """Compiled, and run with the driver."""
    program, compiler, drivers = needed("java"), needed("javac"), list(FETCHED.glob("*.jar"))
    if not drivers:
        pytest.skip("sqlite-jdbc was not fetched")
    (home / "Recipe.java").write_text(recipe("java"), encoding="utf-8")
    subprocess.run([compiler, "-encoding", "UTF-8", "Recipe.java"], cwd=home, check=True)
    return (program, "-cp", os.pathsep.join([".", *map(str, drivers)]), "Recipe")


PREPARED = {"sql": sql, "python": python, "node": node, "php": php, "csharp": csharp, "java": java}


def prune(box: Box) -> None:
    """Eight days later, all that is done with is gone."""
    box.now += 8 * DAY
    for work in Work:
        box.store.begin()
        assert not box.store.prune(work, Retention(), box.now).more
        box.store.commit()


def check(box: Box, path: Path, home: Path, command: Sequence[str]) -> None:
    """A host's life: it changes a supplier, polls, and comes too late once."""

    def run(code: str) -> list[Any]:
        done = subprocess.run(
            [*command, str(path), code], cwd=home, capture_output=True, timeout=120, check=False
        )
        assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
        return box.rows("SELECT supplier, state FROM erp_sent ORDER BY delivery_id")

    def delivery(code: str) -> int:
        found = "SELECT delivery_id FROM webhook_results WHERE aggregate_id = ?"
        return int(box.one(found, code))

    box.host.execute("INSERT INTO supplier VALUES ('S-1', 'Rose', 'Lyon')")
    assert run("S-1") == []
    event = box.rows("SELECT event_type, aggregate_id, payload FROM outbox")
    assert event[0][:2] == ("supplier.updated", "S-1")
    assert "Ltd" in event[0][2]
    assert box.rows("SELECT * FROM supplier") == [("S-1", "Rosé Ltd", "Lyon")], "as it was else"
    assert box.ingest().events == 1, "the payload is JSON"
    assert run("S-2") == [("S-1", "pending")]
    box.ingest()
    box.succeed(delivery("S-1"))
    assert run("S-3") == [("S-1", "delivered"), ("S-2", "pending")]
    box.ingest()
    prune(box)
    assert run("S-4") == [("S-1", "delivered"), ("S-2", "pending"), ("S-3", "pending")]
    box.succeed(delivery("S-2"))
    prune(box)
    # S-2 has moved and is gone, unseen: all that is known is what is left.
    assert run("S-5") == [("S-3", "pending")]
    place = "SELECT cursor, floor, epoch FROM erp_place"
    before = box.rows(place)
    assert before[0][0] < before[0][1], "it stands below what was pruned, and goes on from there"
    assert run("S-6") == [("S-3", "pending")]
    assert box.rows(place) == before
    assert box.ingest().events == 3
    assert [supplier for supplier, _ in run("S-7")] == ["S-3", "S-4", "S-5", "S-6"]


@pytest.mark.parametrize(
    "language",
    [pytest.param(one, marks=[pytest.mark.long] if one in SLOW else []) for one in LANGUAGES],
)
def test_a_recipe_works(language: str, tmp_path: Path, box: Box, path: Path) -> None:
    home = tmp_path / "recipe"
    home.mkdir()
    command = PREPARED[language](home)
    box.subscribe()
    for statement in recipe("tables").split(";")[:-1]:
        box.host.execute(statement)
    box.host.execute("ALTER TABLE supplier ADD COLUMN city TEXT")
    check(box, path, home, command)


def test_the_python_recipe_says_what_a_fresh_file_needs(tmp_path: Path, path: Path) -> None:
    command = python(tmp_path)

    def said(file: Path) -> str:
        done = subprocess.run(
            [*command, str(file), "S-1"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        return line

    fresh = tmp_path / "fresh.db"
    assert said(fresh) == f"{fresh}: not prepared: run `webhookd --database {fresh} init`"
    assert said(path).endswith(": create the tables supplier, erp_place and erp_sent first")


def test_every_recipe_is_tested() -> None:
    assert set(re.findall(r"recipe: (\w+)$", RECIPES, re.MULTILINE)) == {"tables", *LANGUAGES}
