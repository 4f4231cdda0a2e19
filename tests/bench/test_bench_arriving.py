"""What the file says was attempted is held against what arrived at the receiver."""

import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench import fixture
from bench.processes import Receiver, receiver
from bench.report import BenchFailed
from bench.store import Batch
from bench.writing import recording
from webhookd.core.model import DeliveryId
from webhookd.store.driver import connect

NOW = 1_780_000_000_000


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("receiver")) as found:
        yield found


@pytest.fixture
def workload(tmp_path: Path, serving: Receiver) -> fixture.Workload:
    found = fixture.prepare(tmp_path, port=serving.port, endpoints=2, events=4)
    with closing(fixture.open_store(found)) as store:
        fixture.take_in(store)
    return found


def arrive(serving: Receiver, requests: int) -> None:
    for _ in range(requests):
        urllib.request.urlopen(f"http://127.0.0.1:{serving.port}/webhooks/00", b"{}").close()


def attempt(workload: fixture.Workload, subscription: int) -> None:
    """Have two outcomes recorded."""
    with closing(connect(workload.database, mode="ro")) as connection:
        rows = connection.execute(
            "SELECT id FROM webhookd_deliveries WHERE subscription = ?", (subscription,)
        ).fetchall()
    batch = Batch.of([DeliveryId(row[0]) for row in rows], NOW)
    with closing(fixture.open_store(workload)) as store:
        recording(store, batch.records, batch.now)[1]()


def test_every_attempt_of_the_block_has_arrived_once(
    workload: fixture.Workload, serving: Receiver
) -> None:
    for subscription in (1, 2):
        with fixture.arriving(workload, serving):
            attempt(workload, subscription)
            arrive(serving, 2)


@pytest.mark.parametrize("arrived", [0, 1, 3])
def test_an_attempt_that_did_not_arrive_or_did_twice_is_told(
    workload: fixture.Workload, serving: Receiver, arrived: int
) -> None:
    def run() -> None:
        with fixture.arriving(workload, serving):
            attempt(workload, 1)
            arrive(serving, arrived)

    with pytest.raises(BenchFailed, match=f"2 requests were to be made, but {arrived} arrived"):
        run()


def test_subscriptions_that_are_elsewhere_do_not_count(
    workload: fixture.Workload, serving: Receiver
) -> None:
    with fixture.arriving(workload, serving, last=1):
        attempt(workload, 1)
        attempt(workload, 2)
        arrive(serving, 2)
