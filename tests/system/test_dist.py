"""What `make dist` says to somebody without a network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the build scripts and nothing else."""
    shutil.copytree(ROOT / "packaging", tmp_path / "packaging")
    return tmp_path


def run(checkout: Path, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "packaging" / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.defpath},
    )


def executable(path: Path, program: str) -> Path:
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return path


def test_a_build_that_cannot_reach_the_index_says_so_in_one_line(checkout: Path) -> None:
    uv = executable(checkout / "uv", "echo trying; echo 'error: no route to host'; exit 2")
    done = run(checkout, "dist", uv)
    assert done.returncode == 1
    began, failed = done.stderr.splitlines()
    assert began == "dist: wheel and sdist"
    assert failed.startswith("make dist: wheel and sdist: failed; it needs the package index")
    assert failed.endswith(": error: no route to host; see dist/build.log")


def test_a_file_that_does_not_pass_the_demo_fails_the_smoke_test(checkout: Path) -> None:
    (checkout / "dist").mkdir()
    executable(checkout / "dist" / "webhookd.pyz", "")
    python = executable(checkout / "python", "echo 'one thing'; echo 'the last thing'; exit 1")
    done = run(checkout, "smoke", python)
    assert done.returncode == 1
    assert done.stderr == "make dist: webhookd.pyz does not pass the demo: the last thing\n"
