"""The host that benchmarks have."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from bench import fixture, host
from bench.host import Commit


def test_a_commit_is_read_as_it_was_written() -> None:
    commit = Commit("bench-7", 12, 34, 5)
    assert Commit.parse(commit.line()) == commit


def test_the_moment_of_an_event_is_before_anybody_can_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    class Told(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            asked.append((statement, time.monotonic_ns()))
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Told, **k))
    workload = fixture.prepare(tmp_path, port=9, endpoints=1, events=0)
    commits = host.run(str(workload.database), 3, 1_000.0, 1)
    inserted = [at for statement, at in asked if statement.startswith("INSERT")]
    committing = [at for statement, at in asked if statement == "COMMIT"]
    for one, before, after in zip(commits, inserted, committing, strict=True):
        assert before < one.at <= after
        assert 0 < one.waited < one.took
