"""The independent model: what must be true, judged from what receivers saw and the file says.

It shares no code with webhookd. It hears of everything that happens outside the daemon (the host's
commits, the operators', each request and each answer), looks at the file after every commit, and
says at once where the two do not go together. What is judged by rules of its own is elsewhere: a
request as it begins in `sending`, a recorded attempt in `recording`, what happens without one in
`moves`, bulk changes in `instructed`, the health of subscriptions in `wellness`, the file as a
whole and at the end in `reckoning` and `feeds`, and how soon things happen in `promptness`.
"""

import json
from typing import TYPE_CHECKING, Any

import trio

from tests.simulation import moves, reckoning, recording, sending
from tests.simulation.facts import OWN, Delivery, Event, Line, Row, Sub, iso, millis
from tests.simulation.instructed import Instructed
from tests.simulation.keeping import Keeping
from tests.simulation.mirror import Mirror, Seen
from tests.simulation.network import Request, is_ours
from tests.simulation.wellness import Wellness
from webhookd.core.model import Fault, FaultKind

if TYPE_CHECKING:
    from tests.simulation.world import Source, World

A_MOMENT, A_MOMENT_WRITTEN = "2026-01-31 12:00:00", "2026-01-31T12:00:00.000Z"
"""A time as a host writes it, and as the file has it."""


