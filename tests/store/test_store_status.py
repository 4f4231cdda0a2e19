"""The facts for `status`, from the file."""

from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.status import FileFacts
from webhookd.core.times import to_text
from webhookd.store import status, subscriptions
from webhookd.store.transaction import Session


def facts(box: Box) -> FileFacts:
    with Session(box.path, write=False) as session:
        return status.facts(session.connection, session.file, box.path)


def test_a_new_file(box: Box) -> None:
    found = facts(box)
    assert (found.path, found.epoch, found.sequence) == (str(box.path), 1, 0)
    assert (found.lag_rows, found.rejected, found.outbox_fault) == (0, 0, "")
    assert found.totals == {
        "pending": 0, "delivered": 0, "failed": 0, "cancelled": 0, "superseded": 0,
    }  # fmt: skip
    assert found.subscriptions == ()
    assert found.size >= box.path.stat().st_size > 0


def test_a_file_at_work(box: Box) -> None:
    box.subscribe("one")
    two = box.subscribe("two")
    for number in range(3):
        box.put(aggregate_id=f"S-{number}")
    box.put("bad type")
    box.ingest()
    box.now += 1_000
    box.succeed(2)
    box.retry(5, after=60_000)
    box.cancel(8)
    found = facts(box)
    assert (found.sequence, found.rejected) == (12, 1)
    assert found.totals == {
        "pending": 4, "delivered": 1, "failed": 0, "cancelled": 1, "superseded": 0,
    }  # fmt: skip
    first, second = found.subscriptions
    assert (first.owed, first.delivered, first.failed) == (1, 1, 0)
    assert first.url_shown == "https://one.example.com/hook?***"
    assert (first.oldest_owed_at, first.next_attempt_at) == (
        to_text(NOW), to_text(box.now + 60_000),
    )  # fmt: skip
    assert (first.last_status, first.last_error) == (500, "http 500")
    assert first.last_success_at == to_text(box.now - 5)
    assert first.last_attempt_at == to_text(box.now - 20)
    assert (second.owed, second.last_status, second.last_attempt_at) == (3, None, None)
    assert (second.oldest_owed_at, second.next_attempt_at) == (to_text(NOW), to_text(NOW))
    box.command(lambda t: subscriptions.remove(t, two.key, NOW))
    found = facts(box)
    assert [one.name for one in found.subscriptions] == ["one"]
    assert found.totals["pending"] == 4, "a removed one's are counted until they are cancelled"


def test_nothing_owed(box: Box) -> None:
    box.subscribe()
    (one,) = facts(box).subscriptions
    assert (one.owed, one.oldest_owed_at, one.next_attempt_at) == (0, None, None)


def test_the_lag_is_counted_and_then_estimated(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LAG_COUNTED", 5)
    box.put()
    box.ingest()
    for number in (10, 20, 30, 40):
        box.put(id=number)
    assert facts(box).lag_rows == 4
    box.put(id=1_000)
    assert facts(box).lag_rows == 991
    box.ingest()
    assert facts(box).lag_rows == 0


def test_A22_A23_the_fault_of_an_outbox(box: Box) -> None:
    box.host.execute("ALTER TABLE outbox RENAME COLUMN payload TO body")
    assert facts(box).outbox_fault == "schema: column outbox.payload missing"
    box.host.execute("DROP TABLE outbox")
    assert facts(box).outbox_fault == "schema: table outbox missing"


def test_a_size_without_a_wal(box: Box, tmp_path: Path) -> None:
    box.put()
    assert status._size(tmp_path / "none") == 0
    assert status._size(box.path) > box.path.stat().st_size
