"""What operators have instructed, and whether it was done: no more than was wanted, and all of it.

An instruction is taken down as it is given, with the deliveries (or events) that it must concern by
the model's own account. What becomes of it is read from the file alone: whoever takes its steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import PENDING, Delivery, Event, Sub

if TYPE_CHECKING:
    from tests.simulation.model import Model

STREAK: Final = frozenset({"exhausted", "permanent_status", "gone"})
REASONS: Final = {"backlog_skipped": "skip_backlog", "newest_only": "newest_only"}
"""What cancels for which reason."""
OPEN: Final = frozenset({"replay", "retry_failed"})
"""What opens deliveries again."""


@dataclass(eq=False)
class Given:
    """One instruction that is under way."""

    key: int
    """The sequence at which it was given."""
    kind: str
    sub: Sub
    at: float
    must: dict[int, Delivery | None] = field(default_factory=dict)
    """By event: what it must move (None: make), unless somebody else does before."""
    may: set[int] = field(default_factory=set)
    """Events that it may concern."""
    delivered: set[int] = field(default_factory=set)
    """Events of the subscription that were delivered when it was given."""
    options: dict[str, Any] = field(default_factory=dict)
    pattern_edits: int = 0
    """How often what the subscription wants had been changed by then."""


class Instructed:
    """All instructions that are under way."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self.open: dict[int, Given] = {}

    def of(self, sub: Sub) -> list[Given]:
        """Those that hold a subscription."""
        return [one for one in self.open.values() if one.sub is sub]

    def give(self, key: int | None, kind: str, sub: Sub, **options: Any) -> None:
        """An operator gives one, as far as it was needed; `key` is None where it was not."""
        model, now = self._model, trio.current_time()
        if key is None:
            return
        given = Given(key, kind, sub, now, options=options, pattern_edits=sub.pattern_edits)
        every = [one for one in model.deliveries.values() if one.sub is sub]
        pending = [one for one in every if one.pending]
        given.delivered = {one.event.sequence for one in every if one.state == "delivered"}
        if kind == "skip_backlog":
            given.must = {one.event.sequence: one for one in pending}
        elif kind == "newest_only":
            newest: dict[Any, Delivery] = {}
            for one in sorted(pending, key=lambda one: one.event.sequence):
                newest[one.event.aggregate] = one
            given.must = {
                one.event.sequence: one
                for one in pending
                if one.event.aggregate is not None and newest[one.event.aggregate] is not one
            }
            given.may = {one.event.sequence for one in pending if one.event.aggregate is not None}
        elif kind == "retry_failed":
            # One that was opened again since may have come to another end.
            given.must = {
                one.event.sequence: one
                for one in options.pop("streak")
                if one.state == "failed" and one.reason in STREAK
            }
        elif kind == "replay":
            self._replay(given)
        elif kind == "realign":
            for old in [one for one in self.of(sub) if one.kind == "realign"]:
                del self.open[old.key]  # the newer one does its work
        given.may |= given.must.keys()
        self.open[key] = given

    def _replay(self, given: Given) -> None:
        model, options = self._model, given.options
        for event in model.events.values():
            if not options["position"] < event.sequence <= options["last"]:
                continue
            one = model.owed.get((event.sequence, given.sub.key))
            if one is None and options["failed_only"]:
                if self.may_make(given.sub, event):
                    given.may.add(event.sequence)  # it may have failed by then
                continue
            if one is None and not given.sub.wants(event):
                continue
            given.may.add(event.sequence)
            if one is not None and (
                one.pending or (options["failed_only"] and one.state != "failed")
            ):
                continue
            if not self._stale(given, event, given.delivered):
                given.must[event.sequence] = one

    def _stale(self, given: Given, event: Event, delivered: set[int]) -> bool:
        """Whether it is passed over for a newer one of its aggregate."""
        if given.options["include_stale"] or not event.aggregate:
            return False
        return any(
            place > event.sequence and self._model.events[place].aggregate == event.aggregate
            for place in delivered & self._model.events.keys()
        )

    # What it may do.

    def may_cancel(self, known: Delivery, reason: str) -> Iterator[str]:
        """It cancels one for its reason."""
        place = known.event.sequence
        held = [one for one in self.of(known.sub) if one.kind == REASONS[reason]]
        if not any(place in one.may for one in held):
            yield "nobody has instructed that"
        # The newest may be another one by the time of the next instruction.
        goes = any(place in one.must or self._newer(one, known) for one in held)
        if reason == "newest_only" and not goes:
            yield "it is the newest"
        if held and all(known.reopened_at > one.at for one in held) and not self._clock_went_back:
            yield "it was opened again since"

    def _newer(self, given: Given, known: Delivery) -> bool:
        """Whether a newer one of its aggregate has moved since."""
        return any(
            one.sub is known.sub
            and one.event.aggregate == known.event.aggregate
            and one.event.sequence > known.event.sequence
            and one.sequence > given.key
            for one in self._model.deliveries.values()
        )

    def may_open(self, known: Delivery) -> Iterator[str]:
        """It opens one again."""
        place = known.event.sequence
        if self._is_erased(place):
            yield "its event was erased, so it can only fail"
        for one in self.of(known.sub):
            in_streak = place in one.may or known.reason in STREAK
            if one.kind == "retry_failed" and known.state == "failed" and in_streak:
                return
            if one.kind == "replay" and (place in one.may or self._was_made_for(one, known)):
                if one.options["failed_only"] and known.state not in ("failed", PENDING):
                    continue
                still = {
                    place
                    for place in one.delivered
                    if (other := self._model.owed.get((place, one.sub.key))) is not None
                    and other.state == "delivered"
                }
                if not self._stale(one, known.event, still):
                    return
        yield "nobody has instructed that"

    @staticmethod
    def _was_made_for(given: Given, known: Delivery) -> bool:
        """Whether a replay meets what another has made since, though it was not wanted then."""
        span = given.options["position"] < known.event.sequence <= given.options["last"]
        return span and known.id > given.key

    def may_make(self, sub: Sub, event: Event) -> bool:
        """Whether it may make a delivery that is missing: of what is wanted as it is made."""
        return (
            sub.wants(event)
            and not self._is_erased(event.sequence)
            and any(
                one.kind == "replay"
                and one.options["position"] < event.sequence <= one.options["last"]
                and not one.options["failed_only"]
                for one in self.of(sub)
            )
        )

    def _is_erased(self, place: int) -> bool:
        """Whether nothing is left to send of an event: every subscription here sends payloads."""
        return place in self._model.keeping.erased

    @property
    def _clock_went_back(self) -> bool:
        return self._model.world.clock.went_back_at > float("-inf")

    # What it has done.

    def look(self, rows: dict[int, dict[str, Any]]) -> None:
        """Compare with what the file says of all instructions."""
        now = trio.current_time()
        for key, row in rows.items():
            if row["done_at"] is None and key not in self.open:
                self._model.wrong("G2", f"nobody gave the instruction {row}")
        for key, given in list(self.open.items()):
            if given.sub.removed_at is not None:
                del self.open[key]
                continue
            row = rows.get(key)
            if row is None:
                self._model.wrong("G2", f"{given} is forgotten")
                del self.open[key]
            elif row["done_at"] is not None:
                del self.open[key]
                self._judge(given)
            given.sub.instructed_at = now

    def _judge(self, given: Given) -> None:
        """It is said to be done."""
        for place, meant in given.must.items():
            one = self._model.owed.get((place, given.sub.key))
            if meant is not None and one is not meant:
                continue  # retention took it, and whatever is there now was made since
            if one is None and given.sub.pattern_edits != given.pattern_edits:
                continue  # what is wanted was changed meanwhile
            if self._is_erased(place) and given.kind in OPEN:
                continue  # nothing is left to send
            if one is None and self._is_gone(given, place):
                continue
            if given.kind == "replay" and self._is_overtaken(given, place):
                continue
            if one is None:
                self._model.wrong("G2", f"{given.kind} is done, and event {place} passed over")
                continue
            if one.sequence > given.key or one.touched_at >= given.at:
                continue
            if given.kind == "retry_failed" and self._clock_went_back:
                continue  # what failed before the first of the streak, by the clock, is not of it
            if given.kind == "newest_only" and self._is_newest_by_now(given, one):
                continue
            self._model.wrong("G2", f"{given.kind} is done, and {one} is {one.state}, as before")
        if given.kind == "realign" and not self.of(given.sub):
            self._model.check_lines()

    def _is_newest_by_now(self, given: Given, one: Delivery) -> bool:
        """Whether each newer one that was pending then was opened again since, or is gone.

        What was opened again stays, whatever comes of it, and nothing is cancelled for its sake;
        nor for the sake of one that has ended since, and that retention took.
        """
        key, aggregate = given.sub.key, one.event.aggregate
        every = [self._model.owed.get((place, key)) for place in given.may]
        return all(
            other.opened > given.key
            for other in every
            if other is not None
            and other.event.sequence > one.event.sequence
            and other.event.aggregate == aggregate
        )

    def _is_gone(self, given: Given, place: int) -> bool:
        """Whether retention has taken it, or the event that it was to be made for."""
        gone = (place, given.sub.key) in self._model.keeping.owed
        return gone or place not in self._model.events

    def _is_overtaken(self, given: Given, place: int) -> bool:
        """Whether a newer one of its aggregate was delivered since, or was, and retention took it.

        It may have been opened again after that.
        """
        model, this = self._model, self._model.events[place]
        if given.options["include_stale"] or this.aggregate is None:
            return False
        has_one = (place, given.sub.key) in model.owed
        newest = model.keeping.newest.get(this.aggregate)
        if newest is not None and newest.sequence > place and newest.sequence not in model.events:
            return given.sub.wants(newest)
        for event in model.events.values():
            if event.sequence <= place or event.aggregate != this.aggregate:
                continue
            known = (event.sequence, given.sub.key)
            one = model.owed.get(known)
            # Where this one has a delivery, a newer without (or that was made anew) is taken to
            # have had one too.
            is_new = one is None or event.sequence < given.key < one.id
            if has_one and is_new and given.sub.wants(event):
                return True
            one = one or model.keeping.owed.get(known)
            sent = one.requests if one is not None else ()
            if any(each.succeeded and each.recorded_at >= given.at for each in sent):
                return True
        return False
