"""Faults of this machine: nobody's attempts are used up, and nobody is asked in a storm."""

import itertools
import time

import pytest
import trio

from webhookd.core.model import Answer, Fault, FaultKind, Phase, SubscriptionState
from webhookd.daemon.outage import (
    DISPROVED,
    FORGOTTEN_AFTER,
    WITNESS_AGE,
    WITNESS_WAIT,
    Outage,
    tells,
)
from webhookd.logs.actions import Action

EMFILE = Fault(FaultKind.LOCAL, "Too many open files", Phase.CONNECT)
NO_ROUTE = Fault(FaultKind.UNREACHABLE, "No route to host", Phase.CONNECT, may_be_ours=True)
NO_NAME = Fault(FaultKind.DNS, "the resolver does not answer", Phase.RESOLVE, may_be_ours=True)
REFUSED = Fault(FaultKind.REFUSED, "connection refused", Phase.CONNECT)


def _gaps(world, who: str) -> list[int]:
    at = [one.at for one in world.sender.of(who)]
    return [round(later - one) for one, later in itertools.pairwise(at)]


async def test_B32_no_descriptors_no_attempt_is_used_up(
    world, autojump_clock, warnings, expected_logs
):
    world.subscribe("a", concurrency=1, retry_delays=[])
    world.sender.script = lambda _: EMFILE
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(300)
        (row,) = world.deliveries()
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert "Too many open files" in row["last_error"]
        sequence = row["sequence"]
        assert any("this machine" in problem for problem in daemon.problems)
        await trio.sleep(300)
        assert world.deliveries()[0]["sequence"] == sequence  # one record an outage
        world.sender.script = lambda _: world.ok
        await trio.sleep(61)
        assert not daemon.problems
    assert _gaps(world, "a")[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [(row["state"], row["attempts"]) for row in world.deliveries()] == [("delivered", 1)]
    assert world.attempts()[0]["number"] == 1
    assert warnings() == {Action.MACHINE_FAULT: 1}
    assert [r.action for r in expected_logs].count(Action.MACHINE_WELL) == 1


async def test_B32_fewer_requests_at_once_until_it_is_over(world, autojump_clock, warnings):
    world.subscribe("a", retry_delays=[])
    world.sender.script = lambda seen: world.after(0.5, EMFILE if seen.at < 100 else world.ok)
    for n in range(30):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(3)
        world.sender.most.clear()
        await trio.sleep(90)
        assert world.sender.most["a"] == 1
        await trio.sleep(80)
        assert world.sender.most["a"] == 8
    assert [(row["state"], row["attempts"]) for row in world.deliveries()] == [
        ("delivered", 1)
    ] * 30
    assert warnings() == {Action.MACHINE_FAULT: 1}


async def test_B32_connections_that_are_left_answer_and_nobody_is_asked_in_a_storm(
    world, autojump_clock, warnings
):
    """Every answer from outside says that the machine is well: of descriptors it knows nothing."""
    world.subscribe("a", events=["a.*"])
    world.subscribe("b", events=["b.*"])
    world.sender.script = lambda seen: EMFILE if seen.who == "a" else world.ok
    world.insert("x", "a.b")
    async with world.running():
        for n in range(250):
            world.insert(f"y{n % 7}", "b.c")
            await trio.sleep(0.3)
    assert len(world.sender.of("b")) == 250
    assert len(world.sender.of("a")) < 14
    assert world.deliveries("a")[0]["attempts"] == 0
    assert warnings() == {Action.MACHINE_FAULT: 1}


@pytest.mark.parametrize("fault", [NO_ROUTE, NO_NAME])
async def test_two_hosts_at_the_same_time_are_the_machines_fault(
    world, autojump_clock, warnings, expected_logs, fault
):
    for name in ("a", "b"):
        world.subscribe(name, events=[f"{name}.*"], retry_delays=[1_000] * 3)
    world.sender.script = lambda _: fault
    world.insert("x", "a.b")
    async with world.running():
        await trio.sleep(1)
        world.insert("y", "b.b")
        # Their pauses end at different moments; still neither is ever taken for alone.
        await trio.sleep(1_800)
        assert [row["attempts"] for row in world.deliveries()] == [0, 0]
        asked = trio.current_time()
        world.subscribe("c", events=["c.*"])
        world.sender.script = lambda _: world.ok
        world.insert("z", "c.c")
        await trio.sleep(1)
        assert world.states() == ["delivered"] * 3  # the first answer from outside woke them
        assert {one.at - asked < 1 for one in world.sender.seen[-3:]} == {True}
    assert [r.action for r in expected_logs].count(Action.MACHINE_WELL) == 1
    assert warnings() == {Action.MACHINE_FAULT: 2}


@pytest.mark.parametrize("fault", [NO_ROUTE, NO_NAME])
async def test_one_alone_is_its_own(world, autojump_clock, warnings, fault):
    world.subscribe("a", retry_delays=[5_000] * 3)
    world.sender.script = lambda _: fault
    world.insert("x")
    async with world.running():
        await trio.sleep(60)
    (row,) = world.deliveries("a")
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "exhausted", 4)
    # Each waits a moment for a second witness; what it waited does not count as the attempt's.
    assert _gaps(world, "a") == [5 + WITNESS_WAIT] * 3
    assert {row["duration_ms"] for row in world.attempts()} == {0}
    assert warnings() == {Action.DELIVERY_FAILED: 1}


