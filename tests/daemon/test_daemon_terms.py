"""Terms of a subscription: fetched when it is enrolled, handed to the sender at each attempt."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trustme

from webhookd.core.model import PLAIN, Fault, FaultKind, Phase, Proxy, Terms
from webhookd.core.profiles import BUILT_IN
from webhookd.core.profiles import own as own_profile
from webhookd.daemon.reload import changes
from webhookd.daemon.roster import HeldBack, Member, enroll, refers
from webhookd.store import subscriptions


def stored(world, key):
    with world.command() as transaction:
        return next(one for one in subscriptions.load(transaction.connection) if one.key == key)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def test_a_member_has_its_terms(world, pem):
    plain = world.subscribe("plain")
    own = world.subscribe("own", tls_ca=f"file:{pem}", proxy="http://p.example:3128")
    found = enroll(stored(world, plain), BUILT_IN, {}, 0)
    assert isinstance(found, Member)
    assert found.terms is PLAIN
    assert not refers(stored(world, plain), BUILT_IN)
    found = enroll(stored(world, own), BUILT_IN, {}, 0)
    assert isinstance(found, Member)
    ca = pem.read_text().removesuffix("\n")
    assert found.terms == Terms(ca=ca, proxy=Proxy("http", "p.example", 3128))
    assert refers(stored(world, own), BUILT_IN)


@pytest.mark.parametrize(
    ("text", "problem"),
    [(None, "tls_ca: file:"), ("hello", "tls_ca: holds no certificate")],
)
def test_what_is_missing_or_unfit_holds_it_back(world, tmp_path, text, problem):
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    found = enroll(stored(world, world.subscribe("own", tls_ca=f"file:{path}")), BUILT_IN, {}, 0)
    assert isinstance(found, HeldBack)
    assert found.problem.startswith(problem)


async def test_it_is_sent_once_the_file_is_there_and_never_without(
    world, pem, autojump_clock, expected_logs
):
    path = pem.with_name("later.pem")
    world.subscribe("own", tls_ca=f"file:{path}")
    world.insert("a")
    async with world.running() as daemon:
        await trio.sleep(5)
        assert not world.sender.seen
        assert any("tls_ca: " in problem for problem in daemon.problems)
        path.write_bytes(pem.read_bytes())
        await trio.sleep(100)
        assert len(world.sender.seen) == 1
        assert world.sender.terms[-1].ca == path.read_text().removesuffix("\n")


def test_G11_a_changed_proxy_is_told_without_its_credentials(world):
    before = world.settings
    proxy = Proxy("http", "p.example", 3128, "me", "hunter2")
    after = replace(before, egress=replace(before.egress, proxy=proxy))
    assert list(changes(before, after)) == ["egress.proxy: unset -> http://***@p.example:3128"]


def test_the_profile_s_terms_are_its_own_too(world, pem):
    keys = {"base": "standard", "tls_ca": f"file:{pem}", "proxy": "http://me:hunter2@p.example:1"}
    mine = own_profile.make("mine", keys, BUILT_IN)
    known = BUILT_IN.with_these({"mine": mine}, "config.toml", {"mine": keys})
    one = stored(world, world.subscribe("a", profile="mine"))
    found = enroll(one, known, {}, 0)
    assert isinstance(found, Member)
    assert (found.terms.ca, found.terms.proxy.password) == (pem.read_text().strip(), "hunter2")
    assert refers(one, known)
    assert not refers(one, BUILT_IN), "a profile that is not there refers to nothing"
    direct = stored(world, world.subscribe("b", profile="mine", tls_ca="", proxy="off"))
    assert not refers(direct, known)
    assert "hunter2" not in f"{known!r}{found!r}"
    own = world.subscribe("c", proxy="http://me:hunter2@p.example:1")
    assert "hunter2" not in repr(stored(world, own))


async def test_a_profile_s_authority_that_changes_counts_after_a_reload(world, pem, autojump_clock):
    keys = {"base": "standard", "tls_ca": f"file:{pem}"}
    mine = own_profile.make("mine", keys, BUILT_IN)
    known = BUILT_IN.with_these({"mine": mine}, "config.toml", {"mine": keys})
    world.settings = replace(world.settings, profiles=known)
    world.subscribe("a", profile="mine")
    async with world.running() as daemon:
        for _ in range(2):
            world.insert("x")
            await trio.sleep(1)
            trustme.CA().cert_pem.write_to_path(pem)
            daemon.use(world.settings)  # as a reload does
            await trio.sleep(1)
    first, second = (terms.ca for terms in world.sender.terms)
    assert first != second


async def test_C32_a_fault_that_quotes_the_receiver_echoes_nothing_of_ours(world, autojump_clock):
    def echo(seen):
        signature = seen.headers["webhook-signature"]
        return Fault(FaultKind.PROTOCOL, f"an odd status line: {signature[:30]}", Phase.HEAD)

    world.subscribe("a")
    world.sender.script = echo
    world.insert("x")
    async with world.running():
        await trio.sleep(1)
    (attempt,) = world.attempts()
    assert attempt["error"] == "protocol: an odd status line: ***"
