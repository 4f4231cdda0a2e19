"""What holds for the whole package."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import webhookd


def test_E20_every_module_imports_with_optimisation_isolation_and_no_warning() -> None:
    modules = [
        found.name
        for found in pkgutil.walk_packages(webhookd.__path__, "webhookd.")
        if not found.name.endswith(".__main__")
    ]
    assert "webhookd.core.delivery" in modules
    program = "import importlib\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in modules
    )
    done = subprocess.run(
        [sys.executable, "-O", "-I", "-W", "error", "-c", program],
        env={"LANG": "C"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SOURCES = sorted(Path(webhookd.__file__).parent.rglob("*.py"))


def test_B28_no_time_of_the_file_system_is_looked_at() -> None:
    telling = ("st_mtime", "st_ctime", "st_atime", "getmtime", "getctime")
    found = [path.name for path in SOURCES if any(name in path.read_text() for name in telling)]
    assert found == []


def test_E10_who_catches_everything_raises_it_again() -> None:
    """A `Cancelled` that ends in a handler keeps a task alive that was to end."""
    wrong = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        # What comes out of `trio.run` is in no task any more.
        over = {
            handler
            for attempt in ast.walk(tree)
            if isinstance(attempt, ast.Try) and "trio.run(" in ast.unparse(attempt.body[0])
            for handler in attempt.handlers
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler) or node in over:
                continue
            caught = "" if node.type is None else ast.unparse(node.type)
            everything = node.type is None or "BaseException" in caught or "Cancelled" in caught
            last = node.body[-1]
            if everything and not (isinstance(last, ast.Raise) and last.exc is None):
                wrong.append(f"{path.name}:{node.lineno}")
    assert wrong == []
