"""The composition root: the lock, the signals, the heartbeat, the exit codes; in real time."""

import logging
import os
import signal
import sys
from dataclasses import replace

import pytest
import trio

from webhookd.config.settings import Outbox
from webhookd.core.profiles import BUILT_IN, own
from webhookd.core.storage import StoredSecret
from webhookd.daemon import heartbeat, roster, run
from webhookd.daemon.roster import HeldBack, Member
from webhookd.errors import EXIT_BUG, EXIT_OK, AnotherDaemon, DatabaseError
from webhookd.logs.actions import Action
from webhookd.store import lockfile, subscriptions
from webhookd.store.driver import has_wal_reset_bug
from webhookd.store.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def _switch_interval():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def sent(world, monkeypatch):
    """The daemon that `main` makes sends to the scripted receivers."""
    monkeypatch.setattr(run, "HttpSender", lambda _egress: world.sender)
    return world.sender


def test_drain_from_the_lock_to_the_exit(world, sent, expected_logs) -> None:
    world.subscribe("a")
    for n in range(30):
        world.insert(f"x{n}")
    assert run.main(world.settings, drain=True) == EXIT_OK
    assert world.states() == ["delivered"] * 30
    left = lockfile.read(world.path)
    row = world.table("SELECT uuid, epoch, sequence, cursor FROM webhookd_file")[0]
    assert (left["uuid"], left["epoch"], left["sequence"], left["outbox_id"]) == tuple(row.values())
    assert left["pid"] == os.getpid()
    assert not lockfile.is_held(world.path)
    actions = [r.action for r in expected_logs if r.levelno >= logging.INFO]
    assert actions[0] is Action.DAEMON_STARTED
    assert actions[-1] is Action.DAEMON_STOPPED
    warned = [r.action for r in expected_logs if r.levelno == logging.WARNING]
    assert warned == [Action.STORE_LIBRARY] * has_wal_reset_bug()


def test_E22_an_upgrade_is_told_before_it_begins(world, sent, expected_logs, monkeypatch) -> None:
    monkeypatch.setattr(run.create, "upgrade_ahead", lambda path: 7)
    assert run.main(world.settings, drain=True) == EXIT_OK
    told = [r for r in expected_logs if r.levelno >= logging.INFO]
    assert told[0].action is Action.STORE_UPGRADING
    assert told[0].fields == {"database": str(world.path), "deliveries": 7}
    assert told[1].action is Action.DAEMON_STARTED


def test_E1_a_signal_stops_gently(world, sent, expected_logs) -> None:
    world.subscribe("a", concurrency=1)

    def script(_seen):
        signal.raise_signal(signal.SIGTERM)
        return world.after(0.05, world.ok)

    sent.script = script
    world.insert("x")
    world.insert("x")
    assert run.main(world.settings, drain=False) == EXIT_OK
    assert world.states() == ["delivered", "pending"]
    (stopping,) = [r for r in expected_logs if r.action is Action.DAEMON_STOPPING]
    assert stopping.fields == {"signal": "SIGTERM", "grace_s": 20.0}


def test_E1_a_second_signal_cuts_off(world, sent, expected_logs) -> None:
    world.subscribe("a", timeout=60_000)
    beaten = []

    def script(_seen):
        beaten.append(lockfile.read(world.path)["heartbeat_at"])
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        return world.hang

    sent.script = script
    world.insert("x")
    assert run.main(world.settings, drain=False) == EXIT_OK
    assert world.states() == ["pending"]
    stopping = [r.fields for r in expected_logs if r.action is Action.DAEMON_STOPPING]
    assert [fields["grace_s"] for fields in stopping] == [20.0, 0]
    assert beaten[0]


def test_a_signal_for_a_dump_ends_nothing_before_there_are_tasks(world, sent, monkeypatch) -> None:
    """An upgrade may take minutes, and somebody wants to know what it does."""
    real, heard = run.create.upgrade_ahead, []

    def ahead(path):
        signal.raise_signal(signal.SIGUSR1)
        return real(path)

    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        monkeypatch.setattr(run.create, "upgrade_ahead", ahead)
        assert run.main(world.settings, drain=True) == EXIT_OK
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not heard


