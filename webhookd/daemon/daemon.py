"""The composition root: what there is, who knows whom, in what order it starts and stops.

Stopping has two phases. First the lanes take nothing new, and attempts under way have
`shutdown_grace` to end; what is still under way then is cut off, and due again at the next start.
Then the recorder writes down what it still has, and only after that the file is let go.
"""

import logging
import random
from typing import Final

import trio

from webhookd.config.catalog import validation
from webhookd.config.settings import Settings
from webhookd.core.model import SubscriptionKey
from webhookd.core.text import counted
from webhookd.daemon.alarms import Alarms
from webhookd.daemon.attempt import LINGER, READ_AGAIN, Sender, Shared
from webhookd.daemon.clock import Clock, Steadiness
from webhookd.daemon.janitor import Janitor
from webhookd.daemon.other_clocks import OtherClocks
from webhookd.daemon.outage import Outage
from webhookd.daemon.pace import Brakes
from webhookd.daemon.places import HostPlaces, Places
from webhookd.daemon.progress import Progress, UnderWay
from webhookd.daemon.recorder import BATCH, Recorder
from webhookd.daemon.reload import declare, tell
from webhookd.daemon.repeats import Repeats
from webhookd.daemon.storage import AsyncStore
from webhookd.daemon.supervisor import Supervisor
from webhookd.daemon.tailer import POLL, Hints, Tailer
from webhookd.daemon.upkeep import Upkeep
from webhookd.logs.actions import Action, log

LAST_WORDS: Final = 10.0
"""Seconds that recording may take at the end, when the host holds its lock; after that what is
not recorded is due again at the next start."""


def _most_in_flight(settings: Settings) -> int:
    """Attempts that may be under way at once: each has room for its outcome.

    Were there more places, lanes would wait for that room, where nobody has an equal share.
    """
    return min(settings.delivery.max_in_flight, settings.delivery.max_unrecorded)


