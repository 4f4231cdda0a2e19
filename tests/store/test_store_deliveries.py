"""What operators ask of deliveries and events, and what they may do."""

from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening
from webhookd.core.model import DeliveryState
from webhookd.core.times import to_text
from webhookd.errors import NotFound, Refused
from webhookd.store import deliveries, subscriptions
from webhookd.store.deliveries import Filter


@pytest.fixture
def full(box: Box) -> Box:
    """Events 1 and 4, with deliveries 2, 3 (delivered, failed) and 5, 6; one rejected row."""
    box.subscribe("one")
    box.subscribe("two")
    box.put("supplier.created", aggregate_id="S-1", tenant="acme", payload='{"a": "ä"}',
            event_id="E-1")  # fmt: skip
    box.ingest()
    box.now += 1_000
    box.put("order.created", aggregate_id="O-1", occurred_at="soon")
    box.put("bad type")
    box.ingest()
    box.succeed(2)
    box.fail(3)
    return box


def listed(box: Box, **wanted: Any) -> list[int]:
    found = deliveries.list_deliveries(box.host, Filter(**wanted))
    return [row["delivery_id"] for row in found]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [6, 5, 3, 2]),
        ({"limit": 2}, [6, 5]),
        ({"state": DeliveryState.PENDING}, [6, 5]),
        ({"state": DeliveryState.FAILED}, [3]),
        ({"subscription": "one"}, [5, 2]),
        ({"subscription": f"wh_{'two':_<22}"}, [6, 3]),
        ({"event": "E-1"}, [3, 2]),
        ({"event_type": "order.created"}, [6, 5]),
        ({"aggregate_id": "S-1", "subscription": "two"}, [3]),
        ({"tenant": "acme"}, [3, 2]),
        ({"tenant": "acme' OR '1'='1"}, []),
        ({"since": NOW + 1_000}, [6, 5]),
        ({"until": NOW + 1_000}, [3, 2]),
        ({"since": NOW, "until": NOW}, []),
        ({"until": 0}, []),
        ({"since": 0}, [6, 5, 3, 2]),
    ],
)
def test_E23_filters_of_deliveries(
    full: Box, wanted: dict[str, object], expected: list[int]
) -> None:
    assert listed(full, **wanted) == expected


def test_a_delivery_with_its_attempts(full: Box) -> None:
    shown = deliveries.show_delivery(full.host, 3)
    assert (shown["state"], shown["reason"], shown["number"]) == ("failed", "exhausted", 1)
    assert shown["due_at"] is None
    assert shown["attempts_made"] == [
        {
            "number": 1, "started_at": to_text(full.now - 20), "duration_ms": 15, "status": 500,
            "error_class": "http_5xx", "error": "http 500", "note": None, "excerpt": "sorry",
        }
    ]  # fmt: skip
    waiting = deliveries.show_delivery(full.host, 5)
    assert waiting["due_at"] == to_text(full.now)
    assert waiting["attempts_made"] == []


def test_an_excerpt_of_odd_bytes_is_shown(full: Box) -> None:
    full.host.execute("UPDATE webhookd_attempts SET excerpt = x'ff61' WHERE delivery = 2")
    full.host.execute("UPDATE webhookd_attempts SET excerpt = x'' WHERE delivery = 3")
    assert deliveries.show_delivery(full.host, 2)["attempts_made"][0]["excerpt"] == "\ufffda"
    assert deliveries.show_delivery(full.host, 3)["attempts_made"][0]["excerpt"] is None


def test_events_and_rejected_rows(full: Box) -> None:
    def types(**wanted: Any) -> list[str]:
        found = deliveries.list_events(full.host, Filter(**wanted))
        return [row["event_type"] for row in found]

    assert types() == ["order.created", "supplier.created"]
    assert types(limit=1) == ["order.created"]
    assert types(event_type="order.created") == ["order.created"]
    assert types(aggregate_id="S-1", tenant="acme") == ["supplier.created"]
    assert types(until=NOW + 1) == ["supplier.created"]
    assert types(since=NOW + 1) == ["order.created"]
    rejected = deliveries.list_rejected(full.host, Filter())
    assert [(row["outbox_id"], row["reason"], row["event_type"]) for row in rejected] == [
        (3, "bad_event_type", "bad type")
    ]
    assert deliveries.list_rejected(full.host, Filter(until=NOW)) == []
    assert len(deliveries.list_rejected(full.host, Filter(since=NOW))) == 1


def test_an_event_by_its_id_and_by_its_sequence(full: Box) -> None:
    shown = deliveries.show_event(full.host, "E-1")
    assert shown == deliveries.show_event(full.host, "1")
    assert (shown["payload"], shown["time_guessed"]) == ('{"a": "ä"}', False)
    assert [(row["delivery_id"], row["state"]) for row in shown["deliveries"]] == [
        (2, "delivered"), (3, "failed"),
    ]  # fmt: skip
    other = deliveries.show_event(full.host, "4")
    assert (other["payload"], other["time_guessed"], other["tenant"]) == (None, True, None)


