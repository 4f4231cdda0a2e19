"""A subscription that fails is asked with one request at a time, and let out step by step."""

import itertools

import pytest
import trio

from webhookd.core.model import Answer, Fault, FaultKind, Phase, SubscriptionState
from webhookd.logs.actions import Action

REFUSED = Fault(FaultKind.REFUSED, "connection refused", Phase.CONNECT)


def _alone(world, since: float, until: float) -> bool:
    """Whether none of the requests begun in this span met another one under way."""
    return all(
        overlap == 1
        for one, overlap in zip(world.sender.seen, world.overlaps, strict=True)
        if since <= one.at < until
    )


@pytest.fixture
def answering(world):
    """Sets what is answered after a second; keeps how many were under way as each one came."""
    world.overlaps = []

    def answer(choose) -> None:
        def script(seen):
            world.overlaps.append(world.sender.under_way[seen.who])
            return world.after(1, choose(seen))

        world.sender.script = script

    return answer


async def test_five_in_a_row_and_it_is_asked_with_one_request_at_a_time(
    world, autojump_clock, answering, warnings
):
    world.subscribe("a", retry_delays=[3_600_000])
    answering(lambda _: world.down)
    for n in range(20):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(5.5)
        chosen = len(world.sender.seen)
        # Eight at first; as they fail one by one four more have gone out before the fifth has.
        assert chosen == 8 + 4 + 1
        assert [row["attempts"] for row in world.deliveries()].count(0) >= 20 - chosen
        await trio.sleep(250)
    probes = [one.at for one in world.sender.seen[12:]]
    # Each takes a second; from its end on it is 2, 4, 8 ... until the next.
    assert [round(b - a) for a, b in itertools.pairwise(probes)] == [3, 5, 9, 17, 33, 61, 61]
    assert world.sender.most["a"] == 8
    assert _alone(world, 1.5, 270)
    # It goes round the aggregates: each was asked for once, before any was for a second time.
    assert sorted(one.n for one in world.sender.seen) == list(range(1, 21))
    assert {(row["state"], row["attempts"]) for row in world.deliveries()} == {("pending", 1)}
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_a_lane_at_work_asks_with_one_once_an_edited_policy_says_that_it_fails(
    world, autojump_clock, answering, warnings
):
    """What failed before the edit is recorded after it, hence judged by another policy."""
    delays = {"retry_delays": [3_600_000]}
    key = world.subscribe("a", **delays)
    answering(lambda _: world.down)
    for n in range(4):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(0.9)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(1)  # all four are answered, and wait for the file
        world.host.execute("COMMIT")
        world.update(key, policy={**delays, "failing_after": 4})
        await trio.sleep(0.9)
        for n in range(4):
            world.insert(f"y{n}")
        await trio.sleep(5)
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}
    assert max(world.overlaps[:4]) == 4
    assert set(world.overlaps[4:]) == {1}


async def test_a_lane_at_work_is_wide_open_once_an_edited_policy_says_that_it_is_well(
    world, autojump_clock, answering, warnings
):
    delays = {"retry_delays": [3_600_000]}
    key = world.subscribe("a", failing_after=4, **delays)
    answering(lambda _: world.down)
    for n in range(4):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(0.9)
        world.host.execute("BEGIN IMMEDIATE")
        await trio.sleep(1)
        world.host.execute("COMMIT")
        world.update(key, policy={**delays, "failing_after": 20})
        await trio.sleep(0.9)
        for n in range(4):
            world.insert(f"y{n}")
        await trio.sleep(5)
    assert warnings() == {}
    assert max(world.overlaps[:4]) == 4
    assert max(world.overlaps[4:]) == 4


async def test_what_says_nothing_of_health_does_not_lead_to_probing(
    world, autojump_clock, answering
):
    world.subscribe("a", retry_delays=[2_000] * 20, concurrency=4)
    answering(lambda _: Answer(400))
    for n in range(4):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(30)
    assert len(world.sender.seen) > 30
    assert max(world.overlaps[-4:]) == 4


