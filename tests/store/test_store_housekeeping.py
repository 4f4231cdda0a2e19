"""Room: two janitors at once, pages that are given back, and the write-ahead log."""

import threading
from pathlib import Path

import pytest

from tests.store.conftest import Box
from webhookd.core.retention import DAY, Retention, Work
from webhookd.errors import StoreBusy
from webhookd.store import housekeeping, retention, sizes
from webhookd.store.driver import connect, tells_of_wal
from webhookd.store.foresight import foresee
from webhookd.store.transaction import Session

tells = pytest.mark.skipif(
    not tells_of_wal(), reason="this SQLite does not tell how long its write-ahead log is"
)


@pytest.fixture
def full(box: Box) -> Box:
    """Thirty delivered events of long ago, one that is owed, and a rejected row."""
    box.subscribe()
    for _ in range(30):
        box.put(aggregate_id="S-1", payload='"' + "x" * 20_000 + '"')
    box.put("not good")
    box.put(aggregate_id="S-2")
    box.ingest_all()
    for (number,) in box.rows("SELECT id FROM webhookd_deliveries ORDER BY id LIMIT 30"):
        box.succeed(number)
    box.now += 100 * DAY
    return box


def step(box: Box, work: Work) -> bool:
    box.store.begin()
    done = box.store.prune(work, Retention(), box.now)
    box.store.commit()
    return done.more


def left(box: Box) -> list[int]:
    return [
        box.one(f"SELECT count(*) FROM {table}")
        for table in (
            "webhookd_deliveries", "webhookd_attempts", "webhookd_events", "webhookd_rejected",
            "outbox",
        )
    ]  # fmt: skip


