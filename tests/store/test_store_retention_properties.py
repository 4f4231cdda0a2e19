"""Whatever happened and whatever is kept how long: exactly what may go goes, and pollers are told.

The model reads the rows of the tables before and judges them by the contract's words; it knows
nothing of positions or walks.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import NOW, Box, move_home
from webhookd.core.retention import DAY, Retention, Work
from webhookd.core.times import to_text
from webhookd.errors import FeedReset
from webhookd.store import ages, feeds, retention
from webhookd.store.transaction import Session

spans = st.sampled_from([None, DAY, 2 * DAY, 5 * DAY])


@st.composite
def kept(draw: st.DrawFn) -> Retention:
    events = draw(spans)
    outbox = draw(spans)
    if outbox is not None and events is not None:
        outbox = min(outbox, events)
    return Retention(
        delivered=draw(spans),
        cancelled=draw(spans),
        failed=draw(spans),
        attempts=draw(spans),
        events=events,
        rejected=draw(spans),
        outbox=outbox,
        changes=draw(spans),
    )


acts = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(["", "S-1", "S-2", "bad"])),
    st.tuples(st.just("put"), st.sampled_from(["S-1", "S-2"])),
    st.tuples(st.sampled_from(["succeed", "fail", "cancel", "retry", "reopen"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["succeed", "fail"]), st.integers(0, 9)),
    st.tuples(st.just("pass"), st.sampled_from([DAY // 2, DAY, 3 * DAY])),
    st.tuples(st.just("pass"), st.just(DAY)),
    st.tuples(st.just("poll"), st.sampled_from([(f, n) for f in feeds.VIEWS for n in (1, 2, 9)])),
    st.tuples(st.just("prune"), kept()),
)


KEYS = {"results": "delivery_id", "changes": "aggregate_id", "events": "sequence"}
"""What the rows of each feed are about."""


@dataclass
class Poller:
    feed: str
    cursor: int = 0
    floor: int = 0
    copy: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def poll(self, box: Box, limit: int) -> int:
        lowest = box.one("SELECT minimum_cursor FROM webhook_feeds WHERE feed = ?", self.feed)
        with Session(box.path, write=False) as session:
            try:
                page = feeds.page(
                    session.connection, self.feed, self.cursor, limit, floor=self.floor
                )
            except FeedReset:
                assert 0 < max(self.cursor, self.floor) < lowest
                assert self.cursor > 0
                self.cursor, self.floor, self.copy = 0, 0, {}
                return 1
        assert not 0 < max(self.cursor, self.floor) < lowest
        assert page.highest >= page.cursor
        self.cursor, self.floor = page.cursor, page.floor
        for row in page.rows:
            self.copy[row[KEYS[self.feed]]] = row
        return len(page.rows)

    def check(self, box: Box) -> None:
        """In the end it has every row that is there, as it is there; the others are pruned."""
        for _ in range(100):
            if not self.poll(box, 5):
                break
        else:
            raise AssertionError("it never comes to an end")
        with Session(box.path, write=False) as session:
            page = feeds.page(session.connection, self.feed, 0, 10_000)
        lowest = box.one("SELECT minimum_cursor FROM webhook_feeds WHERE feed = ?", self.feed)
        key = KEYS[self.feed]
        there = {row[key]: row for row in page.rows}
        assert {name: self.copy.get(name) for name in there} == there
        gone = [row for name, row in self.copy.items() if name not in there]
        assert all(row["sequence"] <= lowest for row in gone)
        assert "pending" not in {row.get("state") for row in gone}, "its end was not told"


def whole(box: Box, sql: str) -> set[tuple[Any, ...]]:
    return set(box.rows(sql))


def tables(box: Box) -> dict[str, set[tuple[Any, ...]]]:
    return {
        "deliveries": whole(
            box, "SELECT id, sequence, event, state, finished_at FROM webhookd_deliveries"
        ),
        "attempts": whole(box, "SELECT delivery, number, started_at FROM webhookd_attempts"),
        "events": whole(
            box, "SELECT sequence, ingested_at, aggregate, outbox_id FROM webhookd_events"
        ),
        "changes": whole(
            box,
            "SELECT a.sequence, a.key, a.changed_at FROM webhookd_aggregates AS a",
        ),
        "rejected": whole(box, "SELECT outbox_id, rejected_at FROM webhookd_rejected"),
        "outbox": whole(box, "SELECT id FROM outbox"),
    }


def wanted(
    before: dict[str, set[tuple[Any, ...]]], kept: Retention, now: int
) -> dict[str, set[tuple[Any, ...]]]:
    """What must be left."""

    def old(at: str | None, span: int | None) -> bool:
        return at is not None and span is not None and at <= to_text(now - span)

    span_of = {
        "delivered": kept.delivered,
        "failed": kept.failed,
        "cancelled": kept.cancelled,
        "superseded": kept.superseded,
        "pending": None,
    }
    deliveries = {d for d in before["deliveries"] if not old(d[4], span_of[d[3]])}
    ids, held = {d[0] for d in deliveries}, {d[2] for d in deliveries}
    events = {e for e in before["events"] if e[0] in held or not old(e[1], kept.events)}
    alive = {e[2] for e in events}
    rejected = {r for r in before["rejected"] if not old(r[1], kept.rejected)}
    rows_gone = {(e[3],) for e in before["events"] if old(e[1], kept.outbox)}
    if kept.outbox is not None:
        rows_gone |= {(r[0],) for r in before["rejected"] - rejected}
    return {
        "deliveries": deliveries,
        "attempts": {a for a in before["attempts"] if a[0] in ids and not old(a[2], kept.attempts)},
        "events": events,
        "changes": {c for c in before["changes"] if c[1] in alive or not old(c[2], kept.changes)},
        "rejected": rejected,
        "outbox": before["outbox"] - rows_gone,
    }


def prune(box: Box, kept: Retention) -> None:
    """As the daemon does it: look first, then batch by batch."""
    for work in Work:
        more = box.store.may_prune(work, kept, box.now)
        while more:
            box.store.begin()
            more = box.store.prune(work, kept, box.now).more
            box.store.commit()


def prune_and_check(box: Box, kept: Retention, lowest: dict[str, int]) -> None:
    before = tables(box)
    prune(box, kept)
    after = tables(box)
    want = wanted(before, kept, box.now)
    assert {name for name in want if want[name] != after[name]} == set()
    for feed, table, place in (
        ("results", "deliveries", 1),
        ("changes", "changes", 0),
        ("events", "events", 0),
    ):
        gone = [row[place] for row in before[table] - after[table]]
        lowest[feed] = max([lowest[feed], *gone])
        have = box.one("SELECT minimum_cursor FROM webhook_feeds WHERE feed = ?", feed)
        assert have == lowest[feed]
    counted = box.rows("SELECT pending, delivered, failed, cancelled FROM webhookd_counters")[0]
    states = [row[3] for row in after["deliveries"]]
    assert list(counted) == [
        states.count(state) for state in ("pending", "delivered", "failed", "cancelled")
    ]
    assert box.one("SELECT rejected FROM webhookd_file") == len(after["rejected"])


@contextmanager
def new_box(template: Path) -> Iterator[Box]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "erp.db"
        shutil.copyfile(template, path)
        move_home(path)
        box = Box(path)
        try:
            yield box
        finally:
            box.close()


def act(box: Box, what: str, which: int) -> None:
    state = {"succeed": "pending", "fail": "pending", "cancel": "pending", "retry": "pending"}
    if what == "reopen":
        found = box.rows("SELECT id FROM webhookd_deliveries WHERE state <> 'pending'")
    else:
        found = box.rows("SELECT id FROM webhookd_deliveries WHERE state = ?", state[what])
    if found:
        {
            "succeed": box.succeed,
            "fail": box.fail,
            "cancel": box.cancel,
            "retry": box.retry,
            "reopen": box.reopen_delivery,
        }[what](found[which % len(found)][0])


@pytest.mark.parametrize("rows", [1, 200])
@given(story=st.lists(acts, min_size=3, max_size=20), last=kept())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_exactly_what_may_go_goes_and_pollers_are_told(
    template: Path, rows: int, story: list[tuple[str, Any]], last: Retention
) -> None:
    with new_box(template) as box, pytest.MonkeyPatch.context() as patched:
        patched.setattr(retention, "ROWS", rows)
        box.subscribe()
        pollers = {feed: Poller(feed) for feed in feeds.VIEWS}
        lowest = dict.fromkeys(feeds.VIEWS, 0)
        for what, how in [*story, ("prune", last)]:
            if what == "put":
                box.put("not good" if how == "bad" else "a.b", aggregate_id=how)
                box.ingest()
            elif what == "pass":
                box.now += how
            elif what == "poll":
                pollers[how[0]].poll(box, how[1])
            elif what == "prune":
                prune_and_check(box, how, lowest)
            else:
                act(box, what, how)
        for poller in pollers.values():
            poller.check(box)
        assert box.one("PRAGMA integrity_check") == "ok"


def test_a_wrong_clocks_moment_holds_nothing_up(box: Box) -> None:
    """For an hour the clock was a year ahead: what came then is as old as what came after."""
    for number in range(9):
        box.now = NOW + number * 1_000 + (365 * DAY if number in (2, 3, 4) else 0)
        box.put(aggregate_id=f"S-{number}")
        box.ingest()
    kept = Retention(events=DAY, outbox=DAY, changes=DAY)
    box.now = NOW + 5_500 + DAY
    prune(box, kept)
    assert box.rows("SELECT outbox_id FROM webhookd_events") == [(7,), (8,), (9,)]
    assert box.rows("SELECT id FROM outbox") == [(7,), (8,), (9,)]
    left = box.rows("SELECT aggregate_id FROM webhook_changes")
    assert left == [("S-6",), ("S-7",), ("S-8",)]
    assert ages.LAST_EVENT in vars(ages).values()


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_transaction_takes_no_more_than_its_share(
    box: Box, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """In rows and in time; and at least one thing, however slow the disk."""
    monkeypatch.setattr(retention, "ROWS", 10)
    monkeypatch.setattr(retention, "A_MOMENT", seconds)
    box.subscribe()
    for _ in range(12):
        box.put(aggregate_id="S-1", payload="{}")
    box.ingest_all()
    for number in box.rows("SELECT id FROM webhookd_deliveries"):
        box.succeed(number[0])
    box.now += 60 * DAY
    for work in (Work.OUTBOX, Work.DELIVERIES, Work.EVENTS):
        more, batches = True, 0
        while more:
            before = tables(box)
            box.store.begin()
            done = box.store.prune(work, Retention(), box.now)
            box.store.commit()
            after = tables(box)
            gone = sum(len(before[name] - after[name]) for name in before)
            assert gone == sum(done.rows.values()) <= (11 if seconds else 2)
            more, batches = done.more, batches + 1
        assert batches >= (2 if seconds else 12)
    assert not any(tables(box)[name] for name in ("deliveries", "attempts", "events", "outbox"))


def test_a_delivery_with_more_attempts_than_a_transaction_may_take(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS", 4)
    box.subscribe()
    box.put()
    box.ingest()
    for _ in range(9):
        box.retry(2)
    box.succeed(2)
    box.now += 8 * DAY
    left = []
    more = True
    while more:
        box.store.begin()
        more = box.store.prune(Work.DELIVERIES, Retention(), box.now).more
        box.store.commit()
        left.append(box.one("SELECT count(*) FROM webhookd_attempts"))
    assert left[:3] == [6, 2, 0]
    assert tables(box)["deliveries"] == set()