async def test_first_attempts_go_before_retries_that_are_due(
    world, autojump_clock, answering, warnings
):
    world.subscribe("a", retry_delays=[2_000] * 40)
    answering(lambda _: world.down)
    for n in range(10):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(22)  # between two probes
        for n in range(3):
            world.insert(f"new{n}")
        asked = trio.current_time()
        await trio.sleep(200)
    after = [one.aggregate for one in world.sender.seen if one.at > asked + 0.3]
    assert after[:3] == ["new0", "new1", "new2"]
    assert _alone(world, 2, 230)
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_each_success_doubles_what_may_be_under_way(
    world, autojump_clock, answering, warnings, expected_logs
):
    world.subscribe("a", retry_delays=[5_000] * 20)
    well_at = 40.0
    answering(lambda seen: world.ok if seen.at >= well_at else world.down)
    for n in range(60):
        world.insert(f"x{n}")
    allowed = []
    real = world.sender.begin

    def begin(seen) -> None:
        real(seen)
        if seen.at >= well_at:
            successes = sum(one.at >= well_at for one in world.sender.finished)
            allowed.append((world.sender.under_way["a"], min(8, 2**successes)))

    world.sender.begin = begin
    async with world.running():
        await trio.sleep(120)
    assert all(count <= most for count, most in allowed), allowed
    assert [count for count, _ in allowed[:3]] == [1, 1, 2]
    assert max(count for count, _ in allowed) == 8
    assert world.states() == ["delivered"] * 60
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}
    assert [r.action for r in expected_logs].count(Action.SUBSCRIPTION_RECOVERED) == 1


async def test_a_lane_that_starts_again_and_a_daemon_that_starts_again_go_on_with_one(
    world, autojump_clock, answering, warnings
):
    world.subscribe("a", retry_delays=[60_000] * 9)
    answering(lambda seen: world.ok if seen.at >= 200 else world.down)
    for n in range(6):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(30)
        assert not daemon._supervisor.is_busy
        await trio.sleep(60)
    # At 61, 64, 69 and 78 s, and next at 95 s; or at 61, 63, 66, 71, 80 s, where the first one that
    # is tried again is the one that failed last: that lengthens no pause.
    again = [round(one.at) for one in world.sender.seen[6:]]
    assert again in ([61, 64, 69, 78], [61, 63, 66, 71, 80])
    assert len(world.sender.channels) > 6
    async with world.running():
        await trio.sleep(120)
        assert _alone(world, 5, 199)
        assert len(world.sender.seen) > 15
        await trio.sleep(120)
    assert world.states() == ["delivered"] * 6
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_C33_an_endpoint_that_comes_and_goes(
    world, autojump_clock, answering, warnings, expected_logs
):
    world.subscribe("a", retry_delays=[4_000] * 50)
    answering(lambda seen: world.ok if seen.at % 100 >= 60 else world.down)
    async with world.running():
        for n in range(400):
            world.insert(f"x{n % 40}")
            await trio.sleep(1)
        await trio.sleep(240)
    told = [
        r.action
        for r in expected_logs
        if r.action in (Action.SUBSCRIPTION_FAILING, Action.SUBSCRIPTION_RECOVERED)
    ]
    assert len(told) > 6
    assert told[0] is Action.SUBSCRIPTION_FAILING
    assert all(one is not two for one, two in itertools.pairwise(told))
    # Each time down, a few requests at once find that out; then they go one by one.
    for down in range(100, 400, 100):
        assert _alone(world, down + 8, down + 60), down
    assert set(world.states()) == {"delivered"}
    assert warnings().keys() == {Action.SUBSCRIPTION_FAILING}
    last: dict[str, int] = {}
    for one in world.sender.seen:
        assert one.n >= last.get(one.aggregate, 0)
        last[one.aggregate] = one.n


@pytest.mark.usefixtures("long_polls")
async def test_C34_it_recovers_after_three_days_and_the_backlog_follows_in_order(
    world, autojump_clock, answering, warnings
):
    hour = 3_600
    world.subscribe("a", retry_delays=[hour * 1_000] * 100, rate_limit=4.0)
    answering(lambda seen: world.ok if seen.at >= 72 * hour else world.down)
    for n in range(300):
        world.insert(f"x{n % 10}")
    async with world.running():
        await trio.sleep(72 * hour)
        down = len(world.sender.seen)
        assert down <= 10 * 73
        await trio.sleep(2 * hour)
    up = world.sender.seen[down:]
    assert [one.n for one in sorted(up, key=lambda one: one.n)] == list(range(1, 301))
    for aggregate in range(10):
        mine = [one.n for one in up if one.aggregate == f"x{aggregate}"]
        assert mine == sorted(mine)
    starts = [one.at for one in up]
    # In any second no more than what the limit lets through, with its burst of one second.
    assert all(later - one > 0.9 for one, later in zip(starts, starts[8:], strict=False))
    assert world.states() == ["delivered"] * 300
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_five_of_which_none_is_an_attempt_do_not_count(world, autojump_clock, answering):
    """A success in between begins the count anew."""
    world.subscribe("a", retry_delays=[1_000] * 20, concurrency=1)
    answering(lambda seen: world.ok if seen.attempt % 5 == 0 else world.down)
    for _ in range(4):
        world.insert("x")
    async with world.running():
        await trio.sleep(100)
    assert world.states() == ["delivered"] * 4
    assert world.table("SELECT ill, failing_since FROM webhookd_counters") == [
        {"ill": 0, "failing_since": None}
    ]


