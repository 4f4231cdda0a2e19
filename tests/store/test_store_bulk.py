"""20,000 deliveries and a hot aggregate of 5,000: figures right, steps few."""

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId
from webhookd.core.storage import AttemptNote, Record
from webhookd.store import deliveries, subscriptions

HOT, COLD = 5_000, 5_000


def success(number: int) -> Record:
    note = AttemptNote(1, NOW, 1, 200, "", "", "", b"", b"")
    move = Move(Happening.SUCCEEDED, NOW, attempted_at=NOW, status=200)
    return Record(DeliveryId(number), move, note)


def steps_of(box: Box, connection: object) -> list[int]:
    """Counts SQLite's own steps, by hundreds: work that a clock cannot blur."""
    count = [0]

    def tick() -> int:
        count[0] += 1
        return 0

    connection.set_progress_handler(tick, 100)  # type: ignore[attr-defined]
    return count


def test_20_000_deliveries_with_a_hot_aggregate(box: Box) -> None:
    for name in ("one", "two"):
        box.subscribe(name)
    for connection in (box.store._writer, box.host):
        connection.execute("PRAGMA synchronous = OFF")
    box.host.execute(
        "INSERT INTO outbox (event_type, aggregate_id) WITH RECURSIVE n (i) AS"
        f" (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HOT + COLD})"
        f" SELECT 'supplier.changed', CASE WHEN i % 2 THEN 'hot' ELSE 'cold-' || i END FROM n"
    )
    done = box.ingest_all()
    assert sum(one.events for one in done) == HOT + COLD
    assert sum(one.deliveries for one in done) == 2 * (HOT + COLD)
    assert max(one.deliveries for one in done) <= 1_000
    assert box.rows("SELECT pending, numbers FROM webhookd_counters") == [(HOT + COLD,) * 2] * 2
    assert box.one("SELECT count(*) FROM webhookd_deliveries WHERE due_at IS NOT NULL") == (
        2 * (COLD + 1)
    )
    assert box.rows("SELECT first, last FROM webhookd_ranges") == [(1, HOT + COLD)]

    # A head is finished, 100 at a time, each step as cheap with 5,000 behind it as with none.
    ticks = steps_of(box, box.store._writer)
    cold = [number for number in box.due(1, limit=10_000) if number != 2][:100]
    box.record(*map(success, cold))
    without_successors = ticks[0]
    hot = box.rows(
        "SELECT d.id FROM webhookd_deliveries AS d JOIN webhookd_events AS e"
        " ON e.sequence = d.event WHERE d.subscription = 1 AND e.aggregate_id = 'hot'"
        " ORDER BY d.id LIMIT 101"
    )
    ticks[0] = 0
    is_due = "SELECT due_at IS NOT NULL FROM webhookd_deliveries WHERE id = ?"
    for (number,) in hot[:100]:
        assert box.one(is_due, number) == 1
        box.record(success(number))
    assert ticks[0] < 4 * without_successors + 400
    assert box.one(is_due, hot[100][0]) == 1
    assert box.one("SELECT delivered FROM webhookd_counters WHERE subscription = 1") == 200

    # And all of it is taken back, in short batches.
    for key in (1, 2):
        box.command(lambda t, key=key: subscriptions.remove(t, key, NOW))
    batches = []
    while not batches or batches[-1]:
        box.store.begin()
        batches.append(box.store.carry_out(NOW).rows)
        box.store.commit()
    assert max(batches) == deliveries.BULK_ROWS
    assert sum(batches) == 2 * (HOT + COLD) - 200
    counted = box.rows(
        "SELECT sum(state = 'pending'), sum(state = 'delivered'), sum(state = 'cancelled'),"
        " count(DISTINCT sequence) FROM webhookd_deliveries"
    )
    assert counted == [(0, 200, sum(batches), 2 * (HOT + COLD))]
    assert box.rows("SELECT sum(pending), sum(delivered), sum(cancelled) FROM webhookd_counters") \
        == [(0, 200, sum(batches))]  # fmt: skip
    assert box.store.next_due(1) is None


@pytest.mark.parametrize("behind", [10, 2_000])
def test_the_window_of_a_lane_does_not_see_who_waits(box: Box, behind: int) -> None:
    box.subscribe()
    box.host.execute(
        "INSERT INTO outbox (event_type, aggregate_id) WITH RECURSIVE n (i) AS"
        f" (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {behind}) SELECT 'a', 'hot' FROM n"
    )
    box.ingest_all()
    ticks = steps_of(box, box.store._reader)
    assert box.due(1) == [2]
    assert box.store.next_due(1) == NOW
    assert ticks[0] <= 5


def test_all_that_several_removed_ones_were_owed_is_taken_back(box: Box) -> None:
    """Steps go on until nothing is left: a short one was only the end of one subscription's."""
    for name in ("one", "two", "three"):
        box.subscribe(name)
    box.put("supplier.changed")
    box.ingest_all()
    for key in (1, 2, 3):
        box.command(lambda t, key=key: subscriptions.remove(t, key, NOW))
    more, steps = True, 0
    while more:
        box.store.begin()
        more = box.store.carry_out(NOW).more
        box.store.commit()
        steps += 1
    assert steps == 4
    assert box.rows("SELECT DISTINCT state FROM webhookd_deliveries") == [("cancelled",)]
