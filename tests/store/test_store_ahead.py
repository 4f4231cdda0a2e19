"""What is read and worked out before the write lock is taken, and what may happen until it is."""

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core import rows
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId
from webhookd.core.storage import Ingested, Record, Recorded
from webhookd.core.store import Stale
from webhookd.store import deliveries, rejected


def ingest(box: Box, ahead: object) -> Ingested:
    box.store.begin()
    done = box.store.ingest(box.now, ahead)
    box.store.commit()
    return done


def record(box: Box, ahead: object, *records: Record) -> Recorded:
    box.store.begin()
    done = box.store.record(records, box.now, ahead)
    box.store.commit()
    return done


def event_ids(box: Box) -> list[str]:
    return [one for (one,) in box.rows("SELECT event_id FROM webhookd_events ORDER BY sequence")]


def test_A16_a_row_that_the_host_changes_after_it_was_read_is_taken_in_as_it_is(box: Box) -> None:
    """Its host looked under the lock, found no event of it yet, and mended it."""
    box.subscribe()
    box.put(event_id="a", payload='"before"')
    number = box.put(event_id="b", payload='"old"')
    ahead = box.store.fresh(NOW)
    box.host.execute("UPDATE outbox SET payload = '\"new\"' WHERE id = ?", (number,))
    with pytest.raises(Stale):
        ingest(box, ahead)
    box.store.rollback()
    assert ingest(box, None).events == 2
    payloads = box.rows("SELECT CAST(payload AS TEXT) FROM webhookd_events ORDER BY sequence")
    assert payloads == [('"before"',), ('"new"',)]


def test_a_row_that_the_host_takes_back_after_it_was_read_is_no_event(box: Box) -> None:
    box.subscribe()
    number = box.put(event_id="a")
    box.put(event_id="b")
    ahead = box.store.fresh(NOW)
    box.host.execute("DELETE FROM outbox WHERE id = ?", (number,))
    with pytest.raises(Stale):
        ingest(box, ahead)
    box.store.rollback()
    assert ingest(box, None).events == 1
    assert event_ids(box) == ["b"]


def test_other_writes_of_the_host_change_nothing_of_what_was_read(box: Box) -> None:
    box.put(event_id="a")
    ahead = box.store.fresh(NOW)
    box.host.execute("CREATE TABLE host_stuff (a)")
    assert (ingest(box, ahead).events, event_ids(box)) == (1, ["a"])


def test_rows_that_came_after_the_look_are_for_the_next_batch(box: Box) -> None:
    box.put(event_id="a")
    ahead = box.store.fresh(NOW)
    box.put(event_id="b")
    assert (ingest(box, ahead).events, event_ids(box)) == (1, ["a"])
    assert (box.ingest().events, event_ids(box)) == (1, ["a", "b"])


def test_what_was_read_before_another_batch_is_not_taken(box: Box) -> None:
    box.put(event_id="a")
    ahead = box.store.fresh(NOW)
    box.ingest()
    box.put(event_id="b")
    with pytest.raises(Stale):
        ingest(box, ahead)
    box.store.rollback()
    assert ingest(box, None).events == 1
    assert event_ids(box) == ["a", "b"]


def test_an_event_that_a_command_took_in_meanwhile_makes_the_row_a_duplicate(box: Box) -> None:
    """A rejected row is mended and retried while the daemon has the same event id in its hand."""
    bad = box.put("", event_id="same")
    box.ingest()
    box.put("x", event_id="same")
    ahead = box.store.fresh(NOW)
    box.host.execute("UPDATE outbox SET event_type = 'x' WHERE id = ?", (bad,))
    with rejected.Session(box.path, write=True) as session:
        retry = rejected.Retry(
            session,
            default_tenant="",
            max_payload=1_000,
            ids_never_reused=False,
            clock=lambda: NOW,
        )
        assert [one.events for one in retry.these([bad])] == [(bad,)]
    with pytest.raises(Stale):
        ingest(box, ahead)
    box.store.rollback()
    done = ingest(box, None)
    assert [one.reason for one in done.rejected] == ["duplicate_event_id"]
    assert event_ids(box) == ["same"]


def test_two_rows_of_one_batch_with_the_same_event_id(box: Box) -> None:
    box.put(event_id="a")
    box.put(event_id="a")
    done = box.ingest()
    assert (done.events, [one.outbox_id for one in done.rejected]) == (1, [2])


def test_a_subscription_that_came_after_the_look_is_owed_the_event(box: Box) -> None:
    box.put()
    ahead = box.store.fresh(NOW)
    box.subscribe()
    assert ingest(box, ahead).deliveries == 1


