"""What the host may do to the outbox table itself, and what must happen then."""

import re
from pathlib import Path

import pytest

from tests.store.conftest import Box
from webhookd.errors import DatabaseError, OutboxUnreadable
from webhookd.store import acceptance, driver, lockfile, preflight, ranges, schema
from webhookd.store.create import prepare
from webhookd.store.outbox import Outbox


def test_an_outbox_made_anew_stops_ingest_and_says_how_to_go_on(box: Box) -> None:
    for _ in range(3):
        box.put()
    box.ingest_all()
    box.host.execute("DROP TABLE outbox")
    box.host.execute(schema.OUTBOX.format(table="outbox"))
    box.put("supplier.lost")
    seen = box.store.outlook()
    assert "made anew, its ids begin again at 1 and 3 are" in seen.unreadable
    assert (seen.outbox_end, seen.cursor) == (None, 3)
    (sql,) = re.findall("UPDATE .*'outbox'", seen.unreadable)
    box.host.execute(sql)
    assert box.one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'") == 3
    box.host.execute("UPDATE sqlite_sequence SET seq = 4 WHERE name = 'outbox'")
    box.host.execute(sql)
    assert box.one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'") == 4, "never down"
    box.host.execute("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'outbox'")
    box.put("supplier.found")
    assert (box.store.outlook().outbox_end, box.store.outlook().unreadable) == (4, "")
    box.ingest_all()
    assert box.one("SELECT event_type FROM webhook_events WHERE outbox_id = 4") == "supplier.found"


def test_A22_a_missing_column_does_not_keep_the_file_from_being_opened(box: Box) -> None:
    box.subscribe()
    box.put()
    box.ingest_all()
    box.host.execute("ALTER TABLE outbox RENAME COLUMN payload TO body")
    box.reopen()
    assert len(box.due(1)) == 1
    box.store.begin()
    with pytest.raises(OutboxUnreadable, match=r"schema: column outbox\.payload missing"):
        box.store.ingest(0)
    box.store.rollback()


def test_A13_keys_that_can_come_back_do_keep_it_from_being_opened(box: Box) -> None:
    box.host.execute("DROP TABLE outbox")
    box.host.execute(schema.OUTBOX.format(table="outbox").replace("AUTOINCREMENT", ""))
    with pytest.raises(DatabaseError, match="never-reused"):
        box.reopen()


def test_B21_no_file_is_created_on_a_network_file_system(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "file_system", lambda *_: "nfs4")
    new = box.path.with_name("new.db")
    with pytest.raises(DatabaseError, match="network file system"):
        prepare(new, table="outbox", start=None, ids_never_reused=False, may_create=True, now=0)
    assert not new.exists()


def test_A23_a_table_made_anew_is_noticed_however_its_name_is_written(tmp_path: Path) -> None:
    """SQLite keeps the last id by the name that the host wrote, and compares that one exactly."""
    path, sql = tmp_path / "erp.db", schema.OUTBOX.format(table="ERP_Outbox")
    host = driver.connect(path, mode="rwc")
    host.execute(sql)
    prepare(
        path, table="erp_outbox", start="beginning", ids_never_reused=False, may_create=False, now=0
    )
    outbox = Outbox(path, "erp_outbox", 100)
    for _ in range(3):
        host.execute("INSERT INTO ERP_Outbox (event_type) VALUES ('a.b')")
    assert outbox.end(host, 3) == 3
    host.execute("DROP TABLE ERP_Outbox")
    host.execute(sql)
    host.execute("INSERT INTO ERP_Outbox (event_type) VALUES ('a.b')")
    with pytest.raises(OutboxUnreadable, match=r"max\(seq, 3\) WHERE name = 'ERP_Outbox'"):
        outbox.end(host, 3)
    host.close()


def test_A23_an_outbox_that_is_dropped_while_its_lag_is_counted(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put()
    end = Outbox.end

    def then_drops(outbox: Outbox, connection: driver.Connection, cursor: int) -> int | None:
        found = end(outbox, connection, cursor)
        box.host.execute("DROP TABLE outbox")
        return found

    monkeypatch.setattr(Outbox, "end", then_drops)
    with pytest.raises(OutboxUnreadable, match="schema: table outbox missing"):
        box.store._outbox.lag(box.store._reader, 0, 10)


def made_again(box: Box) -> None:
    box.host.execute("DROP TABLE outbox")
    done = prepare(
        box.path, table="outbox", start=None, ids_never_reused=False, may_create=False, now=0
    )
    assert done.outbox_made


def last_id(box: Box) -> int:
    found: int = box.one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
    return found


def mark(box: Box, **changes: object) -> None:
    lock = lockfile.LockFile.acquire(box.path)
    lock.write(**{**box.store.mark(), **changes})
    lock.release()


def test_B9_A23_an_outbox_made_again_after_a_restore_gives_no_id_out_again(
    box: Box, tmp_path: Path
) -> None:
    """SQLite forgets with the table what the acceptance raised its ids to."""
    box.put(aggregate_id="S-1")
    box.ingest()
    copy = tmp_path / "backup.db"
    box.host.execute("VACUUM INTO ?", (str(copy),))
    for _ in range(2):
        box.put(aggregate_id="S-2")
        box.ingest()
    lost = box.rows("SELECT event_id FROM webhookd_events WHERE outbox_id > 1")
    mark(box)
    box.close()
    for suffix in ("-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    copy.replace(box.path)
    done = acceptance.accept_restore(box.path)
    assert done is not None
    again = Box(box.path, known_mark=lockfile.read(box.path))
    made_again(again)
    assert again.put(aggregate_id="S-2") > done.above
    again.ingest()
    (made,) = again.rows("SELECT event_id FROM webhookd_events WHERE outbox_id > 1")
    assert made not in lost
    before = last_id(again)
    made_again(again)
    assert last_id(again) > before, "again and again"
    again.close()


def test_B9_A23_a_restore_that_was_accepted_without_its_outbox(box: Box) -> None:
    box.host.execute("DROP TABLE outbox")
    mark(box, outbox_id=9)
    assert acceptance.accept_restore(box.path) is not None
    prepare(box.path, table="outbox", start=None, ids_never_reused=False, may_create=False, now=0)
    assert last_id(box) == 9 + lockfile.UNSURE


def test_A23_an_outbox_made_again_goes_on_where_it_was(box: Box) -> None:
    box.put()
    box.ingest()
    made_again(box)
    assert last_id(box) == 1, "there was no restore"
    mark(box, uuid="another", outbox_id=9)
    made_again(box)
    assert last_id(box) == 1, "of another file the mark says nothing"
    mark(box, outbox_id=9)
    made_again(box)
    assert last_id(box) == 9, "a restore that is not accepted yet"


def test_A11_A23_an_outbox_made_again_is_raised_to_no_end(box: Box) -> None:
    box.host.execute("INSERT INTO outbox (id, event_type) VALUES (?, 'a.b')", (ranges.HIGHEST,))
    box.ingest()
    mark(box)
    assert acceptance.accept_restore(box.path, sure=True) is not None
    made_again(box)
    assert last_id(box) == ranges.HIGHEST
