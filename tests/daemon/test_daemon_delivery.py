"""From a row to a request and a result: the main path, order, retries, isolation."""

import itertools
import logging
import random
from datetime import UTC, datetime

import pytest
import trio
from standardwebhooks.webhooks import Webhook

from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.core.profiles import Unrenderable
from webhookd.core.request import Renderer
from webhookd.logs.actions import Action


async def test_rows_become_signed_requests_and_results(world, autojump_clock):
    world.subscribe("a")
    async with world.running():
        await trio.sleep(1)
        world.insert("s1", "supplier.created", event_id="evt-1")
        world.insert("s1", "supplier.changed")
        world.insert("s2", "supplier.created")
        await trio.sleep(1)
    seen = world.sender.seen
    assert [(one.n, one.sequence, one.attempt) for one in seen if one.aggregate == "s1"] == [
        (1, 1, 1),
        (2, 2, 1),
    ]
    assert sorted(one.sequence for one in seen) == [1, 2, 3]
    assert seen[0].id == "evt-1"
    events = world.table("SELECT * FROM webhook_events ORDER BY sequence")
    assert {one.id for one in seen} == {event["event_id"] for event in events}
    for one in seen:
        stamp = int(one.headers["webhook-timestamp"])
        assert stamp == (world.epoch + int(one.at * 1000)) // 1000
    results = world.deliveries()
    assert [row["state"] for row in results] == ["delivered"] * 3
    assert [row["attempts"] for row in results] == [1, 1, 1]
    assert {row["last_status"] for row in results} == {200}
    assert [row["outbox_id"] for row in results] == [1, 2, 3]
    assert world.table("SELECT pending, delivered FROM webhookd_counters") == [
        {"pending": 0, "delivered": 3}
    ]


async def test_the_signature_is_the_one_that_the_standards_library_makes(world, autojump_clock):
    world.subscribe("a")
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
    (seen,) = world.sender.seen
    stamp = datetime.fromtimestamp(int(seen.headers["webhook-timestamp"]), tz=UTC)
    expected = Webhook(world.secret).sign(seen.id, stamp, seen.body.decode())
    assert seen.headers["webhook-signature"] == expected


async def test_what_was_there_before_the_start_is_delivered(world, autojump_clock):
    world.subscribe("a")
    for n in range(600):  # more than two batches of ingest
        world.insert(f"x{n % 40}")
    async with world.running():
        await trio.sleep(2)
    assert world.states() == ["delivered"] * 600
    assert len(world.sender.seen) == 600


@pytest.mark.usefixtures("long_polls")
async def test_the_standard_schedule_to_the_second_then_the_next_in_line(
    world, autojump_clock, warnings
):
    world.subscribe("a")
    world.sender.script = lambda seen: world.down if seen.n == 1 else world.ok
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(4 * 24 * 3600)
    mine = [one for one in world.sender.seen if one.n == 1]
    gaps = [round(b.at - a.at) for a, b in itertools.pairwise(mine)]
    hour = 3600
    assert gaps == [
        *(5, 300, 1800),
        *(2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour),
    ]
    assert [one.attempt for one in mine] == list(range(1, 11))
    assert len({(one.id, one.body) for one in mine}) == 1
    first, second = world.deliveries()
    assert (first["state"], first["reason"], first["attempts"]) == ("failed", "exhausted", 10)
    assert (first["last_status"], first["last_error"]) == (503, "http 503")
    assert second["state"] == "delivered"
    after = next(one for one in world.sender.seen if one.n == 2)
    # The next one is a probe as well: all that failed was one delivery, so the first pause counts.
    assert 1 <= after.at - mine[-1].at < 1.1
    assert [row["number"] for row in world.attempts()][:10] == list(range(1, 11))
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1, Action.DELIVERY_FAILED: 1}


async def test_jitter_lengthens_within_its_bound(world, autojump_clock):
    world.subscribe("a", jitter=0.5, retry_delays=[10_000], failing_after=100)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    for n in range(50):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(30)
    gaps = []
    for n in range(1, 51):
        one, two = (seen.at for seen in world.sender.seen if seen.n == n)
        gaps.append(two - one)
    assert min(gaps) >= 10
    assert max(gaps) <= 15.3
    assert max(gaps) - min(gaps) > 3


