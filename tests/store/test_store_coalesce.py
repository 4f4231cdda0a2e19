"""`coalesce`: of what nobody was told of yet, only the newest of each kind stays."""

import pytest

from tests.store.conftest import NOW, Box
from tests.store.test_store_bulk import steps_of
from webhookd.core.delivery import Happening
from webhookd.core.model import DeliveryId, DeliveryState, SubscriptionKey, SubscriptionState
from webhookd.core.times import to_text
from webhookd.store import subscriptions
from webhookd.store.transaction import BULK_ROWS

ORDERINGS = ["aggregate", "subscription", "none"]


def coalescing(box: Box, ordering: str = "aggregate", name: str = "one") -> SubscriptionKey:
    return box.subscribe(name, policy={"coalesce": True, "ordering": ordering}).key


def put(box: Box, kind: str = "s.changed", aggregate: str | None = "S-1", **more: object) -> None:
    box.put(kind, aggregate_id=aggregate, **more)
    box.ingest()


def states(box: Box) -> dict[int, str]:
    return {row["delivery_id"]: row["state"] for row in box.results()}


def check_lines(box: Box, ordering: str) -> None:
    """Exactly the head of each line is due, and the sums are right."""
    heads = set()
    for number, state, key, is_due in box.rows(
        "SELECT id, state, order_key, due_at IS NOT NULL FROM webhookd_deliveries ORDER BY event"
    ):
        is_head = state == "pending" and (ordering == "none" or key not in heads)
        if state == "pending":
            heads.add(key)
        assert is_due == is_head, number
    counted = box.rows(
        "SELECT sum(state = 'pending'), sum(state = 'delivered'), sum(state = 'superseded')"
        " FROM webhookd_deliveries"
    )
    assert box.rows("SELECT pending, delivered, superseded FROM webhookd_counters") == counted


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_the_newest_of_each_type_stays(box: Box, ordering: str) -> None:
    key = coalescing(box, ordering)
    for kind in ("s.changed", "s.created", "s.changed", "s.removed", "s.changed"):
        put(box, kind)
        check_lines(box, ordering)
    assert states(box) == {
        2: "superseded", 4: "pending", 6: "superseded", 9: "pending", 11: "pending",
    }  # fmt: skip
    seen = []
    while due := box.due(key):
        seen.append(due[0])
        box.succeed(due[0])
        check_lines(box, ordering)
    assert seen == [4, 9, 11]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_in_one_batch_as_in_many(box: Box, ordering: str) -> None:
    key = coalescing(box, ordering)
    for number in range(6):
        box.put("s.changed", aggregate_id=f"S-{number % 2}")
    done = box.ingest()
    assert (done.events, done.deliveries, done.ready) == (6, 6, {key})
    assert [one for one, state in states(box).items() if state == "pending"] == [10, 12]
    check_lines(box, ordering)
    assert box.due(key) == ([10] if ordering == "subscription" else [10, 12])


def test_superseded_is_visible_in_the_feed(box: Box) -> None:
    coalescing(box)
    put(box)
    cursor = max(row["sequence"] for row in box.results())
    box.now += 1_000
    put(box)
    rows = {row["delivery_id"]: row for row in box.results() if row["sequence"] > cursor}
    assert rows[2]["state"] == "superseded"
    assert rows[2]["reason"] == "coalesced"
    assert rows[2]["finished_at"] == to_text(NOW + 1_000)
    assert (rows[2]["attempts"], rows[2]["next_attempt_at"]) == (0, None)
    assert rows[4]["state"] == "pending"
    assert box.one("SELECT due_at FROM webhookd_deliveries WHERE id = 4") == to_text(NOW + 1_000)
    assert len({row["sequence"] for row in box.results()}) == 2
    assert box.one("SELECT sequence FROM webhookd_file") == 5


def test_only_what_is_id_only(box: Box) -> None:
    coalescing(box)
    put(box, payload="1")
    put(box)
    put(box, payload="2")
    assert set(states(box).values()) == {"pending"}
    put(box)
    assert states(box) == {2: "pending", 4: "superseded", 6: "pending", 8: "pending"}


def test_only_what_was_not_attempted(box: Box) -> None:
    coalescing(box)
    put(box)
    box.retry(2)
    put(box)
    put(box)
    assert states(box) == {2: "pending", 5: "superseded", 7: "pending"}
    check_lines(box, "aggregate")
    box.succeed(2)
    assert box.due(1) == [7]


def test_only_the_same_aggregate_and_never_without_one(box: Box) -> None:
    coalescing(box)
    for aggregate, tenant in (("S-1", None), ("S-2", None), ("S-1", "acme"), (None, None)):
        put(box, aggregate=aggregate, tenant=tenant)
    put(box, aggregate=None)
    put(box, "order.changed")
    assert set(states(box).values()) == {"pending"}


def test_only_where_it_is_asked_for(box: Box) -> None:
    coalescing(box)
    box.subscribe("all")
    put(box)
    put(box)
    told = [(row["subscription_name"], row["state"]) for row in box.results()]
    assert told == [
        ("one", "superseded"), ("all", "pending"), ("one", "pending"), ("all", "pending"),
    ]  # fmt: skip


