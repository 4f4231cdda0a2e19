"""Going round many subscriptions: a breath at a time, and nobody is left out."""

import itertools

import trio

from webhookd.daemon.rounds import A_BREATH, Rounds
from webhookd.daemon.supervisor import FORGOTTEN_AFTER
from webhookd.logs.actions import Action


class Circle:
    """So many subscriptions, 1 and up, and who was looked at."""

    def __init__(self, count: int) -> None:
        self.keys = range(1, count + 1)
        self.seen: list[int] = []
        self.idle = 0
        self.rounds = Rounds(self.waiting, self.seen.append, self.at_rest)

    def waiting(self, after, limit):
        return [key for key in self.keys if key > after][:limit]

    def at_rest(self) -> None:
        self.idle += 1


async def test_few_are_looked_at_on_the_spot() -> None:
    circle = Circle(A_BREATH - 1)
    circle.rounds.add_all()
    circle.rounds.add([7, 8])
    assert circle.seen == [*circle.keys, 7, 8]
    assert circle.rounds.is_idle


async def test_many_are_looked_at_a_breath_at_a_time(autojump_clock) -> None:
    circle = Circle(3 * A_BREATH + 5)
    steps = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(circle.rounds.run)
        await trio.testing.wait_all_tasks_blocked()
        circle.rounds.add_all()
        circle.rounds.add(range(1_000, 1_000 + 2 * A_BREATH))
        while not circle.rounds.is_idle:
            steps.append(len(circle.seen))
            await trio.lowlevel.checkpoint()
        steps.append(len(circle.seen))
        await trio.testing.wait_all_tasks_blocked()
        assert circle.idle == 2
        circle.rounds.add(range(2 * A_BREATH))
        await trio.testing.wait_all_tasks_blocked()
        assert circle.seen[-1] == 2 * A_BREATH - 1
        nursery.cancel_scope.cancel()
    assert all(later - one <= 2 * A_BREATH for one, later in itertools.pairwise(steps))
    assert set(circle.keys) | set(range(1_000, 1_000 + 2 * A_BREATH)) <= set(circle.seen)


async def test_what_changes_behind_the_place_has_a_round_of_its_own(autojump_clock) -> None:
    circle = Circle(3 * A_BREATH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(circle.rounds.run)
        await trio.testing.wait_all_tasks_blocked()
        circle.rounds.add_all()
        await trio.lowlevel.checkpoint()
        for _ in range(5):
            circle.rounds.add_all()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert circle.seen == [*circle.keys, *circle.keys]


async def test_nobody_is_looked_at_once_it_is_over() -> None:
    circle = Circle(3 * A_BREATH)
    circle.rounds.add_all()
    circle.rounds.clear()
    assert circle.rounds.is_idle
    assert len(circle.seen) == A_BREATH


async def test_a_bug_is_forgotten_after_an_hour_or_with_its_subscription(
    world, autojump_clock, warnings
) -> None:
    for name in ("a", "b", "c"):
        world.subscribe(name)
    world.insert("x")
    world.sender.script = lambda seen: KeyError("bug") if seen.attempt == 1 else world.ok
    async with world.running() as daemon:
        await trio.sleep(1)
        assert [problem.split()[3] for problem in daemon.problems] == ["a", "b", "c"]
        world.remove(2)
        world.update(3, name="d")
        await trio.sleep(1)
        assert [problem.split()[3] for problem in daemon.problems] == ["a"]
        await trio.sleep(FORGOTTEN_AFTER)
        assert not daemon.problems
    assert warnings()[Action.LANE_CRASHED] == 3
