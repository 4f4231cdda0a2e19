"""What is measured is written as the daemon writes it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench import fixture
from bench.store import Batch
from bench.writing import ingesting, recording
from webhookd.core.model import DeliveryId
from webhookd.store.driver import connect
from webhookd.store.outbox import BATCH_ROWS

NOW = 1_780_000_000_000


class Heard:
    """A store that remembers what was asked of it, and with what ahead."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[str] = []
        self.ahead: list[object] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            self.asked.append(name)
            if name in ("ingest", "record"):
                self.ahead.append(arguments[-1])
            return getattr(self._store, name)(*arguments)

        return ask


@pytest.fixture
def workload(tmp_path: Path) -> fixture.Workload:
    return fixture.prepare(tmp_path, port=9, endpoints=1, events=BATCH_ROWS + 1)


@pytest.fixture
def heard(workload: fixture.Workload) -> Iterator[Any]:
    with closing(fixture.open_store(workload)) as store:
        yield Heard(store)


def test_rows_are_read_before_the_lock_is_taken(heard: Any) -> None:
    done, commit = ingesting(heard, NOW)
    assert heard.asked == ["fresh", "begin", "ingest", "seal"]
    assert heard.ahead[0] is not None
    assert (done.deliveries, done.more) == (BATCH_ROWS, True)
    assert commit() > 0
    assert heard.asked[4:] == ["commit"]


def test_all_is_taken_in_batch_by_batch(heard: Any, workload: fixture.Workload) -> None:
    held = fixture.take_in(heard)
    assert len(held) == heard.asked.count("commit") == 2
    assert min(held) > 0


def test_outcomes_are_worked_out_before_the_lock_is_taken(
    heard: Any, workload: fixture.Workload
) -> None:
    fixture.take_in(heard)
    heard.asked.clear()
    heard.ahead.clear()
    with closing(connect(workload.database, mode="ro")) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM webhookd_deliveries")]
    batch = Batch.of([DeliveryId(one) for one in ids], NOW)
    _, commit = recording(heard, batch.records, batch.now)
    assert heard.asked == ["examine", "begin", "record", "seal"]
    assert len(heard.ahead[0]) == len(ids)  # none of them needs a second thought
    commit()
    fixture.check_delivered(workload)
