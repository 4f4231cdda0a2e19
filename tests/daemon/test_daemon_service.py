"""What a service manager hears of a daemon, in virtual time, and what is progress."""

import contextlib
import itertools
import logging
import math
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.lowlevel
import trio.testing

from webhookd.core.model import Fault, FaultKind, Phase
from webhookd.daemon import dump, signals, storage, tailer
from webhookd.daemon.dump import tree
from webhookd.daemon.progress import AFTERWARDS, PATIENCE, Progress, UnderWay
from webhookd.daemon.service import LOOK_EVERY, Service
from webhookd.logs.actions import Action
from webhookd.store.outbox import BATCH_ROWS

WATCHDOG = 20.0


class FakeNotifier:
    """Stands in for `webhookd.daemon.notify.Notifier`: remembers what was told, and when."""

    is_heard = True

    def __init__(self):
        self.told = []

    def _tell(self, name, value=None):
        self.told.append((trio.current_time(), name, value))

    def ready(self):
        self._tell("ready")

    def reloading(self):
        self._tell("reloading")

    def stopping(self):
        self._tell("stopping")

    def status(self, text):
        self._tell("status", text)

    def alive(self):
        self._tell("alive")

    def needs_longer(self, seconds):
        self._tell("longer", seconds)

    def retell(self):
        pass

    def of(self, *names):
        return [one for one in self.told if one[1] in names]

    def silence(self, since=0.0):
        """The longest time without a sign of life, from `since` until now."""
        times = [since, *(at for at, *_ in self.of("alive") if at > since), trio.current_time()]
        return max(after - before for before, after in itertools.pairwise(times))


