"""A lane's workers: none waits for what another one hangs in, and few wait for their places."""

import trio

from webhookd.daemon.lane import Lane


async def test_a_retry_that_hangs_does_not_hold_up_the_retry_of_another(world, autojump_clock):
    world.subscribe("a", timeout=60_000, retry_delays=[20_000] * 2, failing_after=100)

    def script(seen):
        if seen.attempt == 1:
            return world.down
        return world.after(50, world.ok) if seen.aggregate == "slow" else world.ok

    world.sender.script = script
    async with world.running():
        world.insert("slow")
        await trio.sleep(3)
        for n in range(3):
            world.insert(f"x{n}")
            await trio.sleep(3)
        await trio.sleep(80)
    at = {(one.aggregate, one.attempt): one.at for one in world.sender.seen}
    for n in range(3):
        assert 20 <= at[f"x{n}", 2] - at[f"x{n}", 1] < 20.5
    assert set(world.states()) == {"delivered"}


async def test_E11_one_worker_a_lane_waits_for_its_place(world, autojump_clock, monkeypatch):
    world.set(max_in_flight=16, max_per_host=16)
    lanes: list[Lane] = []
    real = Lane.__init__

    def init(self, *args) -> None:
        real(self, *args)
        lanes.append(self)

    monkeypatch.setattr(Lane, "__init__", init)
    for n in range(50):
        world.subscribe(f"s{n}")
    world.sender.script = lambda _: world.after(1, world.ok)
    for n in range(20):
        world.insert(f"x{n}")
    async with world.running():
        for _ in range(60):
            await trio.sleep(1)
            at_work = sum(lane._sending for lane in lanes)
            assert at_work <= 16
            # Each lane has one that waits, and those that rest go home after a while.
            assert sum(len(lane._under_way) for lane in lanes) <= 2 * 16 + 50
            assert sum(lane._workers for lane in lanes) <= 5 * 16 + 50
        assert len(world.sender.seen) > 900
        await trio.sleep(10)
    assert world.states() == ["delivered"] * 1_000


async def test_alone_a_lane_has_all_its_workers_within_a_moment(world, autojump_clock):
    world.subscribe("a", concurrency=48)
    world.sender.script = lambda _: world.after(1, world.ok)
    for n in range(48):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(0.9)
        assert world.sender.under_way["a"] == 48
        await trio.sleep(1)
    assert world.states() == ["delivered"] * 48


async def test_what_waits_for_a_host_is_let_go_when_the_url_changes(world, autojump_clock):
    """Its line, and all other lines of the subscription, wait with it."""
    world.set(max_per_host=1)
    first = world.subscribe("full", events=["full.*"], timeout=60_000)
    key = world.subscribe("a", events=["a.*"])
    world.update(key, url="https://full.example/hook")
    world.sender.script = lambda seen: world.hang if seen.url.endswith("full") else world.ok
    world.update(first, url="https://full.example/full")
    async with world.running():
        world.insert("x", "full.row")
        await trio.sleep(1)
        world.insert("y", "a.row")
        await trio.sleep(1)
        assert len(world.sender.seen) == 1
        world.update(key, url="https://free.example/hook")
        await trio.sleep(1)
        assert [one.url for one in world.sender.seen[1:]] == ["https://free.example/hook"]
        world.sender.script = lambda _: world.ok


async def test_what_falls_due_between_two_looks_has_its_alarm(world, autojump_clock):
    """The clock goes on between reading what is due and asking for what comes after it."""
    world.subscribe("a", retry_delays=[2_000] * 9, failing_after=100)

    def script(seen):
        if seen.attempt == 1:
            return world.after(0.031 if seen.aggregate == "y" else 0.0001, world.down)
        return world.after(0.03, world.ok)

    world.sender.script = script
    store = world.store()
    real = store.due
    missed = []

    def due(key, now, limit, without):
        found = real(key, now, limit, without)
        ahead = store.next_due(key, now)
        if ahead is not None and ahead - now <= 40:
            missed.append(ahead)
            world.clock.offset += ahead - world.clock.now()
        return found

    store.due = due
    world.insert("x")
    world.insert("y")
    async with world.running(store=store):
        await trio.sleep(10)
    assert missed
    at = {(one.aggregate, one.attempt): one.at for one in world.sender.seen}
    assert at["y", 2] - at["y", 1] < 2.1


async def test_what_gave_way_while_it_waited_for_a_place_is_not_sent(world, autojump_clock):
    world.set(max_in_flight=1)
    world.subscribe("busy", events=["busy.*"], timeout=60_000)
    world.subscribe("a", events=["a.*"], coalesce=True)
    world.sender.script = lambda seen: world.after(20, world.ok) if seen.who == "busy" else world.ok
    async with world.running():
        world.insert("q", "busy.row")
        await trio.sleep(1)
        for _ in range(3):
            world.insert("z", "a.row", payload=None)
            await trio.sleep(1)
        await trio.sleep(30)
    assert [one.sequence for one in world.sender.of("a")] == [3]
    assert world.states("a") == ["superseded", "superseded", "delivered"]


async def test_fewer_outcomes_than_places_leave_everyone_an_equal_share(world, autojump_clock):
    """What can have no room for its outcome has no place: it would wait where nobody has a turn."""
    world.set(max_unrecorded=10, max_in_flight=64)
    for n in range(4):
        world.subscribe(f"dead{n}", events=["dead.*"], timeout=30_000)
    world.subscribe("well", events=["well.*"])
    world.sender.script = lambda seen: world.ok if seen.who == "well" else world.hang
    for n in range(8):
        world.insert(f"d{n}", "dead.row")
    async with world.running() as daemon:
        await trio.sleep(1)
        asked = trio.current_time()
        world.insert("w", "well.row")
        await trio.sleep(1)
        (only,) = world.sender.of("well")
        assert only.at - asked < 0.3
        daemon.use(world.settings)  # a reload that changes nothing
        assert daemon._places._total == 10
        world.sender.script = lambda _: world.ok


async def test_C27_one_that_was_ill_once_is_asked_again_beside_a_crowd(world, autojump_clock):
    world.set(max_in_flight=8)
    world.subscribe("ill", events=["ill.*"], retry_delays=[5_000] * 50)
    for n in range(12):
        world.subscribe(f"well{n}", events=["well.*"], concurrency=2)

    def script(seen):
        if seen.who == "ill":
            return world.down if len(world.sender.of("ill")) == 1 else world.ok
        return world.after(10, world.ok)

    world.sender.script = script
    async with world.running():
        world.insert("i", "ill.row")
        await trio.sleep(2)
        for n in range(10):
            world.insert(f"w{n}", "well.row")
        await trio.sleep(30)
        assert world.states("ill") == ["delivered"]
        world.sender.script = lambda _: world.ok