@pytest.mark.parametrize("event", ["E-9", "99", "9" * 19, "9" * 40, "", "²", "-1"])
def test_an_event_that_is_not_there(full: Box, event: str) -> None:
    with pytest.raises(NotFound, match="no event"):
        deliveries.show_event(full.host, event)


def test_deliveries_that_are_not_there(full: Box) -> None:
    with pytest.raises(NotFound, match="no delivery 99"):
        deliveries.show_delivery(full.host, 99)
    with pytest.raises(NotFound, match="no delivery 99"):
        full.reopen_delivery(99)
    with pytest.raises(NotFound, match="no delivery 99"):
        full.cancel(99)
    assert full.one("SELECT control FROM webhookd_file") == 2


@pytest.mark.parametrize("number", [2, 3])
def test_a_finished_delivery_is_opened_again(full: Box, number: int) -> None:
    standing = full.reopen_delivery(number)
    assert (standing.state, standing.due_at, standing.tries) == ("pending", full.now, 0)
    row = next(row for row in full.results() if row["delivery_id"] == number)
    assert (row["state"], row["reason"], row["attempts"]) == ("pending", None, 1)
    assert (row["finished_at"], row["next_attempt_at"]) == (None, to_text(full.now))
    assert row["sequence"] == 9
    assert full.one("SELECT control FROM webhookd_file") == 3


def test_a_pending_delivery_is_made_due_now(full: Box) -> None:
    full.retry(5, after=60_000)
    before = full.results()
    assert full.due(1) == []
    assert full.reopen_delivery(5).due_at == full.now
    assert full.due(1) == [5]
    assert full.results() == before, "nothing that the feed shows has changed"
    full.now += 5
    assert full.reopen_delivery(5).due_at == full.now - 5, "due already: it keeps its place"


def test_one_that_waits_in_line_goes_on_waiting(box: Box) -> None:
    box.subscribe()
    for _ in range(2):
        box.put(aggregate_id="S-1")
    box.ingest()
    box.fail(2)
    box.retry(4, after=60_000)
    box.reopen_delivery(2)
    assert box.reopen_delivery(4).due_at is None
    box.succeed(2)
    assert box.due(1) == [4], "an operator's word ends its delay"


def test_a_delivery_of_a_removed_subscription_stays_closed(full: Box) -> None:
    full.command(lambda t: subscriptions.remove(t, 1, NOW))
    with pytest.raises(Refused, match="delivery 2: its subscription was removed"):
        full.reopen_delivery(2)


def test_a_cancelled_delivery(full: Box) -> None:
    standing = full.cancel(5)
    assert (standing.state, standing.reason, standing.due_at) == ("cancelled", "operator", None)
    with pytest.raises(Refused, match="delivery 5 is cancelled already; only a pending one"):
        full.cancel(5)
    with pytest.raises(Refused, match="delivery 2 is delivered already"):
        full.cancel(2)
    assert full.rows("SELECT pending, cancelled FROM webhookd_counters") == [(0, 1), (1, 0)]


def test_bulk_changes_come_in_short_batches(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "BULK_ROWS", 4)
    one, two = box.subscribe("one"), box.subscribe("two")
    for _ in range(5):
        box.put(aggregate_id="S-1")
    box.ingest()
    assert box.command(lambda t: deliveries.cancel_removed(t, NOW)) == 0
    box.command(lambda t: subscriptions.remove(t, one.key, NOW))
    done = [box.command(lambda t: deliveries.cancel_removed(t, NOW)) for _ in range(3)]
    assert done == [4, 1, 0]
    # From the newest back: no cancelled one made way for another.
    assert box.one("SELECT count(*) FROM webhookd_deliveries WHERE due_at IS NOT NULL") == 1
    assert box.due(two.key) == [3]
    done = [box.command(lambda t: deliveries.cancel_all(t, NOW)) for _ in range(3)]
    assert done == [4, 1, 0]
    assert {row["reason"] for row in box.results()} == {"subscription_removed", "operator"}
    assert box.rows("SELECT pending, cancelled FROM webhookd_counters") == [(0, 5), (0, 5)]


def test_an_attempt_of_a_cancelled_delivery_still_counts(full: Box) -> None:
    made = full.outcome(5, Happening.SUCCEEDED, status=204)
    full.cancel(5)
    full.record(made)
    assert full.rows("SELECT pending, delivered, cancelled FROM webhookd_counters") == [
        (0, 2, 0), (1, 0, 0),
    ]  # fmt: skip
