"""Bulk changes amid everything else that happens to deliveries: whatever the order of it all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.bulk_changes import (
    ORDERINGS,
    check,
    command_step,
    counts,
    daemon_step,
    enable,
    finish,
    held,
    order_replay,
    reorder,
    small_steps,
    states,
)
from tests.store.conftest import Box, move_home
from webhookd.core.model import SubscriptionKey
from webhookd.core.profiles import BUILT_IN
from webhookd.errors import Refused
from webhookd.store import instructions, replay
from webhookd.store.instructions import Kind

DELIVERIES = ("succeed", "fail", "retry", "cancel", "reopen")
GIVEN = ("skip", "newest", "retry failed", "replay", "reorder")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.sampled_from(DELIVERIES), st.integers(0, 40)),
        st.tuples(st.sampled_from(GIVEN), st.integers(0, 5)),
        st.tuples(st.sampled_from(("daemon", "command", "dies")), st.integers(0, 5)),
    ),
    min_size=8,
    max_size=45,
)

TRIED = settings(
    max_examples=int(os.environ.get("WEBHOOKD_EXAMPLES", "25")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class World:
    def __init__(self, box: Box) -> None:
        self.box = box
        self.one = box.subscribe(events=("supplier.*",))
        self.given: list[int] = []

    def do(self, what: str, amount: int) -> None:
        self.box.now += 1
        if what == "put":
            name = f"S-{amount}" if amount else None
            kind = "supplier.created" if amount < 3 else "order.created"
            self.box.put(kind, aggregate_id=name)
            self.box.ingest_all()
        elif what in DELIVERIES:
            self.to_a_delivery(what, amount)
        elif what in GIVEN:
            self.give(what, amount)
        elif what == "command" and self.given:
            command_step(self.box, self.given[amount % len(self.given)])
        elif what == "dies":
            self.box.store.begin()
            self.box.store.carry_out(self.box.now)
            self.box.store.rollback()
        else:
            daemon_step(self.box)

    def to_a_delivery(self, what: str, amount: int) -> None:
        """Some of these are outcomes of what was in flight when an instruction was given."""
        ids = [row[0] for row in self.box.rows("SELECT id FROM webhookd_deliveries ORDER BY id")]
        if not ids:
            return
        number = ids[amount % len(ids)]
        with contextlib.suppress(Refused):  # `cancel` takes pending ones alone
            {
                "succeed": self.box.succeed,
                "fail": self.box.fail,
                "retry": self.box.retry,
                "cancel": self.box.cancel,
                "reopen": self.box.reopen_delivery,
            }[what](number)

    def give(self, what: str, amount: int) -> None:
        box = self.box
        made: Any = []
        match what:
            case "skip":
                made = enable(box, backlog=Kind.SKIP_BACKLOG).given
            case "newest":
                made = enable(box, backlog=Kind.NEWEST_ONLY).given
            case "retry failed":
                made = enable(box, retry_failed=True).given
            case "replay":
                if box.one("SELECT count(*) FROM webhookd_events"):
                    made = [order_replay(box, include_stale=amount % 2 == 0)]
            case _:
                policy = {"ordering": ORDERINGS[amount % 3], "coalesce": amount > 2}
                key = reorder(box, self.one, **policy)
                made = [] if key is None else [key]
        self.given += made


def on_a_copy(template: Path, directory: str) -> Box:
    path = Path(directory) / "erp.db"
    shutil.copyfile(template, path)
    move_home(path)
    box = Box(path)
    for connection in (box.store._writer, box.host):
        connection.execute("PRAGMA synchronous = OFF")
    return box


@contextlib.contextmanager
def a_world(template: Path, looks: int) -> Iterator[World]:
    """One on a file of its own, whose transactions do so little."""
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.closing(on_a_copy(template, directory)) as box,
        small_steps(looks),
    ):
        yield World(box)


@TRIED
@given(steps=STEPS, looks=st.integers(1, 60))
def test_lines_and_figures_hold_amid_bulk_changes(
    steps: list[tuple[str, int]], looks: int, template: Path
) -> None:
    with a_world(template, looks) as world:
        box = world.box
        for what, amount in steps:
            world.do(what, amount)
            check(box)
            under_way = box.rows("SELECT 1 FROM webhookd_instructions WHERE done_at IS NULL")
            assert held(box) == bool(under_way)
        finish(box)
        assert not held(box)
        check(box)
        reaches_everyone(box)


def reaches_everyone(box: Box) -> None:
    """Nothing is stuck: sent one after the other, all that is owed comes to an end, in order."""
    delivered: dict[int, int] = {}
    later = box.now + 10_000_000
    while due := box.due(1, later):
        number = due[0]
        line, event = box.rows(
            "SELECT order_key, event FROM webhookd_deliveries WHERE id = ?", number
        )[0]
        assert line == 0 or event > delivered.get(line, 0)
        delivered[line] = event
        box.succeed(number)
    assert "pending" not in states(box)


@TRIED
@given(steps=STEPS, looks=st.integers(1, 60), include_stale=st.booleans())
def test_after_a_replay_every_matching_event_has_one_delivery(
    steps: list[tuple[str, int]], looks: int, include_stale: bool, template: Path
) -> None:
    with a_world(template, looks) as world:
        box = world.box
        world.do("put", 3)
        box.host.execute("UPDATE webhookd_subscriptions SET events = '[\"other\"]'")
        box.host.execute("UPDATE webhookd_file SET roll = roll + 1")
        for number in (1, 0, 2, 1):  # these it has not asked for, yet
            world.do("put", number)
        box.host.execute("UPDATE webhookd_subscriptions SET events = '[\"supplier.*\"]'")
        box.host.execute("UPDATE webhookd_file SET roll = roll + 1")
        for what, amount in steps:
            world.do(what, amount)
        finish(box)
        reorder(box, world.one)  # without coalescing, so that each is to be seen
        finish(box)
        expected = delivered_later(box) if not include_stale else set()
        before = dict(box.rows("SELECT event, state FROM webhookd_deliveries"))
        foreseen = foresee(box, include_stale=include_stale)
        key = order_replay(box, include_stale=include_stale)
        assert box.one("SELECT count(*) FROM webhookd_instructions WHERE key = ?", key) == 1
        finish(box)
        check(box)
        assert counts(box, key) == foreseen
        after = box.rows("SELECT event, state FROM webhookd_deliveries")
        assert len(after) == len(dict(after))
        for event, kind in box.rows("SELECT sequence, event_type FROM webhookd_events"):
            state = dict(after).get(event)
            if event in before:
                stale = event in expected and before[event] != "pending"
                assert state == (before[event] if stale else "pending")
            elif kind == "order.created" or event in expected:
                assert state is None
            else:
                assert state == "pending"
        reaches_everyone(box)


def delivered_later(box: Box) -> set[int]:
    """Events whose aggregate has a newer one that was delivered; by brute force."""
    return {
        row[0]
        for row in box.rows(
            "SELECT e.sequence FROM webhookd_events AS e WHERE e.aggregate <> 0 AND EXISTS"
            " (SELECT 1 FROM webhookd_events AS n JOIN webhookd_deliveries AS d"
            " ON d.event = n.sequence WHERE n.aggregate = e.aggregate"
            " AND n.sequence > e.sequence AND d.state = 'delivered')"
        )
    }


def foresee(box: Box, *, include_stale: bool) -> dict[str, int]:
    span = replay.span(box.host, 0, None, include_stale=include_stale)
    found: dict[str, int] = {}
    for _, some in replay.foresee(box.host, BUILT_IN, SubscriptionKey(1), span):
        for name, count in some.items():
            found[name] = found.get(name, 0) + count
    assert instructions.first(box.host) is None
    return {name: count for name, count in found.items() if count}


@TRIED
@given(steps=STEPS, looks=st.integers(1, 60))
def test_newest_only_keeps_one_of_each_aggregate(
    steps: list[tuple[str, int]], looks: int, template: Path
) -> None:
    with a_world(template, looks) as world:
        box = world.box
        for number in (1, 1, 0, 2):
            world.do("put", number)
        for what, amount in steps:
            world.do(what, amount)
        finish(box)
        owed = box.rows(
            "SELECT d.event, e.aggregate FROM webhookd_deliveries AS d JOIN webhookd_events AS e"
            " ON e.sequence = d.event WHERE d.state = 'pending' ORDER BY d.event"
        )
        newest = {aggregate: event for event, aggregate in owed}
        enable(box, backlog=Kind.NEWEST_ONLY)
        finish(box)
        check(box)
        left = [
            row[0]
            for row in box.rows(
                "SELECT event FROM webhookd_deliveries WHERE state = 'pending' ORDER BY event"
            )
        ]
        assert left == [
            event for event, aggregate in owed if not aggregate or newest[aggregate] == event
        ]
