"""The machine that the daemon runs on: its lives, how each ends, and what befalls the file.

A life is the real `Daemon` on the real `SqliteStore`. It dies in one of the ways of `ENDS` (one
row each): at any step, around any commit, with or without the power, or gently. A dead life's
tasks are cut off where they stand, its connections are closed without a word (the kernel does as
much for a killed process: an open transaction is gone, locks are free, what was written stays), and
whatever one of its tasks still tries meets `Killed`.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.host import MAX_PAYLOAD
from tests.simulation.network import Network, Request
from webhookd.core.storage import Checkpointed
from webhookd.daemon import tailer
from webhookd.daemon.attempt import LINGER
from webhookd.daemon.daemon import Daemon
from webhookd.daemon.storage import AsyncStore
from webhookd.errors import DatabaseError, StoreBusy, StoreUnwritable
from webhookd.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from tests.simulation.world import World


OUTBOX_AGAIN: Final = 5.5
"""Seconds after which an outbox that was away is looked for again, with a breath."""


NARROW: Final = 13
A_QUEUE: Final = 30.0
"""Seconds more that a delivery may wait its turn where fewer than `NARROW` can be under way."""


A_MOMENT: Final = 2.0
"""Seconds for which whoever stops the daemon waits for an answer that is not in the file yet."""


class Killed(BaseException):
    """The process is dead: none of its tasks gets any further."""


class Store:
    """A life's hold on the file: the real store, behind the disk's moods and the reaper."""

    def __init__(self, life: "Life", real: SqliteStore) -> None:
        self._life = life
        self.real = real

    def __getattr__(self, name: str) -> Any:
        self._life.check()
        if name in _READS and self._life.dice.random() < self._life.world.read_trouble:
            raise StoreBusy("simulated: kept out by a writer")
        return getattr(self.real, name)

    def begin(self) -> None:
        """Begin; now and then somebody commands something between a look ahead and this."""
        self._life.check()
        if self._life.is_butted_in_on():
            self._life.world.operators.butt_in(self._life.unrecorded)
            self._life.check()
        self.real.begin()

    def commit(self) -> None:
        """Commit, unless there is no room for it; rarely it is made and said to have failed."""
        life = self._life
        life.check()
        full = life.world.disk_is_full
        if not full or life.dice.random() < 0.05:
            self.real.commit()
            life.world.committed("daemon", self.real._writer)
        if full:
            raise StoreUnwritable("simulated: database or disk is full")

    def record(self, *outcomes: Any) -> Any:
        """Record; what was never attempted, and is finished, changes nothing that others see."""
        self._life.check()
        self._life.recorded_at = trio.current_time()
        return self.real.record(*outcomes)

    def rollback(self) -> None:
        """Roll back; the dead have nothing to roll back any more."""
        if not self._life.dead:
            self.real.rollback()

    def wal_pages(self) -> int:
        """What waits for a checkpoint; in some lives many times as much, so that one is due."""
        self._life.check()
        return self._life.log_grows * self.real.wal_pages()

    def checkpoint(self, *, truncate: bool) -> Checkpointed | None:
        """Bring the write-ahead log into the file; that syncs what others have committed too."""
        self._life.check()
        done = self.real.checkpoint(truncate=truncate)
        if done is not None:
            self._life.world.checkpointed()
        return done


BUTTS: Final = 20
"""Times in a life that somebody butts in: else a long story would be one of operators alone."""

_READS: Final = {"due", "examine", "fresh", "next_due", "outlook", "subscriptions"}


class Life:
    """One process: from its start to its end, whatever that is."""

    def __init__(self, world: "World", number: int, dice: random.Random) -> None:
        self.world = world
        self.number = number
        self.dice = dice
        self.dead = False
        self.excused = False
        """It ended so that an answer may be lost: killed, cut off, or without a writable file."""
        self.ending = "lives"
        self.commits = 0
        self.at_commit: tuple[int, str, Callable[[], None]] | None = None
        """Which commit is special, when ('before', 'after'), and what happens then."""
        self.scope = trio.CancelScope()
        self.daemon: Daemon | None = None
        self.store: Store | None = None
        self.born = trio.current_time()
        self.requests: list[Request] = []
        self.unrecorded: list[Request] = []
        """Those that were answered, and are not in the file yet."""
        self.said_well: set[int] = set()
        """Subscriptions that have answered well while the file still says that they fail."""
        self.log_grows = dice.choice((1, 1, 30))
        """How many times as fast as it does the write-ahead log is told to grow."""
        self.rooms: dict[int, int] = {}
        """How many may be under way at once to those that have only just recovered."""
        self.buckets: dict[int, tuple[float, float]] = {}
        """What is left of the rates of subscriptions, and as of when."""
        self.recorded_at = float("-inf")
        """When outcomes were last recorded."""
        self.stop_asked_at = float("inf")
        self.machine_fault_at = float("-inf")
        """When a request last met what is, or may be, a fault of this machine."""
        self.crashed_at = float("-inf")
        """When a lane last met a bug that was put there on purpose."""
        self.clumsiness = 0.0 if world.healed else dice.choice((0.0, 0.0, 0.0, 0.03))
        self.butting_in = 0.0 if world.healed else dice.choice((0.0, 0.0, 0.02, 0.2))
        """The share of the daemon's writes right before which somebody else writes."""
        self._butts_left = BUTTS
        self._slow = dice.choice((0.0, 0.0, 0.002, 0.02, 0.3))

    @property
    def grace(self) -> float:
        """Seconds that an operator's change may take to reach a lane: the slow poll, and one more
        during a write that is waited for; the few commits that may be under way or before it."""
        kept_out = 4 * tailer.POLL if self.world.reads_were_troubled else 0.0
        return 2 * tailer.POLL + 0.15 + 6 * self._slow + kept_out + self._deaf()

    @property
    def prompt(self) -> float:
        """Seconds in which what can go goes, whoever else is served meanwhile."""
        limits = self.world.settings.delivery
        narrow = min(limits.max_in_flight, limits.max_unrecorded) < NARROW
        return self.prompt_upkeep + (A_QUEUE if narrow else 0.0)

    @property
    def prompt_upkeep(self) -> float:
        """Seconds in which that happens which needs no place."""
        return 1.75 + tailer.POLL + 10 * self._slow + self._deaf()

    def _deaf(self) -> float:
        """Without its outbox the daemon looks at the file this much less often."""
        world = self.world
        again = OUTBOX_AGAIN * (3 if world.reads_were_troubled else 1)
        away = world.outbox_is_away or trio.current_time() < world.outbox_back_at + again
        return again if away else 0.0

    def is_butted_in_on(self) -> bool:
        """Whether somebody writes right before the daemon's next write."""
        if not self._butts_left or self.dice.random() >= self.butting_in:
            return False
        self._butts_left -= 1
        return True

    def check(self) -> None:
        """Raise Killed in a dead process."""
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """kill -9."""
        if self.dead or self.daemon is None:
            return
        self.world.trace(f"life {self.number} is killed ({self.ending})")
        self.dead = self.excused = True
        if self.store is not None:
            self.store.real.close()
        self.scope.cancel()

    def stop(self) -> None:
        """SIGTERM."""
        if self.daemon is not None:
            self.stop_asked_at = min(self.stop_asked_at, trio.current_time())
            self.daemon.stop()

    async def run(self) -> None:
        """Live."""
        world = self.world
        try:
            real = SqliteStore(
                world.path,
                default_tenant="",
                max_payload=MAX_PAYLOAD,
                ids_never_reused=False,
                known_mark=world.machine.mark,
            )
        except DatabaseError as error:
            self.dead = True
            world.trace(f"life {self.number} is not born")
            if not world.outbox_is_away:
                world.violate(f"the daemon does not start: {error}")
            await trio.sleep(1)
            return
        for connection in (real._writer, real._reader):
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        self.store = Store(self, real)
        drain = self.ending == "drains"
        hints = world.hints if self.dice.random() < 0.7 else None
        self.daemon = Daemon(
            world.settings,
            AsyncStore(self.store, commit=self._commit, on_commit=self._mark, dice=self.dice),
            sender=Network(world, self),
            clock=world.clock,
            hints=hints,
            dice=self.dice,
            linger=0.0 if drain else self.dice.choice((0.5, LINGER)),
        )
        try:
            with self.scope:
                await self.daemon.run(drain=drain)
        except BaseExceptionGroup as group:
            cancelled, others = group.split(trio.Cancelled)
            if others is not None:
                self._judge(others)
            if cancelled is not None:
                raise cancelled from None  # the world ends, not this life
        finally:
            world.steps.disarm()
            if not self.dead:
                real.close()
                self.dead = True
        world.trace(f"life {self.number} is over ({self.ending})")

    def _judge(self, group: BaseExceptionGroup[BaseException]) -> None:
        if self.dead:
            return  # what the tasks of a killed process raise is nobody's to hear
        expected, others = group.split(DatabaseError)
        if others is not None or self.ending != "fails at a commit":
            self.world.violate(f"the daemon died: {_innermost(others or expected or group)!r}")
        self.excused = True

    def _mark(self) -> None:
        if self.store is not None and not self.dead:
            self.world.machine.mark = self.store.real.mark()

    async def _commit(self, commit: Callable[[], None]) -> None:
        """A commit in its thread: others run before it and after it."""
        self.commits += 1
        when, happen = "", None
        if self.at_commit is not None and self.at_commit[0] == self.commits:
            _, when, happen = self.at_commit
        if self._slow:
            await trio.sleep(self.dice.uniform(0, self._slow))
        self.check()
        if happen and when == "before":
            happen()
            self.check()
        commit()
        if happen and when == "after":
            happen()
            self.check()
        if self._slow:
            await trio.sleep(self.dice.uniform(0, self._slow))
        await trio.lowlevel.checkpoint()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Machine:
    """Starts the daemon again and again, as systemd does."""

    def __init__(self, world: "World", dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.life: Life | None = None
        self.lives = 0
        self.healed = False
        self.mark: dict[str, object] | None = None
        """What the lock file says."""
        self.marks: list[dict[str, object] | None] = [None]
        """What it said at the end of each life: a power cut may bring any of them back."""

    async def run(self) -> None:
        """One life after another."""
        while True:
            self.lives += 1
            life = self.life = Life(self.world, self.lives, random.Random(self.dice.random()))
            async with trio.open_nursery() as nursery:
                if not self.healed:
                    odds = {name: weight for name, (weight, _) in ENDS.items()}
                    odds |= self.world.kind.ends
                    life.ending = self.dice.choices(tuple(odds), tuple(odds.values()))[0]
                    ENDS[life.ending][1](life, nursery, self.dice)
                self.world.trace(f"life {life.number} begins, {life.ending}")
                await life.run()
                nursery.cancel_scope.cancel()
            self.marks.append(self.mark)
            self.world.look_whole()
            await trio.sleep(self.dice.choice((0.0, 0.1, 3.0)))

    def spare(self) -> None:
        """From now on nobody dies; who is about to stop may do so."""
        self.healed = True
        self.world.steps.disarm()
        if self.life is not None:
            self.life.at_commit = None
            self.life.clumsiness = 0.0


def _steps(dice: random.Random) -> int:
    return int(10 ** dice.uniform(1, 3.7))


def _dies_at_step(life: Life, nursery: trio.Nursery, dice: random.Random) -> None:
    life.world.steps.arm(_steps(dice), life.kill)


def _power_at_step(life: Life, nursery: trio.Nursery, dice: random.Random) -> None:
    life.world.steps.arm(_steps(dice), life.world.power_cut)


def _at_commit(what: Callable[[Life], None]) -> "End":
    def plan(life: Life, nursery: trio.Nursery, dice: random.Random) -> None:
        when = dice.choice(("before", "after"))
        life.at_commit = (int(10 ** dice.uniform(0, 1.8)), when, lambda: what(life))

    return plan


def _fail(life: Life) -> None:
    raise DatabaseError("simulated: disk I/O error")


def _stops(life: Life, nursery: trio.Nursery, dice: random.Random) -> None:
    nursery.start_soon(_stop, life, dice.uniform(0, 20), float("inf"))


def _stops_at_once(life: Life, nursery: trio.Nursery, dice: random.Random) -> None:
    nursery.start_soon(_stop, life, dice.uniform(0, 20), dice.uniform(0, 2))


async def _stop(life: Life, after: float, patience: float) -> None:
    """SIGTERM, rather when there is something to lose, and perhaps another one."""
    await trio.sleep(after)
    with trio.move_on_after(A_MOMENT):
        while not life.unrecorded:  # noqa: ASYNC110 - virtual
            await trio.sleep(0.05)
    if life.daemon is None:
        return
    life.world.trace(f"life {life.number} is asked to stop")
    life.stop()
    await trio.sleep(patience)
    life.daemon.cut_off()


End = Callable[[Life, trio.Nursery, random.Random], None]
ENDS: Final[dict[str, tuple[int, End]]] = {
    "lives": (2, lambda life, nursery, dice: None),
    "dies at a step": (5, _dies_at_step),
    "power goes at a step": (4, _power_at_step),
    "dies at a commit": (3, _at_commit(Life.kill)),
    "power goes at a commit": (3, _at_commit(lambda life: life.world.power_cut())),
    "fails at a commit": (1, _at_commit(_fail)),
    "stops": (3, _stops),
    "drains": (1, lambda life, nursery, dice: None),
    "stops at once": (2, _stops_at_once),
}
"""How a life can end, and how often."""
