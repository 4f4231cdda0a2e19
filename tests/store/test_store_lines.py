"""Lines, counters and the feed under random operation, against a plain model of them."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import NOW, Box, move_home
from webhookd.core.delivery import Happening
from webhookd.core.model import DeliveryState, Reason
from webhookd.core.storage import Record
from webhookd.errors import Refused
from webhookd.store import subscriptions

SUBSCRIPTIONS = (
    ("lines", {"ordering": "aggregate"}),
    ("single", {"ordering": "subscription"}),
    ("loose", {"ordering": "none"}),
)
VISIBLE = (
    "state", "reason", "attempts", "last_status", "last_error", "first_attempt_at", "finished_at",
)  # fmt: skip


@dataclass
class Known:
    """What the model keeps of a delivery."""

    subscription: int
    line: tuple[int, object] | None
    state: str = "pending"
    attempts: int = 0
    retry_at: str | None = None
    last: Record | None = None


@dataclass
class Model:
    box: Box
    known: dict[int, Known] = field(default_factory=dict)
    cursor: int = 0
    polled: dict[int, dict[str, Any]] = field(default_factory=dict)
    changes: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    change_cursor: int = 0
    given_out: int = 0

    def insert(self, aggregate: int) -> None:
        name = f"S-{aggregate}" if aggregate else None
        self.box.put(aggregate_id=name)
        self.box.ingest()
        for number, key in self.box.rows(
            "SELECT id, subscription FROM webhookd_deliveries WHERE id > ?", self.given_out
        ):
            ordering = SUBSCRIPTIONS[key - 1][1]["ordering"]
            line: tuple[int, object] | None = (key, "whole" if ordering == "subscription" else name)
            if ordering == "none" or (ordering == "aggregate" and name is None):
                line = None
            self.known[number] = Known(key, line)

    def record(self, number: int, outcome: Record, *, state: str, counted: bool) -> None:
        known = self.known[number]
        was_pending = known.state == "pending"
        self.box.record(outcome)
        known.last = outcome
        known.attempts += counted
        if was_pending or state == "delivered":
            known.state = state
        moved = outcome.move.retry_at
        known.retry_at = self.box.one("SELECT retry_at FROM webhookd_deliveries WHERE id=?", number)
        assert (known.retry_at is not None) == (was_pending and moved is not None)

    def do(self, what: str, number: int, amount: int) -> None:
        box, known = self.box, self.known[number]
        match what:
            case "succeed":
                made = box.outcome(number, Happening.SUCCEEDED, status=200)
                self.record(number, made, state="delivered", counted=True)
            case "retry":
                made = box.outcome(number, Happening.RETRY, retry_at=box.now + amount)
                self.record(number, made, state="pending", counted=True)
            case "put off":  # nothing was attempted: no network, say
                made = box.outcome(number, Happening.RETRY, retry_at=box.now + amount)
                bare = type(made.move)(Happening.RETRY, box.now, retry_at=box.now + amount)
                self.record(
                    number, Record(made.delivery, bare, None), state="pending", counted=False
                )
            case "fail":
                made = box.outcome(number, Happening.FAILED, reason=Reason.EXHAUSTED)
                self.record(number, made, state="failed", counted=True)
            case "twice":
                if known.last is not None and known.last.attempt is not None:
                    before = box.rows("SELECT * FROM webhookd_deliveries WHERE id = ?", number)
                    done = box.record(known.last)
                    after = box.rows("SELECT * FROM webhookd_deliveries WHERE id = ?", number)
                    assert before == after
                    assert done.standings[known.last.delivery].attempts == known.attempts
            case "cancel":
                if known.state == "pending":
                    box.cancel(number)
                    known.state, known.retry_at = "cancelled", None
                else:
                    with pytest.raises(Refused):
                        box.cancel(number)
            case "reopen":
                box.reopen_delivery(number)
                known.state, known.retry_at = "pending", None
            case _:
                raise AssertionError(what)

    def snapshot(self) -> dict[int, tuple[int, tuple[Any, ...], Any]]:
        return {
            row[0]: (row[1], row[2:-1], row[-1])
            for row in self.box.rows(
                f"SELECT id, sequence, {', '.join(VISIBLE)}, next_attempt_at"
                " FROM webhookd_deliveries"
            )
        }

    def poll(self) -> None:
        """As a host does: forward only, a page at a time."""
        cursor = self.box.host.execute(
            "SELECT * FROM webhook_results WHERE sequence > ? ORDER BY sequence LIMIT 1000",
            (self.cursor,),
        )
        names = [column[0] for column in cursor.description]
        for row in cursor.fetchall():
            shown = dict(zip(names, row, strict=True))
            assert shown["sequence"] > self.cursor
            self.cursor = shown["sequence"]
            self.polled[shown["delivery_id"]] = shown
        for sequence, *identity, kind, event, _ in self.box.rows(
            "SELECT * FROM webhook_changes WHERE sequence > ? ORDER BY sequence",
            self.change_cursor,
        ):
            self.change_cursor = sequence
            self.changes[tuple(identity)] = (sequence, kind, event)

    def check(self, before: dict[int, tuple[int, tuple[Any, ...], Any]], floor: int) -> None:
        box = self.box
        rows = box.rows(
            "SELECT id, subscription, state, attempts, due_at, retry_at FROM webhookd_deliveries"
            " ORDER BY id"
        )
        assert [row[0] for row in rows] == sorted(self.known)
        heads: set[tuple[int, object]] = set()
        counts: dict[int, dict[str, int]] = {key: {} for key in (1, 2, 3)}
        for number, key, state, attempts, due_at, retry_at in rows:
            known = self.known[number]
            assert (state, attempts) == (known.state, known.attempts)
            counts[key][state] = counts[key].get(state, 0) + 1
            is_head = state == "pending" and (known.line is None or known.line not in heads)
            if state == "pending" and known.line is not None:
                heads.add(known.line)
            assert (due_at is not None) == is_head, f"delivery {number} of line {known.line}"
            assert retry_at == known.retry_at
            if due_at is not None and retry_at is not None:
                assert due_at >= retry_at, "delays are minima"
        for key, *figures in box.rows(
            "SELECT subscription, pending, delivered, failed, cancelled, superseded, numbers"
            " FROM webhookd_counters"
        ):
            expected = [counts[key].get(state, 0) for state in DeliveryState]
            assert figures == [*expected, sum(expected)]
        after = self.snapshot()
        for number, (sequence, visible, shown) in after.items():
            old = before.get(number)
            if old is None:
                assert sequence == number > floor
            elif old[1] == visible:
                assert (sequence, shown) == (old[0], old[2]), "moved, and nothing can be seen"
            else:
                assert sequence > floor, "a number that was given out comes again"
        sequences = [one[0] for one in after.values()]
        sequences += [row[0] for row in box.rows("SELECT sequence FROM webhookd_events")]
        assert len(set(sequences)) == len(sequences)
        self.given_out = box.one("SELECT sequence FROM webhookd_file")
        assert max(sequences, default=0) <= self.given_out


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("insert", "succeed", "retry", "put off", "fail", "twice", "cancel"),
                *("reopen", "reopen", "poll", "wait", "undone"),
            ]
        ),
        st.integers(0, 11),
    ),
    min_size=15,
    max_size=60,
)


@settings(
    max_examples=int(os.environ.get("WEBHOOKD_EXAMPLES", "60")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_lines_counters_and_feeds_hold_whatever_happens(
    steps: list[tuple[str, int]], template_with_three: Path
) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.closing(on_a_copy(template_with_three, Path(directory))) as box,
    ):
        model = Model(box)
        for aggregate in (1, 1, 1, 0):
            model.insert(aggregate)
            model.given_out = box.one("SELECT sequence FROM webhookd_file")
        for what, amount in steps:
            before, floor = model.snapshot(), model.given_out
            if what == "insert":
                model.insert(amount % 4)
            elif what == "poll":
                model.poll()
            elif what == "wait":
                box.now += amount * 1_000
            elif what == "undone" and model.known:
                number = sorted(model.known)[amount % len(model.known)]
                box.store.begin()
                box.store.record([box.outcome(number, Happening.SUCCEEDED)], box.now)
                box.store.rollback()
            elif model.known:
                number = sorted(model.known)[amount % len(model.known)]
                model.do(what, number, amount * 500)
            model.check(before, floor)
        model.poll()
        assert list(model.polled.values()) == sorted(
            box.results(), key=lambda row: list(model.polled).index(row["delivery_id"])
        )
        now = {
            tuple(identity): (sequence, kind, event)
            for sequence, *identity, kind, event, _ in box.rows("SELECT * FROM webhook_changes")
        }
        assert model.changes == now
        assert box.one("PRAGMA integrity_check") == "ok"


@pytest.fixture(scope="module")
def template_with_three(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("three") / "erp.db"
    shutil.copyfile(template, path)
    move_home(path)
    box = Box(path)
    for name, policy in SUBSCRIPTIONS:
        box.subscribe(name, policy=policy)
    box.close()
    return path


def on_a_copy(template: Path, directory: Path) -> Box:
    path = directory / "erp.db"
    shutil.copyfile(template, path)
    move_home(path)
    box = Box(path)
    for connection in (box.store._writer, box.host):
        connection.execute("PRAGMA synchronous = OFF")  # what is tried here is not the disk
    return box


def line(box: Box) -> list[tuple[Any, ...]]:
    return box.rows("SELECT id, state, due_at IS NOT NULL FROM webhookd_deliveries ORDER BY id")


def three_in_line(box: Box) -> None:
    """Deliveries 2, 4 and 6 of one aggregate."""
    box.subscribe()
    for _ in range(3):
        box.put(aggregate_id="S-1")
    box.ingest()


def test_only_the_head_of_a_line_is_due(box: Box) -> None:
    three_in_line(box)
    assert line(box) == [(2, "pending", 1), (4, "pending", 0), (6, "pending", 0)]
    assert box.due(1) == [2]
    assert box.succeed(2).ready == {1}
    assert box.due(1) == [4]
    box.cancel(6)
    assert box.fail(4).ready == frozenset()
    assert box.due(1) == []
    assert box.store.next_due(1) is None


def test_one_aggregate_never_holds_up_another(box: Box) -> None:
    box.subscribe()
    for name in ("S-1", "S-2", "S-1", None, None):
        box.put(aggregate_id=name)
    box.put(aggregate_id="S-1", tenant="acme")
    box.put("order.created", aggregate_id="S-1")
    box.ingest()
    assert box.due(1) == [2, 4, 8, 10, 12, 14], "all but the second of S-1"


def test_a_reopened_delivery_goes_before_those_that_wait(box: Box) -> None:
    three_in_line(box)
    box.fail(2)
    assert box.due(1) == [4]
    standing = box.reopen_delivery(2)
    assert standing.due_at == box.now
    assert box.due(1) == [2]
    box.succeed(2)
    assert box.due(1) == [4]


def test_a_reopened_delivery_waits_for_an_older_one(box: Box) -> None:
    three_in_line(box)
    box.cancel(4)
    assert box.reopen_delivery(4).due_at is None
    assert box.due(1) == [2]
    assert box.results()[1]["next_attempt_at"] is None
    box.succeed(2)
    assert box.due(1) == [4]


def test_a_displaced_head_keeps_its_delay(box: Box) -> None:
    three_in_line(box)
    box.fail(2)
    box.retry(4, after=60_000)
    box.reopen_delivery(2)
    box.now += 1_000
    box.succeed(2)
    assert box.due(1) == []
    assert box.store.next_due(1) == NOW + 60_000
    assert box.due(1, NOW + 60_000) == [4]


def test_a_delay_that_has_passed_while_it_waited_is_over(box: Box) -> None:
    three_in_line(box)
    box.fail(2)
    box.retry(4, after=60_000)
    box.reopen_delivery(2)
    box.now += 90_000
    box.succeed(2)
    assert box.store.next_due(1) == box.now


def test_an_outcome_that_meets_a_displaced_row(box: Box) -> None:
    """Its request was in flight when an older one was put before it."""
    three_in_line(box)
    box.fail(2)
    box.reopen_delivery(2)
    done = box.retry(4, after=60_000)
    assert done.standings[4].due_at is None
    assert box.results()[1]["next_attempt_at"] is None
    assert box.due(1, NOW + 3_600_000) == [2]
    box.succeed(4)
    assert line(box) == [(2, "pending", 1), (4, "delivered", 0), (6, "pending", 0)]
    box.succeed(2)
    assert box.due(1) == [6]


def test_the_whole_subscription_in_one_line(box: Box) -> None:
    box.subscribe(policy={"ordering": "subscription"})
    for name in ("S-1", "S-2", None):
        box.put(aggregate_id=name)
    box.ingest()
    seen = []
    for _ in range(3):
        (head,) = box.due(1)
        seen.append(head)
        box.succeed(head)
    assert seen == [2, 4, 6]


def test_no_order_at_all(box: Box) -> None:
    box.subscribe(policy={"ordering": "none"})
    for _ in range(3):
        box.put(aggregate_id="S-1")
    box.ingest()
    assert box.due(1) == [2, 4, 6]
    box.fail(4)
    box.reopen_delivery(4)
    assert box.due(1) == [2, 4, 6]


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        ("aggregate", "none", False),
        ("none", "aggregate", True),
        ("aggregate", "subscription", True),
        ("subscription", "aggregate", True),
    ],
)
def test_a_reopened_one_stands_in_line_by_the_ordering_of_now(
    box: Box, before: str, after: str, waits: bool
) -> None:
    key = box.subscribe(policy={"ordering": before}).key
    for _ in range(2):
        box.put(aggregate_id="S-1")
    box.ingest()
    box.cancel(2)
    box.cancel(4)
    box.command(lambda t: subscriptions.update(t, key, {"policy": {"ordering": after}}))
    box.reopen_delivery(4)
    box.reopen_delivery(2)
    assert line(box) == [(2, "pending", 1), (4, "pending", not waits)]
    line_of = {"aggregate": 1, "subscription": -1, "none": 0}[after]
    assert box.rows("SELECT DISTINCT order_key FROM webhookd_deliveries") == [(line_of,)]
    box.succeed(2)
    assert box.due(1) == [4]


def test_the_older_event_goes_first_though_its_id_is_higher(box: Box) -> None:
    """A replay makes the missing row of an old event: its number is the newest of all."""
    three_in_line(box)
    box.host.execute("DELETE FROM webhookd_deliveries WHERE id = 2")
    box.host.execute(
        "INSERT INTO webhookd_deliveries (id, sequence, event, subscription, subscription_name,"
        " number, order_key, state, reason, attempts, tries, last_error, created_at)"
        " SELECT 99, 99, 1, subscription, subscription_name, 9, order_key, state, '', 0, 0, '',"
        " created_at FROM webhookd_deliveries WHERE id = 6"
    )
    box.host.execute("UPDATE webhookd_file SET sequence = 99")
    box.cancel(4)
    assert box.due(1) == [99], "the next of the line by its events, not by its numbers"
    box.fail(99)
    assert box.due(1) == [6]
    box.reopen_delivery(99)
    assert line(box) == [(4, "cancelled", 0), (6, "pending", 0), (99, "pending", 1)]
    box.reopen_delivery(4)
    assert box.due(1) == [99], "4 has the lower number and the later event"
    seen = []
    while due := box.due(1):
        seen.append(due[0])
        box.succeed(due[0])
    assert seen == [99, 4, 6]
