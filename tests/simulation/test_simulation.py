"""The simulation finds nothing, finds every seeded defect, and tells each story the same twice.

Each run is a process of its own: it is spread over the cores, and not slowed down by coverage.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.defects import DEFECTS

ROOT = Path(__file__).parents[2]
SEEDS = "1-100"
MANY_SEEDS = "10001-13000"
WITHIN = 120
"""Seeds in which every defect must be caught."""


def _simulate(*arguments: str, **environment: str) -> str:
    """The output of the command line; what fails shows it, with the command for each seed."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env=environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_B26_E2_no_promise_is_broken() -> None:
    assert "100 seeds, 0 with violations" in _simulate("--seeds", SEEDS)


@pytest.mark.long
def test_B26_E2_no_promise_is_broken_in_thousands_of_seeds() -> None:
    assert "3000 seeds, 0 with violations" in _simulate("--seeds", MANY_SEEDS)


def test_a_seed_is_the_same_story_in_every_process() -> None:
    wanted = ("--seeds", "1-4", "--digest")
    first, second = _simulate(*wanted, PYTHONHASHSEED="1"), _simulate(*wanted, PYTHONHASHSEED="2")
    assert first == second
    assert len(set(re.findall(r"[0-9a-f]{64}", first))) == 4


@pytest.mark.long
def test_every_seeded_defect_is_caught() -> None:
    table = _simulate("--defects", str(WITHIN))
    print(table)
    needed = dict(re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE))
    assert needed.keys() == DEFECTS.keys()
