"""G5: the healthy notice nothing of the others, whatever these are: times equal to the last digit.

In virtual time no processor is shared, so nothing but waiting for one another can make a
difference: for a place, for a worker, for a line, for the file.
"""

import json

import pytest
import trio

from webhookd.core.model import Answer, Fault, FaultKind, Phase
from webhookd.daemon.clock import next_tick
from webhookd.logs.actions import Action

HEALTHY = 4
ROWS = 150
HOT = 10_000
REFUSED = Fault(FaultKind.REFUSED, "connection refused", Phase.CONNECT)


def _hot_rows(world) -> None:
    """A head and all that waits behind it, in one statement."""
    world.host.execute(
        "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < ?)"
        " INSERT INTO outbox (event_type, aggregate_id, payload)"
        " SELECT 'good.hot', 'hot', ? FROM k",
        (HOT, json.dumps({"a": "hot", "n": 0})),
    )


async def _waits(world, prepare) -> list[tuple[str, int, float]]:
    """How long each row of a light and steady load took to each healthy subscription."""
    for n in range(HEALTHY):
        world.subscribe(f"good{n}", events=["good.*"], concurrency=4, failing_after=1_000)
    bad = prepare(world)
    asked: dict[int, float] = {}

    def script(seen):
        if seen.n in asked and seen.who.startswith("good"):
            return world.after(0.05 + (seen.n - before) % 7 / 100, world.ok)
        return bad(seen)

    world.sender.script = script
    before = world.rows
    await trio.sleep_until(next_tick(1.0))  # by Trio's clock the file is looked at
    async with world.running():
        await trio.sleep(2.03)  # never at the very moment of a look at the file
        for n in range(ROWS):
            asked[world.insert(f"x{n % 50}", "good.row")] = trio.current_time()
            await trio.sleep(0.1)
        await trio.sleep(5)
    waits = [
        (one.who, one.n - before, round(one.at - asked[one.n], 6))
        for one in world.sender.seen
        if one.who.startswith("good") and one.n in asked
    ]
    assert len(waits) == HEALTHY * ROWS
    return sorted(waits)


def _alone(_world):
    return lambda _: Answer(200)


def _dead(world):
    world.subscribe("bad", events=["*"])
    return lambda _: REFUSED


def _hanging(world):
    """C27: a hundred, all new to us, so that at first nobody knows of any trouble."""
    for n in range(100):
        world.subscribe(f"bad{n}", events=["*"])
    for n in range(10):
        world.insert(f"early{n}", "other.row")
    return lambda _: world.hang


def _flooding(world):
    """C28: one with a great backlog, that answers, and slowly."""
    world.subscribe("bad", events=["other.*"], concurrency=64)
    for n in range(2_000):
        world.insert(f"early{n}", "other.row")
    return lambda _: world.after(1, world.ok)


def _hot(world):
    """An aggregate of the healthy ones' own, whose head fails again and again."""
    _hot_rows(world)
    for n in range(HEALTHY):
        world.update(
            n + 1, policy={"jitter": 0.0, "retry_delays": [2_000] * 50, "failing_after": 1_000}
        )
    return lambda _: Answer(503)


@pytest.mark.parametrize("trouble", [_dead, _flooding, _hot])
async def test_G5_the_healthy_wait_as_long_as_if_they_were_alone(
    make_world, autojump_clock, warnings, trouble
):
    alone = await _waits(make_world("alone"), _alone)
    assert max(wait for _, _, wait in alone) <= 0.25
    beside = await _waits(make_world("beside"), trouble)
    assert beside == alone  # not the 99th of a hundred alone: every single one
    assert warnings().keys() <= {Action.SUBSCRIPTION_FAILING}


async def test_C27_a_hundred_that_begin_to_hang_all_at_once(make_world, autojump_clock, warnings):
    """Until the first of them is known to hang they hold all places but the last eighth.

    So for these 15 s each healthy one has one place at a time for certain, and what it has to send
    at once goes one after another: two or three requests here, of a tenth of a second each.
    """
    alone = await _waits(make_world("alone"), _alone)
    beside = await _waits(make_world("beside"), _hanging)
    late = [after - before for (*_, before), (*_, after) in zip(alone, beside, strict=True)]
    assert min(late) >= 0
    assert max(late) <= 0.25
    known = [row for row in beside if row[1] >= 140]
    assert len(known) == HEALTHY * 11
    assert known == [row for row in alone if row[1] >= 140]
    assert warnings().keys() <= {Action.SUBSCRIPTION_FAILING}


async def test_G5_a_hot_aggregate_that_is_sent_changes_nothing_but_by_its_share(
    world, autojump_clock
):
    """It has one worker at a time, for it is one line; the others have all the rest."""
    world.subscribe("a", concurrency=3)
    _hot_rows(world)
    world.sender.script = lambda _: world.after(0.05, world.ok)
    asked: dict[int, float] = {}
    async with world.running():
        await trio.sleep(1)
        for n in range(100):
            asked[world.insert(f"x{n}", "good.row")] = trio.current_time()
            await trio.sleep(0.1)
        await trio.sleep(1)
    waits = [one.at - asked[one.n] for one in world.sender.seen if one.n in asked]
    assert len(waits) == 100
    assert max(waits) <= 0.25 + 0.05