@pytest.fixture
def served(world):
    """A daemon as a service, with what its manager hears: `async with served() as (...)`."""
    notifier = FakeNotifier()

    @contextlib.asynccontextmanager
    async def serve():
        daemon = world.daemon()
        service = Service(daemon, notifier, WATCHDOG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            async with world.running(daemon):
                yield daemon, service, notifier
            nursery.cancel_scope.cancel()

    return serve


async def test_a_life_from_ready_to_stopping(world, autojump_clock, served):
    world.subscribe("a")
    world.insert("x")
    async with served() as (daemon, _, notifier):
        await trio.sleep(61)
    names = [name for _, name, _ in notifier.told if name != "alive"]
    assert names[0] == "longer"
    assert names.count("ready") == names.count("stopping") == 1
    assert names.index("status") < names.index("ready") < names.index("stopping")
    ready_at = notifier.of("ready")[0][0]
    assert ready_at < 1
    assert [at for at, *_ in notifier.of("alive")] == [n * WATCHDOG / 2 for n in range(7)]
    last = notifier.of("status")[-1][2]
    assert last == "1 subscription, 0 attempts under way, 0 unrecorded, 1 recorded"
    # Its end may take as long as the attempts under way may, and recording them.
    assert notifier.of("longer")[-1][2] > daemon.grace


async def test_status_is_told_when_it_has_changed_and_not_all_the_time(
    world, autojump_clock, served
):
    world.subscribe("a")
    async with served() as (_, _, notifier):
        await trio.sleep(30)
        quiet = len(notifier.of("status"))
        for n in range(200):
            world.insert(f"x{n}")
            await trio.sleep(0.1)
        busy = len(notifier.of("status"))
    assert quiet <= 2
    assert 3 <= busy - quiet <= 20 / LOOK_EVERY + 1


async def test_E8_ready_comes_although_the_host_holds_the_file(
    world, autojump_clock, served, expected_logs
):
    world.insert("x")
    world.host.execute("BEGIN IMMEDIATE")
    async with served() as (_, _, notifier):
        await trio.sleep(10 * PATIENCE)
        assert notifier.of("ready")
        assert notifier.silence() <= WATCHDOG / 2
        assert "waits for the file for 5" in notifier.of("status")[-2][2]
        world.host.execute("ROLLBACK")
        await trio.sleep(10 * PATIENCE)
        assert notifier.silence() <= WATCHDOG / 2


async def test_A28_ready_is_said_before_what_waits_is_taken_in(
    world, autojump_clock, served, expected_logs
):
    for n in range(4 * BATCH_ROWS):
        world.insert(f"x{n}")
    async with served() as (daemon, _, notifier):
        await trio.sleep(30)
        assert daemon.tailer.caught_up_at is not None
        assert notifier.of("ready")
    said = [
        one.action
        for one in expected_logs
        if one.action in (Action.DAEMON_READY, Action.INGEST_BATCH)
    ]
    assert said == [Action.DAEMON_READY, *[Action.INGEST_BATCH] * 4]


async def test_E8_ready_is_said_once_although_the_outbox_is_gone(
    world, autojump_clock, served, expected_logs
):
    world.host.execute("ALTER TABLE outbox RENAME TO elsewhere")
    async with served() as (_, _, notifier):
        await trio.sleep(30)
        assert notifier.of("ready")
    assert [one.action for one in expected_logs].count(Action.DAEMON_READY) == 1


async def test_E3_a_reload_is_told_and_a_refusal_is_in_the_status(world, autojump_clock, served):
    async with served() as (daemon, service, notifier):
        with service.reloading():
            pass
        assert not notifier.of("reloading"), "before READY nobody waits for a reload"
        await trio.sleep(1)
        told = len(notifier.told)
        with service.reloading():
            daemon.refused = "config.toml: nonsense"
    names = [name for _, name, _ in notifier.told[told : told + 3]]
    assert names == ["reloading", "status", "ready"]
    assert "problem: the configuration was not reloaded" in notifier.told[told + 1][2]


async def test_E1_a_stop_within_a_reload_is_the_last_that_is_told(world, autojump_clock, served):
    async with served() as (daemon, service, notifier):
        await trio.sleep(1)
        with service.reloading():
            daemon.stop()
            await trio.lowlevel.checkpoint()
    states = [name for _, name, _ in notifier.of("ready", "reloading", "stopping")]
    assert states == ["ready", "reloading", "stopping"]


async def test_E7_slow_receivers_are_no_lack_of_progress(world, autojump_clock, served):
    world.subscribe("a", timeout=600_000)
    world.sender.script = lambda _: world.hang
    world.insert("x")
    async with served() as (daemon, _, notifier):
        await trio.sleep(590)
        assert daemon.stuck() == {}
        assert notifier.silence() <= WATCHDOG / 2
        daemon.cut_off()


async def test_faults_that_wait_for_a_witness_in_turn_are_no_lack_of_progress(
    world, autojump_clock, served, expected_logs
):
    """One host whose name nobody knows, and always some subscription that waits beside it."""
    for number in range(30):
        timeout = 2_000 + 100 * number
        key = world.subscribe(f"a{number}", timeout=timeout, retry_delays=[1_000] * 999)
        world.update(key, url=f"https://gone.example/{timeout}")
    no_name = Fault(FaultKind.TIMEOUT, "no answer", Phase.RESOLVE, may_be_ours=True)
    world.sender.one_line_at_a_time = False  # it tells them by the host
    world.sender.script = lambda seen: world.after(int(seen.url[21:]) / 1000 - 0.01, no_name)
    world.insert("x")
    stuck = set()
    async with served() as (daemon, _, _):
        for step in range(round(3 * PATIENCE)):
            await trio.sleep(1 - (step % 7) / 10)
            stuck |= daemon.stuck().keys()
        daemon.cut_off()
    assert not stuck


async def test_a_drain_that_begins_with_many_gaps_makes_progress(
    world, autojump_clock, monkeypatch
):
    store = world.store()
    real, count = store.sweep, itertools.count(1)

    def sweep(now):
        return replace(real(now), more=next(count) < 3 * PATIENCE)

    async def breathe(_):
        await trio.sleep(1)
        return trio.current_time()

    store.sweep = sweep
    monkeypatch.setattr(tailer, "_breathe", breathe)
    daemon = world.daemon(store=store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(daemon.run, drain=True))
        while not daemon.stop_asked:
            assert daemon.stuck() == {}
            await trio.sleep(1)
    assert next(count) > 3 * PATIENCE


async def test_a_stop_before_the_outbox_was_read_asks_for_no_more_time_again(
    world, autojump_clock, served, monkeypatch
):
    """However long it hangs then, the manager's patience has an end."""
    async with served() as (daemon, _, notifier):
        monkeypatch.setattr(type(daemon), "stop_asked", True)
        daemon.read = trio.Event()
        notifier.told.clear()
        service = Service(daemon, notifier, None)
        daemon.stopping.set()
        with trio.move_on_after(5 * LOOK_EVERY):
            await service.run()
        assert len(notifier.of("longer")) == 2, notifier.told


async def test_an_attempt_that_outlives_its_deadline_stops_the_signs_of_life(
    world, autojump_clock, served, expected_logs, monkeypatch
):
    world.subscribe("a", timeout=1_000)
    world.subscribe("b")

    async def send(self, url, wire, timeout, terms):  # noqa: ASYNC109
        if url.host.startswith("a."):
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return world.ok

    channel = world.sender.channel()
    await channel.aclose()
    monkeypatch.setattr(type(channel), "send", send)
    world.insert("x")
    async with served() as (daemon, _, notifier):
        for _ in range(round(2 * PATIENCE)):
            world.insert("y")  # the others go on
            await trio.sleep(1)
        assert list(daemon.stuck()) == ["lanes"]
        assert notifier.silence() > PATIENCE / 2
        assert any("lanes has made no progress" in line for line in daemon.problems)
        daemon.cut_off()
    said = [r for r in expected_logs if r.action is Action.DAEMON_STUCK]
    assert [(r.levelno, r.fields["parts"]) for r in said] == [(logging.CRITICAL, ["lanes"])]
    assert [r for r in expected_logs if r.action is Action.DAEMON_TASKS]


async def test_a_stuck_recorder_stops_the_signs_of_life_and_its_going_on_is_told(
    world, autojump_clock, served, expected_logs, monkeypatch
):
    world.subscribe("a")
    async with served() as (daemon, _, notifier):
        await trio.sleep(1)
        go_on = trio.Event()
        real = daemon.recorder._record

        async def hang(batch):
            await go_on.wait()
            await real(batch)

        monkeypatch.setattr(daemon.recorder, "_record", hang)
        world.insert("x")
        begun = trio.current_time()
        await trio.sleep(3 * PATIENCE)
        assert list(daemon.stuck()) == ["recorder"]
        assert notifier.of("alive")[-1][0] <= begun + PATIENCE + WATCHDOG
        go_on.set()
        await trio.sleep(WATCHDOG)
        assert daemon.stuck() == {}
        assert notifier.of("alive")[-1][0] > begun + 3 * PATIENCE
    assert [r.action for r in expected_logs if r.action is Action.DAEMON_TURNS]


async def test_a_stuck_ingest_stops_the_signs_of_life(
    world, autojump_clock, served, expected_logs, monkeypatch
):
    async with served() as (daemon, _, notifier):
        await trio.sleep(1)

        async def hang(_):
            await trio.sleep_forever()

        monkeypatch.setattr(daemon.tailer, "_take_in", hang)
        world.insert("x")
        await trio.sleep(3 * PATIENCE)
        assert list(daemon.stuck()) == ["ingest"]
        assert notifier.silence() > PATIENCE


async def test_lanes_that_wait_for_a_place_nobody_holds_are_stuck(
    world, autojump_clock, served, expected_logs
):
    world.subscribe("a")
    async with served() as (daemon, _, _):
        await trio.sleep(1)
        daemon.recorder.resize(0)
        world.insert("x")
        await trio.sleep(3 * PATIENCE)
        assert list(daemon.stuck()) == ["lanes"]
        daemon.cut_off()


async def test_a_quiet_daemon_is_well(world, autojump_clock, served, long_polls, monkeypatch):
    monkeypatch.setattr("webhookd.daemon.tailer.POLL", PATIENCE / 3)
    world.subscribe("a")
    async with served() as (daemon, _, notifier):
        await trio.sleep(2 * 3600)
        assert daemon.stuck() == {}
        assert notifier.silence() <= WATCHDOG / 2


async def test_a_disk_that_is_slow_is_waited_for_but_not_for_ever(autojump_clock):
    class Store:
        def check_file(self): ...
        def begin(self): ...
        def seal(self): ...
        def rollback(self): ...
        def commit(self): ...
        def wal_pages(self):
            return 0

    back = trio.Event()

    async def commit(_):
        await back.wait()

    store = storage.AsyncStore(Store(), commit=commit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, lambda: None)
        await trio.sleep(storage.LONGEST_COMMIT - 1)
        assert store.is_held_up
        await trio.sleep(2)
        assert not store.is_held_up
        back.set()


async def test_progress_counts_from_the_latest_excuse(autojump_clock):
    excused = False
    progress = Progress({"a": lambda: 1, "b": lambda: None}, lambda: excused)
    progress.stuck()
    await trio.sleep(PATIENCE - 1)
    assert progress.stuck() == {}
    excused = True
    assert progress.stuck() == {}
    excused = False
    await trio.sleep(PATIENCE)
    assert progress.stuck() == {}
    await trio.sleep(1)
    assert progress.stuck() == {"a": PATIENCE + 1}


async def test_attempts_under_way_have_deadlines(autojump_clock):
    under_way = UnderWay()
    first, second = under_way.begin(1_000), under_way.begin(10_000)
    assert (len(under_way), under_way.turns, under_way.is_overdue) == (2, 2, False)
    await trio.sleep(1 + AFTERWARDS)
    assert not under_way.is_overdue
    await trio.sleep(0.1)
    assert under_way.is_overdue
    under_way.end(first)
    assert (len(under_way), under_way.turns, under_way.is_overdue) == (1, 3, False)
    under_way.end(second)
    assert not under_way


async def test_a_dump_names_the_tasks_and_no_values(world, autojump_clock, expected_logs):
    key = world.subscribe("a", timeout=600_000)
    world.sender.script = lambda _: world.hang
    for n in range(10):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(1)
        lines = list(tree())
        dump.tell_tasks()
        daemon.cut_off()
    assert key
    for name in ("recorder", "tailer", "alarms.py", "lane wh_a", "daemon/attempt.py"):
        assert any(name in line for line in lines), name
    assert any("more lane at" in line for line in lines), "ten workers at one place are three lines"
    text = "\n".join(lines)
    assert world.secret not in text
    assert "https://" not in text
    told = [r.fields["task"] for r in expected_logs if r.action is Action.DAEMON_TASKS]
    assert len(told) == len(lines)
    assert all(len(line) <= dump.WIDTH for line in told)


async def test_a_dump_is_bounded(autojump_clock, expected_logs):
    async with trio.open_nursery() as nursery:
        for n in range(3 * dump.MOST_LINES):
            nursery.start_soon(trio.sleep, math.inf, name=f"{n}")
        await trio.testing.wait_all_tasks_blocked()
        dump.tell_tasks()
        nursery.cancel_scope.cancel()
    told = [r.fields["task"] for r in expected_logs]
    assert len(told) == dump.MOST_LINES + 1
    assert "cut" in told[-1]


async def test_signals_for_a_dump_in_a_row_are_one_dump(autojump_clock, expected_logs):
    async def come():
        for _ in range(1_000):
            yield signals.signal.SIGUSR1
        await trio.sleep(signals.DUMP_EVERY)
        yield signals.signal.SIGUSR1

    await signals.obey(None, lambda: None, come())
    roots = [r for r in expected_logs if not r.fields["task"].startswith(" ")]
    assert len(roots) == 2