async def test_retry_after_lengthens_the_wait(world, autojump_clock):
    world.subscribe("a")
    world.sender.script = lambda seen: (
        Answer(429, retry_after="60") if seen.attempt == 1 else world.ok
    )
    world.insert("x")
    async with world.running():
        await trio.sleep(90)
    first, second = world.sender.seen
    assert 60 <= second.at - first.at < 60.5


async def test_what_cannot_be_rendered_fails_without_an_attempt(
    world, autojump_clock, expected_logs, monkeypatch
):
    real = Renderer.render

    def render(self, event, **options):
        if event.outbox_id == 1:
            raise Unrenderable("no way to say\nthis")
        return real(self, event, **options)

    monkeypatch.setattr(Renderer, "render", render)
    world.subscribe("a")
    world.insert("x")
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
    first, second = world.deliveries()
    assert (first["state"], first["reason"], first["attempts"]) == ("failed", "unrenderable", 0)
    assert "\n" not in first["last_error"]
    assert second["state"] == "delivered"
    assert [one.n for one in world.sender.seen] == [2]
    assert len(world.attempts()) == 1
    assert [r.action for r in expected_logs if r.levelno >= logging.WARNING] == [
        Action.UNRENDERABLE
    ]


def _in_order(world, who: str) -> None:
    """No event of an aggregate was attempted before the one before it was finished."""
    done: dict[str, int] = {}
    for one in world.sender.of(who):
        assert one.n >= done.get(one.aggregate, 0), (one.aggregate, one.n)
        done[one.aggregate] = one.n


async def test_G4_order_per_aggregate_under_failures_and_concurrency(
    world, autojump_clock, warnings
):
    world.subscribe("a", failing_after=100, concurrency=16, retry_delays=[1_000, 1_000, 1_000])
    world.set(max_in_flight=11)
    dice = random.Random(7)

    def script(_seen):
        reply = dice.choice([world.ok, world.ok, world.down])
        return world.after(dice.random() * 2, reply)

    world.sender.script = script
    async with world.running():
        for _ in range(200):
            world.insert(f"x{dice.randrange(12)}")
            await trio.sleep(dice.random() / 10)
        await trio.sleep(200)
    _in_order(world, "a")
    assert set(world.states()) <= {"delivered", "failed"}
    assert warnings()[Action.DELIVERY_FAILED] == world.states().count("failed")
    assert world.sender.most["a"] > 5
    for row in world.deliveries():
        assert row["attempts"] == sum(one.n == row["outbox_id"] for one in world.sender.seen)


async def test_ordering_subscription_is_one_line(world, autojump_clock):
    world.subscribe("a", ordering="subscription", retry_delays=[2_000])
    world.sender.script = lambda seen: (
        world.down if (seen.n, seen.attempt) == (3, 1) else world.after(0.2, world.ok)
    )
    for n in range(8):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(20)
    assert [one.n for one in world.sender.seen] == [1, 2, 3, 3, 4, 5, 6, 7, 8]
    assert world.sender.most["a"] == 1


async def test_ordering_none_waits_for_nothing(world, autojump_clock):
    world.subscribe("a", ordering="none", concurrency=8)
    world.sender.one_line_at_a_time = False
    world.sender.script = lambda _: world.after(3, world.ok)
    for _ in range(8):
        world.insert("x")
    async with world.running():
        await trio.sleep(5)
    assert world.sender.most["a"] == 8
    assert {one.at for one in world.sender.seen} == {world.sender.seen[0].at}


async def test_a_dead_and_a_hot_aggregate_hold_up_no_other(world, autojump_clock):
    world.subscribe("a", concurrency=4)
    world.sender.script = lambda seen: (
        world.down if seen.aggregate == "dead" else world.after(0.05, world.ok)
    )
    world.insert("dead")
    for _ in range(300):
        world.insert("dead")
        world.insert("hot")
    async with world.running():
        await trio.sleep(1)
        for n in range(20):
            world.insert(f"quiet{n}")
        asked = trio.current_time()
        await trio.sleep(20)
    quiet = [one for one in world.sender.seen if one.aggregate.startswith("quiet")]
    assert len(quiet) == 20
    assert max(one.at for one in quiet) - asked < 1.5
    assert {one.n for one in world.sender.seen if one.aggregate == "dead"} == {1}
    hot = [one.n for one in world.sender.seen if one.aggregate == "hot"]
    assert hot == sorted(hot)
    assert len(hot) == 300


