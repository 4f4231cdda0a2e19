"""The units that systemd is given."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from webhookd import errors

UNITS = Path(__file__).parents[2] / "systemd"


def directives(unit: str) -> list[tuple[str, str]]:
    """The lines of a unit, in order."""
    lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in pairs]


def test_systemd_finds_the_units_sound() -> None:
    done = subprocess.run(
        [UNITS / "check", sys.executable], capture_output=True, text=True, timeout=60, check=False
    )
    if "passed over" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("1.1 OK") == 2


def test_what_a_restart_cannot_mend_is_not_restarted() -> None:
    said = dict(directives("webhookd.service"))
    codes = {int(code) for code in said["RestartPreventExitStatus"].split()}
    assert codes == {errors.EXIT_USAGE, errors.EXIT_CONFIG, errors.EXIT_ANOTHER_DAEMON}
    assert said["Restart"] == "on-failure"
    assert said["StartLimitIntervalSec"] == "0", "B5: a file that is missing is waited for"


def test_the_template_differs_in_its_names_alone() -> None:
    one, several = directives("webhookd.service"), directives("webhookd@.service")
    differing = {
        name for (name, first), (_, other) in zip(one, several, strict=True) if first != other
    }
    assert [name for name, _ in one] == [name for name, _ in several]
    assert differing == {"Description", "ExecStart"}


def test_every_section_is_one_that_systemd_knows() -> None:
    for unit in ("webhookd.service", "webhookd@.service"):
        parsed = configparser.RawConfigParser(strict=False, allow_no_value=True)
        parsed.read(UNITS / unit)
        assert parsed.sections() == ["Unit", "Service", "Install"]