async def test_one_host_with_two_subscriptions_is_one_witness(world, autojump_clock, warnings):
    for name in ("a", "b"):
        key = world.subscribe(name, retry_delays=[])
        world.update(key, url=f"https://same.example/{name}")
    world.sender.script = lambda _: NO_ROUTE
    world.sender.one_line_at_a_time = False
    world.insert("x")
    async with world.running():
        await trio.sleep(10)
    assert [(row["state"], row["attempts"]) for row in world.deliveries()] == [("failed", 1)] * 2
    assert warnings() == {Action.DELIVERY_FAILED: 2}


async def test_an_answer_from_this_machine_itself_says_nothing(world, autojump_clock, warnings):
    for name in ("a", "b"):
        world.subscribe(name, events=[f"{name}.*"])
    home = world.subscribe("home", events=["home.*"])
    world.update(home, url="https://localhost/hook")
    world.sender.script = lambda seen: world.ok if seen.who == "localhost" else NO_ROUTE
    world.insert("x", "a.b")
    world.insert("x", "b.b")
    async with world.running():
        for n in range(120):
            world.insert(f"y{n}", "home.c")
            await trio.sleep(1)
    assert len(world.sender.of("localhost")) == 120
    assert [row["attempts"] for row in world.deliveries()[:2]] == [0, 0]
    assert len(world.sender.of("a")) < 9
    assert warnings() == {Action.MACHINE_FAULT: 2}


@pytest.mark.parametrize(
    ("host", "does"),
    [
        ("a.example", True),
        ("203.0.113.9", True),
        ("10.0.0.9", True),
        ("localhost", False),
        ("x.localhost", False),
        ("127.0.0.9", False),
        ("::1", False),
        ("2001:db8::9", True),
    ],
)
def test_whose_answers_tell_of_the_network(host, does) -> None:
    assert tells(host) is does


async def test_two_that_stay_away_while_others_answer_are_ill_themselves(
    world, autojump_clock, warnings
):
    """Two hosts that only IPv6 leads to, say, on a machine that has none."""
    for name in ("a", "b", "c"):
        world.subscribe(name, events=[f"{name}.*"], retry_delays=[10_000] * 3)
    world.sender.script = lambda seen: world.ok if seen.who == "c" else NO_ROUTE
    world.insert("x", "a.b")
    world.insert("x", "b.b")
    async with world.running():
        await trio.sleep(3)
        for n in range(150):
            world.insert(f"y{n % 5}", "c.c")
            await trio.sleep(3)
    for name in ("a", "b"):
        assert len(world.sender.of(name)) < 30
        (row,) = world.deliveries(name)
        assert (row["state"], row["attempts"]) == ("failed", 4)
    assert warnings() == {Action.MACHINE_FAULT: 2, Action.DELIVERY_FAILED: 2}


