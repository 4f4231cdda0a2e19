"""What retention may take away, what it must leave, and what it tells those who poll.

In some worlds `[retention]` has short spans (`spans`); in the others everything is kept. After each
commit what was in the file before and is not there now has gone: each such thing must have been
done with for as long as it was to be kept, and nothing that stays may refer to it.
"""

import random
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import Delivery, Event, iso
from tests.simulation.network import Request
from webhookd.core.retention import Retention
from webhookd.daemon import clock as daemons

if TYPE_CHECKING:
    from tests.simulation.model import Model
    from tests.simulation.source import Source

FOR_EVER: Final = Retention(**dict.fromkeys(field.name for field in fields(Retention)))
SHARE: Final = 0.4
"""Of all worlds, those in which something is not kept for ever."""
LEAP: Final = 2_000
"""Milliseconds by which a clock must leap to be doubted."""


def spans(seed: int) -> Retention:
    """How long things are kept in the world of that seed."""
    dice = random.Random(f"{seed} retention")
    if dice.random() > SHARE:
        return FOR_EVER
    short: tuple[int | None, ...] = (500, 2_000, 6_000, 20_000)
    kept = {field.name: dice.choice((*short, None)) for field in fields(Retention)}
    kept["events"] = dice.choice(short)
    if kept["outbox"] is not None:
        kept["outbox"] = min(kept["outbox"], kept["events"] or 0)
    return Retention(**kept)