class Model:
    """Everything that is known of one simulated world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.mirror = Mirror(world.path)
        self.rows: dict[int, Row] = {}
        """Every row that the host committed and the power did not take, by outbox id."""
        self.waiting: dict[int, Row] = {}
        """Those of them that are there and not taken in yet."""
        self.subs: dict[int, Sub] = {}
        self.events: dict[int, Event] = {}
        self.by_event_id: dict[str, Event] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.owed: dict[tuple[int, int], Delivery] = {}
        """By event and subscription."""
        self.lines: dict[Line, dict[int, Delivery]] = {}
        """What is pending in each line."""
        self.requests: list[Request] = []
        self.open: list[Request] = []
        self.cursor = -(2**63)
        self.ingested_at = 0.0
        """When rows were last taken in."""
        self.rejected = self.announced = 0
        self.expired_at = float("-inf")
        """When anything was last seen to have expired, or to have been passed."""
        self.wellness = Wellness(self)
        self.instructed = Instructed(self)
        self.keeping = Keeping(self)
        self._last_in_order: Row | None = None

    def wrong(self, guarantee: str, text: str) -> None:
        """A guarantee is broken."""
        self.world.violate(f"{guarantee}: {text}")

    # The host and the operators.

    def inserted(self, row: Row) -> None:
        """The host has committed a row."""
        row.at = trio.current_time()
        row.low = row.id <= self.cursor
        self.rows[row.id] = row
        self.waiting[row.id] = row

    def sub(self, name: str) -> Sub | None:
        """The newest subscription of that name."""
        found = [sub for sub in self.subs.values() if sub.name == name]
        return found[-1] if found else None

    # The file.

    def on_commit(self, source: "Source") -> None:
        """Somebody has committed: what is new must follow from what was, and from who it was."""
        before = self.mirror.sequence
        seen = self.mirror.look()
        if seen.sequence < before or seen.cursor < self.cursor:
            self.wrong("G6", f"the file went back: sequence {before} to {seen.sequence}")
            return
        rejected = any(not self._is_judged(number) for number in seen.rejected)
        if source.kind != "daemon" and (seen.events or rejected or seen.cursor > self.cursor):
            self.wrong("G1", f"rows were taken in by a commit of {source}")
        if seen.cursor > self.cursor or any(not event.is_own for event in seen.events):
            self.ingested_at = trio.current_time()
        self.cursor = seen.cursor
        self.keeping.look(source)
        self._judge_sequences(seen)
        self._judge_events(seen)
        fresh = self._judge_deliveries(seen, source)
        self._judge_own(seen)
        self._look_at_passed()
        for sequence, keys in fresh.items():
            event = self.events[sequence]
            wanted = {sub.key for sub in self.subs.values() if sub.wants(event)}
            if keys != wanted:
                self.wrong("G1", f"{event} is owed to {sorted(keys)}, not {sorted(wanted)}")
        self._judge_crowds(fresh)
        if seen.instructions is not None:
            self.instructed.look(seen.instructions)
        for row in self.waiting.values():
            if not row.low and row.id <= self.cursor:
                self.wrong("G1", f"the cursor is at {self.cursor} and row {row.id} not taken in")

    def _is_judged(self, number: int) -> bool:
        return number in self.rows and bool(self.rows[number].judged)

    def _judge_deliveries(self, seen: Seen, source: "Source") -> dict[int, set[int]]:
        """What is new of deliveries; returns to whom each new event is owed."""
        fresh: dict[int, set[int]] = {event.sequence: set() for event in seen.events}
        self.wellness.begin(seen.states)
        for row in sorted(seen.deliveries, key=lambda row: int(row["id"])):
            if row["id"] not in self.deliveries and not self._new_delivery(row, fresh, source):
                return fresh
        for row in seen.deliveries:
            known = self.deliveries[row["id"]]
            if known.sequence != row["sequence"]:
                self._judge_move(known, row, source)
        self.wellness.end(seen.events)
        return fresh

    def _judge_sequences(self, seen: Seen) -> None:
        """No number is given out twice, and none beyond the counter."""
        given = [event.sequence for event in seen.events]
        given += [row["sequence"] for row in seen.deliveries]
        if len(given) != len(set(given)) or max(given, default=0) > seen.sequence:
            self.wrong("G6", f"the counter is at {seen.sequence}, and given were {sorted(given)}")

    def _judge_events(self, seen: Seen) -> None:
        for event in seen.events:
            self.events[event.sequence] = event
            self.keeping.note(event)
            if event.event_id in self.by_event_id:
                self.wrong("G1", f"two events have the id {event.event_id}")
            if event.is_own:
                self.by_event_id[event.event_id] = event
                continue
            row = self.waiting.pop(event.outbox_id, None)
            if row is None:
                self.wrong("G1", f"an event of outbox row {event.outbox_id}, which is not waiting")
                continue
            self.by_event_id[event.event_id] = event
            row.judged = "event"
            if row.fault:
                self.wrong("G1", f"row {row.id} is an event in spite of its {row.fault}")
            self._compare(row, event)
            if not row.low:
                last = self._last_in_order
                if last is not None and last.id > row.id:
                    self.wrong("G4", f"row {row.id} was taken in after row {last.id}")
                self._last_in_order = row
        life = self.world.machine.life
        for outbox_id, reason in seen.rejected.items():
            row = self.rows.get(outbox_id)
            if row is None or (row.judged and row.judged != reason):
                self.wrong("G1", f"row {outbox_id} is rejected ({reason}) and an event, or nothing")
            elif not row.judged:
                del self.waiting[outbox_id]
                row.judged = reason
                self.rejected += 1
                event_id = row.columns.get("event_id")
                # It is looked at before there is a lock, and retention may come between.
                looked_at = trio.current_time() - (life.grace if life is not None else 0.0)
                duplicate = event_id in self.by_event_id
                duplicate |= self.keeping.went_since(event_id, looked_at)
                if reason != (row.fault or ("duplicate_event_id" if duplicate else "")):
                    self.wrong("G1", f"row {row.id} ({row.columns}) is rejected for {reason}")

    def _compare(self, row: Row, event: Event) -> None:
        """The event says what the row said."""
        given = row.columns
        payload = given.get("payload")
        expected = {
            "event_type": given["event_type"],
            "aggregate_type": given.get("aggregate_type")
            or str(given["event_type"]).rpartition(".")[0],
            "aggregate_id": given.get("aggregate_id") or "",
            "tenant": given.get("tenant") or "",
            "payload": None if payload is None else payload.encode(),
        }
        if given.get("event_id"):
            expected["event_id"] = given["event_id"]
        if given.get("occurred_at") == A_MOMENT:
            expected["occurred_at"] = A_MOMENT_WRITTEN
        elif event.occurred_at > iso(self.world.clock.highest):
            self.wrong("G1", f"{event} is said to have occurred in the future")
        for name, value in expected.items():
            if getattr(event, name) != value:
                self.wrong("G1", f"{name} of {event} is not {value!r} as in row {row.id}")

    def _judge_own(self, seen: Seen) -> None:
        """A summary of rejected rows counts each of them once."""
        for event in seen.events:
            if event.event_type == f"{OWN}events.rejected":
                self.announced += json.loads(event.payload or b"")["rejected"]
        if self.announced > self.rejected:
            self.wrong("events", f"{self.announced} rejections are told of {self.rejected}")

    def _judge_crowds(self, fresh: dict[int, set[int]]) -> None:
        """Of what coalesces only the newest of each kind still waits."""
        for sequence, keys in fresh.items():
            for key in keys:
                one = self.owed[sequence, key]
                if one.sub.policy.now["coalesce"] and one.kind and not self.instructed.of(one.sub):
                    left = [
                        other
                        for other in (one, *moves.newer(self, one))
                        if other.pending and other.event.sequence <= sequence
                    ]
                    if len(left) > 1:
                        self.wrong("G2", f"{left} wait side by side, and coalesce")

    def _new_delivery(
        self, row: dict[str, Any], fresh: dict[int, set[int]], source: "Source"
    ) -> Delivery | None:
        sub = self.subs[row["subscription"]]
        event = self.events.get(row["event"])
        if event is None:
            self.wrong("G1", f"delivery {row['id']} came without its event")
            return None
        life = self.world.machine.life
        made = Delivery(
            row["id"],
            event,
            sub,
            row["number"],
            sub.line_of(event),
            row["id"],
            row["created_at"],
            since=row["created_at"],
            too_late=life is not None and life.stop_asked_at <= trio.current_time(),
        )
        if row["event"] in fresh:
            fresh[event.sequence].add(sub.key)
        else:
            made.touched_at = made.reopened_at = trio.current_time()  # it may step in before others
            if not self.instructed.may_make(sub, event):
                self.wrong("G1", f"{made} was made by {source} for an event of long ago")
        if made.number != self.keeping.numbers(sub.key) + 1:
            self.wrong("G1", f"{made} has the number {made.number}")
        if (event.sequence, sub.key) in self.owed:
            self.wrong("G1", f"{made} is there twice")
        self.deliveries[made.id] = self.owed[event.sequence, sub.key] = made
        self._put_in_line(made)
        return made

    def _judge_move(self, known: Delivery, row: dict[str, Any], source: "Source") -> None:
        """A delivery has a new sequence: was it moved by what has happened to it?"""
        made = row["attempts"] - known.attempts
        request = recording.answered(known, row) if made else None
        if not made:
            moves.judge(self, known, row, source)
        elif source.kind != "daemon" or made != 1 or request is None:
            self.wrong("G3", f"{made} attempts of {known} were recorded by {source}: {row}")
        else:
            recording.judge(self, known, row, request)
        known.state, known.reason = row["state"], row["reason"]
        known.attempts, known.sequence = row["attempts"], row["sequence"]
        known.finished_at = row["finished_at"]
        known.sub.moved_at = trio.current_time()
        if not known.pending:
            known.failing_since, known.passed = None, False
        self._put_in_line(known)

    def _put_in_line(self, known: Delivery) -> None:
        for line in [one for one in self.lines.values() if known.id in one]:
            del line[known.id]
        if known.pending:
            self.lines.setdefault(known.line, {})[known.id] = known

    def reorder(self, sub: Sub) -> None:
        """A subscription's ordering is another one: so are the lines of what it is owed."""
        for one in self.deliveries.values():
            if one.sub is sub and not one.passed:
                one.line = sub.line_of(one.event)
                self._put_in_line(one)

    def _look_at_passed(self) -> None:
        """What is passed in the file has held up its line for as long as it may, and goes alone."""
        if not any(sub.policy.now["max_block"] for sub in self.subs.values()):
            return
        for row in self.mirror.table(
            "SELECT id, passed_at FROM webhookd_deliveries"
            " WHERE passed_at IS NOT NULL AND state = 'pending'"
        ):
            known = self.deliveries[row["id"]]
            if known.passed:
                continue
            limit = known.sub.policy.now["max_block"]
            since = known.failing_since
            # A clock that has jumped since moves the one moment or the other.
            moved = self.world.clock.jumped_at >= known.failing_at
            short = since is None or (millis(row["passed_at"]) - since < limit and not moved)
            if not limit or short:
                self.wrong("G4", f"{known} is passed, failing since {since}: {row}, {limit}")
            known.passed, known.line = True, ()
            self._put_in_line(known)
            self.expired_at = trio.current_time()

    def check_lines(self) -> None:
        """The lines in the file are those that the orderings make."""
        reckoning.check_lines(self)

    # The requests.

    def on_request(self, request: Request) -> None:
        """The daemon sends something."""
        self.requests.append(request)
        request.life.requests.append(request)
        sending.judge(self, request)

    def on_end_of_request(self, request: Request) -> None:
        """It is over, answered or cut off."""
        sub = self.sub(request.who)
        if sub is not None:
            request.extra["policies"] = sub.policy.since(request.began - request.life.grace)
        if request in self.open:
            self.open.remove(request)
        if request.result is None:
            return
        result = request.result
        if is_ours(result):
            request.life.machine_fault_at = trio.current_time()
        request.void = isinstance(result, Fault) and result.kind is FaultKind.LOCAL
        if self.keeping.is_lost(request):
            self.keeping.lose(request)
        elif not request.void:
            sending.learn(self, request)
            request.life.unrecorded.append(request)