async def test_what_is_disproved_often_enough_is_the_hosts_own(autojump_clock):
    outage, judged = Outage(lambda _: None), []

    async def judge(host: str) -> None:
        judged.append((await outage.judge(host, NO_ROUTE)).kind)

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(judge, "a.example")
            nursery.start_soon(judge, "b.example")

    for _ in range(DISPROVED):
        await both()
        await outage.judge("c.example", Answer(200))
    assert judged == [FaultKind.LOCAL] * (2 * DISPROVED)
    await both()
    assert judged[-2:] == [FaultKind.UNREACHABLE] * 2
    await outage.judge("a.example", Answer(200))
    await outage.judge("b.example", Answer(200))
    await both()
    assert judged[-2:] == [FaultKind.LOCAL] * 2


async def test_D2_a_zone_whose_resolver_hangs_leaves_the_others_their_places(
    world, autojump_clock, warnings
):
    world.set(max_in_flight=40)
    for n in range(50):
        world.subscribe(f"z{n}", events=["*"], timeout=15_000)
    world.subscribe("good", events=["*"])
    world.sender.script = lambda seen: (
        world.after(0.1, world.ok) if seen.who == "good" else world.after(15, NO_NAME)
    )
    asked: dict[int, float] = {}
    async with world.running():
        for n in range(20):
            world.insert(f"w{n}")
        await trio.sleep(18)
        for n in range(30):
            asked[world.insert(f"x{n}")] = trio.current_time()
            await trio.sleep(1.7)
    waits = [one.at - asked[one.n] for one in world.sender.of("good") if one.n in asked]
    assert len(waits) == 30
    assert max(waits) <= 0.26
    assert warnings().keys() <= {Action.MACHINE_FAULT, Action.SUBSCRIPTION_FAILING}


async def test_an_outage_that_is_over_is_forgotten_after_a_while(world, autojump_clock, warnings):
    ended = []
    outage = Outage(ended.append)
    assert outage.put_off(1, "a", EMFILE)
    assert not outage.put_off(1, "a", EMFILE)  # of the same moment
    assert (outage.wait(1), outage.is_on, outage.concerns(1)) == (1.0, True, True)
    await outage.judge("b.example", Answer(500))
    assert ended == [[1]]
    assert (outage.wait(1), outage.is_on, outage.concerns(1)) == (0.0, False, True)
    await outage.judge("b.example", Answer(500))
    assert ended == [[1]]
    assert not outage.put_off(1, "a", EMFILE)
    assert outage.wait(1) == 2.0
    await trio.sleep(2 + FORGOTTEN_AFTER)
    assert outage.put_off(1, "a", EMFILE)
    assert outage.wait(1) == 1.0
    outage.reached(1, Answer(200))
    assert (outage.wait(1), outage.is_on, outage.concerns(1)) == (0.0, False, False)
    assert warnings() == {Action.MACHINE_FAULT: 2}


async def test_E11_what_it_costs_does_not_grow_with_the_hosts_that_are_away(autojump_clock):
    outage = Outage(lambda _: None)
    hosts = [f"h{n}.example" for n in range(10_000)]
    await _judged_at_once(outage, hosts)
    begun = time.thread_time()
    for host in hosts:
        assert (await outage.judge(host, NO_ROUTE)).kind is FaultKind.LOCAL
    for host in hosts:
        await outage.judge(host, Answer(500))
    assert time.thread_time() - begun < 2  # to look at each of them each time takes 20 s


