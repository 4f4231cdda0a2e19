"""What is kept no longer goes by itself, and nothing that is owed goes with it."""

from dataclasses import fields, replace

import pytest
import trio

from webhookd.core import wal
from webhookd.core.model import Answer
from webhookd.core.retention import DAY, Retention
from webhookd.core.storage import Checkpointed
from webhookd.daemon import janitor
from webhookd.daemon.tailer import OUTBOX_RETRY
from webhookd.logs.actions import Action
from webhookd.store import housekeeping, retention, schema
from webhookd.store.driver import connect

FOR_EVER = Retention(**dict.fromkeys(field.name for field in fields(Retention)))


def count(world, table: str) -> int:
    return int(world.host.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_what_is_delivered_goes_and_what_is_owed_stays(world, autojump_clock, warnings):
    world.subscribe("a")
    world.subscribe("b", retry_delays=[100_000] * 30, jitter=0.0, failing_after=50)
    world.settings = replace(
        world.settings,
        retention=Retention(delivered=60_000, attempts=150_000, events=60_000, outbox=60_000),
    )
    world.sender.script = lambda seen: Answer(400) if seen.who == "b" else world.ok
    world.insert("x")
    async with world.running():
        await trio.sleep(45)
        assert count(world, "webhookd_deliveries") == 2
        assert count(world, "outbox") == 1
        await trio.sleep(35)
        assert [row["state"] for row in world.deliveries()] == ["pending"]
        assert count(world, "outbox") == 0
        assert count(world, "webhookd_events") == 1, "something is owed of it"
        await trio.sleep(380)
    (row,) = world.deliveries()
    assert row["attempts"] == 5, "what the row says stays"
    assert count(world, "webhookd_attempts") < 4, "the attempts go by their own age"
    assert warnings() == {}


async def test_a_reload_puts_other_spans_in_force(world, autojump_clock):
    world.settings = replace(world.settings, retention=FOR_EVER)
    world.subscribe("a")
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(60)
        assert count(world, "webhookd_deliveries") == 1
        daemon.use(replace(world.settings, retention=Retention(delivered=30_000)))
        await trio.sleep(11)
        assert count(world, "webhookd_deliveries") == 0


async def test_E4_a_clock_in_doubt_takes_nothing_away(world, autojump_clock, warnings):
    world.subscribe("a")
    world.insert("x")
    async with world.running():
        await trio.sleep(15)
        world.clock.offset += 40 * DAY
        await trio.sleep(30)
        assert count(world, "webhookd_deliveries") == 1
        world.clock.offset -= 40 * DAY
        await trio.sleep(120)
    assert count(world, "webhookd_deliveries") == 1
    assert warnings() == {Action.CLOCK_JUMPED: 2}


async def test_a_host_that_keeps_its_rows_holds_up_nothing_else(world, autojump_clock, warnings):
    world.settings = replace(
        world.settings, retention=Retention(delivered=5_000, events=5_000, outbox=5_000)
    )
    world.host.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON outbox BEGIN SELECT raise(ABORT, 'ours'); END"
    )
    world.subscribe("a")
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(40)
        assert count(world, "webhookd_deliveries") == 0
        assert count(world, "webhookd_events") == count(world, "outbox") == 1
        (said,) = daemon.problems
        assert said.startswith("the rows of table outbox cannot be changed (ours)")
        world.host.execute("DROP TRIGGER keep")
        await trio.sleep(15)
        assert count(world, "webhookd_events") == count(world, "outbox") == 0
        assert daemon.problems == []
    assert warnings() == {Action.RETENTION_STOPPED: 1}


@pytest.mark.parametrize(
    ("breaking", "mending"),
    [
        ("DROP TABLE outbox", schema.OUTBOX.format(table="outbox")),
        ("ALTER TABLE outbox RENAME COLUMN id TO nr", "ALTER TABLE outbox RENAME COLUMN nr TO id"),
    ],
)
async def test_A23_an_outbox_that_is_gone_is_for_ingest_to_tell(
    world, autojump_clock, warnings, breaking, mending
):
    """Nothing of the host's keeps its rows: to switch retention off would be no remedy."""
    world.settings = replace(
        world.settings, retention=Retention(delivered=5_000, events=5_000, outbox=5_000, rejected=0)
    )
    world.subscribe("a")
    world.insert("x")
    world.host.execute("INSERT INTO outbox (event_type) VALUES ('not one word')")
    async with world.running() as daemon:
        await trio.sleep(2)
        world.host.execute(breaking)
        await trio.sleep(3 * janitor.EVERY)
        (said,) = daemon.problems
        assert said.startswith("ingest has stopped: schema: ")
        assert count(world, "webhookd_deliveries") == 0, "the rest goes on"
        hosts = "webhookd_events WHERE event_type = 'order.changed'"
        assert count(world, hosts) == 1, "by it its row would be found"
        world.host.execute(mending)
        world.host.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'outbox'")
        world.host.execute("INSERT INTO sqlite_sequence SELECT 'outbox', 2 WHERE changes() = 0")
        await trio.sleep(OUTBOX_RETRY + 1)
        assert daemon.problems == []
        await trio.sleep(2 * janitor.EVERY)
        assert count(world, "webhookd_events") == count(world, "outbox") == 0
    assert Action.RETENTION_STOPPED not in warnings()


