"""One simulated world: a file, a daemon that dies and is born again, and everybody around it.

`simulate(seed)` lets it live through a time of trouble, heals it, and judges what is left.
Everything that is random comes from generators that the seed starts, so a seed is a whole story.
"""

import hashlib
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from tests.simulation import reckoning, scheduler
from tests.simulation.disk import Disk
from tests.simulation.facts import History, Sub
from tests.simulation.file import new_file
from tests.simulation.host import Host
from tests.simulation.keeping import LEAP, spans
from tests.simulation.kinds import kind_of
from tests.simulation.knobs import turned
from tests.simulation.machine import Life, Machine
from tests.simulation.model import Model
from tests.simulation.network import Planted, Receiver
from tests.simulation.operators import Operators
from tests.simulation.pollers import FEEDS, Poller
from tests.simulation.promptness import Auditor
from tests.simulation.source import Source
from tests.simulation.weather import WEATHER
from webhookd.config.settings import Delivery, Settings
from webhookd.daemon import clock as daemons
from webhookd.daemon import tailer
from webhookd.logs.actions import LOGGER, Action
from webhookd.store.driver import Connection

EPOCH: Final = 1_790_000_000_000
SETTLED: Final = 10
"""Seconds within which a daemon has started again, and its first sweep has been round."""
A_MINUTE: Final = 60.0
PATIENCE: Final = 240
"""Seconds of virtual time in which a healed world must come to rest: the longest delay and more.
And one for each delivery that is owed: with few places and a slow disk it goes no faster."""


class Clock:
    """The wall clock: it goes with Trio's time, and jumps."""

    def __init__(self) -> None:
        self._offset = 0
        self.highest = EPOCH
        self.jumped_at = self.went_back_at = self.leapt_at = float("-inf")
        """Of the last jump, the last one back, and the last one ahead if it is the last one."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        now = EPOCH + self._offset + round(trio.current_time() * 1000)
        self.highest = max(self.highest, now)
        return now

    def jump(self, by: int) -> None:
        """Forward or back."""
        self.now()
        self._offset += by
        before, self.jumped_at = self.jumped_at, trio.current_time()
        # Between two jumps in a row it may have strayed by nothing at all.
        alone = self.jumped_at > before + A_MINUTE
        self.leapt_at = self.jumped_at if by >= LEAP and alone else float("-inf")
        if by < 0:
            self.went_back_at = self.jumped_at

    def set_right(self) -> None:
        """As far as it ever was: what was due in the future of a clock that went back is due."""
        if self.now() < self.highest:
            self.jump(self.highest - self.now())


class Hints:
    """What inotify would say: somebody has written."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        """Wake whoever waits."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Until somebody writes."""
        await self._event.wait()