def test_events_of_one_aggregate_in_one_batch_stand_in_line_and_the_last_is_in_the_feed(
    box: Box,
) -> None:
    box.subscribe()
    for kind in ("a", "b", "c"):
        box.put(kind, aggregate_id="S-1")
    box.ingest()
    assert box.rows("SELECT event_type FROM webhook_changes") == [("c",)]
    box.put("d", aggregate_id="S-1")
    box.put("e", aggregate_id="S-1")
    box.ingest()
    assert box.rows("SELECT event_type FROM webhook_changes") == [("e",)]
    assert box.rows("SELECT count(*) FROM webhookd_deliveries WHERE due_at IS NOT NULL") == [(1,)]


def test_no_more_rows_are_judged_than_a_batch_can_take(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each event of a wide fan-out would cost the judging of a hundred rows."""
    for number in range(60):
        box.subscribe(f"s{number}")
    for _ in range(50):
        box.put()
    judged: list[object] = []
    real = rows.judge
    monkeypatch.setattr(
        rows, "judge", lambda row, **rest: (judged.append(row), real(row, **rest))[1]
    )
    done = box.ingest_all()
    assert [one.events for one in done] == [5] * 10
    assert len(judged) == 50


@pytest.fixture
def two(box: Box) -> Box:
    """Two deliveries, 2 and 4, of the same aggregate in one line."""
    box.subscribe()
    box.put(aggregate_id="S-1")
    box.put(aggregate_id="S-1")
    box.ingest()
    return box


def success(box: Box, delivery: int) -> Record:
    return box.outcome(delivery, Happening.SUCCEEDED, status=200)


def test_a_success_lets_the_next_in_line_come_to_the_head(two: Box) -> None:
    assert two.due(1, NOW) == [2]
    done = two.succeed(2)
    assert (done.ready, two.due(1, NOW)) == ({1}, [4])


def test_what_an_operator_did_after_the_look_is_noticed_and_nothing_is_written(two: Box) -> None:
    made = success(two, 2)
    ahead = two.store.examine([made])
    two.command(lambda t: deliveries.cancel(t, DeliveryId(2), NOW))
    before = two.results()
    with pytest.raises(Stale):
        record(two, ahead, made)
    two.store.rollback()
    assert two.results() == before
    record(two, None, made)
    assert [row["state"] for row in two.results()] == ["delivered", "pending"]


def test_an_opening_since_the_look_is_noticed(two: Box) -> None:
    made = success(two, 2)
    ahead = two.store.examine([made])
    two.command(lambda t: deliveries.cancel(t, DeliveryId(2), NOW))
    two.now += 1_000
    two.reopen_delivery(2)
    with pytest.raises(Stale):
        record(two, ahead, made)
    two.store.rollback()


def test_another_record_of_the_same_delivery_is_not_taken_for_the_success(two: Box) -> None:
    noted = Record(
        DeliveryId(2), Move(Happening.RETRY, NOW, retry_at=NOW + 5, error="no net"), None
    )
    two.record(noted, success(two, 2))
    assert [row["state"] for row in two.results()] == ["delivered", "pending"]
    assert two.one("SELECT count(*) FROM webhookd_attempts") == 1


def test_sequences_follow_the_order_of_the_outcomes(box: Box) -> None:
    """Whichever way an outcome takes: a poller sees them in the order in which they came."""
    box.subscribe()
    for _ in range(4):
        box.put()
    box.ingest()
    ids = [row["delivery_id"] for row in box.results()]
    retry = box.outcome(ids[2], Happening.RETRY, retry_at=NOW + 1)
    box.record(success(box, ids[3]), retry, success(box, ids[0]), success(box, ids[1]))
    told = sorted(box.results(), key=lambda row: row["sequence"])
    assert [row["delivery_id"] for row in told] == [ids[3], ids[2], ids[0], ids[1]]


def test_a_success_after_a_failure_clears_what_was_kept_of_it(box: Box) -> None:
    box.subscribe(policy={"max_block": 60_000})
    box.put(aggregate_id="S-1")
    box.ingest()
    box.retry(2, after=1_000)
    assert box.rows("SELECT failing_since IS NULL, pass_at IS NULL FROM webhookd_deliveries") == [
        (0, 0)
    ]
    box.now += 1_000
    box.succeed(2)
    assert box.rows(
        "SELECT failing_since, pass_at, retry_at, due_at, attempts, tries FROM webhookd_deliveries"
    ) == [(None, None, None, None, 2, 2)]


def test_another_body_is_told_of_whichever_way_the_outcome_takes(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.retry(2, after=0)
    box.host.execute("UPDATE webhookd_deliveries SET body_hash = x'00'")
    made = success(box, 2)
    assert box.store.examine([made]) == {}
    assert len(box.record(made).body_changed) == 1