async def test_who_is_not_chosen_loses_no_attempt_however_fast_it_fails(
    world, autojump_clock, warnings
):
    """It refuses within no time: without a pause all that is due would be asked for at once."""
    world.subscribe("a", retry_delays=[30_000] * 3)
    world.sender.script = lambda _: REFUSED
    for n in range(500):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(300)
    assert len(world.sender.seen) < 30
    assert [row["attempts"] for row in world.deliveries()].count(0) > 470
    assert "failed" not in world.states()
    assert warnings()[Action.SUBSCRIPTION_FAILING] == 1


async def test_a_first_attempt_does_not_cut_the_pause_short_and_enabling_does(
    world, autojump_clock, warnings
):
    key = world.subscribe("a", retry_delays=[1_000] * 500 + [60_000])
    world.sender.script = lambda _: REFUSED
    for n in range(5):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(80)
        count, last = len(world.sender.seen), world.sender.seen[-1].at
        assert last + 32 > trio.current_time() + 5  # far enough from the next
        world.insert("y")
        await trio.sleep(2)
        assert len(world.sender.seen) == count
        # Also where it is enabled already; and the pauses begin anew.
        world.state(key, SubscriptionState.ENABLED)
        asked = trio.current_time()
        await trio.sleep(8)
        gaps = [round(one.at - asked) for one in world.sender.seen[count:]]
        assert gaps == [0, 1, 3, 7]
        assert world.sender.seen[count].aggregate == "y"
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_one_broken_aggregate_does_not_lengthen_the_pauses_of_the_others(
    world, autojump_clock, warnings
):
    """What fails again and again says nothing new of the endpoint: another one may be well."""
    world.subscribe("a", retry_delays=[2_000] * 5 + [60_000])
    world.sender.script = lambda seen: world.down if seen.aggregate == "broken" else world.ok
    for _ in range(30):
        world.insert("broken")
    async with world.running():
        for n in range(10):
            await trio.sleep(75)
            inserted = trio.current_time()
            world.insert(f"fresh{n}")
            await trio.sleep(1.2)
            sent = [one.at for one in world.sender.seen if one.aggregate == f"fresh{n}"]
            assert len(sent) == 1
            assert sent[0] < inserted + 1.2
    assert set(warnings()) == {Action.SUBSCRIPTION_FAILING, Action.DELIVERY_FAILED}


async def test_no_pause_is_longer_than_the_longest_delay(world, autojump_clock, warnings):
    world.subscribe("a", retry_delays=[1_000, 3_000] * 50)
    world.sender.script = lambda _: REFUSED
    for n in range(40):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(120)
    gaps = [later.at - one.at for one, later in itertools.pairwise(world.sender.seen[10:])]
    assert 2.9 < max(gaps) < 3.2
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_a_success_ends_the_pauses_and_what_says_nothing_of_health_makes_none(
    world, autojump_clock, warnings
):
    """A 400 is the event's own: such ones are asked for as if all were well, until one succeeds."""
    world.subscribe("a", retry_delays=[3_600_000] * 3, concurrency=1)
    world.sender.script = lambda seen: (
        REFUSED if seen.n <= 6 else Answer(400) if seen.n <= 20 else world.ok
    )
    for n in range(30):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(4)
    assert [one.n for one in world.sender.seen] == list(range(1, 31))
    at = {one.n: round(one.at) for one in world.sender.seen}
    assert (at[5], at[6], at[7], at[30]) == (0, 1, 3, 3)
    assert warnings() == {Action.SUBSCRIPTION_FAILING: 1}


async def test_how_far_it_is_open_again_outlives_the_lane(
    world, autojump_clock, answering, warnings
):
    world.subscribe("a", retry_delays=[20_000] * 9, failing_after=1)
    answering(lambda seen: world.ok if seen.at >= 15 else world.down)
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(60)
        assert world.states() == ["delivered"]
        assert not daemon._supervisor.is_busy
        for n in range(40):
            world.insert(f"y{n}")
        await trio.sleep(0.9)
        assert world.sender.under_way["a"] == 2
        await trio.sleep(20)
        assert world.sender.most["a"] == 8
        assert not daemon._supervisor._shared.brakes.openings
