"""Names: who waits for whom, what is remembered, and what an answer opens."""

import errno
import socket
import threading

import pytest
import trio
import trio.testing

from webhookd.core.egress import parse_policy
from webhookd.core.model import Fault, FaultKind, Phase
from webhookd.core.urls import parse
from webhookd.http.address import Resolver, find_addresses, zone_of
from webhookd.http.dial import is_own
from webhookd.http.limits import Limits

LIMITS = Limits(lookup_time=100)
PUBLIC = parse_policy([], [])


class Names:
    """A resolver's answers by host; a host in `stuck` blocks its thread until it is let go."""

    def __init__(self, **answers):
        self.answers = answers
        self.stuck = {}
        self.asked = []

    def __call__(self, host):
        self.asked.append(host)
        if host in self.stuck:
            assert self.stuck[host].wait(10)
        answer = self.answers.get(host.partition(".")[0], ["8.8.8.8"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hang(self, *hosts):
        self.stuck.update((host, threading.Event()) for host in hosts)

    def let_go(self):
        for event in self.stuck.values():
            event.set()


@pytest.fixture
def names():
    made = Names()
    yield made
    made.let_go()


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), FaultKind.DNS, "Name"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), FaultKind.DNS, "Temporary"),
        (socket.gaierror(socket.EAI_MEMORY, "Memory"), FaultKind.LOCAL, "Memory"),
        (OSError(errno.EMFILE, "Too many open files"), FaultKind.LOCAL, "Too many"),
        (OSError(errno.EIO, "I/O"), FaultKind.DNS, "I/O"),
        (UnicodeError("label too long"), FaultKind.DNS, "label too long"),
    ],
)
async def test_D1_a_failed_lookup_is_a_fault_with_the_reason(error, kind, detail):
    resolver = Resolver(LIMITS, Names(bad=error))
    found = await resolver.resolve("bad.example")
    assert isinstance(found, Fault)
    assert (found.kind, found.phase) == (kind, Phase.RESOLVE)
    assert found.detail.startswith(f"bad.example: {detail}")


async def test_D1_an_empty_answer_is_a_fault():
    found = await Resolver(LIMITS, Names(none=[])).resolve("none.example")
    assert found == Fault(FaultKind.DNS, "none.example has no address", Phase.RESOLVE)


async def test_D2_a_hung_lookup_holds_nobody_and_is_not_begun_twice(names):
    names.hang("slow.dead.example")
    resolver = Resolver(LIMITS, names)
    for _ in range(2):
        found = await resolver.resolve("slow.dead.example")
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.DNS
        assert found.detail.endswith("did not answer within 0.1 s")
    assert names.asked == ["slow.dead.example"]
    assert await resolver.resolve("good.other.example") == ("8.8.8.8",)


async def test_D2_a_hung_zone_leaves_room_for_others(names):
    hosts = [f"h{number}.dead.example" for number in range(50)]
    names.hang(*hosts)
    limits = Limits(lookup_time=100, lookups=6, zone_lookups=4)
    resolver = Resolver(limits, names)
    found = []

    async def resolve(host):
        found.append(await resolver.resolve(host))

    async with trio.open_nursery() as nursery:
        for host in hosts:
            nursery.start_soon(resolve, host)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await resolver.resolve("good.example.org") == ("8.8.8.8",)
    assert len(found) == 50
    assert all(isinstance(one, Fault) for one in found)
    assert len(names.asked) == 5


async def test_D2_whoever_waits_for_a_thread_leaves_nothing_behind(names):
    names.hang("slow.dead.example")
    resolver = Resolver(Limits(lookup_time=50, lookups=1), names)
    for host in ("slow.dead.example", "good.other.example"):
        assert isinstance(await resolver.resolve(host), Fault)
    assert list(resolver._zones) == ["dead.example"]
    names.let_go()
    assert await resolver.resolve("good.other.example") == ("8.8.8.8",)
    assert not resolver._zones
    assert names.asked == ["slow.dead.example", "good.other.example"]


async def test_who_waited_for_a_thread_takes_what_was_found_meanwhile(names):
    names.hang("slow.dead.example")
    resolver = Resolver(Limits(lookup_time=5_000, lookups=1), names)
    found = []

    async def resolve(host):
        found.append(await resolver.resolve(host))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve, "slow.dead.example")
        await trio.testing.wait_all_tasks_blocked(0.01)
        for _ in range(3):
            nursery.start_soon(resolve, "good.example")
        await trio.testing.wait_all_tasks_blocked(0.01)
        names.let_go()
    assert found == [("8.8.8.8",)] * 4
    assert names.asked == ["slow.dead.example", "good.example"]


