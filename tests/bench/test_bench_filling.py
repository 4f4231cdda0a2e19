"""Files that are filled with SQL are as webhookd itself would have made them."""

from pathlib import Path

from bench import filling, fixture
from webhookd.store.driver import connect

TIMES = ("created_at", "since", "due_at", "next_attempt_at")
COLUMNS = (
    "SELECT d.*, e.outbox_id, e.event_type, e.tenant, e.payload, e.aggregate, a.aggregate_id"
    " FROM webhookd_deliveries d JOIN webhookd_events e ON e.sequence = d.event"
    " JOIN webhookd_aggregates a ON a.key = e.aggregate AND a.sequence = e.sequence ORDER BY d.id"
)
TABLES = {
    "counters": "SELECT subscription, numbers, pending FROM webhookd_counters ORDER BY 1",
    "ranges": "SELECT * FROM webhookd_ranges",
    "file": "SELECT sequence, cursor, rejected FROM webhookd_file",
    "outbox": "SELECT id, event_type, aggregate_id, tenant, payload FROM outbox ORDER BY id",
}


def contents(workload: fixture.Workload) -> dict[str, list[dict[str, object]]]:
    connection = connect(workload.database, mode="ro")
    try:
        found = {}
        for name, query in {**TABLES, "deliveries": COLUMNS}.items():
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description]
            found[name] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    finally:
        connection.close()
    for row in found["deliveries"]:
        for name in TIMES:
            assert row.pop(name)
    return found


def test_what_is_owed_is_as_ingest_makes_it(tmp_path: Path) -> None:
    for name in ("filled", "taken-in"):
        (tmp_path / name).mkdir()
    filled = filling.owed(tmp_path / "filled", 7, port=9, endpoints=3)
    taken_in = fixture.prepare(tmp_path / "taken-in", port=9, endpoints=3, events=7)
    store = fixture.open_store(taken_in)
    fixture.take_in(store)
    store.close()
    assert contents(filled) == contents(taken_in)
