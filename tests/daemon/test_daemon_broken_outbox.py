"""A22: an outbox that cannot be read stops ingest, and nothing but ingest."""

import pytest
import trio

from webhookd.core.capture import Capture
from webhookd.core.model import SubscriptionState
from webhookd.daemon import upkeep
from webhookd.daemon.tailer import LONGEST_REST, OUTBOX_RETRY, POLL
from webhookd.logs.actions import Action
from webhookd.store import captures, enabling
from webhookd.store.instructions import Kind
from webhookd.store.status import facts
from webhookd.store.transaction import open_session

BREAK = "ALTER TABLE outbox RENAME TO elsewhere"
MEND = "ALTER TABLE elsewhere RENAME TO outbox"
PAUSED, ENABLED = SubscriptionState.PAUSED, SubscriptionState.ENABLED


async def test_A22_operators_are_obeyed_at_once(world, autojump_clock, warnings):
    key = world.subscribe("a", concurrency=1)
    world.sender.script = lambda _: world.after(0.1, world.ok)
    for n in range(300):
        world.insert(f"x{n}")
    async with world.running() as daemon:
        await trio.sleep(1)
        world.host.execute(BREAK)
        await trio.sleep(7)
        world.state(key, PAUSED)
        before = len(world.sender.seen)
        await trio.sleep(20)
        assert len(world.sender.seen) <= before + 10 * POLL + 2
        world.state(key, ENABLED)
        await trio.sleep(0.5)
        assert len(world.sender.seen) >= before + 3
        assert daemon.tailer.problems
        await trio.sleep(60)
        world.host.execute(MEND)
        world.insert("y")
        await trio.sleep(OUTBOX_RETRY + 1)
        assert not daemon.tailer.problems
        assert world.sender.seen[-1].aggregate == "y"
    assert world.states() == ["delivered"] * 301
    assert warnings()


async def test_A22_instructions_are_carried_out(world, autojump_clock, warnings):
    """The command that gave it died: 500 of one aggregate, of which the newest is wanted."""
    key = world.subscribe("a", ordering="aggregate")
    world.state(key, PAUSED)
    for _ in range(500):
        world.insert("x")
    async with world.running():
        await trio.sleep(5)
        world.host.execute(BREAK)
        await trio.sleep(10)
        with world.command() as transaction:
            enabling.enable(
                transaction,
                key,
                backlog=Kind.NEWEST_ONLY,
                retry_failed=False,
                now=world.clock.now(),
            )
        await trio.sleep(3)
        assert [seen.n for seen in world.sender.seen] == [500]
        world.host.execute(MEND)
        await trio.sleep(OUTBOX_RETRY + 1)
    assert world.states().count("cancelled") == 499
    assert warnings()


async def test_A22_what_a_removed_one_was_owed_is_cancelled(world, autojump_clock, warnings):
    key = world.subscribe("a")
    world.state(key, PAUSED)
    for n in range(250):
        world.insert(f"x{n}")
    async with world.running():
        await trio.sleep(5)
        world.host.execute(BREAK)
        await trio.sleep(7)
        world.remove(key)
        await trio.sleep(3)
        assert world.states() == ["cancelled"] * 250
        world.host.execute(MEND)
        await trio.sleep(OUTBOX_RETRY + 1)
    assert warnings()


@pytest.mark.parametrize("seconds", [0.0, 0.3])
async def test_a_stream_of_changes_is_read_a_few_times_a_second_at_most(
    world, autojump_clock, seconds
):
    """Reading all subscriptions takes `seconds`: nobody else would get a turn."""
    key = world.subscribe("a")
    store = world.store()
    real, at = store.subscriptions, []

    def subscriptions():
        at.append(trio.current_time())
        autojump_clock.jump(seconds)
        return real()

    store.subscriptions = subscriptions
    async with world.running(store=store):
        await trio.sleep(10)
        for _ in range(20):
            world.state(key, PAUSED)
            world.state(key, ENABLED)
            await trio.sleep(0.3)
        many = len([one for one in at if one >= 10])
        await trio.sleep(10)
        world.state(key, PAUSED)
        alone = trio.current_time()
        await trio.sleep(5)
        assert at[-1] - alone <= POLL
        world.insert("x")
        await trio.sleep(5)
        assert world.states() == ["pending"]
        world.state(key, ENABLED)
        await trio.sleep(LONGEST_REST)
    assert world.states() == ["delivered"]
    assert many <= 8 if seconds else many >= 15


