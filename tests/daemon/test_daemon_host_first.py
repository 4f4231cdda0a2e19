"""A host that waits for the write lock finds it free at one of its tries, however busy we are."""

import trio

from webhookd.daemon.storage import HOST_EVERY, HOST_GAP, AsyncStore


async def test_G9_a_lock_that_is_always_held_is_left_alone_once_a_second(
    world, autojump_clock
) -> None:
    held = 0.05

    async def slow(commit) -> None:
        await trio.sleep(held)
        commit()

    face = AsyncStore(world.store(), commit=slow)
    gaps, last = [], trio.current_time()
    while trio.current_time() < 10 * HOST_EVERY:
        begun = trio.current_time()
        await face.write(lambda: None)
        gaps.append(trio.current_time() - begun - held)
        last = trio.current_time()
    long = [gap for gap in gaps if gap > HOST_GAP / 2]
    assert 8 <= len(long) <= 10
    assert all(abs(gap - HOST_GAP) < 1e-6 for gap in long)
    assert last >= 10 * HOST_EVERY


async def test_a_lock_that_is_held_now_and_then_is_never_waited_with(world, autojump_clock) -> None:
    async def slow(commit) -> None:
        await trio.sleep(0.01)
        commit()

    face = AsyncStore(world.store(), commit=slow)
    for _ in range(100):
        begun = trio.current_time()
        await face.write(lambda: None)
        assert trio.current_time() - begun < 0.02
        await trio.sleep(0.05)