class Daemon:
    """The parts, wired together. All that it touches is handed in, so tests hand in their own."""

    def __init__(
        self,
        settings: Settings,
        store: AsyncStore,
        *,
        sender: Sender,
        clock: Clock,
        hints: Hints | None,
        linger: float = LINGER,
        dice: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.refused = ""
        """Why the newest configuration is not in force; `''` while it is."""
        self.begun = trio.Event()
        """What is declared is in the file."""
        self.store = store
        self.clock = clock
        self._sender = sender
        self.stopping = trio.Event()
        """`stop` was called."""
        self._turns = 0
        """Times that lanes were looked after, for `stuck`."""
        self._lanes_scope = trio.CancelScope()
        self._alarms = Alarms(clock.now)
        self.recorder = Recorder(
            store,
            clock,
            max_unrecorded=settings.delivery.max_unrecorded,
            on_ready=lambda keys: self._supervisor.wake(keys),
            on_notices=lambda notices: self._supervisor.tell(notices),
        )
        self._hosts = HostPlaces(settings.delivery.max_per_host)
        self._outage = Outage(on_end=lambda keys: self._supervisor.look_at(keys))
        self._places = Places(_most_in_flight(settings))
        self._steadiness = Steadiness(clock)
        self._other_clocks = OtherClocks(clock, self._steadiness)
        self._under_way = UnderWay()
        self._repeats = Repeats()
        shared = Shared(
            store=store.store,
            recorder=self.recorder,
            sender=sender,
            clock=clock,
            places=self._places,
            repeats=self._repeats,
            under_way=self._under_way,
            hosts=self._hosts,
            brakes=Brakes(clock, self._outage),
            trouble=lambda name: self._supervisor.trouble(name),
            steadiness=self._steadiness,
            other_clocks=self._other_clocks,
            dice=dice or random.Random(),  # noqa: S311 - spreads load, guards nothing
            alarm=self._alarms.set,
            linger=linger,
        )
        self._supervisor = Supervisor(shared, self._alarms, settings.profiles)
        store.on_doubt = self._supervisor.look_at_all
        self.tailer = Tailer(store, self._supervisor, clock, hints)
        self.read = self.tailer.read
        self._upkeep = Upkeep(
            store, self._supervisor, clock, self._steadiness, lambda: bool(self.tailer.problems)
        )
        self._janitor = Janitor(
            store, clock, self._steadiness, kept=settings.retention, is_busy=self._is_busy
        )
        self._progress = Progress(
            {
                "ingest": lambda: self.tailer.turns if self.begun.is_set() else None,
                "recorder": lambda: self.recorder.recorded if self.recorder.unrecorded else None,
                "lanes": lambda: self._supervisor.turns,
                "alarms": lambda: self._turns if self.begun.is_set() else None,
            },
            is_excused=lambda: self.stop_asked or self.store.is_held_up or self.tailer.is_kept_out,
        )

    @property
    def grace(self) -> float:
        """Seconds that attempts under way may take to finish after `stop`."""
        return self.settings.delivery.shutdown_grace / 1000

    @property
    def longest_end(self) -> float:
        """Seconds that it may take from `stop` to its end."""
        return self.grace + LAST_WORDS

    @property
    def stop_asked(self) -> bool:
        """Whether `stop` was called."""
        return self.stopping.is_set()

    @property
    def problems(self) -> list[str]:
        """What a person should look at, one line each."""
        parts = (self.tailer, self._janitor, self._upkeep)
        found = [problem for part in parts for problem in part.problems]
        if self.store.unwritable:
            found.append("the file cannot be written: free space or rights are needed")
        if self._outage.is_on:
            found.append("this machine cannot reach anyone: see the log; no attempt counts for it")
        found += self._other_clocks.problems
        for part, seconds in self.stuck().items():
            found.append(f"{part} has made no progress for {seconds:.0f} s: a bug; restart it")
        if self.refused:
            found.append(f"the configuration was not reloaded, the old one counts: {self.refused}")
        # The last, for of these there can be very many.
        return [*found, *self._supervisor.problems]

    @property
    def held_back(self) -> list[SubscriptionKey]:
        """The subscriptions that cannot be delivered to, by key."""
        return self._supervisor.held_back

    def _is_busy(self) -> bool:
        """Whether there is much to take in or to record just now."""
        return self.recorder.unrecorded >= BATCH or self.tailer.has_more

    @property
    def figures(self) -> str:
        """How it is doing, in one line."""
        said = (
            f"{counted(len(self._supervisor.subscriptions), 'subscription')}, "
            f"{len(self._under_way)} attempts under way, {self.recorder.unrecorded} unrecorded, "
            f"{self.recorder.recorded} recorded"
        )
        waited = self.store.wait_seconds
        return f"{said}; waits for the file for {waited:.0f} s" if waited >= 1 else said

    def stuck(self) -> dict[str, float]:
        """The parts that make no progress, with the seconds since they made any."""
        return self._progress.stuck()

    def use(self, settings: Settings) -> None:
        """Put these in force, as far as that can be done at work; attempts under way go on.

        Subscriptions are in the file by then, or about to be committed to it: see `reload`.
        """
        before, self.settings = self.settings, settings
        self._places.resize(_most_in_flight(settings))
        self._hosts.resize(settings.delivery.max_per_host)
        self.recorder.resize(settings.delivery.max_unrecorded)
        self._janitor.kept = settings.retention
        if settings.egress != before.egress:
            self._sender.use(settings.egress)
        renewed = settings.profiles.differs(before.profiles)
        if settings.outbox != before.outbox or renewed:
            self.store.store.set_terms(
                default_tenant=settings.outbox.default_tenant,
                max_payload=settings.outbox.max_payload,
                validation=validation(settings.outbox),
                profiles=settings.profiles,
            )
        self._supervisor.renew(settings.profiles if renewed else None)

    def stop(self) -> None:
        """Take nothing new, finish what is under way within the grace, record it, and end."""
        self.stopping.set()

    def cut_off(self) -> None:
        """Do not even wait for what is under way: it is due again at the next start."""
        self.stopping.set()
        self._lanes_scope.cancel()

    async def run(self, *, drain: bool = False) -> None:
        """Work until `stop`; with `drain`, until nothing is due.

        Raises:
            DatabaseError: (in a group) the file is no longer usable, or another one.
            ConfigError: (in a group) a declared subscription is at odds with one in the file.
        """
        self._steadiness.jumped()  # from here on it is watched
        async with trio.open_nursery() as keepers:
            keepers.start_soon(self.recorder.run, name="recorder")
            async with trio.open_nursery() as workers:
                workers.start_soon(self._begin, workers, drain, name="start")
                await self.stopping.wait()
                self._supervisor.stop()
                with trio.move_on_after(self.grace):
                    await self._supervisor.quiet()
                self._lanes_scope.cancel()
                workers.cancel_scope.cancel()
            self.recorder.close()
            keepers.cancel_scope.deadline = trio.current_time() + LAST_WORDS
        if self.recorder.unrecorded:
            log(Action.OUTCOMES_LOST, logging.ERROR, outcomes=self.recorder.unrecorded)

    async def _begin(self, workers: trio.Nursery, drain: bool) -> None:
        """Bring what is declared into the file, and only then send by what is in it."""
        difference = await declare(self.store, self.clock, self.settings.subscriptions)
        if not difference.is_empty:
            tell([], difference)
        self.begun.set()
        workers.start_soon(self._keep_lanes, name="lanes")
        workers.start_soon(self.tailer.obey_forever, name="operators")
        workers.start_soon(self._repeats.run, name="repeats")
        workers.start_soon(self._upkeep.run, name="upkeep")
        workers.start_soon(self._upkeep.watch_clock, name="clock")
        workers.start_soon(self._janitor.run, name="janitor")
        workers.start_soon(self._janitor.keep_wal_small, name="checkpoints")
        if drain:
            workers.start_soon(self._drain, name="drain")
        else:
            workers.start_soon(self._follow, name="tailer")

    async def _keep_lanes(self) -> None:
        with self._lanes_scope:
            async with trio.open_nursery() as nursery:
                self._supervisor.open(nursery)
                try:
                    while True:
                        self._turns += 1
                        await self._alarms.wait()
                        self._supervisor.look_at(self._alarms.due())
                finally:
                    self._supervisor.close()

    async def _follow(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say_ready, name="ready")
            await self.tailer.look()
            nursery.start_soon(self.tailer.sweep_forever, name="sweep")
            await self.tailer.run()

    async def _say_ready(self) -> None:
        """As the service manager is told: the file was read, however much is to be taken in."""
        await self.read.wait()
        log(Action.DAEMON_READY, logging.INFO)

    async def _drain(self) -> None:
        log(Action.DAEMON_READY, logging.INFO, drain=True)
        await self.tailer.sweep()
        await self.tailer.go_round()
        while True:
            looked = await self.tailer.look()
            if self._supervisor.is_busy:
                with trio.move_on_after(POLL):  # what operators change counts here as well
                    await self._supervisor.quiet()
            elif not looked:
                await trio.sleep(READ_AGAIN / 1000)
            elif not await self._supervisor.look_for_due():
                break
            elif not self._supervisor.is_busy:
                await trio.sleep(POLL)  # a rate limit is waited for
        self.stop()