async def test_a_renamed_column_and_what_is_lost_later_are_told_apart(
    world, autojump_clock, warnings
):
    world.host.execute("CREATE TABLE orders (nr INTEGER PRIMARY KEY, total INTEGER)")
    with world.command() as transaction:
        wanted = Capture("orders", "order", "nr", columns=("total",))
        captures.add(transaction, wanted, world.clock.now())
    async with world.running() as daemon:
        world.host.execute("ALTER TABLE orders RENAME COLUMN total TO amount")
        await trio.sleep(3 * upkeep.EVERY)
        (said,) = daemon.problems
        assert "renamed its column total to amount, and events still come" in said
        assert warnings() == {Action.CAPTURE_BROKEN: 1}
        world.host.execute("DROP TABLE orders")
        world.host.execute("CREATE TABLE orders (nr INTEGER PRIMARY KEY, amount INTEGER)")
        await trio.sleep(3 * upkeep.EVERY)
        (said,) = daemon.problems
        assert "its column total is gone, its triggers too, and no event comes" in said
    assert warnings() == {Action.CAPTURE_BROKEN: 2}


async def test_a_capture_that_lost_its_triggers_is_told(world, autojump_clock, warnings):
    world.host.execute("CREATE TABLE supplier (code TEXT PRIMARY KEY, name TEXT)")
    with world.command() as transaction:
        captures.add(transaction, Capture("supplier", "supplier", "code"), world.clock.now())
    async with world.running() as daemon:
        await trio.sleep(upkeep.EVERY + 2)
        assert daemon.problems == []
        assert not warnings()
        for sql in (
            "CREATE TABLE anew (code TEXT PRIMARY KEY, name TEXT, city TEXT)",
            "DROP TABLE supplier",
            "ALTER TABLE anew RENAME TO supplier",
        ):
            world.host.execute(sql)
        await trio.sleep(3 * upkeep.EVERY)
        (said,) = daemon.problems
        assert said.startswith("capture supplier: lost 4 of its 4 triggers")
        assert said.endswith("`webhookd capture repair` mends it")
        assert warnings() == {Action.CAPTURE_BROKEN: 1}, "told once"
        with world.command() as transaction:
            captures.repair(transaction)
        await trio.sleep(upkeep.EVERY + 1)
        assert daemon.problems == []
    assert warnings() == {Action.CAPTURE_BROKEN: 1}


async def test_a_table_on_which_no_daemon_would_start_is_told(world, autojump_clock, warnings):
    """A migration made it anew without AUTOINCREMENT: rows are taken in, until a restart."""
    world.subscribe("a")
    made = world.host.execute("SELECT sql FROM sqlite_master WHERE name = 'outbox'").fetchone()[0]
    world.insert("x")
    async with world.running() as daemon:
        await trio.sleep(upkeep.EVERY + 2)
        assert daemon.problems == []
        world.host.execute("ALTER TABLE outbox RENAME TO old")
        world.host.execute(made.replace(" AUTOINCREMENT", ""))
        world.host.execute("INSERT INTO outbox SELECT * FROM old")
        await trio.sleep(3 * upkeep.EVERY)
        (said,) = daemon.problems
        assert said.startswith("the next start of `webhookd run` would be refused: ")
        assert said.endswith('say ids = "never-reused" in [outbox]')
        assert warnings() == {Action.OUTBOX_UNFIT: 1}, "told once"
        world.host.execute("DROP TABLE outbox")
        world.host.execute("ALTER TABLE old RENAME TO outbox")
        await trio.sleep(upkeep.EVERY + 1)
        assert daemon.problems == []
    assert warnings() == {Action.OUTBOX_UNFIT: 1}


async def test_A23_what_has_stopped_ingest_is_told_once(world, autojump_clock, warnings):
    """A view in the outbox's place keeps the next start from succeeding, too."""
    async with world.running() as daemon:
        await trio.sleep(upkeep.EVERY + 2)
        world.host.execute("ALTER TABLE outbox RENAME TO old")
        await trio.sleep(2 * upkeep.EVERY)
        world.host.execute("CREATE VIEW outbox AS SELECT id, event_type FROM old")
        await trio.sleep(3 * upkeep.EVERY)
        (said,) = daemon.problems
        assert said.startswith("ingest has stopped: schema: ")
        assert Action.OUTBOX_UNFIT not in warnings()
        with open_session(world.path, write=False) as command, command.read() as connection:
            seen = facts(
                connection,
                command.file,
                command.path,
                now=world.clock.now(),
                ids_never_reused=False,
            )
        assert "missing" in seen.outbox_fault
        assert seen.outbox_faults == ()
        world.host.execute("DROP VIEW outbox")
        world.host.execute("CREATE VIEW outbox AS SELECT * FROM old")
        await trio.sleep(OUTBOX_RETRY + upkeep.EVERY + 1)
        (said,) = daemon.problems
        assert "outbox is a view" in said, "rows are taken in, until a restart"
        world.host.execute("DROP VIEW outbox")
        world.host.execute("ALTER TABLE old RENAME TO outbox")
        await trio.sleep(OUTBOX_RETRY + upkeep.EVERY + 1)
        assert daemon.problems == []
    assert warnings()[Action.OUTBOX_UNFIT] == 1
