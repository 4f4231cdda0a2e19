"""The facts for `status`, from the file."""

from pathlib import Path

import pytest

from tests.store.conftest import NOW, Box
from tests.store.test_store_bulk import steps_of
from webhookd.core.columns import OWN
from webhookd.core.delivery import Happening
from webhookd.core.model import SubscriptionState
from webhookd.core.outcomes import Signs
from webhookd.core.status import FileFacts
from webhookd.core.times import to_text
from webhookd.errors import DatabaseError
from webhookd.store import sources, status, subscriptions
from webhookd.store.sizes import file_bytes, wal_bytes
from webhookd.store.transaction import Session


def facts_of(session: Session, box: Box) -> FileFacts:
    return status.facts(session.connection, session.file, box.path, now=box.now)


def facts(box: Box) -> FileFacts:
    with Session(box.path, write=False) as session:
        return facts_of(session, box)


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


def test_health_as_recorded(box: Box) -> None:
    one = box.subscribe("one", policy={"failing_after": 1, "retry_after_max": 90_000})
    box.put(aggregate_id="S-1")
    box.ingest()
    made = box.outcome(2, Happening.RETRY, retry_at=NOW)
    box.record(made._replace(signs=Signs(ill=True, held_until=NOW + 60_000)))
    (found,) = facts(box).subscriptions
    assert found.health == box.store.health(one.key)
    assert (found.health.failing_since, found.health.held_until) == (NOW, NOW + 60_000)
    assert (found.policy.retry_after_max, found.policy.timeout) == (90_000, 15_000)
    assert (found.state, found.disabled_at) == (SubscriptionState.ENABLED, None)


def test_disabled_by_a_rule_and_since_when(box: Box) -> None:
    box.subscribe("one")
    box.put()
    box.ingest()
    box.now += 5_000
    made = box.outcome(2, Happening.RETRY, status=410, retry_at=box.now)
    box.record(made._replace(signs=Signs(gone=True)))
    (found,) = facts(box).subscriptions
    assert (found.state, found.state_reason) == (SubscriptionState.DISABLED, "gone")
    assert (found.disabled_at, found.owed) == (to_text(NOW + 5_000), 1)


def test_the_next_attempt_is_the_earlier_of_first_and_further_ones(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    for _ in range(2):
        box.put()
    box.ingest()
    box.retry(2, after=9_000)
    assert facts(box).subscriptions[0].next_attempt_at == to_text(NOW)
    box.retry(4, after=-9_000)
    assert facts(box).subscriptions[0].next_attempt_at == to_text(NOW - 9_000)
    box.succeed(4)
    assert facts(box).subscriptions[0].next_attempt_at == to_text(NOW + 9_000)


def test_what_a_newer_program_wrote_is_shown_all_the_same(box: Box) -> None:
    box.subscribe("one", profile="of-tomorrow", policy={"colour": "red"})
    (found,) = facts(box).subscriptions
    assert found.name == "one"


@pytest.mark.parametrize("owed", [10, 5_000])
def test_it_costs_no_scan(box: Box, owed: int) -> None:
    box.subscribe()
    box.store._writer.execute("PRAGMA synchronous = OFF")
    box.host.execute(
        "INSERT INTO outbox (event_type) WITH RECURSIVE n (i) AS"
        f" (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {owed}) SELECT 'a' FROM n"
    )
    box.ingest_all()
    with Session(box.path, write=False) as session:
        ticks = steps_of(box, session.connection)
        assert facts_of(session, box).totals["pending"] == owed
    assert ticks[0] <= 20


def test_it_takes_the_same_few_statements_however_many_subscriptions_there_are(box: Box) -> None:
    counts = []
    for number in range(5):
        box.subscribe(f"s{number}")
        box.put(aggregate_id=f"S-{number}")
        box.ingest()
        said: list[str] = []
        with Session(box.path, write=False) as session:
            session.connection.set_trace_callback(said.append)
            facts_of(session, box)
        counts.append(len(said))
    assert len(set(counts)) == 1


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
    assert facts(box).outbox_fault == (
        "schema: column outbox.payload missing; give it that name again with ALTER TABLE, or add "
        "it where it was dropped"
    )
    box.host.execute("DROP TABLE outbox")
    assert facts(box).outbox_fault == (
        "schema: table outbox missing; `webhookd init` makes it again"
    )


def test_a_size_without_a_wal(box: Box, tmp_path: Path) -> None:
    box.put()
    assert file_bytes(tmp_path / "none") == 0
    assert file_bytes(box.path) == box.path.stat().st_size
    assert wal_bytes(tmp_path / "none") == 0
    found = facts(box)
    assert found.wal_bytes == wal_bytes(box.path) > 0
    assert found.size == box.path.stat().st_size + found.wal_bytes
    assert found.free_bytes == 0


def test_B11_a_damaged_file_is_not_told_as_an_unfit_outbox(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise DatabaseError("erp.db: damaged (database disk image is malformed)")

    monkeypatch.setattr(sources, "check_ready", damaged)
    with Session(box.path, write=False) as session, session.read() as connection:
        row = session.file
        with pytest.raises(DatabaseError, match="damaged"):
            sources.unfit(connection, box.path, row, OWN, ids_never_reused=False)
