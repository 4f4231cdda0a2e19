"""Many subscriptions that lead to one host: who is ill leaves room for who is well."""

import trio

HOST = "https://shared.example"
ILL = 40


async def test_G5_those_that_hang_leave_half_of_their_hosts_places_to_the_others(
    world, autojump_clock, warnings
):
    world.set(max_per_host=8)
    for n in range(ILL):
        key = world.subscribe(f"ill{n}", events=["ill.*"])
        world.update(key, url=f"{HOST}/ill")
    world.update(world.subscribe("well", events=["well.*"]), url=f"{HOST}/well")
    world.sender.script = lambda seen: world.hang if seen.url.endswith("/ill") else world.ok
    world.sender.one_line_at_a_time = False
    asked = {}
    async with world.running():
        for n in range(20):
            world.insert(f"x{n}", "ill.row")
        await trio.sleep(300)  # by then it is known who hangs
        for n in range(60):
            asked[world.insert(f"x{n}", "well.row")] = trio.current_time()
            await trio.sleep(3)
        await trio.sleep(60)
    waits = [one.at - asked[one.n] for one in world.sender.seen if one.n in asked]
    assert len(waits) == 60
    assert max(waits) <= 0.5


async def test_who_is_removed_amid_a_request_leaves_nothing_behind(world, autojump_clock, warnings):
    key = world.subscribe("a", rate_limit=5.0, failing_after=1, retry_delays=[1_000] * 9)
    world.sender.script = lambda _: world.after(2, world.down)
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(4)
        assert len(world.sender.seen) == 2
        assert not world.sender.finished[1:], "the second is under way"
        world.remove(key)
        await trio.sleep(10)
        shared = daemon._supervisor._shared
        assert len(world.sender.finished) == 2
        assert not shared.brakes.buckets
        assert not shared.brakes.pauses
        assert not shared.places._troubled
        assert not shared.hosts._troubled
