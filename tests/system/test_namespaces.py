"""In a network and a mount namespace of its own: a public address, a resolver that changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "programs" / "namespaced.py"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program says; it runs once for all."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare here to make a namespace with")
    command = [unshare, "--user", "--map-root-user", "--net", "--mount"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us make namespaces")
    folder = tmp_path_factory.mktemp("namespace")
    done = subprocess.run(
        [*command, sys.executable, PROGRAM, folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_D10_a_public_address_of_this_machine_is_never_connected_to(told: dict[str, Any]) -> None:
    assert told["own"] == "blocked: 8.8.4.4 is an address of this machine"
    assert told["own_connections"] == 0
    assert told["own_allowed"] == "200"


def test_D10_it_is_asked_anew_at_each_dial(told: dict[str, Any]) -> None:
    assert told["not_own_yet"].startswith("local: ")
    assert told["own_by_now"] == "blocked: 8.8.4.5 is an address of this machine"


def test_D10_a_range_that_is_local_is_known_and_a_kernel_that_binds_anything_does_not_mislead(
    told: dict[str, Any],
) -> None:
    assert told["own_range"] == "blocked: 9.9.9.77 is an address of this machine"
    assert told["bound_to_anything"].startswith("local: ")


def test_D3_an_empty_resolv_conf_is_a_fault_and_a_mended_one_counts_at_once(
    told: dict[str, Any],
) -> None:
    assert told["empty"].startswith("dns: partner.example: ")
    assert told["mended"] == ["198.51.100.1"]
    assert told["changed"] == ["198.51.100.2"]
