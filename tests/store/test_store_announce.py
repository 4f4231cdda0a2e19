"""webhookd's own events: to whom they go, what they say, and in which feeds they stand."""

import json
from typing import Any

import pytest

from tests.store.conftest import NOW, Box
from webhookd.core.delivery import Happening
from webhookd.core.model import Reason, SubscriptionKey
from webhookd.core.outcomes import Signs
from webhookd.core.storage import Record, Step
from webhookd.core.times import to_text
from webhookd.store import subscriptions

STRICT = {"failing_after": 1, "disable_after_failures": 1, "gone_disables": False}


def watched(box: Box, *watchers: tuple[str, dict[str, Any]]) -> None:
    """`one` is owed delivery 2 and judged strictly; the watchers want no event of the host's."""
    box.subscribe("one", events=("*",), policy=STRICT)
    for name, changes in watchers:
        box.subscribe(name, **{"events": ("webhookd.*",)} | changes)
    box.put(aggregate_id="S-1")
    box.ingest()


def outcome(box: Box, delivery: int, happening: Happening) -> Record:
    reason = Reason.EXHAUSTED if happening is Happening.FAILED else None
    at = box.now if happening is Happening.RETRY else None
    signs = None if happening is Happening.SUCCEEDED else Signs(ill=True)
    status = 200 if happening is Happening.SUCCEEDED else 500
    made = box.outcome(delivery, happening, status=status, reason=reason, retry_at=at)
    return made._replace(signs=signs)


def own(box: Box) -> list[dict[str, Any]]:
    """What stands in the feed of events of ours."""
    cursor = box.host.execute(
        "SELECT v.*, e.payload AS payload FROM webhook_events AS v"
        " JOIN webhookd_events AS e ON e.sequence = v.sequence"
        " WHERE v.event_type LIKE 'webhookd.%' ORDER BY v.sequence"
    )
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def told(box: Box) -> list[tuple[str, str]]:
    """To whom which of our events went."""
    return [
        (row["subscription_name"], row["event_type"].removeprefix("webhookd."))
        for row in box.results()
        if row["event_type"].startswith("webhookd.")
    ]


def test_what_it_says(box: Box) -> None:
    watched(box, ("ops", {}))
    box.now += 1_000
    done = box.record(outcome(box, 2, Happening.FAILED))
    assert done.ready == {2}
    failing, disabled = own(box)
    content = {
        "subscription_id": "wh_one___________________",
        "subscription_name": "one",
        "reason": None,
        "last_status": 500,
        "last_error": "http 500",
    }
    assert json.loads(failing.pop("payload")) == content
    assert json.loads(disabled.pop("payload")) == content | {"reason": "disable_after_failures"}
    assert failing == {
        "sequence": 4,
        "outbox_id": None,
        "event_id": failing["event_id"],
        "tenant": None,
        "event_type": "webhookd.subscription.failing",
        "aggregate_type": "webhookd.subscription",
        "aggregate_id": "wh_one___________________",
        "occurred_at": to_text(NOW + 1_000),
        "ingested_at": to_text(NOW + 1_000),
    }
    assert disabled["event_type"] == "webhookd.subscription.disabled"
    assert disabled["event_id"] != failing["event_id"]
    assert told(box) == [("ops", "subscription.failing"), ("ops", "subscription.disabled")]


def test_recovered_is_told_with_the_status_of_the_success(box: Box) -> None:
    watched(box, ("ops", {}))
    box.record(outcome(box, 2, Happening.RETRY))
    box.record(outcome(box, 2, Happening.SUCCEEDED))
    assert [one["event_type"] for one in own(box)] == [
        "webhookd.subscription.failing",
        "webhookd.subscription.recovered",
    ]
    content = json.loads(own(box)[1]["payload"])
    assert (content["last_status"], content["last_error"]) == (200, None)


def test_only_those_who_ask_for_it_by_name_and_have_no_tenant(box: Box) -> None:
    watched(
        box,
        ("all", {"events": ("*",)}),
        ("own", {}),
        ("one-kind", {"events": ("a", "webhookd.subscription.failing")}),
        ("another-kind", {"events": ("webhookd.events.*",)}),
        ("tenants", {"tenant": "acme"}),
        ("nearly", {"events": ("*.failing", "webhook*")}),
    )
    box.record(outcome(box, 2, Happening.RETRY))
    assert told(box) == [("own", "subscription.failing"), ("one-kind", "subscription.failing")]


def test_it_is_never_told_of_itself(box: Box) -> None:
    box.subscribe("one", events=("*", "webhookd.*"), policy=STRICT)
    box.subscribe("two", events=("webhookd.*",), policy=STRICT)
    box.put()
    box.ingest()
    box.record(outcome(box, 2, Happening.RETRY))
    assert told(box) == [("two", "subscription.failing")]
    (delivery,) = [row["delivery_id"] for row in box.results() if row["subscription_name"] == "two"]
    # That it cannot be told is told to the other, and there it ends.
    box.record(outcome(box, delivery, Happening.RETRY))
    assert told(box) == [("two", "subscription.failing"), ("one", "subscription.failing")]
    for row in box.results():
        box.record(outcome(box, row["delivery_id"], Happening.RETRY))
    assert len(told(box)) == 2


def test_nobody_asks_and_yet_it_stands_in_the_feed(box: Box) -> None:
    watched(box)
    box.record(outcome(box, 2, Happening.RETRY))
    assert [one["event_type"] for one in own(box)] == ["webhookd.subscription.failing"]
    assert told(box) == []


