"""`replay` and `realign`: what each event comes to, and that lines stay in order."""

from typing import Any

import pytest

from tests.store.bulk_changes import (
    ORDERINGS,
    check,
    command_step,
    counts,
    finish,
    order_replay,
    reorder,
    small_steps,
    states,
)
from tests.store.conftest import NOW, Box
from tests.store.test_store_plans import faults
from webhookd.core.model import Ordering, Policy, SubscriptionKey
from webhookd.core.profiles import BUILT_IN
from webhookd.store import erase, newest, realign, replay

PENDING = "pending"


def put(box: Box, *aggregates: str | None, event_type: str = "supplier.created") -> list[int]:
    """An event for each, taken in a second apart; returns their sequences."""
    found = []
    for name in aggregates:
        box.put(event_type, aggregate_id=name)
        box.ingest_all()
        found.append(box.rows("SELECT max(sequence) FROM webhookd_events")[0][0])
        box.now += 1_000
    return found


def delivery(box: Box, event: int, key: int = 1) -> int:
    found = box.one(
        "SELECT id FROM webhookd_deliveries WHERE event = ? AND subscription = ?", event, key
    )
    assert isinstance(found, int)
    return found


def told(box: Box, key: int) -> dict[str, int]:
    return counts(box, key)


def foreseen(box: Box, key: int = 1, since: int = 0, **options: bool) -> dict[str, int]:
    connection = box.host
    span = replay.span(connection, since, None, **options)
    found: dict[str, int] = {}
    before = box.host.total_changes
    for _, some in replay.foresee(connection, BUILT_IN, SubscriptionKey(key), span):
        for name, count in some.items():
            found[name] = found.get(name, 0) + count
    assert box.host.total_changes == before
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_every_final_state_is_opened_again(box: Box, ordering: str) -> None:
    box.subscribe(policy={"ordering": ordering})
    events = put(box, "A", "B", "A", "B", "A")
    ids = [delivery(box, event) for event in events]
    box.succeed(ids[0])
    box.fail(ids[1])
    box.cancel(ids[2])
    before = foreseen(box)
    key = order_replay(box)
    with small_steps():
        finish(box)
    assert states(box) == [PENDING] * 5
    assert told(box, key) == before == {"reopened": 3, "pending": 2}
    check(box)
    assert box.attempts(ids[0]) == 1
    heads = {"aggregate": ids[:2], "subscription": ids[:1], "none": ids}
    assert sorted(box.due(1)) == heads[ordering]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_what_never_was_a_delivery_is_made_in_its_place(box: Box, ordering: str) -> None:
    events = put(box, "A", None, "A", "B")
    one = box.subscribe(policy={"ordering": ordering})
    events += put(box, "A", "B")
    assert states(box) == [PENDING] * 2
    before = foreseen(box)
    key = order_replay(box)
    with small_steps():
        finish(box)
    assert told(box, key) == before == {"made": 4, "pending": 2}
    rows = box.rows("SELECT event, number, created_at FROM webhookd_deliveries ORDER BY event")
    assert [row[0] for row in rows] == events
    assert sorted(row[1] for row in rows) == [1, 2, 3, 4, 5, 6]
    check(box)
    for event in events:  # and they go out in the order of their events
        heads = box.due(one.key)
        number = delivery(box, event)
        assert number in heads
        box.succeed(number)
    assert box.due(one.key) == []