def test_G10_a_second_daemon_is_refused_before_it_says_anything(world, sent) -> None:
    lock = lockfile.LockFile.acquire(world.path)
    lock.write(pid=4711)
    try:
        with pytest.raises(AnotherDaemon, match="4711"):
            run.main(world.settings, drain=True)
    finally:
        lock.release()


def test_B9_a_restored_backup_is_refused(world, sent, expected_logs) -> None:
    world.insert("x")
    assert run.main(world.settings, drain=True) == EXIT_OK
    world.host.execute("UPDATE webhookd_file SET sequence = 0, cursor = 0")
    with pytest.raises(DatabaseError, match="restored backup"):
        run.main(world.settings, drain=True)
    assert not lockfile.is_held(world.path)


def test_B19_outside_wal_mode_it_warns(world, sent, expected_logs) -> None:
    world.host.execute("PRAGMA journal_mode = DELETE")
    world.subscribe("a")
    world.insert("x")
    assert run.main(world.settings, drain=True) == EXIT_OK
    assert world.states() == ["delivered"]
    modes = [r.fields["journal_mode"] for r in expected_logs if "journal_mode" in r.fields]
    assert modes == ["delete"]


def test_B20_a_library_with_a_known_fault_is_named(world, sent, expected_logs, monkeypatch) -> None:
    monkeypatch.setattr(run, "has_wal_reset_bug", lambda: True)
    assert run.main(world.settings, drain=True) == EXIT_OK
    assert Action.STORE_LIBRARY in [r.action for r in expected_logs]


def test_E9_a_bug_ends_with_70_and_a_bad_file_with_one_line(
    world, sent, expected_logs, monkeypatch
) -> None:
    def bug(*_):
        raise RuntimeError("bug")

    monkeypatch.setattr(SqliteStore, "sweep", bug)
    assert run.main(world.settings, drain=True) == EXIT_BUG

    def damaged(*_):
        raise DatabaseError("damaged")

    monkeypatch.setattr(SqliteStore, "sweep", damaged)
    with pytest.raises(DatabaseError, match=r"^damaged$"):
        run.main(world.settings, drain=True)
    failed = [r for r in expected_logs if r.action is Action.DAEMON_FAILED]
    assert [r.exc_info is None for r in failed] == [False, True]
    assert not lockfile.is_held(world.path)


def test_without_inotify_it_runs(world, sent, expected_logs, monkeypatch) -> None:
    monkeypatch.setattr(run.Watch, "open", lambda _path: None)
    settings = replace(world.settings, outbox=Outbox(ids="never-reused"))
    assert run.main(settings, drain=True) == EXIT_OK


async def test_the_heartbeat_says_how_it_is(world, autojump_clock, expected_logs) -> None:
    lock = lockfile.LockFile.acquire(world.path)
    try:
        world.subscribe("a", secret="env:WEBHOOKD_NO_SUCH_SECRET")
        async with world.running() as daemon, trio.open_nursery() as nursery:
            nursery.start_soon(heartbeat.beat, daemon, lock)
            await trio.sleep(2.5)
            first = lockfile.read(world.path)
            await trio.sleep(1)
            second = lockfile.read(world.path)
            nursery.cancel_scope.cancel()
    finally:
        lock.release()
    assert first["heartbeat_at"] < second["heartbeat_at"]
    assert first["caught_up_at"]
    assert (first["unrecorded"], first["write_wait_seconds"]) == (0, 0)
    assert "held back" in first["problems"][0]


async def test_of_many_that_are_held_back_each_is_told_of(world, autojump_clock, expected_logs):
    """The lock file names 20 problems; the gravest come first, and who is held back has a key."""
    lock = lockfile.LockFile.acquire(world.path)
    try:
        names = [f"a{n}" for n in range(heartbeat.MOST_PROBLEMS + 5)]
        keys = [world.subscribe(name, secret="env:WEBHOOKD_NO_SUCH_SECRET") for name in names]
        well = world.subscribe("well")
        async with world.running() as daemon, trio.open_nursery() as nursery:
            daemon.refused = "config.toml: unknown key"
            nursery.start_soon(heartbeat.beat, daemon, lock)
            await trio.sleep(2)
            said = lockfile.read(world.path)
            seen = lockfile.look(world.path)
            nursery.cancel_scope.cancel()
    finally:
        lock.release()
    assert "was not reloaded" in said["problems"][0]
    assert said["problems"][-1] == "and 6 more; see the log"
    assert [bool(seen.holds_back(*one)) for one in zip(names, keys, strict=True)] == [True] * 25
    assert seen.holds_back("well", well) == ""


