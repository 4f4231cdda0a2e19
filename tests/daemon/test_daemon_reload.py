"""What the configuration declares at the start, and what changes when it is read again."""

import base64
import hmac

import pytest
import trio
import trio.testing

from tests.daemon.reloading import Config, at_work, of, stored
from webhookd.config.settings import Settings
from webhookd.core.model import SubscriptionState
from webhookd.daemon import reload
from webhookd.logs.actions import Action

OTHER = "whsec_" + "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItIQ=="


@pytest.fixture
def config(world, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", world.secret)
    return Config(world)


async def test_what_is_declared_is_there_at_the_start(world, config, autojump_clock, expected_logs):
    config.write("", "a", "b")
    async with world.running(config.daemon()):
        await trio.sleep(1)
        world.insert("x")
        await trio.sleep(1)
    assert sorted(one.who for one in world.sender.seen) == ["a", "b"]
    ((level, said),) = of(expected_logs, Action.CONFIG_APPLIED)
    assert (level, said["changed"], said["subscriptions_added"]) == ("INFO", [], ["a", "b"])


async def test_nothing_is_sent_by_a_definition_that_was_changed(world, config, autojump_clock):
    config.write("", "a")
    async with world.running(config.daemon()):
        await trio.sleep(1)
    world.insert("x")
    config.write("", "a", url='"https://new.example/"')
    async with world.running(config.daemon()):
        await trio.sleep(2)
    assert [one.url for one in world.sender.seen] == ["https://new.example/"]


async def test_nothing_is_sent_before_the_start_could_write(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a")
    async with world.running(config.daemon()):
        await trio.sleep(1)
    world.insert("x")
    world.host.execute("BEGIN IMMEDIATE")
    config.write("", "a", url='"https://new.example/"')
    daemon = config.daemon()
    async with world.running(daemon):
        await trio.sleep(20)
        assert world.sender.seen == []
        assert not daemon.begun.is_set()
        world.host.execute("ROLLBACK")
        await trio.sleep(2)
    assert [one.url for one in world.sender.seen] == ["https://new.example/"]


async def test_a_start_that_waits_for_the_file_can_be_stopped(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a")
    world.host.execute("BEGIN IMMEDIATE")
    async with world.running(config.daemon()):
        await trio.sleep(20)
    world.host.execute("ROLLBACK")
    assert world.table("SELECT * FROM webhookd_subscriptions") == []


async def test_without_a_difference_neither_start_nor_reload_writes(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a")
    async with world.running(config.daemon()):
        await trio.sleep(1)
    before = world.table("SELECT * FROM webhookd_file")
    daemon = config.daemon()
    written = []
    write = daemon.store.write

    async def counted(work):
        written.append(work)
        return await write(work)

    daemon.store.write = counted
    async with at_work(world, daemon, config.read) as reloader:
        await trio.sleep(1)
        at_start = len(written)
        await reloader.reload()
        assert len(written) == at_start
        await trio.sleep(1)
    assert world.table("SELECT * FROM webhookd_file") == before
    _, said = of(expected_logs, Action.CONFIG_APPLIED)[-1]
    assert (said["changed"], said["subscriptions_unchanged"]) == ([], 1)


async def test_without_a_file_what_was_declared_stays_as_it_is(world, config, autojump_clock):
    config.write("", "a")
    async with world.running(config.daemon()):
        await trio.sleep(1)
    world.settings = Settings(world.path)
    async with world.running():
        await trio.sleep(1)
    assert stored(world, "a").state is SubscriptionState.ENABLED


async def test_E3_a_valid_file_is_taken_whole(world, config, autojump_clock, expected_logs):
    config.write("", "a", "b")
    daemon = config.daemon()
    world.sender.script = lambda _: world.hang
    async with at_work(world, daemon, config.read) as reloader:
        for n in range(6):
            world.insert(f"x{n}")
        await trio.sleep(1)
        assert world.sender.under_way.total() == 12
        config.write(
            """
            [outbox]
            default_tenant = "north"
            max_payload = 40
            [delivery]
            shutdown_grace = "1s"
            max_in_flight = 3
            max_unrecorded = 2
            [egress]
            allow = ["10.1.0.0/16", "10.1.2.3", "gw.local", "*.corp.example"]
            [status]
            max_lag = "9m"
            """,
            *("b", "c"),
            events='["order.*"]',
        )
        await reloader.reload()
        assert world.sender.under_way.total() == 12, "none of them was disturbed"
        assert daemon.grace == 1.0
        assert world.sender.egress == [config.read().egress]
        await trio.sleep(20)  # they have timed out
        world.sender.script = lambda _: world.after(1, world.ok)
        world.sender.most.clear()
        most = 0
        world.insert("y", payload='"' + "x" * 60 + '"')
        for n in range(6):
            world.insert(f"z{n}")
        for _ in range(100):
            await trio.sleep(0.1)
            most = max(most, world.sender.under_way.total())
        assert most == 2, "what is not recorded counts, and attempts do"
    ((level, said),) = of(expected_logs, Action.CONFIG_APPLIED)[1:]
    assert level == "INFO"
    assert said["changed"] == [
        "outbox.max_payload: 1048576 -> 40",
        "outbox.default_tenant: unset -> north",
        "delivery.shutdown_grace: 20s -> 1s",
        "delivery.max_in_flight: 256 -> 3",
        "delivery.max_unrecorded: 1000 -> 2",
        "status.max_lag: 5m -> 9m",
        "egress.allow: [] -> [10.1.2.3, 10.1.0.0/16, gw.local, *.corp.example]",
    ]
    assert (said["subscriptions_added"], said["subscriptions_changed"]) == (["c"], ["b: events"])
    assert said["subscriptions_paused"] == ["a"]
    assert daemon.problems == []
    assert world.table("SELECT reason FROM webhookd_rejected") == [{"reason": "payload_too_large"}]
    tenants = {row["tenant"] for row in world.table("SELECT tenant FROM webhook_events")}
    assert tenants == {None, "north"}


async def test_E3_an_invalid_file_changes_nothing_and_says_so_until_a_good_one(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a")
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        in_force, control = daemon.settings, world.table("SELECT control FROM webhookd_file")
        config.write("[delivery]\nmax_in_flight = 1\n", "b", events='["a b"]')
        reloader.ask()
        await trio.sleep(1)
        assert daemon.settings is in_force
        assert world.table("SELECT control FROM webhookd_file") == control
        ((level, said),) = of(expected_logs, Action.CONFIG_REFUSED)
        assert level == "ERROR"
        assert ": subscriptions[1].events: no event can match" in said["detail"]
        (problem,) = daemon.problems
        assert problem == (
            f"the configuration was not reloaded, the old one counts: {said['detail']}"
        )
        world.insert("x")
        await trio.sleep(1)
        assert [one.who for one in world.sender.seen] == ["a"]
        config.write("", "a")
        reloader.ask()
        await trio.sleep(1)
        assert daemon.problems == []
    assert len(of(expected_logs, Action.CONFIG_REFUSED)) == 1


@pytest.mark.parametrize(
    ("outbox", "said"),
    [
        ('table = "events"', "outbox.table: cannot change from outbox to events while"),
        ('ids = "never-reused"', "outbox.ids: cannot change from unset to never-reused"),
        ("start = 7", "outbox.start: cannot change from unset to 7"),
    ],
)
async def test_E3_what_needs_a_restart_refuses_the_whole(
    world, config, autojump_clock, expected_logs, outbox, said
):
    config.write("")
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        config.write(f"[outbox]\n{outbox}\n[delivery]\nmax_in_flight = 1\n", "a")
        await reloader.reload()
    assert daemon.refused.startswith(f"{config.path}: {said}")
    assert daemon.refused.endswith("webhookd runs; restart it, or set the key back")
    assert daemon.settings.delivery.max_in_flight == 256
    assert world.table("SELECT * FROM webhookd_subscriptions") == []


async def test_E3_another_database_refuses_the_whole(world, config, autojump_clock, expected_logs):
    config.write("")
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        text = config.path.read_text()
        config.path.write_text(
            text.replace('"erp.db"', '"./../' + world.path.parent.name + '/erp.db"')
        )
        await reloader.reload()
        assert daemon.refused == "", "it is the same file under another name"
        config.path.write_text('database = "other.db"\n')
        await reloader.reload()
    assert f"database: cannot change from {world.path} to " in daemon.refused


async def test_E15_a_name_that_was_added_by_hand_refuses_the_whole(
    world, config, autojump_clock, expected_logs
):
    config.write("")
    daemon = config.daemon()
    world.subscribe("a")
    async with at_work(world, daemon, config.read) as reloader:
        config.write("[delivery]\nmax_in_flight = 1\n", "b", "a")
        await reloader.reload()
    assert ": subscriptions[2].name: a (wh_" in daemon.refused
    assert daemon.settings.delivery.max_in_flight == 256
    assert [row["name"] for row in world.table("SELECT name FROM webhookd_subscriptions")] == ["a"]


async def test_E14_a_new_secret_that_is_unfit_refuses_the_whole(
    world, config, autojump_clock, expected_logs, monkeypatch
):
    config.write("", "a")
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        monkeypatch.setenv("TEST_SECRET", "whsec_HUSH")
        config.write("", "a", "b")
        await reloader.reload()
        assert ": subscriptions[2].secret: env:TEST_SECRET: the secret must" in daemon.refused
        assert "HUSH" not in daemon.refused
        monkeypatch.delenv("TEST_SECRET")
        await reloader.reload()
        assert daemon.refused == "", "one that is missing may come"
        await trio.sleep(1)
        assert [one.partition(":")[0] for one in daemon.problems] == [
            "subscription a is held back",
            "subscription b is held back",
        ]


def signed_with(secret, seen):
    """Whether a request carries the signature of this secret."""
    text = b".".join([seen.id.encode(), seen.headers["webhook-timestamp"].encode(), seen.body])
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = base64.b64encode(hmac.digest(key, text, "sha256")).decode()
    return seen.headers["webhook-signature"] == f"v1,{made}"


async def test_E13_a_reload_looks_at_every_reference_again(
    world, config, autojump_clock, monkeypatch
):
    config.write("", "a")
    world.subscribe("by-hand")
    async with at_work(world, config.daemon(), config.read) as reloader:
        world.insert("x")
        await trio.sleep(1)
        monkeypatch.setenv("TEST_SECRET", OTHER)
        world.insert("x")
        await trio.sleep(1)
        await reloader.reload()
        await trio.sleep(1)
        world.insert("x")
        await trio.sleep(1)
    requests = world.sender.of("a")
    assert [signed_with(world.secret, one) for one in requests] == [True, True, False]
    assert [signed_with(OTHER, one) for one in requests] == [False, False, True]
    assert all(signed_with(world.secret, one) for one in world.sender.of("by-hand"))


async def test_E12_attempts_under_way_are_not_disturbed_by_what_is_applied(
    world, config, autojump_clock
):
    config.write("", "a", "b")
    world.sender.script = lambda _: world.after(0.7, world.ok)
    aggregates = [f"x{n % 5}" for n in range(60)]
    async with at_work(world, config.daemon(), config.read) as reloader:
        for round_, aggregate in enumerate(aggregates):
            world.insert(aggregate)
            config.write(
                f"[delivery]\nmax_in_flight = {3 + round_ % 7}\nmax_unrecorded = {5 + round_ % 3}",
                *("a", "b"),
                timeout=f'"{10 + round_}s"',
                concurrency=str(1 + round_ % 4),
            )
            reloader.ask()
            await trio.sleep(0.3)
        await trio.sleep(300)
    # Each once and in the order of its aggregate: nothing was cut off, lost or sent again.
    assert world.states() == ["delivered"] * 120
    assert [row["attempts"] for row in world.deliveries()] == [1] * 120
    assert len(world.sender.finished) == len(world.sender.seen) == 120
    for who in ("a", "b"):
        for aggregate in set(aggregates):
            numbers = [one.n for one in world.sender.of(who) if one.aggregate == aggregate]
            assert len(numbers) == 12
            assert numbers == sorted(numbers)


async def test_a_new_policy_is_in_force_before_what_needs_it_can_be_seen(
    world, config, autojump_clock
):
    config.write("", "a")
    seen = []
    world.sender.use = lambda _: seen.append(
        world.table("SELECT state FROM webhookd_subscriptions")[0]["state"]
    )
    async with at_work(world, config.daemon(), config.read) as reloader:
        config.write("")
        await reloader.reload()
        assert seen == []
        config.write('[egress]\nallow = ["10.1.2.3"]\n', "a", url='"http://10.1.2.3/"')
        await reloader.reload()
    assert seen == ["paused"]
    assert stored(world, "a").state is SubscriptionState.ENABLED


async def test_a_reload_waits_for_the_hosts_lock_and_deliveries_do_not(
    world, config, autojump_clock, expected_logs
):
    config.write("", "a")
    daemon = config.daemon()
    async with at_work(world, daemon, config.read) as reloader:
        for n in range(3):
            world.insert(f"x{n}")
        world.sender.script = lambda _: world.after(5, world.ok)
        await trio.sleep(1)
        world.host.execute("BEGIN IMMEDIATE")
        config.write("[delivery]\nmax_in_flight = 1\n", "a", "b")
        reloader.ask()
        await trio.sleep(10)
        assert len(world.sender.finished) == 3
        assert daemon.settings.delivery.max_in_flight == 256
        reloader.ask()
        reloader.ask()
        world.host.execute("ROLLBACK")
        await trio.sleep(2)
        assert daemon.settings.delivery.max_in_flight == 1
    # What was asked for meanwhile is one more reload, however often.
    applied = [said for _, said in of(expected_logs, Action.CONFIG_APPLIED)]
    assert [said["subscriptions_added"] for said in applied] == [["a"], ["b"], []]
    assert world.states() == ["delivered"] * 3


async def test_outside_wal_mode_a_file_that_cannot_be_read_is_written_anyway(
    world, config, autojump_clock, expected_logs, monkeypatch
):
    config.write("", "a")
    daemon = config.daemon()

    def busy(_declared):
        raise reload.StoreBusy("somebody writes")

    monkeypatch.setattr(daemon.store.store, "difference", busy, raising=False)
    async with at_work(world, daemon, config.read) as reloader:
        await reloader.reload()
    assert stored(world, "a").managed_by == "config"


async def test_without_a_file_there_is_nothing_to_read_again(world, autojump_clock, expected_logs):
    daemon = world.daemon()
    async with at_work(world, daemon, None) as reloader:
        await reloader.reload()
    ((level, said),) = of(expected_logs, Action.CONFIG_ABSENT)
    assert (level, said) == ("INFO", {"detail": "no file was named, so none is read"})