def test_what_was_erased_is_passed_over(box: Box) -> None:
    """Opened or made, it could only end `failed`; and one that said `delivered` would do so."""
    events = put(box, "A", "B", "C")
    box.subscribe("two", policy={"ordering": "none"})
    events += put(box, "A", "B", "D")
    ids = [delivery(box, event) for event in events[3:]]
    box.succeed(ids[0])
    box.fail(ids[1])
    box.cancel(ids[2])
    for event in (events[0], events[3], events[4]):
        box.host.execute(erase.BLANK, (event,))
    box.host.commit()
    before = foreseen(box, include_stale=True)
    sequences = {row["delivery_id"]: row["sequence"] for row in box.results()}
    key = order_replay(box, include_stale=True)
    with small_steps():
        finish(box)
    wanted = {"erased": 3, "made": 2, "reopened": 1}
    assert told(box, key) == before == wanted
    assert states(box) == [PENDING, PENDING, "delivered", "failed exhausted", PENDING]
    assert {row["delivery_id"]: row["sequence"] for row in box.results()}.items() >= {
        (one, sequences[one]) for one in ids[:2]
    }
    left = {"erased": 1, "not_failed": 1, "not_matching": 1, "pending": 3}
    assert foreseen(box, failed_only=True) == left
    check(box)


def test_one_that_sends_ids_alone_gets_what_was_erased_too(box: Box) -> None:
    box.subscribe(profile="floriday", tenant="o-1")
    box.put("a.b", aggregate_id="A", tenant="o-1")
    box.ingest_all()
    event = box.one("SELECT sequence FROM webhookd_events")
    box.succeed(delivery(box, event))
    box.host.execute(erase.BLANK, (event,))
    box.host.commit()
    key = order_replay(box)
    finish(box)
    assert told(box, key) == {"reopened": 1}
    assert states(box) == [PENDING]


def test_only_what_matches_is_made(box: Box) -> None:
    put(box, "A")
    box.put("supplier.created", aggregate_id="A", tenant="acme")
    box.put("order.created", aggregate_id="A", tenant="acme")
    box.put("created", aggregate_type="supplier", aggregate_id="A", tenant="acme")
    box.ingest_all()
    box.subscribe(events=("supplier.*",), tenant="acme")
    key = order_replay(box)
    finish(box)
    assert told(box, key) == {"made": 2, "not_matching": 2}
    assert [row["event_type"] for row in box.results()] == ["supplier.created", "created"]


def test_a_row_that_is_there_needs_no_match(box: Box) -> None:
    one = box.subscribe()
    (event,) = put(box, "A")
    box.succeed(delivery(box, event))
    reorder(box, one, ordering="none")
    box.host.execute("UPDATE webhookd_subscriptions SET events = '[\"other\"]'")
    put(box, "A")
    order_replay(box)
    finish(box)
    assert states(box)[0] == PENDING


def test_stale_events_are_passed_over(box: Box) -> None:
    box.subscribe()
    events = put(box, "A", "A", "A", "B", "A", None, None)
    ids = [delivery(box, event) for event in events]
    box.fail(ids[0])
    box.cancel(ids[1])
    box.succeed(ids[2])
    box.succeed(ids[3])
    box.succeed(ids[5])
    box.succeed(ids[6])
    before = foreseen(box)
    assert foreseen(box, include_stale=True) == {"reopened": 6, "pending": 1}
    key = order_replay(box)
    with small_steps():
        finish(box)
    assert states(box) == ["failed exhausted", "cancelled operator", *[PENDING] * 5]
    assert told(box, key) == before == {"reopened": 4, "stale": 2, "pending": 1}
    key = order_replay(box, include_stale=True)
    finish(box)
    assert states(box) == [PENDING] * 7
    check(box)


def test_a_missing_one_can_be_stale_too(box: Box) -> None:
    put(box, "A")
    box.subscribe()
    (event,) = put(box, "A")
    box.succeed(delivery(box, event))
    key = order_replay(box)
    finish(box)
    assert told(box, key) == {"reopened": 1, "stale": 1}


