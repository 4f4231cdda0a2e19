"""Defects of lanes, of the recorder, and of how operators and signals are obeyed."""

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import trio

from tests.simulation.network import SimulatedChannel
from tests.simulation.planting import defect, instead
from webhookd.core.delivery import Happening, Move
from webhookd.core.storage import AttemptNote, Record
from webhookd.daemon import lane, recorder
from webhookd.daemon.attempt import Made
from webhookd.daemon.lane import Lane
from webhookd.daemon.recorder import Outcome, Recorder
from webhookd.daemon.supervisor import Supervisor


@defect
def result_recorded_before_the_answer(stack: ExitStack) -> None:
    """What has not failed within 50 ms is taken for a success."""

    def make(right: Any) -> Any:
        async def attempt(current: Any, shared: Any, channel: Any, due: Any) -> Any:
            started = shared.clock.now()
            with trio.move_on_after(0.05):
                return await right(current, shared, channel, due)
            move = Move(Happening.SUCCEEDED, started, attempted_at=started, status=200)
            note = AttemptNote(due.attempts + 1, started, 50, 200, "", "", "", b"", b"")
            return Made(Record(due.id, move, note))

        return attempt

    instead(stack, lane, "make", make)


@defect
def lost_wake_up(stack: ExitStack) -> None:
    """A worker that rests with its connection kept is not woken."""

    def make(right: Any) -> Any:
        def wake(self: Lane) -> None:
            self._may_be_more = True
            if not self._resting:
                right(self)

        return wake

    instead(stack, Lane, "wake", make)


@defect
def line_opened_before_the_record(stack: ExitStack) -> None:
    """A delivery counts as under way until it is answered, not until it is recorded."""

    def make(right: Any) -> Any:
        def put(self: Recorder, outcome: Outcome) -> None:
            outcome.recorded(outcome.record.delivery)
            right(self, Outcome(outcome.record, lambda _: None))

        return put

    instead(stack, Recorder, "put", make)


@defect
def last_batch_dropped_at_shutdown(stack: ExitStack) -> None:
    """A recorder that closes forgets what it has not written yet."""

    def make(right: Any) -> Any:
        def close(self: Recorder) -> None:
            self._outcomes.clear()
            right(self)

        return close

    instead(stack, Recorder, "close", make)


@defect
def pause_not_obeyed(stack: ExitStack) -> None:
    """A lane that is at work goes on through a pause."""
    instead(stack, Supervisor, "_obey", lambda _: lambda *_: None)


@defect
def edits_not_obeyed(stack: ExitStack) -> None:
    """Only new subscriptions are read; what was changed in one is not."""

    def make(right: Any) -> Any:
        def enroll(self: Supervisor, one: Any) -> None:
            if (
                one.key not in self._members
                or one.state != self._members[one.key].subscription.state
            ):
                right(self, one)

        return enroll

    instead(stack, Supervisor, "_enroll", make)


@defect
def places_leak(stack: ExitStack) -> None:
    """A delivery that was not attempted after all keeps its place for ever."""

    def make(right: Any) -> Any:
        def leave(self: Recorder) -> None:
            self._attempts -= 1

        return leave

    instead(stack, Recorder, "leave", make)


@defect
def window_kept_after_a_change(stack: ExitStack) -> None:
    """What a lane has read is sent, whatever operators have changed of it since."""

    def make(right: Any) -> Any:
        def reread(self: Lane) -> None:
            kept = list(self._window)
            right(self)
            self._window.extend(kept)

        return reread

    instead(stack, Lane, "reread", make)


@defect
def turn_kept_after_a_change(stack: ExitStack) -> None:
    """What waits for its turn is sent then, whatever operators have changed of it since."""

    def make(right: Any) -> Any:
        def reread(self: Lane) -> None:
            edition, asking = self._edition, self._asking
            self._asking = None
            right(self)
            self._edition, self._asking = edition, asking

        return reread

    instead(stack, Lane, "reread", make)


@defect
def stop_not_obeyed(stack: ExitStack) -> None:
    """Lanes go on sending while the daemon stops."""

    def make(right: Any) -> Any:
        def stop(self: Supervisor) -> None:
            self._stopping = True

        return stop

    instead(stack, Supervisor, "stop", make)


@defect
def outcomes_held_back(stack: ExitStack) -> None:
    """Outcomes gather for a minute while more attempts are under way."""
    stack.enter_context(patch.object(recorder, "GATHER", 60.0))


@defect
def closed_line_not_minded(stack: ExitStack) -> None:
    """What is put before one that is under way is sent beside it."""

    def make(right: Any) -> Any:
        def following(self: Lane) -> Any:
            self._closed.clear()
            return right(self)

        return following

    instead(stack, Lane, "_next_in_window", make)


@defect
def timeout_of_another(stack: ExitStack) -> None:
    """A lane gives every request half a minute, whatever its subscription says."""

    def make(right: Any) -> Any:
        async def send(
            self: SimulatedChannel,
            url: Any,
            wire: bytes,
            timeout: int,  # noqa: ASYNC109
            terms: Any = None,
        ) -> Any:
            return await right(self, url, wire, 30_000, terms)

        return send

    instead(stack, SimulatedChannel, "send", make)