@dataclass(frozen=True)
class Outcome:
    """What became of a seed."""

    seed: int
    violations: tuple[str, ...]
    trace: tuple[str, ...]
    steps: int
    requests: int
    lives: int

    @property
    def digest(self) -> str:
        """Equal for equal stories."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


class World:
    """Everybody, and what they share."""

    def __init__(self, seed: int, path: Path, steps: scheduler.Steps) -> None:
        self.seed = seed
        self.path = path
        self.steps = steps
        self.violations: list[str] = []
        self.lines: list[str] = []
        self.clock = Clock()
        self.settings = Settings(database=path, retention=spans(seed))
        self.hints = Hints()
        self.disk = Disk(path)
        kind, self.kind = kind_of(seed)
        self.lines.append(f"a world of the kind {kind}, {self.settings.retention}")
        self.model = Model(self)
        self.host = Host(self, self.dice("host"))
        self.operators = Operators(self, self.dice("operators"))
        self.machine = Machine(self, self.dice("machine"))
        self.pollers = [Poller(self, feed, self.dice(feed)) for feed in FEEDS]
        self._weather = self.dice("weather")
        self._receivers: dict[str, Receiver] = {}
        self._serial = 0
        self.healed = False
        self._broken = trio.Event()
        self.disk_is_full = self.outbox_is_away = False
        self.outbox_back_at = float("-inf")
        self.hidden: dict[str, tuple[Sub, str]] = {}
        """Secrets that are to come from the environment, by the name of their variable."""
        self.read_trouble = self._weather.choice((0.0, 0.0, 0.0, 0.05))
        """The share of reads that a writer keeps out, as outside WAL mode."""
        self.reads_were_troubled = self.read_trouble > 0
        self.machine_fault = ""
        """What becomes of every request, as in `network.MACHINE_FAULTS`; '' for nothing."""
        self.limits = History(self.settings.delivery, float("-inf"))
        """What all subscriptions share: who has a place keeps it when there are fewer."""
        self.draw_limits(self._weather)

    def draw_limits(self, dice: random.Random) -> None:
        """Other limits are in force from now on."""
        limits: dict[str, tuple[int, ...]] = {
            "max_in_flight": self.kind.max_in_flight,
            "max_unrecorded": (3, 1_000),
            "max_per_host": (2, 64),
            "shutdown_grace": (0, 8_000),
        }
        chosen = {name: dice.choice(values) for name, values in limits.items()}
        delivery = replace(Delivery(), **chosen)
        self.settings = replace(self.settings, delivery=delivery)
        self.limits_changed_at = trio.current_time()
        self.limits.set(delivery, self.limits_changed_at)

    def dice(self, name: str) -> random.Random:
        """A generator of its own for each, so that one who draws more changes nobody else."""
        return random.Random(f"{self.seed} {name}")

    def in_doubt(self, life: Life) -> bool:
        """Whether a life of the daemon may doubt the clock, because it has jumped."""
        jumped_at = self.clock.jumped_at
        return jumped_at >= life.born and trio.current_time() < jumped_at + daemons.DOUBT + SETTLED

    def next_serial(self) -> int:
        """Numbers requests."""
        self._serial += 1
        return self._serial

    def receiver(self, name: str) -> Receiver:
        """The endpoint of that name."""
        if name not in self._receivers:
            self._receivers[name] = Receiver(
                self.dice(f"receiver {name}"), self.kind.spells, self.healed
            )
        return self._receivers[name]

    def trace(self, line: str) -> None:
        """One more line of the story."""
        self.lines.append(f"{trio.current_time():9.3f} {self.steps.count:6} {line}")

    def violate(self, text: str) -> None:
        """Something is not as promised: the story ends here."""
        self.trace(f"VIOLATION {text}")
        self.violations.append(text)
        self._broken.set()

    def committed(self, who: str | Source, connection: Connection) -> None:
        """Somebody has committed, and it is visible to all."""
        source = who if isinstance(who, Source) else Source(who)
        if self.disk.committed(connection):
            self.host.unsynced.clear()
        self.model.on_commit(source)
        self.trace(f"{source} commits, sequence {self.model.mirror.sequence}")
        self.hints.fire()

    def checkpointed(self) -> None:
        """Somebody has brought the `-wal` into the file, as far as others let them."""
        self.disk.checkpointed()
        self.host.unsynced.clear()

    def power_cut(self) -> None:
        """Every process dies, and what was not synced may be gone."""
        at, database, wal = self.disk.cut(self._weather)
        self.trace("the power goes")
        if self.machine.life is not None:
            self.machine.life.kill()
        self._close()
        self.disk.restore(database, wal)
        self.host.lose(at)
        self.machine.mark = self._weather.choice((self.machine.mark, *self.machine.marks[-2:]))
        self.model.on_commit(Source("nobody", "the power cut"))

    def find_secrets(self) -> None:
        """Put every secret where it is looked for."""
        for name, (sub, value) in self.hidden.items():
            if sub.missing == name:
                sub.missing, sub.found_at = "", trio.current_time()
                os.environ[name] = value

    def look_whole(self) -> None:
        """Judge the file as a whole."""
        if not self.violations:
            reckoning.check_file(self.model)

    def _close(self) -> None:
        self.host.die()
        for poller in self.pollers:
            poller.close()
        self.model.mirror.close()

    async def run(self) -> None:
        """From the first trouble to the last judgement."""
        self.model.on_commit(Source("host"))
        for _ in range(self._weather.randint(1, 4)):
            self.operators.do(Operators.add)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._story, nursery.cancel_scope)
                await self._broken.wait()
                nursery.cancel_scope.cancel()
        finally:
            if self.machine.life is not None:
                self.machine.life.kill()
            self._close()
            for name in self.hidden:
                os.environ.pop(name, None)

    async def _story(self, everything: trio.CancelScope) -> None:
        async with trio.open_nursery() as people:
            people.start_soon(self.machine.run)
            people.start_soon(Auditor(self, self.dice("auditor")).run)
            for poller in self.pollers:
                people.start_soon(poller.run)
            async with trio.open_nursery() as troubled:
                troubled.start_soon(self.host.run)
                troubled.start_soon(self.operators.run)
                troubled.start_soon(self._be_weather)
                await trio.sleep(self._weather.choice(self.kind.trouble))
                self.host.healed = self.operators.healed = self.healed = True
            await self._heal()
            people.cancel_scope.cancel()
        everything.cancel()

    async def _be_weather(self) -> None:
        """Full disks and clocks that jump, until the world is to heal."""
        dice = self._weather
        for _ in range(dice.choice(self.kind.troubles)):
            await trio.sleep(dice.uniform(0.5, 15))
            if self.healed:
                break
            odds = dict.fromkeys(WEATHER, 1) | self.kind.weather
            name = dice.choices(tuple(odds), tuple(odds.values()))[0]
            self.trace(name)
            await WEATHER[name](self, dice)

    async def _heal(self) -> None:
        """All is well from now on: in good time nothing is left to do."""
        self.trace("healing")
        self.disk_is_full = False
        self.read_trouble = 0.0
        self.find_secrets()
        self.machine.spare()
        self.machine_fault = ""
        if self._weather.random() < 0.2:
            self.clock.set_right()
        for receiver in self._receivers.values():
            receiver.healed = True
        if self._weather.random() < 0.7:
            for _ in self.model.subs:
                await self.operators.command(Operators.enable_all)
        await self._until_rest()
        restart = self._weather.random() < 0.5
        if restart and self.machine.life is not None and self.machine.life.daemon is not None:
            await self._stop(self.machine.life)
            await trio.sleep(SETTLED)
        elif any(row.low for row in self.model.waiting.values()):
            await trio.sleep(tailer.SWEEP_EVERY + SETTLED)
        await self._until_rest()
        life = self.machine.life
        if life is not None and life.daemon is not None:
            await self._stop(life)
        swept = restart or not any(row.low for row in self.model.waiting.values())
        if not self.violations:
            reckoning.check_end(self.model, swept=swept)
            for poller in self.pollers:
                poller.check()

    async def _stop(self, life: Life) -> None:
        """Ask the daemon to stop, and wait until it has."""
        life.stop()
        with trio.move_on_after(60):
            while not life.dead:  # noqa: ASYNC110 - virtual
                await trio.sleep(1)
        if not life.dead:
            self.violate("E1: the daemon was asked to stop, and does not")

    async def _until_rest(self) -> None:
        owed = sum(one.pending for one in self.model.deliveries.values())
        for _ in range(PATIENCE + owed):
            await trio.sleep(1)
            if not reckoning.still_owed(self.model):
                break
        await trio.sleep(1)


class _Log(logging.Handler):
    """Some lines of the daemon's log are violations by themselves."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.world: World | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """A line."""
        action = getattr(record, "action", None)
        world = self.world
        if world is None or world.machine.life is None or world.machine.life.dead:
            return
        world.trace(f"log: {action}")
        error = record.exc_info[1] if record.exc_info else None
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if action in (Action.LANE_CRASHED, Action.BODY_CHANGED) and not isinstance(error, Planted):
            world.violate(f"log: {action} {getattr(record, 'fields', '')} {error!r}")
        if action is Action.OUTCOMES_LOST:
            world.machine.life.excused = True


@contextmanager
def _listening() -> Iterator[_Log]:
    logger, handler = logging.getLogger(LOGGER), _Log()
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


def simulate(seed: int) -> Outcome:
    """Live through one seed."""
    worlds: list[World] = []

    async def main(steps: scheduler.Steps) -> None:
        world = World(seed, path, steps)
        worlds.append(world)
        log.world = world
        await world.run()

    with _listening() as log, new_file(seed, EPOCH) as path, turned(seed, kind_of(seed)[1].real):
        scheduler.run(seed, main)
    world = worlds[0]
    return Outcome(
        seed,
        tuple(world.violations),
        tuple(world.lines),
        world.steps.count,
        len(world.model.requests),
        world.machine.lives,
    )