def _stored(world, **changes):
    key = world.subscribe("a")
    with world.command() as transaction:
        stored = subscriptions.find(transaction.connection, "a")
    assert stored.key == key
    return replace(stored, **changes)


def test_a_member_has_its_live_secrets_and_its_policy(world) -> None:
    stored = _stored(
        world,
        secrets=(
            StoredSecret("env:NEW", True, 1, None),
            StoredSecret(world.secret, False, 1, 2_000),
            StoredSecret("env:EXPIRED_AND_GONE", True, 1, 1_000),
        ),
        policy={"timeout": 7_000, "concurrency": 2},
    )
    member = roster.enroll(stored, BUILT_IN, {"NEW": world.secret}, 1_000)
    assert isinstance(member, Member)
    assert [secret.expires_at for secret in member.subscription.secrets] == [None, 2_000]
    assert member.subscription.policy.timeout == 7_000
    assert member.subscription.policy.concurrency == 2
    assert world.secret not in repr(member)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secrets": ()}, "set a secret"),
        ({"secrets": (StoredSecret("env:NO", True, 1, None),)}, "NO"),
        ({"secrets": (StoredSecret("whsec_c2hvcnQ=", False, 1, None),)}, ""),
        ({"profile": "unheard-of"}, "unheard-of"),
        ({"url": "ftp://a.example/"}, ""),
        ({"policy": {"unknown": 1}}, "unknown"),
        ({"method": "GET"}, "GET"),
        (
            {"profile": "floriday", "secrets": (StoredSecret("env:NO", True, 1, None),)},
            "env:NO: no such environment variable",
        ),
        (
            {"profile": "floriday", "secrets": (StoredSecret("env:NO", True, 1, 1_000),)},
            "every secret has expired",
        ),
        (
            {
                "profile": "floriday",
                "secrets": (
                    StoredSecret("whsec_" + "QUFB" * 8, False, 2, None),
                    StoredSecret("env:NO", True, 1, 2_000),
                ),
            },
            "env:NO",
        ),
    ],
    ids=[
        *("none", "missing", "short", "profile", "url", "policy", "method"),
        *("optional-missing", "optional-expired", "old-one-missing"),
    ],
)
def test_what_cannot_be_used_is_held_back_with_the_reason(world, changes, said) -> None:
    held = roster.enroll(_stored(world, **changes), BUILT_IN, {}, 1_000)
    assert isinstance(held, HeldBack)
    assert held.name == "a"
    assert said in held.problem
    assert "c2hvcnQ" not in held.problem


@pytest.mark.parametrize(
    ("base", "secrets", "said"),
    [
        ("standard", (), "set a secret"),
        ("floriday", (StoredSecret("env:NO", True, 1, 500),), "every secret has expired"),
        ("standard", (StoredSecret("env:NO", True, 1, None),), "env:NO"),
    ],
)
def test_what_is_held_back_ages_by_the_policy_of_an_own_profile(world, base, secrets, said) -> None:
    mine = own.make("mine", {"base": base, "max_age": "1h"}, BUILT_IN)
    stored = _stored(world, profile="mine", secrets=secrets)
    held = roster.enroll(stored, BUILT_IN.with_these({"mine": mine}, ""), {}, 1_000)
    assert isinstance(held, HeldBack)
    assert said in held.problem
    assert held.policy is not None
    assert held.policy.max_age == 3_600_000
    unknown = roster.enroll(stored, BUILT_IN, {}, 1_000)
    assert isinstance(unknown, HeldBack)
    assert unknown.policy is None


def test_E13_only_what_never_had_a_secret_may_go_unsigned(world) -> None:
    bare = _stored(world, profile="floriday", secrets=())
    member = roster.enroll(bare, BUILT_IN, {}, 1_000)
    assert isinstance(member, Member)
    assert member.subscription.unsigned
    stored = replace(bare, secrets=(StoredSecret(world.secret, False, 1, None),))
    signed = roster.enroll(stored, BUILT_IN, {}, 1_000)
    assert isinstance(signed, Member)
    assert not signed.subscription.unsigned
