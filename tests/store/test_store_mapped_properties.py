"""Whatever a host does to its own outbox, each row that stays is one event, and never two."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.store.mapped import KINDS, Mapped
from webhookd.core.retention import DAY, Retention, Work

KEYS = st.integers(0, 12)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "put",
                "put",
                "low",
                "delete",
                "delete",
                "rolled back",
                "vacuum",
                "ingest",
                "killed",
                "restart",
                "prune",
                "prune",
            ]
        ),
        KEYS,
    ),
    max_size=30,
)


def prune(box: Mapped) -> None:
    """What the janitor does, with nothing kept for long; and once round the ledger, if need be."""
    kept = Retention(events=DAY // 2, outbox=DAY // 2)
    for work in Work:
        more = True
        while more:
            box.store.begin()
            more = box.store.prune(work, kept, box.now).more
            box.store.commit()
    while box.store.may_forget_keys():
        box.store.begin()
        box.store.forget_keys()
        box.store.commit()


def play(box: Mapped, steps: list[Any]) -> None:
    used: set[str] = set()
    pruned: list[str] = []
    for n, (step, number) in enumerate(steps):
        key = f"k{number:02}-{n}"
        if step in ("put", "low"):
            low = "0" if box.kind == "text order" else -n
            box.row(key, **({"seq": low} if step == "low" else {}))
            used.add(key)
        elif step == "delete":
            box.host.execute("DELETE FROM outboxevent WHERE id LIKE ?", (f"k{number:02}-%",))
        elif step == "rolled back":
            box.host.execute("BEGIN")
            box.row(key)
            box.store.outlook()
            box.host.execute("ROLLBACK")
        elif step == "vacuum":
            box.host.execute("VACUUM")
        elif step == "ingest":
            box.look(1)
        elif step == "killed":
            box.store.outlook()
            box.store.begin()
            box.store.ingest(box.now)
            box.store.rollback()
        elif step == "prune":
            box.now += DAY
            events = "SELECT event_id FROM webhookd_events"
            before = {one for (one,) in box.rows(events)}
            prune(box)
            pruned += before - {one for (one,) in box.rows(events)}
        else:
            box.reopen()
    stay = {key for (key,) in box.rows("SELECT id FROM outboxevent")}
    taken = box.look() + pruned
    assert len(taken) == len(set(taken))
    assert stay <= set(taken) <= used


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(steps=[("put", 1), ("ingest", 0), ("delete", 1), ("prune", 0), ("put", 2)])
@given(steps=STEPS)
def test_G1_nothing_is_skipped_and_nothing_doubled(kind: str, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as home:
        box = Mapped(Path(home) / "erp.db", kind)
        try:
            play(box, steps)
        finally:
            box.close()
