"""Profiles of one's own in the store: their ordering and policy are those that deliveries get."""

from typing import Any

from webhookd.core.model import Ordering
from webhookd.core.profiles import BUILT_IN, own
from webhookd.store import deliveries, enabling, explain, recipients
from webhookd.store.recipients import NO_LINE, WHOLE_SUBSCRIPTION
from webhookd.store.transaction import Session

MINE = BUILT_IN.with_these(
    {
        "mine": own.make("mine", {"base": "standard", "ordering": "subscription"}, BUILT_IN),
        "loose": own.make("loose", {"base": "standard", "ordering": "none"}, BUILT_IN),
        "brief": own.make("brief", {"base": "standard", "max_age": "1h"}, BUILT_IN),
    },
    "config.toml",
)


def lines(box: Any) -> list[int]:
    return [
        row[0]
        for row in box.host.execute(
            "SELECT order_key FROM webhookd_deliveries ORDER BY id"
        ).fetchall()
    ]


def test_an_own_profiles_ordering_decides_the_line(box: Any) -> None:
    box.options["profiles"] = MINE
    box.reopen()
    box.subscribe("one", profile="mine")
    box.subscribe("two", profile="loose")
    for aggregate in ("a", "b"):
        box.put(aggregate_id=aggregate)
    box.ingest_all()
    assert lines(box) == [WHOLE_SUBSCRIPTION, NO_LINE] * 2


def test_without_the_profile_what_is_owed_accrues_in_the_usual_order(box: Any) -> None:
    box.subscribe("one", profile="mine")
    for aggregate in ("a", "b", "a"):
        box.put(aggregate_id=aggregate)
    box.ingest_all()
    first, second, third = lines(box)
    assert first == third > 0
    assert second not in (first, WHOLE_SUBSCRIPTION, NO_LINE)


def test_without_the_profile_the_subscriptions_own_ordering_still_counts(box: Any) -> None:
    box.subscribe("one", profile="mine", policy={"ordering": "subscription"})
    box.subscribe("two", profile="mine", policy={"ordering": "unheard-of"})
    box.put(aggregate_id="a")
    box.ingest_all()
    first, second = lines(box)
    assert first == WHOLE_SUBSCRIPTION
    assert second > 0


def test_a_command_that_knows_it_reopens_into_its_line(box: Any) -> None:
    one = box.subscribe("one", profile="mine")
    box.put(aggregate_id="a")
    box.ingest_all()
    (delivery,) = (row[0] for row in box.host.execute("SELECT id FROM webhookd_deliveries"))
    box.succeed(delivery)
    with Session(box.path, write=True, profiles=MINE) as session, session.write() as transaction:
        assert recipients.find(transaction.connection, one.key, MINE).policy.ordering is (
            Ordering.SUBSCRIPTION
        )
        deliveries.retry(transaction, delivery, box.now)
    assert lines(box) == [WHOLE_SUBSCRIPTION]


def test_a_command_that_knows_it_says_when_what_is_owed_expires(box: Any) -> None:
    one = box.subscribe("one", profile="brief")
    box.put(event_id="e1")
    box.ingest_all()
    later = box.now + 3_600_000
    for profiles, max_age, count in ((MINE, "1h", 1), (BUILT_IN, None, 0)):
        with Session(box.path, write=False, profiles=profiles) as session:
            (said,) = explain.event(session, "e1", box.now)["subscriptions"]
            assert said["delivery"]["max_age"] == max_age
            assert (said["delivery"]["expires_at"] is None) == (max_age is None)
            assert enabling.too_old(session.connection, profiles, one.key, later) == count


def test_an_event_remembers_whether_its_aggregate_type_was_made(box: Any) -> None:
    box.subscribe("one")
    rows: list[dict[str, Any]] = [
        {},
        {"aggregate_type": "supplier"},
        {"aggregate_type": ""},
        {"event_type": "COMMITTED"},
    ]
    for row in rows:
        box.put(**{"event_type": "supplier.created", "aggregate_id": "a", **row})
    box.ingest_all()
    found = [
        box.store.event(sequence)
        for (sequence,) in box.host.execute("SELECT sequence FROM webhookd_events ORDER BY 1")
    ]
    assert [(one.aggregate_type, one.aggregate_type_made) for one in found] == [
        ("supplier", True),
        ("supplier", False),
        ("supplier", True),
        ("", True),
    ]
