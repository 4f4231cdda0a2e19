"""What holds for the whole package."""

import pkgutil
import subprocess
import sys

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
