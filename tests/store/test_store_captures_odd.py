"""Captures of wide tables, and beside an outbox that the host has given another name."""

import pytest

from tests.store.conftest import Box
from webhookd.core.capture import Capture
from webhookd.store import captures
from webhookd.store.capture_triggers import A_GROUP


def add(box: Box, wanted: Capture) -> None:
    box.command(lambda t: captures.add(t, wanted, box.now))


def findings(box: Box) -> list[str]:
    return [one.text for one in captures.findings(box.host, box.store._known)]


@pytest.mark.parametrize("columns", [A_GROUP, A_GROUP + 1, 1_900])
def test_a_wide_table_is_captured_whole(box: Box, columns: int) -> None:
    names = [f"c{n}" for n in range(columns)]
    box.host.execute(f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {', '.join(names)})")
    add(box, Capture("wide", "w", "id"))
    box.host.execute("INSERT INTO wide (id) VALUES (7)")
    for name in (names[0], names[-1]):
        box.host.execute(f"UPDATE wide SET {name} = 1")
    box.host.execute("UPDATE wide SET c1 = c1")
    told = box.rows("SELECT event_type, aggregate_id FROM outbox ORDER BY id")
    assert told == [("w.created", "7"), ("w.updated", "7"), ("w.updated", "7")]


def test_an_outbox_that_the_host_renamed_is_named_with_its_way_back(box: Box) -> None:
    box.host.execute("CREATE TABLE supplier (code TEXT PRIMARY KEY)")
    add(box, Capture("supplier", "s", "code"))
    box.host.execute("ALTER TABLE outbox RENAME TO ob2")
    box.host.execute("INSERT INTO supplier VALUES ('S1')")
    assert box.rows("SELECT count(*) FROM ob2") == [(1,)], "the change does not fail"
    (text,) = [one for one in findings(box) if "ob2" in one]
    assert "has renamed the outbox table 'outbox' to ob2" in text
    remedy = 'ALTER TABLE "ob2" RENAME TO "outbox"'
    assert remedy in text
    box.host.execute(remedy)
    assert not any("ob2" in one for one in findings(box))
    box.ingest_all()
    assert box.rows("SELECT aggregate_id FROM webhook_events") == [("S1",)]