def test_a_newer_one_behind_many_that_were_not_for_it(box: Box) -> None:
    """A long look-up is broken off and gone on with; its answer is kept."""
    box.subscribe(events=("wanted",))
    wanted = put(box, "hot", "hot", event_type="wanted")
    for event in wanted:
        box.succeed(delivery(box, event))
    box.host.execute(
        "INSERT INTO outbox (event_type, aggregate_id) WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600) SELECT 'other', 'hot' FROM n"
    )
    box.ingest_all()
    key = order_replay(box)
    with small_steps(100):
        seen = []
        while not seen or not seen[-1].is_done:
            one = command_step(box, key)
            assert one is not None
            seen.append(one)
    walks = [one.options["newest"]["walk"] for one in seen]
    assert walks[0] is not None
    assert walks[-1] is None
    assert list(seen[-1].options["newest"]["kept"].values()) == [wanted[1]]
    assert {name: n for name, n in seen[-1].counts.items() if n} == {
        "stale": 1, "reopened": 1, "not_matching": 600
    }  # fmt: skip


def test_no_more_answers_are_kept_than_there_is_room_for(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in (("ANSWERS", 1), ("A_LOOK", 2), ("A_GLANCE", 1)):
        monkeypatch.setattr(newest, name, few)
    box.subscribe(events=("wanted",))
    for event in put(box, "A", "B", "A", "B", event_type="wanted"):
        box.succeed(delivery(box, event))
    put(box, *"ABABABAB", event_type="other")
    key = order_replay(box)
    with small_steps():
        while not (one := command_step(box, key)) or not one.is_done:
            assert one is not None
            assert len(one.options["newest"]["kept"]) <= 1
    assert states(box) == ["delivered"] * 2 + [PENDING] * 2


def test_failed_only(box: Box) -> None:
    put(box, None)
    box.subscribe()
    events = put(box, *[None] * 4)
    ids = [delivery(box, event) for event in events]
    box.fail(ids[0])
    box.succeed(ids[1])
    box.cancel(ids[2])
    before = foreseen(box, failed_only=True)
    key = order_replay(box, failed_only=True)
    finish(box)
    wanted = {"reopened": 1, "not_failed": 2, "not_matching": 1, "pending": 1}
    assert told(box, key) == before == wanted
    assert states(box) == [PENDING, "delivered", "cancelled operator", PENDING]


def test_own_events(box: Box) -> None:
    """Those about others, for those who ask for them by name, in their lines; `*` does not ask."""
    sick = box.subscribe("sick", events=("*", "webhookd.*"))
    box.subscribe("watcher", events=("webhookd.*",))
    box.subscribe("late", events=("other",))
    sequence = box.one("SELECT sequence FROM webhookd_file")
    for number, (kind, about) in enumerate(
        [("subscription.failing", sick.id), ("subscription.recovered", sick.id),
         ("events.rejected", "")], 1
    ):  # fmt: skip
        box.host.execute(
            "INSERT INTO webhookd_events (sequence, outbox_id, event_id, aggregate, event_type,"
            " aggregate_type, aggregate_id, tenant, payload, occurred_at, time_guessed,"
            " ingested_at) VALUES (?, 0, ?, 0, ?, 'webhookd.subscription', ?, '', '{}', '', 0, ?)",
            (sequence + number, f"E-{number}", f"webhookd.{kind}", about, "2026"),
        )
    box.host.execute("UPDATE webhookd_file SET sequence = sequence + 3")
    for key, made in ((1, 1), (2, 3), (3, 0)):
        given = order_replay(box, key)
        finish(box)
        assert told(box, given).get("made", 0) == made
    lines = box.rows(
        "SELECT order_key, due_at IS NOT NULL FROM webhookd_deliveries WHERE subscription = 2"
        " ORDER BY event"
    )
    assert lines == [(-2, 1), (-2, 0), (0, 1)]
    check(box)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_span_goes_by_the_time_of_ingest(box: Box, count: int) -> None:
    box.subscribe()
    events = put(box, *[None] * count)
    put_at = [NOW + 1_000 * number for number in range(count)]
    for since in (NOW - 1, NOW, NOW + 1, NOW + 2_500, NOW + 10_000):
        for until in (None, NOW, NOW + 1, NOW + 3_000, NOW + 10_000):
            found = replay.span(box.host, since, until)
            wanted = [
                event
                for event, at in zip(events, put_at, strict=True)
                if at >= since and (until is None or at < until)
            ]
            assert [e for e in events if found.position < e <= found.last] == wanted
            assert found.is_empty or wanted or found.last < found.position + 2 * count + 2


def test_an_empty_span_gives_no_instruction(box: Box) -> None:
    one = box.subscribe()
    span = replay.span(box.host, NOW, None)
    assert span.is_empty
    assert box.command(lambda t: replay.order(t, one.key, span, NOW)) is None


def test_a_replay_of_a_coalescing_subscription(box: Box) -> None:
    """Of what is ID-only and was never attempted, the newest of each kind stays."""
    box.subscribe(policy={"coalesce": True})
    events = put(box, "A", "A", "A")
    assert states(box) == ["superseded coalesced"] * 2 + [PENDING]
    box.cancel(delivery(box, events[2]))
    key = order_replay(box)
    finish(box)
    assert told(box, key) == {"reopened": 3, "superseded": 2}
    assert states(box) == ["superseded coalesced"] * 2 + [PENDING]
    check(box)


def test_what_a_replay_makes_coalesces_too(box: Box) -> None:
    put(box, "A", "A", "B")
    box.put("supplier.created", aggregate_id="A", payload="{}")
    box.ingest_all()
    box.subscribe(policy={"coalesce": True})
    key = order_replay(box)
    with small_steps():
        finish(box)
    assert told(box, key) == {"made": 4, "superseded": 1}
    assert states(box) == ["superseded coalesced", PENDING, PENDING, PENDING]
    check(box)


def test_one_that_is_opened_again_coalesces_as_its_policy_is_now(box: Box) -> None:
    one = box.subscribe()
    events = put(box, "A", "A")
    for event in events:
        box.cancel(delivery(box, event))
    assert reorder(box, one, coalesce=True) is None
    box.reopen_delivery(delivery(box, events[0]))
    assert box.rows("SELECT coalesce_key FROM webhookd_deliveries ORDER BY event") == [(1,), (0,)]
    put(box, "A")
    assert states(box)[0] == "superseded coalesced"


@pytest.mark.parametrize("before", ORDERINGS)
@pytest.mark.parametrize("after", ORDERINGS)
def test_realign(box: Box, before: str, after: str) -> None:
    one = box.subscribe(policy={"ordering": before})
    events = put(box, "A", "B", None, "A", "B", "A")
    ids = [delivery(box, event) for event in events]
    box.retry(ids[0], after=60_000)
    given = reorder(box, one, ordering=after)
    assert (given is None) == (before == after)
    events += put(box, "A", None)  # into the new lines, while the old ones are still there
    sequences = box.rows("SELECT id, sequence FROM webhookd_deliveries")
    with small_steps():
        while given is not None and not (done := command_step(box, given)).is_done:  # type: ignore[union-attr]
            check(box)
            assert done is not None
    check(box)
    lines = [row[0] for row in box.rows("SELECT order_key FROM webhookd_deliveries ORDER BY event")]
    assert lines == {
        "aggregate": [1, 2, 0, 1, 2, 1, 1, 0], "subscription": [-1] * 8, "none": [0] * 8
    }[after]  # fmt: skip
    assert ids[0] not in box.due(one.key)
    assert ids[0] in box.due(one.key, box.now + 60_000)
    assert box.rows("SELECT id, sequence FROM webhookd_deliveries") == sequences


def test_realign_keeps_the_least_wait_of_one_that_comes_to_the_head(box: Box) -> None:
    one = box.subscribe(policy={"ordering": "none"})
    events = put(box, "A", "A", "A")
    ids = [delivery(box, event) for event in events]
    box.retry(ids[1], after=60_000)
    reorder(box, one, ordering="aggregate")
    finish(box)
    assert box.due(1, box.now + 100_000) == [ids[0]]
    box.succeed(ids[0])
    assert box.due(1) == []
    assert box.due(1, box.now + 60_000) == [ids[1]]
    check(box)


def test_realign_keeps_the_least_wait_of_one_that_waited_behind_another(box: Box) -> None:
    """Behind one with an older event and a higher id, which is put in order later."""
    older = put(box, "A")[0]
    one = box.subscribe()
    newer = put(box, "A")[0]
    box.retry(delivery(box, newer), after=60_000)
    order_replay(box)
    finish(box)
    assert box.due(1, box.now + 60_000) == [delivery(box, older)]
    reorder(box, one, ordering="none")
    finish(box)
    assert box.due(1) == [delivery(box, older)]
    assert len(box.due(1, box.now + 60_000)) == 2
    check(box)


def test_one_that_was_passed_stays_out_of_line(box: Box) -> None:
    one = box.subscribe(policy={"max_block": 1_000})
    events = put(box, "A", "A")
    ids = [delivery(box, event) for event in events]
    box.retry(ids[0], after=60_000)
    box.now += 5_000
    box.store.begin()
    box.store.let_pass(box.now)
    box.store.commit()
    reorder(box, one, ordering="subscription", max_block=1_000)
    finish(box)
    lines = box.rows("SELECT order_key FROM webhookd_deliveries ORDER BY event")
    assert lines == [(0,), (-1,)]
    assert box.due(1) == [ids[1]]
    check(box)


def test_a_failing_head_whose_line_ends_is_not_passed(box: Box) -> None:
    one = box.subscribe(policy={"max_block": 1_000})
    events = put(box, "A", "A")
    box.retry(delivery(box, events[0]), after=60_000)
    reorder(box, one, ordering="none", max_block=1_000)
    finish(box)
    assert box.store.next_pass() is None
    assert box.rows("SELECT passed_at FROM webhookd_deliveries") == [(None,)] * 2


def test_coalescing_that_is_switched_on_counts_for_what_waits(box: Box) -> None:
    one = box.subscribe()
    put(box, "A", "A", "B", None, "A")
    box.put("supplier.created", aggregate_id="A", payload="{}")
    box.ingest_all()
    assert reorder(box, one, coalesce=True) is not None
    with small_steps():
        finish(box)
    gone = "superseded coalesced"
    assert states(box) == [gone, gone, PENDING, PENDING, PENDING, PENDING]
    check(box)
    assert reorder(box, one) is not None
    finish(box)
    assert {row[0] for row in box.rows(
        "SELECT coalesce_key FROM webhookd_deliveries WHERE state = 'pending'"
    )} == {0}  # fmt: skip


def test_other_changes_of_a_policy_need_no_instruction(box: Box) -> None:
    one = box.subscribe()
    put(box, "A")
    assert reorder(box, one, timeout=3_000, max_block=5) is None
    assert reorder(box, one, ordering="aggregate", coalesce=False) is None
    same = Policy(timeout=1, retry_delays=())
    assert same.ordering is Ordering.AGGREGATE
    assert box.command(
        lambda t: realign.give_if_needed(t, one.key, same, same, None)
    ) is None  # fmt: skip


def test_what_a_walk_says_to_sqlite_is_no_scan(box: Box) -> None:
    statements: dict[str, Any] = {
        name: value
        for module in (newest, replay, realign)
        for name, value in vars(module).items()
        if isinstance(value, str) and value.startswith(("SELECT", "UPDATE"))
    }
    for name in ("DELIVERED", "WAS_PENDING", "EVENTS", "NEXT_EVENT"):
        assert faults(box, statements[name]) == []
    plan = box.rows(f"EXPLAIN QUERY PLAN {newest.DELIVERED}", *[None] * 5)
    events, deliveries = (row[3] for row in plan)
    assert events.startswith("SEARCH e USING COVERING INDEX webhookd_events_aggregate (aggregate=?")
    assert deliveries.startswith("SEARCH d USING INDEX webhookd_deliveries_event (event=? AND")
