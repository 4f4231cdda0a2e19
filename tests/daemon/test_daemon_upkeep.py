"""What time does costs nothing before its time can have come, and is not missed afterwards."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import trio

from webhookd.core.model import SubscriptionState
from webhookd.core.times import from_text
from webhookd.daemon import janitor, upkeep
from webhookd.daemon.rounds import A_BREATH
from webhookd.daemon.upkeep import A_FEW, EVERY
from webhookd.logs.actions import Action

HOUR = 3_600_000
DAY = 24 * HOUR
MANY = 40
ROUNDS = 10


@pytest.fixture
def asked(world) -> Callable[[], int]:
    """Counts the statements that look into deliveries: how many since the last call."""
    seen: list[str] = []

    def note(statement: str) -> None:
        if "webhookd_deliveries" in statement:
            seen.append(statement)

    def count() -> int:
        world.stores[0]._reader.set_trace_callback(note)
        found = len(seen)
        seen.clear()
        return found

    return count


@pytest.mark.parametrize("few", [1, 2, A_FEW])
async def test_a_round_asks_of_a_few_and_of_those_whose_time_can_have_come(
    world, autojump_clock, asked, monkeypatch, few
):
    monkeypatch.setattr(upkeep, "A_FEW", few)
    monkeypatch.setattr(janitor, "EVERY", HOUR)
    for n in range(MANY):
        world.subscribe(f"a{n}", retry_delays=[HOUR] * 3, failing_after=50, max_age=DAY)
    world.sender.script = lambda _: world.down
    world.insert("x")
    async with world.running():
        await trio.sleep(3 * EVERY)
        asked()
        await trio.sleep(ROUNDS * EVERY)
        # To find one and to look at it: two statements each, and one for what expires.
        assert 0 < asked() <= (6 * min(few, MANY) + 2) * ROUNDS


async def test_another_policy_is_obeyed_in_the_next_round(world, autojump_clock, monkeypatch):
    monkeypatch.setattr(upkeep, "A_FEW", 1)
    for n in range(20):
        world.subscribe(f"b{n}", retry_delays=[HOUR], retry_after_max=0)
    key = world.subscribe("a", retry_delays=[HOUR], retry_after_max=0)
    world.sender.script = lambda _: world.down
    world.insert("x")
    async with world.running():
        await trio.sleep(3 * EVERY)
        policy = {"jitter": 0.0, "retry_delays": [60_000], "retry_after_max": 0}
        world.update(key, policy=policy)
        await trio.sleep(EVERY + 1)
        found = world.table("SELECT due_at FROM webhookd_deliveries WHERE subscription = ?", key)
        assert from_text(found[0]["due_at"]) <= world.clock.now() + 60_000


class ManyWaiting:
    """A file and a supervisor in one, of which nothing is due too late; `judged` in order."""

    def __init__(self, count: int) -> None:
        self.store = self
        self.keys = range(1, count + 1)
        self.judged: list[int] = []

    @property
    def subscriptions(self):
        return [SimpleNamespace(key=key, name=str(key)) for key in self.keys]

    def policy(self, key):
        """Another one each time, as after a reload."""
        return SimpleNamespace(max_age=DAY, retry_delays=(), retry_after_max=0, jitter=0)

    def waiting(self, after, limit):
        return []

    def latest_due(self, key, again):
        self.judged.append(key)

    def now(self):
        return 0

    @property
    def is_trusted(self):
        return True


async def test_a_profile_of_thousands_is_judged_with_breaths_in_between():
    many = ManyWaiting(1_000)
    looked_after = upkeep.Upkeep(many, many, many, many)
    await looked_after._bring_forward()
    many.judged.clear()
    most = before = 0

    async def watch():
        nonlocal most, before
        while True:
            most, before = max(most, len(many.judged) - before), len(many.judged)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await looked_after._bring_forward()
        nursery.cancel_scope.cancel()
    assert len(many.judged) == 2 * 1_000, "each has another policy now"
    assert most <= 4 * A_BREATH


async def test_of_those_that_are_removed_nothing_is_kept():
    many = ManyWaiting(1_000)
    looked_after = upkeep.Upkeep(many, many, many, many)
    many.owed_since = lambda key: 0
    for keys in (many.keys, range(995, 1_005)):
        many.keys = keys
        await looked_after._bring_forward()
        await looked_after._expire()
    assert set(looked_after._judged_by) == set(looked_after._expiry) == set(many.keys)


async def test_E4_what_is_due_too_late_is_found_though_few_are_looked_at(
    world, autojump_clock, monkeypatch
):
    monkeypatch.setattr(upkeep, "A_FEW", 1)
    for n in range(5):
        world.subscribe(f"a{n}", retry_delays=[60_000], retry_after_max=60_000)
    world.sender.script = lambda seen: world.down if seen.attempt == 1 else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(20)
        late = "'2040-01-01T00:00:00.000Z'"
        world.host.execute(f"UPDATE webhookd_deliveries SET due_at = {late}, retry_at = {late}")
        await trio.sleep(7 * EVERY + 62)
    assert world.states() == ["delivered"] * 5


async def test_each_expires_when_its_time_comes_however_rarely_it_is_asked(
    world, autojump_clock, warnings
):
    """Paused, so that no lane looks: the second comes while nothing is known to be owed."""
    key = world.subscribe("a", max_age=60_000)
    world.state(key, SubscriptionState.PAUSED)
    async with world.running():
        await trio.sleep(30)
        world.insert("x")
        await trio.sleep(50)
        world.insert("y")
        assert world.states() == ["pending"]
        await trio.sleep(10 + EVERY + 1)
        assert world.states() == ["failed", "pending"]
        await trio.sleep(50)
        assert world.states() == ["failed", "failed"]
    assert warnings() == {Action.DELIVERIES_EXPIRED: 2}


async def test_a_longer_age_and_a_shorter_one_count_at_once(world, autojump_clock, warnings):
    key = world.subscribe("a", max_age=DAY)
    world.state(key, SubscriptionState.PAUSED)
    world.insert("x")
    async with world.running():
        await trio.sleep(60)
        world.update(key, policy={"max_age": 30_000})
        await trio.sleep(EVERY + 1)
        assert world.states() == ["failed"]
    assert warnings() == {Action.DELIVERIES_EXPIRED: 1}