class Keeping:
    """Follows what goes out of the file, and remembers it."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self.kept = model.world.settings.retention
        self.newest: dict[Any, Event] = {}
        """The newest event of each aggregate that is in `webhook_changes`."""
        self.deliveries: dict[int, Delivery] = {}
        """Those that are gone."""
        self.owed: dict[tuple[int, int], Delivery] = {}
        """The same, by event and subscription."""
        self.events: dict[str, Event] = {}
        """Those that are gone, by their ids."""
        self._gone_at: dict[str, float] = {}
        self.erased: dict[int, float] = {}
        """Since when the payloads of events are erased, by sequence."""
        self.lowest = {"results": 0, "changes": 0, "events": 0}
        """What `minimum_cursor` must say."""
        self._rejected: dict[int, str] = {}
        self._attempts: dict[tuple[int, int], str] = {}
        self._went: set[tuple[int, int]] = set()
        """Attempts that have gone; whether they were to is judged as they do."""

    @property
    def is_short(self) -> bool:
        """Whether anything ever goes."""
        return self.kept != FOR_EVER

    def look(self, source: "Source") -> None:
        """Somebody has committed: what has gone?"""
        if not self.is_short:
            return
        model, gone = self._model, []
        there = self._keys("SELECT id FROM webhookd_deliveries")
        for one in [one for key, one in model.deliveries.items() if key not in there]:
            self._delivery(one)
            gone.append(one)
        there = self._keys("SELECT sequence FROM webhookd_events")
        for event in [one for key, one in model.events.items() if key not in there]:
            self._event(event)
            gone.append(event)
        # Of an aggregate with a new event the row moves on: it is not gone.
        there = self._keys(
            "SELECT tenant || char(1) || aggregate_type || char(1) || aggregate_id"
            " FROM webhookd_aggregates"
        )
        for name in [name for name in self.newest if chr(1).join(name) not in there]:
            self._change(name)
            gone.append(name)
        self._others()
        if gone and not (source.prunes or source.kind == "daemon"):
            model.wrong("retention", f"{source} took {gone} away")
        if gone:
            model.world.trace(f"gone: {len(gone)}")
        if gone and source.kind == "daemon":
            self._check_clock(gone)
        self._check_lowest()

    def note(self, event: Event) -> None:
        """An event has come."""
        if event.aggregate is not None:
            self.newest[event.aggregate] = event

    def find(self, delivery: int) -> Delivery:
        """A delivery, also one that is gone."""
        return self._model.deliveries.get(delivery) or self.deliveries[delivery]

    def numbers(self, key: int) -> int:
        """How many deliveries a subscription has ever had."""
        every = (*self._model.deliveries.values(), *self.deliveries.values())
        return sum(one.sub.key == key for one in every)

    def went_since(self, event_id: str | None, moment: float) -> bool:
        """Whether an event with that id was there then, and is gone."""
        return event_id is not None and self._gone_at.get(event_id, float("-inf")) >= moment

    def is_lost(self, request: Request) -> bool:
        """Whether a request's outcome has no row any more to be told in."""
        return request.delivery in self.deliveries

    def lose(self, request: Request) -> None:
        """It has ended, and nothing tells of it but to the daemon that made it."""
        sub = self._model.sub(request.who)
        if request.succeeded and sub is not None:
            request.life.said_well.add(sub.key)

    def _keys(self, sql: str) -> set[Any]:
        return {key for (key,) in self._model.mirror.connection.execute(sql)}

    def _is_old(self, at: str | None, span: int | None) -> bool:
        """Whether that may be long enough ago, by any clock that there has been."""
        if at is None or span is None:
            return False
        return at <= iso(self._model.world.clock.highest - span)

    def _delivery(self, one: Delivery) -> None:
        model = self._model
        if one.pending:
            model.wrong("retention", f"{one} is owed, and gone")
        elif not self._is_old(one.finished_at, getattr(self.kept, one.state)):
            model.wrong("retention", f"{one} ended at {one.finished_at} ({one.state}), and is gone")
        del model.deliveries[one.id]
        del model.owed[one.event.sequence, one.sub.key]
        self.deliveries[one.id] = self.owed[one.event.sequence, one.sub.key] = one
        self._raise("results", one.sequence)
        for request in one.requests:
            if request in request.life.unrecorded:
                request.life.unrecorded.remove(request)
                self.lose(request)

    def _event(self, event: Event) -> None:
        model = self._model
        if not self._came_long_ago(event, model.events.values(), self.kept.events):
            model.wrong("retention", f"{event} is gone")
        if any(place == event.sequence for place, _ in model.owed):
            model.wrong("retention", f"{event} is gone, and a delivery of it is there")
        del model.events[event.sequence], model.by_event_id[event.event_id]
        self.events[event.event_id] = event
        self._gone_at[event.event_id] = trio.current_time()
        self._raise("events", event.sequence)

    def _change(self, name: Any) -> None:
        model, event = self._model, self.newest.pop(name)
        if not self._came_long_ago(event, self.newest.values(), self.kept.changes):
            model.wrong("retention", f"the aggregate {name} is gone, its newest is {event}")
        if any(one.aggregate == name for one in model.events.values()):
            model.wrong("retention", f"the aggregate {name} is gone, and events of it are there")
        self._raise("changes", event.sequence)

    def _came_long_ago(self, event: Event, others: Iterable[Event], span: int | None) -> bool:
        """What a clock that was ahead took in is as old as what came after it."""
        after = [one.ingested_at for one in others if one.sequence > event.sequence]
        return self._is_old(min([event.ingested_at, *after]), span)

    def _others(self) -> None:
        """Rejected rows and attempts, which are in no feed."""
        model = self._model
        connection = model.mirror.connection
        rejected = dict(connection.execute("SELECT outbox_id, rejected_at FROM webhookd_rejected"))
        for number in self._rejected.keys() - rejected.keys():
            if not self._is_old(self._rejected[number], self.kept.rejected):
                model.wrong("retention", f"the rejected row {number} is gone")
        self._rejected = rejected
        attempts = {
            (delivery, number): at
            for delivery, number, at in connection.execute(
                "SELECT delivery, number, started_at FROM webhookd_attempts"
            )
        }
        for key in self._attempts.keys() - attempts.keys():
            # A delivery that is to go loses its attempts first, in as many steps as it takes.
            one = self.find(key[0])
            goes = not one.pending and self._is_old(one.finished_at, getattr(self.kept, one.state))
            if not goes and not self._is_old(self._attempts[key], self.kept.attempts):
                model.wrong("retention", f"attempt {key[1]} of {one} is gone")
            self._went.add(key)
        self._attempts = attempts

    def may_lack(self, one: Delivery, request: Request) -> bool:
        """Whether an attempt has gone, though its delivery is there."""
        return (one.id, request.attempt) in self._went

    def _raise(self, feed: str, sequence: int) -> None:
        self.lowest[feed] = max(self.lowest[feed], sequence)

    def _check_lowest(self) -> None:
        """What has gone is told to pollers in the same commit, and nothing more is."""
        have = dict(
            self._model.mirror.connection.execute("SELECT feed, minimum_cursor FROM webhook_feeds")
        )
        if have != self.lowest:
            self._model.wrong("G6", f"minimum_cursor is {have}, not {self.lowest}")

    def _check_clock(self, gone: list[Any]) -> None:
        """Nothing goes by a clock that has just leapt ahead."""
        world, now = self._model.world, trio.current_time()
        life, leapt_at = world.machine.life, world.clock.leapt_at
        if life is None or leapt_at < life.born:
            return
        if leapt_at + life.prompt < now < leapt_at + daemons.DOUBT:
            self._model.wrong("E4", f"{gone} went by a clock that leapt at {leapt_at:.3f}")

    def owed_for(self, event: str) -> Event | None:
        """The event of that id, also one that is gone."""
        return self._model.by_event_id.get(event) or self.events.get(event)