async def test_what_kept_rows_is_over_with_the_first_that_goes(
    world, autojump_clock, warnings, monkeypatch
):
    world.settings = replace(world.settings, retention=replace(FOR_EVER, outbox=1_000))
    world.host.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON outbox BEGIN SELECT raise(ABORT, 'ours'); END"
    )
    for _ in range(3):
        world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(janitor.EVERY + 5)
        assert len(daemon.problems) == 1
        monkeypatch.setattr(janitor, "LEAST_PAUSE", 1_000.0)
        monkeypatch.setattr(retention, "ROWS", 1)
        world.host.execute("DROP TRIGGER keep")
        await trio.sleep(janitor.EVERY + 1)
        assert count(world, "outbox") == 2, "there is more to do"
        assert daemon.problems == []
    assert warnings() == {Action.RETENTION_STOPPED: 1}


async def test_B4_a_log_that_cannot_be_emptied_is_told_of(
    world, autojump_clock, warnings, monkeypatch
):
    monkeypatch.setattr(janitor, "CHECKPOINT_FROM", 1)
    monkeypatch.setattr(janitor.wal, "LARGE", 1)
    world.subscribe("a")
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(1)
        reader = connect(world.path, mode="ro")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM outbox").fetchone()
        world.insert("y")
        await trio.sleep(3 * janitor.WAL_EVERY)
        assert daemon.problems == [wal.Why.READ.value]
        assert len(world.sender.seen) == 2, "whoever reads holds up no delivery"
        reader.execute("COMMIT")
        reader.close()
        await trio.sleep(janitor.WAL_EVERY + 1)
        assert daemon.problems == []
    assert warnings() == {Action.STORE_WAL_LARGE: 1}


async def test_B4_readers_that_overlap_now_and_then_are_not_told_of(
    world, autojump_clock, warnings, monkeypatch
):
    """A look in between finds the log empty: nobody keeps a transaction open."""
    monkeypatch.setattr(janitor.wal, "LARGE", 1)
    monkeypatch.setattr(janitor, "CHECKPOINT_FROM", 1)
    looks = []

    async def checkpoint(*, truncate):
        looks.append(truncate)
        whole = len(looks) % janitor.READ_LOOKS == 0
        return Checkpointed(wal_bytes=2, left=0 if whole else 1, is_whole=whole)

    async with world.running() as daemon:
        world.insert("x")
        monkeypatch.setattr(daemon.store, "checkpoint", checkpoint)
        for _ in range(4 * janitor.READ_LOOKS):
            await trio.sleep(janitor.WAL_EVERY)
            assert daemon.problems == []
    assert len(looks) >= 4 * janitor.READ_LOOKS - 1
    assert warnings() == {}


async def test_B4_a_log_that_a_library_must_not_empty_is_told_of(
    world, autojump_clock, warnings, monkeypatch
):
    monkeypatch.setattr(janitor, "CHECKPOINT_FROM", 1)
    monkeypatch.setattr(janitor.wal, "LARGE", 1)
    monkeypatch.setattr(housekeeping, "has_wal_reset_bug", lambda: True)
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(3 * janitor.WAL_EVERY)
        assert daemon.problems == [wal.Why.LIBRARY.value]
    assert warnings() == {Action.STORE_WAL_LARGE: 1}


async def test_the_log_is_cut_off_once_it_is_large(world, autojump_clock, monkeypatch):
    monkeypatch.setattr(janitor, "CHECKPOINT_FROM", 1)
    monkeypatch.setattr(janitor, "TRUNCATE_FROM", 1)
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(1)
        assert daemon.store.store.wal_bytes() > 0
        await trio.sleep(janitor.WAL_EVERY)
        assert daemon.store.store.wal_bytes() == 0


async def test_a_rejected_row_that_the_host_keeps_holds_up_no_events(
    world, autojump_clock, warnings
):
    world.settings = replace(
        world.settings,
        retention=Retention(events=20_000, outbox=20_000, rejected=20_000, delivered=20_000),
    )
    world.insert("x", event_type="not good")
    world.host.execute(
        "CREATE TRIGGER keep BEFORE DELETE ON outbox WHEN old.event_type = 'not good'"
        " BEGIN SELECT raise(ABORT, 'mine'); END"
    )
    async with world.running():
        for _ in range(6):
            world.insert("x")
            await trio.sleep(20)
        await trio.sleep(2 * janitor.EVERY)
        assert count(world, "webhookd_events") <= 2
        assert count(world, "webhookd_rejected") == 1
    assert warnings()[Action.RETENTION_STOPPED] == 1