async def test_a_late_answer_is_there_for_the_next_caller(names):
    names.hang("slow.example")
    resolver = Resolver(LIMITS, names)
    assert isinstance(await resolver.resolve("slow.example"), Fault)
    names.let_go()
    assert await resolver.resolve("slow.example") == ("8.8.8.8",)
    assert names.asked == ["slow.example"]


async def test_many_callers_share_one_lookup(names):
    resolver = Resolver(Limits(lookups=1), names)
    found = []

    async def resolve():
        found.append(await resolver.resolve("a.example"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(resolve)
    assert found == [("8.8.8.8",)] * 20
    assert names.asked == ["a.example"]


async def test_a_bug_in_a_lookup_is_not_hidden():
    with pytest.raises(RuntimeError, match="crashed") as raised:
        await Resolver(LIMITS, Names(bug=ZeroDivisionError())).resolve("bug.example")
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


async def test_D3_an_answer_is_remembered_for_a_while_and_a_failure_is_not():
    names = Names(a=OSError(errno.EIO, "no"))
    resolver = Resolver(Limits(cache_time=10_000, cache_names=2), names)
    assert isinstance(await resolver.resolve("a.example"), Fault)
    names.answers = {}
    for _ in range(3):
        assert await resolver.resolve("a.example") == ("8.8.8.8",)
    assert names.asked == ["a.example"] * 2
    for host in ("b.example", "c.example", "a.example"):
        await resolver.resolve(host)
    assert names.asked[2:] == ["b.example", "c.example", "a.example"]


async def test_an_old_answer_is_asked_for_again():
    names = Names()
    resolver = Resolver(Limits(cache_time=0), names)
    for _ in range(2):
        assert await resolver.resolve("a.example") == ("8.8.8.8",)
    assert len(names.asked) == 2


@pytest.mark.parametrize("host", ["1.2.3.4", "2001:db8::1"])
async def test_an_address_needs_no_lookup(host):
    names = Names()
    assert await Resolver(LIMITS, names).resolve(host) == (host,)
    assert names.asked == []


async def test_the_system_resolver_knows_localhost():
    found = await Resolver(Limits()).resolve("localhost")
    assert isinstance(found, tuple)
    assert set(found) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("answer", [["10.0.0.5"], ["8.8.8.8", "10.0.0.5"]])
async def test_D5_one_blocked_answer_blocks_the_name(answer):
    resolver = Resolver(LIMITS, Names(a=answer))
    found = await find_addresses(parse("https://a.example/"), PUBLIC, resolver)
    assert found == Fault(FaultKind.BLOCKED, "10.0.0.5 is private", Phase.RESOLVE)


async def test_D6_a_name_that_turns_inwards_is_judged_again():
    names = Names()
    resolver = Resolver(Limits(cache_time=0), names)
    url = parse("https://a.example/")
    assert await find_addresses(url, PUBLIC, resolver) == ("8.8.8.8",)
    names.answers = {"a": ["127.0.0.1"]}
    found = await find_addresses(url, PUBLIC, resolver)
    assert found == Fault(FaultKind.BLOCKED, "127.0.0.1 is loopback", Phase.RESOLVE)


@pytest.mark.parametrize(
    ("host", "zone"),
    [
        ("a", "a"),
        ("a.example", "a.example"),
        ("x.a.example", "a.example"),
        ("x.a.co.uk", "a.co.uk"),
        ("co.uk", "co.uk"),
        ("x.a.de", "x.a.de"),
        ("x.firm.de", "firm.de"),
    ],
)
def test_zones(host, zone):
    assert zone_of(host) == zone


async def test_everyone_who_waits_for_one_lookup_is_told_what_it_found() -> None:
    asked: list[str] = []

    def lookup(host: str) -> list[str]:
        asked.append(host)
        return ["192.0.2.1"]

    resolver = Resolver(lookup=lookup)
    found: list[object] = []

    async def ask() -> None:
        found.append(await resolver.resolve("a.example"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert found == [("192.0.2.1",)] * 3
    assert asked == ["a.example"]


async def test_everyone_who_waits_for_a_lookup_that_crashes_hears_of_it() -> None:
    resolver = Resolver(LIMITS, Names(bug=ZeroDivisionError()))
    crashes: list[BaseException | None] = []

    async def ask() -> None:
        with pytest.raises(RuntimeError, match="crashed") as raised:
            await resolver.resolve("bug.example")
        crashes.append(raised.value.__cause__)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask)
    assert [type(crash) for crash in crashes] == [ZeroDivisionError] * 2


STALE = Limits(lookup_time=100, cache_time=0, stale_wait=30, stale_time=60_000)


async def test_D2_an_old_answer_serves_while_dead_zones_have_every_thread(names):
    limits = Limits(lookup_time=100, cache_time=0, stale_wait=30, lookups=8, zone_lookups=1)
    resolver = Resolver(limits, names)
    assert await resolver.resolve("good.example") == ("8.8.8.8",)
    dead = [f"h.dead{number}.example" for number in range(8)]
    names.hang(*dead)
    found = []

    async def resolve(host):
        found.append(await resolver.resolve(host))

    async with trio.open_nursery() as nursery:
        for host in dead:
            nursery.start_soon(resolve, host)
        await trio.testing.wait_all_tasks_blocked(0.01)
        names.answers = {"good": ["9.9.9.9"]}
        for _ in range(5):
            assert await resolver.resolve("good.example") == ("8.8.8.8",)
        assert names.asked.count("good.example") == 1
        # The search for a newer answer kept its place, and needs no caller.
        names.let_go()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert names.asked.count("good.example") == 2
    assert await resolver.resolve("good.example") == ("9.9.9.9",)
    assert not resolver._renewals


async def test_D2_an_old_answer_does_not_serve_for_ever(names):
    resolver = Resolver(Limits(lookup_time=50, cache_time=0, stale_time=1, stale_wait=10), names)
    assert await resolver.resolve("good.example") == ("8.8.8.8",)
    await trio.sleep(0.01)
    names.hang("good.example")
    found = await resolver.resolve("good.example")
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.DNS


@pytest.mark.parametrize(
    ("error", "serves"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
    ],
)
async def test_D1_a_resolver_that_says_no_is_believed_and_one_that_is_down_is_not(error, serves):
    names = Names()
    resolver = Resolver(STALE, names)
    assert await resolver.resolve("a.example") == ("8.8.8.8",)
    names.answers = {"a": error}
    for _ in range(2):
        found = await resolver.resolve("a.example")
        assert (found == ("8.8.8.8",)) is serves
    names.answers = {"a": ["9.9.9.9"]}
    assert await resolver.resolve("a.example") == ("9.9.9.9",)


async def test_D6_an_old_answer_is_judged_like_any_other(names):
    resolver = Resolver(STALE, names)
    names.answers = {"a": ["10.0.0.5"]}
    assert await resolver.resolve("a.example") == ("10.0.0.5",)
    names.hang("a.example")
    found = await find_addresses(parse("https://a.example/"), PUBLIC, resolver)
    assert found == Fault(FaultKind.BLOCKED, "10.0.0.5 is private", Phase.RESOLVE)


async def test_a_bug_in_the_search_for_a_newer_answer_is_not_hidden():
    names = Names()
    limits = Limits(lookup_time=5_000, cache_time=0, stale_wait=5_000)  # nothing is waited for
    resolver = Resolver(limits, names)
    assert await resolver.resolve("a.example") == ("8.8.8.8",)
    names.answers = {"a": ZeroDivisionError()}
    with pytest.raises(RuntimeError, match="crashed") as raised:
        await resolver.resolve("a.example")
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


async def test_old_answers_are_bounded_in_number(names):
    resolver = Resolver(Limits(cache_time=0, cache_names=3), names)
    for number in range(10):
        await resolver.resolve(f"h{number}.example")
    assert len(resolver._cache) == 3


async def test_D10_an_address_of_this_machine_is_blocked_though_it_is_public(monkeypatch):
    monkeypatch.setattr("webhookd.http.address.is_own", lambda address: address == "8.8.8.8")
    url = parse("https://a.example/")
    resolver = Resolver(LIMITS, Names(a=["8.8.8.8", "9.9.9.9"]))
    found = await find_addresses(url, PUBLIC, resolver)
    assert found == Fault(FaultKind.BLOCKED, "8.8.8.8 is an address of this machine", Phase.RESOLVE)
    allowed = parse_policy(["8.8.8.8"], [])
    assert await find_addresses(url, allowed, resolver) == ("8.8.8.8", "9.9.9.9")


def test_D10_the_kernel_knows_this_machine_s_addresses():
    assert is_own("127.0.0.1")
    assert is_own("127.9.9.9")
    assert is_own("::1") or not socket.has_ipv6
    assert not is_own("192.0.2.1")
    assert not is_own("2001:db8::1")
    assert not is_own("0.0.0.0.0")


async def test_E18_no_thread_for_a_lookup_is_a_fault_of_this_machine_and_passes(monkeypatch):
    resolver = Resolver(LIMITS, Names())
    with monkeypatch.context() as patched:

        def refuse(*_, **__):
            raise RuntimeError("can't start new thread")

        patched.setattr(trio.lowlevel, "start_thread_soon", refuse)
        found = await resolver.resolve("one.example")
        assert isinstance(found, Fault)
        assert (found.kind, found.detail) == (FaultKind.LOCAL, "can't start new thread")
    assert await resolver.resolve("one.example") == ("8.8.8.8",)
