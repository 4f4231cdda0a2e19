"""Where an event is, as the file has it: every subscription, every delivery, every attempt."""

from typing import Any

import pytest

from tests.store.conftest import LIMIT, NOW, Box
from webhookd.core.model import SubscriptionState
from webhookd.errors import NotFound, OutboxUnreadable
from webhookd.store import explain, lockfile, subscriptions
from webhookd.store.explain import Rules
from webhookd.store.outbox import Outbox
from webhookd.store.transaction import Session


def event(box: Box, wanted: object) -> dict[str, Any]:
    with Session(box.path, write=False) as session:
        return explain.event(session, str(wanted), box.now)


def row(box: Box, number: int, default_tenant: str = "") -> dict[str, Any]:
    with Session(box.path, write=False) as session:
        return explain.outbox_row(session, number, Rules(default_tenant, LIMIT), box.now)


def why(found: dict[str, Any]) -> dict[str, str]:
    return {one["subscription_name"]: one["why"] for one in found["subscriptions"]}


def owed(found: dict[str, Any], name: str = "one") -> dict[str, Any]:
    (delivery,) = [
        one["delivery"] for one in found["subscriptions"] if one["subscription_name"] == name
    ]
    assert isinstance(delivery, dict)
    return delivery


def causes(delivery: dict[str, Any]) -> list[str]:
    return [wait["cause"] for wait in delivery["waits_for"]]


def test_every_subscription_has_its_reason(box: Box) -> None:
    box.now -= 1_000
    box.subscribe("one")
    box.subscribe("south", tenant="south")
    box.subscribe("orders", events=("order.*",))
    box.subscribe("own", events=("webhookd.*",))
    box.subscribe("changed", events=("order.*",))
    narrowed = box.subscribe("narrowed")
    leaves = box.subscribe("leaves")
    never = box.subscribe("never", events=("order.*",))
    box.now += 1_000
    box.put(tenant="north", event_id="E-1")
    box.ingest()
    box.now += 1_000
    box.subscribe("later")
    box.command(lambda t: subscriptions.update(t, 5, {"events": ["*"]}))  # type: ignore[arg-type]
    box.command(lambda t: subscriptions.update(t, narrowed.key, {"events": ["order.*"]}))
    for one in (leaves, never):
        box.command(lambda t, one=one: subscriptions.remove(t, one.key, box.now))
    found = event(box, "E-1")
    assert why(found) == {
        "one": "matched",
        "south": "other_tenant",
        "orders": "other_type",
        "own": "other_type",
        "changed": "not_then",
        "narrowed": "matched_then",
        "leaves": "matched",
        "later": "made_later",
    }
    assert [one["subscription_name"] for one in found["subscriptions"] if one["matched"]] == [
        *("one", "narrowed", "leaves"),
    ]
    assert found["event_id"] == "E-1"
    assert event(box, found["sequence"]) == found
    assert owed(found, "leaves")["waits_for"] == [
        {"cause": "removed", "text": "its subscription was removed: it is about to be cancelled"}
    ]
    assert "hidden" not in str(found), "no URL, no secret"


