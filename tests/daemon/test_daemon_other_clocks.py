"""E6: a clock of this machine that is wrong is told of, by what receivers say the time is."""

from email.utils import formatdate

import pytest
import trio

from webhookd.core import other_clocks as judging
from webhookd.core.model import Answer
from webhookd.daemon import other_clocks
from webhookd.daemon.clock import DOUBT, Steadiness
from webhookd.daemon.other_clocks import FORGOTTEN_AFTER, LOOK_EVERY, MOST_HOSTS, OtherClocks
from webhookd.logs.actions import Action

WRONG = 12 * 60_000


class ClockThatIsWrong:
    """Ours; `true` is what others go by."""

    def __init__(self):
        self.by = WRONG

    @property
    def true(self):
        return 1_790_000_000_000 + round(trio.current_time() * 1000)

    def now(self):
        return self.true + self.by

    def date(self, off=0):
        return formatdate((self.true + off) / 1000, usegmt=True)


@pytest.fixture
def clock():
    return ClockThatIsWrong()


@pytest.fixture
def others(clock, mock_clock):
    return OtherClocks(clock, Steadiness(clock))


@pytest.fixture
def parsed(monkeypatch):
    """The dates that were looked at."""
    seen = []

    def ahead_by(date, now):
        seen.append(date)
        return ORIGINAL(date, now)

    monkeypatch.setattr(other_clocks.other_clocks, "ahead_by", ahead_by)
    return seen


ORIGINAL = judging.ahead_by


async def test_E6_a_daemon_says_so_in_log_and_status(world, autojump_clock, expected_logs):
    for name in ("a", "b"):
        world.subscribe(name)
    clock = world.clock
    world.sender.script = lambda _: Answer(
        200, date=formatdate((clock.now() - WRONG) / 1000, usegmt=True)
    )
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(2)
        (problem,) = daemon.problems
        assert problem.startswith("this machine's clock is 12m ahead of the time, say 2 receivers")
        for _ in range(5):
            world.insert("x")
            await trio.sleep(LOOK_EVERY)
        (line,) = [one for one in expected_logs if one.action is Action.CLOCK_WRONG]
        assert line.fields["hosts"] == ["a.example", "b.example"]
        assert line.fields["ahead_ms"] == pytest.approx(WRONG, abs=2_000)
        clock.offset -= WRONG
        world.sender.script = lambda _: Answer(
            200, date=formatdate(clock.now() / 1000, usegmt=True)
        )
        await trio.sleep(2)
        world.insert("x")
        await trio.sleep(1)
        assert daemon.problems == []


async def test_E6_one_answer_a_host_and_minute_is_looked_at(
    others, clock, parsed, mock_clock, expected_logs
):
    for _ in range(100):
        others.hear("a.example", clock.date())
        others.hear("b.example", "garbage")
    assert len(parsed) == 2
    mock_clock.jump(LOOK_EVERY)
    others.hear("a.example", clock.date())
    assert len(parsed) == 3


async def test_E6_ten_thousand_hosts_cost_what_a_hundred_do(others, clock, parsed, mock_clock):
    clock.by = 0
    for n in range(10_000):
        others.hear(f"{n}.example", clock.date())
    assert len(parsed) == MOST_HOSTS
    mock_clock.jump(LOOK_EVERY)
    for n in range(10_000):
        others.hear(f"other-{n}.example", clock.date())
    assert len(parsed) == 2 * MOST_HOSTS


async def test_E6_one_partner_alone_is_told_of_once(others, clock, mock_clock, expected_logs):
    for _ in range(3):
        others.hear("a.example", clock.date())
        mock_clock.jump(LOOK_EVERY)
    (line,) = expected_logs
    assert (line.action, line.fields["hosts"]) == (Action.CLOCK_DIFFERS, ["a.example"])
    assert "one of the two is wrong" in line.fields["detail"]
    assert others.problems == []
    others.hear("b.example", clock.date(off=clock.by))
    others.hear("c.example", clock.date(off=3 * clock.by))
    assert len(expected_logs) == 1, "b bears our clock out"
    others.forget()
    for _ in range(2):
        others.hear("a.example", clock.date())
        mock_clock.jump(LOOK_EVERY)
    assert len(expected_logs) == 2


async def test_E6_a_gateway_that_answers_for_many_convicts_nobody(
    world, autojump_clock, expected_logs
):
    for name in ("a", "b"):
        world.subscribe(name)
    clock = world.clock
    world.sender.script = lambda _: Answer(
        502, date=formatdate((clock.now() - WRONG) / 1000, usegmt=True)
    )
    async with world.running() as daemon:
        world.insert("x")
        await trio.sleep(2)
        assert len(world.sender.seen) >= 2
        assert not any("clock" in one for one in daemon.problems)


async def test_E6_this_machine_itself_says_nothing(others, clock):
    clock.by = 0
    for host in ("localhost", "127.0.0.1", "::1"):
        others.hear(host, clock.date(off=-WRONG))
    assert others.problems == []


async def test_E6_it_is_told_again_after_an_hour_and_forgotten_when_nobody_says_so(
    others, clock, mock_clock, expected_logs
):
    def hear():
        for host in ("a.example", "b.example"):
            others.hear(host, clock.date())

    for _ in range(3):
        hear()
        mock_clock.jump(FORGOTTEN_AFTER / 2)
    assert len(expected_logs) == 2
    assert others.problems
    mock_clock.jump(FORGOTTEN_AFTER / 2)
    assert others.problems == []


async def test_E6_an_answer_from_before_a_sleep_of_the_machine_convicts_nobody(clock, mock_clock):
    clock.by = 0
    steadiness = Steadiness(clock)
    steadiness.jumped()
    others = OtherClocks(clock, steadiness)
    late = clock.date()
    clock.by = 8 * 3_600_000
    others.hear("a.example", late)
    others.hear("b.example", late)
    assert others.problems == []
    steadiness.jumped()
    others.forget()
    mock_clock.jump(DOUBT)
    others.hear("a.example", clock.date(off=clock.by))
    others.hear("b.example", clock.date(off=clock.by))
    assert others.problems == []