async def test_G5_hanging_and_dead_endpoints_change_nothing_for_the_others(
    make_world, autojump_clock, warnings
):
    times = []
    for bad in (0, 20):
        world = make_world(f"w{bad}")
        for n in range(4):
            world.subscribe(f"good{n}", concurrency=2)
        for n in range(bad):
            world.subscribe(f"bad{n}", concurrency=8)
        refused = Fault(FaultKind.REFUSED, "connection refused", Phase.CONNECT)

        def script(seen, world=world, refused=refused):
            if seen.who.startswith("good"):
                return world.after(0.1, world.ok)
            return world.hang if int(seen.who[3:]) % 2 else refused

        world.sender.script = script
        begun = trio.current_time()
        async with world.running():
            for n in range(40):
                world.insert(f"x{n}")
            await trio.sleep(120)
        good = [one for one in world.sender.seen if one.who.startswith("good")]
        assert len(good) == 160
        times.append([(one.who, one.n, round(one.at - begun, 2)) for one in good])
        world.close()
    assert sorted(times[0]) == sorted(times[1])
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 20}


async def test_concurrency_bounds_one_subscription_and_in_flight_bounds_all(world, autojump_clock):
    world.subscribe("a", concurrency=3)
    world.subscribe("b", concurrency=8)
    world.set(max_in_flight=5)
    total = []

    def script(_seen):
        total.append(sum(world.sender.under_way.values()))
        return world.after(0.5, world.ok)

    world.sender.script = script
    for n in range(30):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(30)
    assert world.sender.most["a"] == 3
    assert max(total) == 5
    assert world.states() == ["delivered"] * 60


async def test_only_what_matches_is_sent_and_rejected_rows_are_in_nobodys_way(
    world, autojump_clock, expected_logs
):
    world.subscribe("a", events=["order.*"])
    world.insert("x", "supplier.created")
    for _ in range(8):
        world.insert("x", "order.changed", payload="{bad")
    world.insert("x", "order.changed", occurred_at="yesterday")
    world.insert("x", "order.changed")
    async with world.running():
        await trio.sleep(1)
    assert [one.n for one in world.sender.seen] == [10, 11]
    rejected = [r for r in expected_logs if r.action is Action.INGEST_REJECTED]
    assert len(rejected) == 6
    assert rejected[-1].fields["more"] == 3
    assert [r.fields["rows"] for r in expected_logs if r.action is Action.INGEST_TIME_GUESSED] == [
        1
    ]


async def test_A10_a_row_below_the_cursor_is_found_by_the_sweep(
    world, autojump_clock, expected_logs
):
    world.subscribe("a")
    world.insert("x", id=50)
    async with world.running():
        await trio.sleep(1)
        world.insert("y", id=7)
        await trio.sleep(300)
        assert len(world.sender.seen) == 1
        await trio.sleep(301)
    assert [one.n for one in world.sender.seen] == [1, 2]
    assert [r.fields for r in expected_logs if r.action is Action.SWEEP_FOUND] == [{"events": 1}]


async def test_a_lane_ends_when_nothing_is_due_and_keeps_its_connection_for_a_while(
    world, autojump_clock
):
    world.subscribe("a", concurrency=1)
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(3)
        world.insert("x")
        await trio.sleep(3)
        assert len(world.sender.channels) == 1
        assert daemon._supervisor.is_busy
        await trio.sleep(6)
        assert not daemon._supervisor.is_busy
        assert world.sender.channels[0].closed
        world.insert("x")
        await trio.sleep(1)
        assert len(world.sender.channels) == 2
    assert world.states() == ["delivered"] * 3


async def test_the_answer_is_kept_with_its_note_and_excerpt(world, autojump_clock):
    world.subscribe("a")
    world.sender.script = lambda _: Answer(201, excerpt=b"thanks", note="body cut at 64 KiB")
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
    (attempt,) = world.attempts()
    assert (attempt["status"], attempt["excerpt"], attempt["note"], attempt["error_class"]) == (
        201,
        b"thanks",
        "body cut at 64 KiB",
        "",
    )