def test_a_row_found_by_the_sweep_counts_as_new(box: Box) -> None:
    coalescing(box)
    put(box)
    box.put("s.changed", aggregate_id="S-1", id=-5)
    box.sweep_all()
    assert states(box) == {2: "superseded", 4: "pending"}


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_one_in_flight_that_was_superseded_and_then_delivered(box: Box, ordering: str) -> None:
    key = coalescing(box, ordering)
    put(box)
    made = box.outcome(2, Happening.SUCCEEDED, status=200)
    put(box)
    assert states(box) == {2: "superseded", 4: "pending"}
    done = box.record(made)
    assert done.standings[DeliveryId(2)].state is DeliveryState.DELIVERED
    assert states(box) == {2: "delivered", 4: "pending"}
    check_lines(box, ordering)
    assert box.due(key) == [4]
    assert box.results()[0]["reason"] is None


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_one_in_flight_that_was_superseded_and_then_failed(box: Box, ordering: str) -> None:
    key = coalescing(box, ordering)
    put(box)
    made = box.outcome(2, Happening.RETRY, retry_at=NOW + 5_000)
    put(box)
    box.record(made)
    assert states(box) == {2: "superseded", 4: "pending"}
    assert box.results()[0]["attempts"] == 1
    check_lines(box, ordering)
    assert box.due(key, NOW + 9_000) == [4]


def test_the_next_in_line_comes_to_the_head(box: Box) -> None:
    """The head itself gives way, to one of another type that waits behind it."""
    key = coalescing(box)
    put(box)
    put(box, "s.created")
    box.put("s.changed", aggregate_id="S-1")
    assert box.ingest().ready == {key}
    assert box.due(key) == [4]
    check_lines(box, "aggregate")


def test_a_reopened_one_that_was_never_sent_gives_way_again(box: Box) -> None:
    key = coalescing(box)
    put(box)
    put(box)
    assert box.reopen_delivery(2).state is DeliveryState.PENDING
    assert box.due(key) == [2]
    put(box)
    assert states(box) == {2: "superseded", 4: "superseded", 8: "pending"}
    assert box.due(key) == [8]


def test_from_when_on_it_is_asked_for(box: Box) -> None:
    key = box.subscribe().key
    put(box)
    put(box)
    box.store.begin()
    box.store.rollback()
    box.command(lambda t: subscriptions.update(t, key, {"policy": {"coalesce": True}}))
    while True:
        box.store.begin()
        step = box.store.carry_out(NOW)
        box.store.commit()
        if not step.more:
            break
    put(box)
    assert [row["state"] for row in box.results()][-1] == "pending"
    assert states(box)[2] == states(box)[4] == "superseded", "what waited gives way too"


@pytest.mark.parametrize(("subscriptions", "a_batch"), [(1, 25), (4, 28)])
def test_a_batch_is_small_where_each_may_change_another(
    box: Box, subscriptions: int, a_batch: int
) -> None:
    for number in range(subscriptions):
        coalescing(box, name=f"s{number}")
    for number in range(250):
        box.put("s.changed", aggregate_id=f"S-{number % 20}")
    done = box.ingest_all()
    assert {one.deliveries for one in done[:-1]} == {a_batch}
    assert sum(one.events for one in done) == 250
    assert list(states(box).values()).count("pending") == 20 * subscriptions
    check_lines(box, "aggregate") if subscriptions == 1 else None


def test_the_fan_out_of_one_event_is_whole(box: Box) -> None:
    """More than a batch: none is left behind, however many there are."""
    for number in range(BULK_ROWS * 3):
        coalescing(box, name=f"s{number}")
    for _ in range(3):
        put(box)
        assert list(states(box).values()).count("pending") == BULK_ROWS * 3


def test_many_that_were_reopened_give_way_a_batch_at_each_event(box: Box) -> None:
    key = coalescing(box, "none")
    box.command(lambda t: subscriptions.set_state(t, key, SubscriptionState.PAUSED, "operator"))
    for _ in range(2 * BULK_ROWS + 11):
        box.put("s.changed", aggregate_id="S-1")
    box.ingest_all()
    for number, state in states(box).items():
        if state == "superseded":
            box.reopen_delivery(number)
    assert box.one("SELECT pending FROM webhookd_counters") == 2 * BULK_ROWS + 11
    left, oldest = [], []
    for _ in range(4):
        put(box)
        pending = [number for number, state in states(box).items() if state == "pending"]
        left.append(len(pending))
        oldest.append(pending[0])
    assert left == [BULK_ROWS + 11, 11, 1, 1]
    assert oldest == sorted(set(oldest)), "those first that would be sent next"
    check_lines(box, "none")


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_it_costs_the_same_with_many_behind(box: Box, ordering: str) -> None:
    """20,000 that are owed, of the same subscription and half of them of the same aggregate."""
    coalescing(box, ordering)
    box.store._writer.execute("PRAGMA synchronous = OFF")
    counted = []
    for behind in (10, 20_000):
        box.host.execute(
            "INSERT INTO outbox (event_type, aggregate_id, payload) WITH RECURSIVE n (i) AS"
            f" (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {behind})"
            " SELECT 's.changed', CASE WHEN i % 2 THEN 'hot' ELSE 'cold-' || i END, '1' FROM n"
        )
        box.ingest_all()
        put(box, aggregate="hot")
        ticks = steps_of(box, box.store._writer)
        for _ in range(20):
            put(box, aggregate="hot")
        counted.append(ticks[0])
    few, many = counted
    assert many < few + few // 10
    assert box.rows("SELECT pending, superseded FROM webhookd_counters") == [(20_011, 41)]
