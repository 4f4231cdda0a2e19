"""Whatever a host does to its own outbox, each row that stays is one event, and never two."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.mapped import KINDS, Mapped

KEYS = st.integers(0, 12)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "put", "low", "delete", "rolled back", "vacuum", "ingest", "killed", "restart"]
        ),
        KEYS,
    ),
    max_size=30,
)


def play(box: Mapped, steps: list[Any]) -> None:
    used: set[str] = set()
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
        else:
            box.reopen()
    stay = {key for (key,) in box.rows("SELECT id FROM outboxevent")}
    taken = box.look()
    assert len(taken) == len(set(taken))
    assert stay <= set(taken) <= used


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_G1_nothing_is_skipped_and_nothing_doubled(kind: str, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as home:
        box = Mapped(Path(home) / "erp.db", kind)
        try:
            play(box, steps)
        finally:
            box.close()