async def _judged_at_once(outage: Outage, hosts: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        for host in hosts:
            nursery.start_soon(outage.judge, host, NO_ROUTE)


async def test_a_witness_of_long_ago_is_none(autojump_clock):
    outage = Outage(lambda _: None)
    await _judged_at_once(outage, ["a.example", "b.example"])
    await trio.sleep(WITNESS_AGE - 10)
    assert (await outage.judge("a.example", NO_ROUTE)).kind is FaultKind.LOCAL
    await trio.sleep(WITNESS_AGE - 5)
    assert (await outage.judge("c.example", NO_ROUTE)).kind is FaultKind.LOCAL  # with the first
    await trio.sleep(WITNESS_AGE + 1)
    assert (await outage.judge("d.example", NO_ROUTE)).kind is FaultKind.UNREACHABLE


async def test_who_waits_and_has_nothing_sent_any_more_is_no_outage(
    world, autojump_clock, warnings
):
    key = world.subscribe("a")
    world.sender.script = lambda _: EMFILE
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(10)
        world.state(key, SubscriptionState.PAUSED)
        await trio.sleep(100)
        assert daemon.problems
        await trio.sleep(100)
        assert not daemon.problems
        world.state(key, SubscriptionState.ENABLED)
        await trio.sleep(1)
        assert daemon.problems
    assert warnings() == {Action.MACHINE_FAULT: 2}  # it is told of again


async def test_B32_all_are_back_soon_after_the_first_has_got_through(
    world, autojump_clock, warnings
):
    """At home, say: where no answer comes from outside, each that gets through calls two others."""
    for n in range(30):
        key = world.subscribe(f"s{n}")
        world.update(key, url=f"https://localhost/s{n}")
    well_at = 1_000.0
    world.sender.script = lambda seen: world.ok if seen.at >= well_at else EMFILE
    world.sender.one_line_at_a_time = False
    world.insert("x")
    async with world.running():
        await trio.sleep(well_at - 0.1)
        assert set(world.states()) == {"pending"}
        await trio.sleep(62)
        assert set(world.states()) == {"delivered"}
        back = [one.at for one in world.sender.seen if one.at >= well_at]
        assert len(back) == 30
        assert max(back) - min(back) < 1
        assert max(back) - well_at < 61
    assert warnings() == {Action.MACHINE_FAULT: 30}


async def test_B32_scarce_descriptors_are_told_of_once_a_minute_and_asked_for_in_no_storm(
    world, autojump_clock, warnings
):
    """There are six, for thirty: the next attempt may fail as soon as one has got through."""
    for n in range(30):
        world.subscribe(f"s{n}")

    def script(seen):
        if world.sender.under_way.total() > 6:
            return EMFILE
        return world.after(0.2, world.ok)

    world.sender.script = script
    for n in range(10):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(60)  # 10 s if not one were wasted
        assert set(world.states()) == {"delivered"}
    assert {row["attempts"] for row in world.deliveries()} == {1}
    assert len(world.sender.seen) < 300 * 5
    assert warnings()[Action.MACHINE_FAULT] <= 30


async def test_a_refusal_comes_from_outside_and_a_timeout_from_nowhere(world, autojump_clock):
    outage = Outage(lambda _: None)
    async with trio.open_nursery() as nursery:
        judged = []

        async def judge(host: str, result: Fault) -> None:
            judged.append((await outage.judge(host, result)).kind)

        nursery.start_soon(judge, "a.example", NO_ROUTE)
        await trio.sleep(0.5)
        silent = Fault(FaultKind.TIMEOUT, "", Phase.HEAD)
        await outage.judge("b.example", silent)
        await trio.sleep(0.5)
        assert judged == []
        await outage.judge("b.example", REFUSED)
        await trio.sleep(0.1)
        assert judged == [FaultKind.UNREACHABLE]
        nursery.start_soon(judge, "a.example", NO_ROUTE)
        await trio.sleep(1)
        nursery.start_soon(judge, "c.example", NO_NAME)
        await trio.sleep(0.1)
    assert judged[1:] == [FaultKind.LOCAL] * 2
