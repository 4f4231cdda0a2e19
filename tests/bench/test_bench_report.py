"""What a benchmark writes."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.report import Result, as_json, code, table


def test_json_has_lists_of_numbers_on_a_line_and_five_digits() -> None:
    text = as_json({"a": [1.23456789, 2.0, 3], "b": {"c": ["x [1,", "y"], 1: (123456.7,)}})
    assert '"a": [ 1.2346, 2.0, 3 ]' in text
    assert json.loads(text) == {
        "a": [1.2346, 2.0, 3],
        "b": {"c": ["x [1,", "y"], "1": [123460.0]},
    }


def test_a_table_has_its_settings_above_and_its_remarks_below() -> None:
    result = Result(
        settings={"rounds": 3},
        columns=("", "ms"),
        rows=(("a longer label", "1"), ("b", "")),
        figures={},
        remarks=("median",),
    )
    assert table("latency", result).splitlines() == [
        "latency: rounds 3",
        "                  ms",
        "  a longer label  1",
        "  b",
        "  - median",
    ]


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("webhookd", "bench/results"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("1")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=one")
    return tmp_path


def test_results_name_the_commit_that_was_measured(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert len(commit) == 40
    (repository / "bench/results/file").write_text("2")
    assert code(repository) == {"commit": commit, "changed": False}


@pytest.mark.parametrize("name", ["file", "new"])
def test_results_say_that_the_code_was_changed(repository: Path, name: str) -> None:
    (repository / "webhookd" / name).write_text("2")
    assert code(repository)["changed"] is True


def test_a_repository_around_the_code_is_not_its_own(repository: Path) -> None:
    assert code(repository / "webhookd") == {"commit": "", "changed": None}


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(tmp_path) == {"commit": "", "changed": None}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code(tmp_path) == {"commit": "", "changed": None}