def test_a_delivery_with_its_attempts(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    box.retry(2)
    delivery = owed(event(box, 1))
    assert set(delivery) == {
        *("delivery_id", "number", "state", "reason", "attempts", "last_status", "last_error"),
        *("due_at", "created_at", "first_attempt_at", "finished_at", "passed_at"),
        *("behind_delivery", "waits_for", "attempts_made"),
        *("expires_at", "max_age", "superseded_by", "unsendable"),
    }
    (attempt,) = delivery["attempts_made"]
    assert (attempt["number"], attempt["status"], attempt["duration_ms"]) == (1, 500, 15)
    assert attempt["error"] == "http 500"
    assert causes(delivery) == ["time", "daemon"]
    box.now += 5_000
    box.succeed(2)
    delivery = owed(event(box, 1))
    assert (delivery["state"], delivery["waits_for"], delivery["behind_delivery"]) == (
        *("delivered", [], None),
    )
    assert [one["status"] for one in delivery["attempts_made"]] == [500, 200]


@pytest.mark.parametrize(
    ("ordering", "text"),
    [
        ("aggregate", "behind delivery 2 of the same aggregate (1 attempt; the last: http 500;"),
        ("subscription", "behind delivery 2 of the same subscription, whose deliveries go one"),
    ],
)
def test_G4_it_says_behind_whom_it_waits(box: Box, ordering: str, text: str) -> None:
    box.subscribe(policy={"ordering": ordering})
    for _ in range(3):
        box.put(aggregate_id="S-1")
    box.ingest()
    box.retry(2)
    delivery = owed(event(box, 5))
    assert delivery["behind_delivery"] == 2
    assert causes(delivery) == ["behind", "daemon"]
    assert delivery["waits_for"][0]["text"].startswith(text)


def test_webhookd_s_own_events_have_lines_of_their_own(box: Box) -> None:
    box.subscribe()
    for _ in range(2):
        box.put(aggregate_id="S-1")
    box.ingest()
    box.host.execute("UPDATE webhookd_deliveries SET order_key = -2")
    text = owed(event(box, 3))["waits_for"][0]["text"]
    assert text.startswith("behind delivery 2 of the same line of webhookd's own events (not")


def test_one_that_is_first_in_its_line_is_behind_nobody(box: Box) -> None:
    box.subscribe()
    box.put(aggregate_id="S-1")
    box.ingest()
    # As it is for an instant, when one that stood before it was taken away.
    box.host.execute("UPDATE webhookd_deliveries SET due_at = NULL")
    assert owed(event(box, 1))["behind_delivery"] is None


def test_a_subscription_that_holds_back(box: Box) -> None:
    one = box.subscribe()
    box.put()
    box.ingest()
    paused = SubscriptionState.PAUSED
    box.command(lambda t: subscriptions.set_state(t, one.key, paused, "operator"))
    box.host.execute(
        "UPDATE webhookd_counters SET held_until = '2026-01-31T13:00:00.000Z',"
        " failing_since = '2026-01-31T11:00:00.000Z'"
    )
    box.host.execute(
        "INSERT INTO webhookd_instructions (kind, subscription, position, last, options, done,"
        " given_at) VALUES ('skip_backlog', 1, 0, 9, '{}', 0, '')"
    )
    lock = lockfile.LockFile.acquire(box.path)
    try:
        found = event(box, 1)
    finally:
        lock.release()
    assert found["daemon_running"] is True
    assert causes(owed(found)) == ["paused", "instructed", "failing", "held"]
    assert found["subscriptions"][0]["state_reason"] == "operator"


@pytest.mark.parametrize("wanted", ["nobody", "9" * 40, ""])
def test_an_event_that_is_not_there(box: Box, wanted: str) -> None:
    with pytest.raises(NotFound, match=r"; `webhookd events list` shows the newest$"):
        event(box, wanted)


def test_a_number_may_have_been_meant_as_an_outbox_id(box: Box) -> None:
    with pytest.raises(NotFound, match="shows the newest; `--outbox-id 7` asks by the outbox"):
        event(box, 7)


def test_A1_a_rejected_row(box: Box) -> None:
    box.put(payload="{")
    box.ingest()
    found = row(box, 1)
    assert (found["standing"], found["in_outbox"], found["event"]) == ("rejected", True, None)
    assert set(found["rejected"]) == {"reason", "detail", "event_type", "rejected_at"}
    assert found["rejected"]["reason"] == found["would_be_rejected"]["reason"] == "bad_payload"
    box.host.execute("UPDATE outbox SET payload = NULL")
    assert row(box, 1)["would_be_rejected"] is None
    box.host.execute("DELETE FROM outbox")
    found = row(box, 1)
    assert (found["standing"], found["in_outbox"]) == ("rejected", False)
    assert found["would_be_rejected"] is None


def test_A18_a_duplicate_would_be_one_again(box: Box) -> None:
    for _ in range(2):
        box.put(event_id="E")
    box.ingest()
    assert row(box, 2)["would_be_rejected"] == {
        "reason": "duplicate_event_id",
        "detail": "event_id E was seen before",
    }
    assert row(box, 1)["would_be_rejected"] is None


def test_a_row_that_waits(box: Box) -> None:
    box.put("a")
    box.ingest()
    box.put("b")
    box.put("bad type")
    box.put("c", id=-3)
    found = row(box, 2)
    assert (found["standing"], found["below_cursor"], found["daemon_running"]) == (
        *("waiting", False, False),
    )
    assert found["would_be_rejected"] is None
    assert row(box, 3)["would_be_rejected"]["reason"] == "bad_event_type"
    assert (row(box, -3)["standing"], row(box, -3)["below_cursor"]) == ("waiting", True)
    with pytest.raises(NotFound, match="no outbox row 99"):
        row(box, 99)


def test_a_row_that_sqlite_cannot_read(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.put("a")

    def too_big(self: Outbox, connection: Any, first: int, last: int) -> Any:
        return [self._too_big(connection, first, last)], True

    monkeypatch.setattr(Outbox, "batch", too_big)
    assert row(box, 1)["would_be_rejected"]["reason"] == "payload_too_large"


def test_a_row_that_became_an_event(box: Box) -> None:
    box.subscribe()
    for number in range(6):
        box.put(f"a.{number}")
    box.ingest()
    box.put("late", id=-4)
    box.sweep_all()
    box.host.execute("DELETE FROM outbox WHERE id IN (1, 3, 6)")
    box.host.execute("UPDATE outbox SET event_type = 'changed' WHERE id = 2")
    box.host.execute("UPDATE outbox SET event_type = 'bad type' WHERE id = 4")
    for number in range(1, 7):
        found = row(box, number)
        assert (found["standing"], found["would_be_rejected"]) == ("event", None)
        assert found["event"]["outbox_id"] == number
        assert found["event"]["event_type"] == f"a.{number - 1}"
        assert why(found["event"]) == {"one": "matched"}
    found = row(box, -4)
    assert found["event"]["event_type"] == "late", "found by what the row says"


def test_webhookd_s_own_events_do_not_lead_astray(box: Box) -> None:
    for number in range(8):
        box.put(f"a.{number}")
    box.ingest()
    box.host.execute("DELETE FROM outbox")
    box.host.execute(
        "UPDATE webhookd_events SET event_type = 'webhookd.x', outbox_id = 0"
        " WHERE sequence IN (1, 4, 5, 8)"
    )
    assert [row(box, number)["event"]["sequence"] for number in (2, 3, 6, 7)] == [2, 3, 6, 7]
    assert [row(box, number)["standing"] for number in (1, 4, 5, 8)] == ["done_with"] * 4


def test_a_row_of_which_there_is_no_event_any_more(box: Box) -> None:
    box.put()
    box.ingest()
    box.host.execute("DELETE FROM webhookd_events")
    assert row(box, 1)["standing"] == "done_with"


def test_an_outbox_that_is_gone(box: Box) -> None:
    box.put()
    box.ingest()
    box.host.execute("DROP TABLE outbox")
    with pytest.raises(OutboxUnreadable, match="table outbox missing"):
        row(box, 1)
    assert event(box, 1)["sequence"] == 1, "an event is webhookd's own copy"


def test_it_is_one_snapshot_and_leaves_no_transaction(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest()
    with Session(box.path, write=False) as session:
        heard: list[str] = []
        session.connection.set_trace_callback(heard.append)
        explain.event(session, "1", NOW)
        assert (heard[0], heard[-1]) == ("BEGIN", "ROLLBACK")
        with pytest.raises(NotFound):
            explain.event(session, "no", NOW)
        assert not session.connection.in_transaction