def test_it_stands_in_the_events_and_never_in_the_changes(box: Box) -> None:
    watched(box, ("ops", {}))
    before = box.rows("SELECT * FROM webhook_changes")
    box.record(outcome(box, 2, Happening.FAILED))
    box.put("bad type")
    box.ingest()
    announce(box)
    assert box.rows("SELECT * FROM webhook_changes") == before
    assert len(own(box)) == 3
    assert {row["outbox_id"] for row in own(box)} == {None}
    assert [row["outbox_id"] for row in box.results()] == [1, None, None, None]
    feeds = dict(box.rows("SELECT feed, maximum_sequence FROM webhook_feeds"))
    assert feeds["events"] == own(box)[-1]["sequence"]
    assert feeds["changes"] == 1


def test_a_sequence_is_given_out_once(box: Box) -> None:
    watched(box, ("ops", {}), ("ops-2", {}))
    box.record(outcome(box, 2, Happening.FAILED))
    numbers = [row[0] for row in box.rows("SELECT sequence FROM webhookd_events")]
    numbers += [row[0] for row in box.rows("SELECT sequence FROM webhookd_deliveries")]
    assert len(set(numbers)) == len(numbers)
    assert box.one("SELECT sequence FROM webhookd_file") == max(numbers)
    assert box.rows("SELECT subscription, numbers, pending FROM webhookd_counters") == [
        (1, 1, 0), (2, 2, 2), (3, 2, 2),
    ]  # fmt: skip


def head(box: Box, key: int) -> str:
    (due,) = box.store.due(SubscriptionKey(key), box.now, 9, ())
    event = box.store.event(due.event)
    assert event is not None
    return event.event_type.removeprefix("webhookd.")


def test_what_is_told_of_one_subscription_comes_in_order(box: Box) -> None:
    watched(box, ("ops", {}))
    for happening in (Happening.RETRY, Happening.SUCCEEDED):
        box.record(outcome(box, 2, happening))
    assert head(box, 2) == "subscription.failing"
    box.succeed(box.due(2)[0])
    assert head(box, 2) == "subscription.recovered"


def test_one_subscriptions_news_do_not_hold_up_anothers(box: Box) -> None:
    for name in ("one", "two"):
        box.subscribe(name, policy=STRICT)
    box.subscribe("ops", events=("webhookd.*",))
    box.put()
    box.ingest()
    box.record(outcome(box, 2, Happening.RETRY), outcome(box, 3, Happening.RETRY))
    assert len(box.due(3)) == 2


def test_G4_where_the_whole_subscription_is_one_line_ours_stand_in_it_too(box: Box) -> None:
    watched(box, ("ops", {"events": ("*", "webhookd.*"), "policy": {"ordering": "subscription"}}))
    box.record(outcome(box, 2, Happening.FAILED))
    assert len(box.due(2)) == 1
    assert head(box, 2) == "supplier.created"
    seen = []
    while due := box.due(2):
        seen.append(head(box, 2))
        box.succeed(due[0])
    assert seen == ["supplier.created", "subscription.failing", "subscription.disabled"]


@pytest.mark.parametrize("ordering", ["aggregate", "subscription", "none"])
def test_one_of_ours_that_is_reopened_goes_back_to_its_line(box: Box, ordering: str) -> None:
    watched(box, ("ops", {"policy": {"ordering": ordering, "gone_disables": False}}))
    for happening in (Happening.RETRY, Happening.SUCCEEDED):
        box.record(outcome(box, 2, happening))
    first = box.due(2)[0]
    box.fail(first)
    assert head(box, 2) == "subscription.recovered"
    box.reopen_delivery(first)
    assert head(box, 2) == "subscription.failing"


def announce(box: Box) -> Step:
    box.store.begin()
    step = box.store.announce_rejected(box.now)
    box.store.commit()
    return step


def test_rows_that_were_rejected_are_told_of_in_one_summary(box: Box) -> None:
    watched(box, ("ops", {}), ("all", {"events": ("*",)}))
    for _ in range(3):
        box.put("bad type")
    box.ingest()
    assert box.store.outlook().unannounced == 3
    box.now += 60_000
    assert announce(box) == Step(1, frozenset({2}))
    assert box.store.outlook().unannounced == 0
    (one,) = own(box)
    assert json.loads(one["payload"]) == {"rejected": 3, "rejected_now": 3}
    assert one["event_type"] == "webhookd.events.rejected"
    assert (one["aggregate_type"], one["aggregate_id"], one["tenant"]) == (None, None, None)
    assert one["occurred_at"] == to_text(NOW + 60_000)
    assert told(box) == [("ops", "events.rejected")]
    assert announce(box) == Step(0), "once"
    assert len(own(box)) == 1
    box.put("bad type")
    box.ingest()
    announce(box)
    assert json.loads(own(box)[1]["payload"]) == {"rejected": 1, "rejected_now": 4}


def test_a_summary_that_nobody_asks_for_is_told_in_the_feed(box: Box) -> None:
    box.put("bad type")
    box.ingest()
    assert announce(box) == Step(0)
    assert len(own(box)) == 1
    assert box.store.outlook().unannounced == 0


def test_who_comes_later_is_not_told_of_what_was(box: Box) -> None:
    watched(box)
    box.record(outcome(box, 2, Happening.RETRY))
    box.subscribe("ops", events=("webhookd.*",))
    assert told(box) == []


def test_a_removed_one_is_told_of_nothing(box: Box) -> None:
    watched(box, ("ops", {}))
    box.command(lambda t: subscriptions.remove(t, SubscriptionKey(2), NOW))
    box.record(outcome(box, 2, Happening.RETRY))
    assert told(box) == []