def test_two_janitors_at_once_do_no_harm(full: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon and `prune` side by side, batch by batch."""
    monkeypatch.setattr(retention, "ROWS", 3)
    with Session(full.path, write=True) as session:
        for work in Work:
            more = [True, True]
            while any(more):
                more[0] = step(full, work)
                with session.write() as transaction:
                    more[1] = retention.prune(transaction, work, Retention(), full.now).more
    assert left(full) == [1, 0, 1, 0, 0]
    assert full.rows("SELECT pending, delivered FROM webhookd_counters") == [(1, 0)]
    assert full.one("SELECT rejected FROM webhookd_file") == 0
    assert full.one("SELECT minimum_cursor FROM webhook_feeds WHERE feed = 'events'") < (
        full.one("SELECT sequence FROM webhook_events")
    )
    assert full.one("PRAGMA integrity_check") == "ok"


def test_what_is_foreseen_is_what_goes(full: Box) -> None:
    with Session(full.path, write=False) as session:
        pages = list(foresee(session.connection, session.file, Retention(), full.now))
    foreseen = {name: sum(page[name] for page in pages) for page in pages for name in page}
    before = left(full)
    for work in Work:
        while step(full, work):
            pass
    names = ("delivered", "attempts", "events", "rejected", "outbox")
    gone = [was - now for was, now in zip(before, left(full), strict=True)]
    assert [foreseen[name] for name in names] == gone == [30, 30, 30, 1, 32]


def test_an_empty_outbox_gives_no_id_twice(full: Box) -> None:
    for work in Work:
        while step(full, work):
            pass
    assert full.one("SELECT count(*) FROM outbox") == 0
    assert full.put(aggregate_id="S-9") == 33
    assert full.ingest().events == 1


def test_a_hosts_own_table_is_left_alone(full: Box) -> None:
    full.host.execute("UPDATE webhookd_file SET outbox_ours = 0")
    full.reopen()
    assert not full.store.may_prune(Work.OUTBOX, Retention(), full.now)
    for work in Work:
        while step(full, work):
            pass
    assert left(full) == [1, 0, 1, 0, 32]


def test_a_new_file_gives_its_free_pages_back(full: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "KEPT_FREE", 10)
    monkeypatch.setattr(housekeeping, "PAGES", 7)
    assert full.one("PRAGMA auto_vacuum") == housekeeping.INCREMENTAL
    assert not full.store.can_give_back()
    for work in Work:
        while step(full, work):
            pass
    before = full.one("PRAGMA page_count")
    given, more = 0, full.store.can_give_back()
    while more:
        full.store.begin()
        done = full.store.give_back()
        full.store.commit()
        assert 0 < done.rows <= 7
        given, more = given + done.rows, done.more
    assert given > 100
    assert full.one("PRAGMA page_count") == before - given
    assert full.one("PRAGMA freelist_count") == 10
    assert sizes.free_bytes(full.host) == 10 * full.one("PRAGMA page_size")
    assert full.one("PRAGMA integrity_check") == "ok"


def test_a_file_of_the_hosts_keeps_its_pages(tmp_path: Path) -> None:
    connection = connect(tmp_path / "hosts.db", mode="rwc")
    connection.execute("CREATE TABLE a (b)")
    connection.execute("INSERT INTO a VALUES (zeroblob(9000000))")
    connection.execute("DELETE FROM a")
    assert connection.execute("PRAGMA freelist_count").fetchone()[0] > housekeeping.KEPT_FREE
    assert housekeeping._spare(connection) == 0
    connection.close()


def test_a_checkpoint_waits_for_nobody(full: Box) -> None:
    full.host.execute("BEGIN")
    full.host.execute("SELECT count(*) FROM outbox").fetchone()
    step(full, Work.OUTBOX)
    done = full.store.checkpoint(truncate=False)
    assert done is not None
    assert not done.is_whole
    assert done.wal_bytes == full.store.wal_bytes() > 0
    busy = full.store.checkpoint(truncate=True)
    assert busy is None or not busy.is_whole
    full.host.execute("COMMIT")
    done = full.store.checkpoint(truncate=True)
    assert done is not None
    assert (done.is_whole, done.wal_bytes) == (True, 0)


@tells
def test_the_log_tells_how_much_of_it_waits(full: Box) -> None:
    full.host.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert full.store.wal_pages() == 0
    with full.host:
        full.host.execute("BEGIN")
        full.host.execute("INSERT INTO outbox (event_type) VALUES (hex(zeroblob(100000)))")
    before = full.store.wal_pages()
    assert 40 < before < 80
    full.store.checkpoint(truncate=False)
    assert full.store.wal_pages() == 0
    assert full.store.wal_bytes() > before * 4_000, "the file stays as long as it was"


@tells
def test_no_commit_checkpoints(full: Box) -> None:
    assert full.store._writer.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


class Busy:
    """A connection to which the log tells nothing, because another one is at it."""

    def execute(self, sql: str) -> "Busy":
        assert "checkpoint" in sql or "busy_timeout" in sql
        return self

    def fetchone(self) -> tuple[int, int, int]:
        return 1, -1, -1

    def close(self) -> None: ...


def test_where_another_one_checkpoints_it_is_busy_and_no_fault_of_the_library(full: Box) -> None:
    full.store._keeper = Busy()  # type: ignore[assignment]
    with pytest.raises(StoreBusy, match="another connection checkpoints"):
        full.store.checkpoint(truncate=False)


def test_who_cuts_the_log_off_waits_for_readers_that_end(
    full: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of readers that overlap without a pause one is always there, but never the same for long."""
    step(full, Work.OUTBOX)
    full.host.execute("BEGIN")
    full.host.execute("SELECT count(*) FROM outbox").fetchone()
    done = full.store.checkpoint(truncate=False)
    assert done is not None
    assert done.is_whole
    monkeypatch.setattr(housekeeping, "READERS_WAIT", 0)
    done = full.store.checkpoint(truncate=True)
    assert done is not None
    assert done.wal_bytes > 0
    monkeypatch.setattr(housekeeping, "READERS_WAIT", 10_000)
    ends = threading.Timer(0.01, lambda: full.host.execute("COMMIT"))
    ends.start()
    done = full.store.checkpoint(truncate=True)
    ends.join()
    assert done is not None
    assert done.wal_bytes == 0


def test_a_library_that_cannot_tell_keeps_its_habit(
    full: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "tells_of_wal", lambda: False)
    full.store.close()
    full.store = type(full.store)(full.path, **full.options)
    habit = full.host.execute("PRAGMA wal_autocheckpoint").fetchone()
    assert full.store._writer.execute("PRAGMA wal_autocheckpoint").fetchone() == habit
    assert full.store.wal_pages() == 0


def test_B20_an_affected_library_does_not_checkpoint(
    full: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "has_wal_reset_bug", lambda: True)
    assert full.store.checkpoint(truncate=False) is None


def test_B19_outside_wal_mode_there_is_nothing_to_checkpoint(full: Box) -> None:
    full.store.close()
    full.host.execute("PRAGMA journal_mode = DELETE")
    full.store = type(full.store)(full.path, **full.options)
    assert full.store.checkpoint(truncate=False) is None
    assert full.store.wal_pages() == 0


def test_events_wait_for_the_rows_that_are_found_by_them(full: Box) -> None:
    """Shorter spans may be put in force between the outbox's turn and the events'."""
    longer = Retention(outbox=200 * DAY, events=300 * DAY)
    for work, kept in ((Work.OUTBOX, longer), (Work.DELIVERIES, Retention())):
        full.store.begin()
        full.store.prune(work, kept, full.now)
        full.store.commit()
    assert not full.store.may_prune(Work.EVENTS, Retention(), full.now)
    step(full, Work.EVENTS)
    assert left(full)[2:] == [31, 1, 32]
    for work in Work:
        while step(full, work):
            pass
    assert left(full) == [1, 0, 1, 0, 0]
