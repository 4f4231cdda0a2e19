"""The places for attempts: shared, so that nobody's trouble is another's."""

import trio
import trio.testing

from webhookd.core.model import SubscriptionKey
from webhookd.daemon.places import Places

A, B, C = SubscriptionKey(1), SubscriptionKey(2), SubscriptionKey(3)


async def taken(places: Places, *keys: SubscriptionKey) -> list[SubscriptionKey]:
    """Which of `keys`, asking in this order, get a place at once."""
    got: list[SubscriptionKey] = []

    async def ask(key: SubscriptionKey) -> None:
        await places.take(key)
        got.append(key)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(ask, key)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return got


async def test_alone_a_lane_may_have_them_all() -> None:
    assert await taken(Places(3), A, A, A, A) == [A, A, A]


async def test_two_lanes_have_an_equal_share_each() -> None:
    places = Places(4)
    assert await taken(places, A, B, A, A, B, B) == [A, B, A, B]


async def test_one_that_comes_late_is_served_before_those_that_have_their_share() -> None:
    places = Places(2)
    got: list[SubscriptionKey] = []

    async def ask(key: SubscriptionKey) -> None:
        await places.take(key)
        got.append(key)

    async with trio.open_nursery() as nursery:
        for key in (A, A, A, B):
            nursery.start_soon(ask, key)
            await trio.testing.wait_all_tasks_blocked()
        assert got == [A, A]
        places.give_back(A)
        await trio.testing.wait_all_tasks_blocked()
        assert got == [A, A, B]
        nursery.cancel_scope.cancel()


async def test_C27_the_last_eighth_is_for_those_that_have_none() -> None:
    places = Places(16)
    crowd = [SubscriptionKey(number) for number in range(10, 18)]
    assert len(await taken(places, *crowd, *crowd)) == 8 + 6
    places = Places(16)
    got: list[SubscriptionKey] = []

    async def ask(key: SubscriptionKey) -> None:
        await places.take(key)
        got.append(key)

    async with trio.open_nursery() as nursery:
        for key in (*crowd, *crowd, A, A, B, C):
            nursery.start_soon(ask, key)
            await trio.testing.wait_all_tasks_blocked()
        assert got[14:] == [A, B]
        places.give_back(crowd[0])
        await trio.testing.wait_all_tasks_blocked()
        assert got[16:] == [C]  # before those that asked earlier and have one
        for key in crowd[:4]:
            places.give_back(key)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(got[17:]) == crowd[6:8]
        nursery.cancel_scope.cancel()


async def test_C27_those_in_trouble_have_half_of_them_at_most() -> None:
    places = Places(4)
    for key in (A, B):
        places.report(key, healthy=False)
    assert await taken(places, A, B, A, B, C, C) == [A, B, C, C]
    places = Places(4)
    places.report(A, healthy=False)
    places.report(A, healthy=False)
    assert await taken(places, A, A, A) == [A, A]


async def test_C27_one_in_trouble_has_its_turn_however_many_others_there_are() -> None:
    """Else a single 503 would shut a subscription out for as long as the others are busy."""
    places = Places(16)
    crowd = [SubscriptionKey(number) for number in range(10, 40)]
    got: list[SubscriptionKey] = []

    async def ask(key: SubscriptionKey) -> None:
        await places.take(key)
        got.append(key)

    for ill in (A, B, C):
        places.report(ill, healthy=False)
    async with trio.open_nursery() as nursery:
        for key in (*crowd[:20], A, B, C, *crowd[20:]):
            nursery.start_soon(ask, key)
            await trio.testing.wait_all_tasks_blocked()
        assert got == crowd[:16]
        for key in crowd[:16]:
            places.give_back(key)
            await trio.testing.wait_all_tasks_blocked()
        # Two places are an eighth: the third one in trouble waits until the others have theirs.
        assert got[16:] == [*crowd[16:20], A, B, *crowd[20:30]]
        places.give_back(A)
        await trio.testing.wait_all_tasks_blocked()
        assert got[32:] == [C]
        nursery.cancel_scope.cancel()


async def test_who_recovers_is_let_in_at_once() -> None:
    places = Places(4)
    got: list[SubscriptionKey] = []

    async def ask(key: SubscriptionKey) -> None:
        await places.take(key)
        got.append(key)

    places.report(A, healthy=False)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask, A)
        await trio.testing.wait_all_tasks_blocked()
        assert len(got) == 2
        places.report(A, healthy=True)
        await trio.testing.wait_all_tasks_blocked()
        assert len(got) == 4
        nursery.cancel_scope.cancel()


async def test_one_who_gives_up_waiting_leaves_no_trace() -> None:
    places = Places(1)
    await places.take(A)
    with trio.move_on_after(0):
        await places.take(B)
    places.give_back(A)
    with trio.fail_after(0):
        await places.take(A)


async def test_one_who_is_granted_as_it_gives_up_gives_the_place_back() -> None:
    places = Places(1)
    await places.take(A)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(places.take, B)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        places.give_back(A)
    with trio.fail_after(0):
        await places.take(C)


async def test_G5_who_has_more_to_do_may_have_more_while_a_quarter_is_free() -> None:
    places = Places(40)
    others = [SubscriptionKey(number) for number in range(10, 26)]
    assert len(await taken(places, *others, *[A] * 20)) == 16 + 14
    for other in others:
        places.report(other, healthy=False)
    assert (await taken(Places(40), A, *[B] * 9)) == [A, *[B] * 9]


async def test_E11_serving_costs_no_more_for_many_that_wait() -> None:
    places = Places(4)
    many = [SubscriptionKey(number) for number in range(10, 60)]
    for one in many:
        places.report(one, healthy=False)
    looked = 0
    real = places._may_take

    def count(key: SubscriptionKey) -> bool:
        nonlocal looked
        looked += 1
        return real(key)

    places._may_take = count  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        for one in many:
            nursery.start_soon(places.take, one)
        await trio.testing.wait_all_tasks_blocked()
        assert looked == len(many)
        await places.take(A)
        places.give_back(A)
        assert looked == len(many) + 1, "nobody who waits is asked again one by one"
        nursery.cancel_scope.cancel()
