"""Rows that are too large to be loaded: told by their lengths, and never read."""

import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.store.conftest import LIMIT, Box

GOOD = '{"price": 1.10}'


def test_A6_a_payload_of_50_mb_is_never_loaded(box: Box) -> None:
    box.put(payload=GOOD)
    box.host.execute(
        "INSERT INTO outbox (event_type, payload)"
        " VALUES ('a', '\"' || hex(zeroblob(25000000)) || '\"')"
    )
    box.put(payload=GOOD)
    box.ingest()
    box.put(payload=GOOD)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    box.host.execute("UPDATE outbox SET event_type = 'b' WHERE id = 1")
    second = box.host.execute(
        "INSERT INTO outbox (event_type, payload) SELECT 'c', payload FROM outbox WHERE id = 2"
    ).lastrowid
    tracemalloc.start()
    try:
        done = box.ingest()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done.events == 1
    assert [(row.outbox_id, row.reason, row.detail) for row in done.rejected] == [
        (second, "payload_too_large",
         f"payload is 50000002 bytes long; outbox.max_payload is {LIMIT}"),
    ]  # fmt: skip
    assert peak < 5_000_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000, "the host's own INSERT may hold one copy, we none"


FALLBACK = """
import sys
sys.modules["pysqlite3"] = None
from pathlib import Path
from webhookd.store import create, driver, outbox
from webhookd.store.sqlite import open_checked
assert driver.sqlite3.__name__ == "sqlite3"
path = Path(sys.argv[1])
create.prepare(path, table="outbox", start=None, ids_never_reused=False, may_create=True, now=1)
store = open_checked(path, default_tenant="", max_payload=1000, ids_never_reused=False,
                     known_mark=None)
host = driver.connect(path, mode="rw")
for column, value in (
    ("payload", "{}"), ("payload", '"' + "x" * 3_000_000 + '"'), ("aggregate_id", "y" * 3_000_000),
    ("payload", "5"), ("payload", '"' + "x" * 2000 + '"'),
):
    host.execute(f"INSERT INTO outbox (event_type, {column}) VALUES ('a', ?)", (value,))
for connection in (store._reader, store._writer):
    connection.setlimit(driver.sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
too_big = outbox.Outbox._too_big
def deleted_meanwhile(self, reading, first, last):
    if reading is store._reader:
        host.execute("DELETE FROM outbox WHERE id = 2")
    return too_big(self, reading, first, last)
outbox.Outbox._too_big = deleted_meanwhile
while True:
    ahead = store.fresh(1_700_000_000_000) if sys.argv[2] == "ahead" else None
    host.execute("INSERT OR IGNORE INTO outbox (id, event_type, payload) VALUES (2, 'a', ?)",
                 ('"' + "x" * 3_000_000 + '"',))
    store.begin()
    done = store.ingest(1_700_000_000_000, ahead)
    store.commit()
    if not done.more:
        break
for table in ("SELECT outbox_id FROM webhookd_events",
              "SELECT outbox_id, reason, detail FROM webhookd_rejected",
              "SELECT first, last FROM webhookd_ranges"):
    print(host.execute(table).fetchall())
store.close()
host.close()
"""


@pytest.mark.parametrize("read", ["ahead", "under the lock"])
def test_A7_a_value_that_sqlite_cannot_read_is_rejected_by_its_id(
    tmp_path: Path, read: str
) -> None:
    """On the standard library's SQLite, the one that can lower its limit; B20's fallback too.

    The host deletes it amid the look ahead, which sees one state of the file all the same, and puts
    it back as it was: what was looked at is so under the lock.
    """
    done = subprocess.run(
        [sys.executable, "-c", FALLBACK, tmp_path / "erp.db", read],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    too_long = "the row has a value that is longer than SQLite can read"
    assert done.stdout.splitlines() == [
        "[(1,), (4,)]",
        str([
            (2, "payload_too_large", too_long),
            (3, "payload_too_large", too_long),
            (5, "payload_too_large", "payload is 2002 bytes long; outbox.max_payload is 1000"),
        ]),
        "[(1, 5)]",
    ]  # fmt: skip
