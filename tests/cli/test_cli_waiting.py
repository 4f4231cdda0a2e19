"""When something is sent, and what keeps it: `retry`, the listings, `status`, `enable`."""

import time
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_cli_bulk import fail, owe
from tests.cli.test_cli_status import daemon
from webhookd.core.times import to_text

LONG_AGO = "2026-01-31T12:00:00.000Z"


def soon() -> str:
    """Within the time that a receiver can ask for."""
    return to_text(time.time_ns() // 1_000_000 + 1_800_000)


def unwell(webhookd: Cli, **columns: Any) -> None:
    for column, value in columns.items():
        webhookd.sql(f"UPDATE webhookd_counters SET {column} = ?", value)


def retried(webhookd: Cli, delivery: int) -> str:
    with daemon(webhookd):
        return webhookd("deliveries", "retry", str(delivery)).stdout


@pytest.mark.parametrize("state", ["paused", "disabled"])
def test_retry_says_that_its_subscription_is_sent_nothing(webhookd: Cli, state: str) -> None:
    webhookd.add()
    (first,) = owe(webhookd, "A")
    webhookd.sql("UPDATE webhookd_subscriptions SET state = ?, state_reason = 'why'", state)
    assert retried(webhookd, first) == (
        f"delivery {first} is pending, and waits: its subscription is {state} (why): "
        "`webhookd subscriptions enable partner` sends what it is owed\n"
    )


def test_retry_says_what_its_receiver_asked_for_and_how_it_is(webhookd: Cli) -> None:
    webhookd.add()
    (first,) = owe(webhookd, "A")
    until = soon()
    unwell(webhookd, held_until=until)
    asked = f"its receiver asked (Retry-After) to be left alone until {until}; "
    ends = "`webhookd subscriptions enable partner` ends that\n"
    assert retried(webhookd, first) == f"delivery {first} is pending, and waits: {asked}{ends}"
    unwell(webhookd, held_until=None, failing_since=LONG_AGO)
    assert retried(webhookd, first) == (
        f"delivery {first} is pending, and waits: its receiver has been failing since {LONG_AGO}: "
        "it is tried with one request at a time, until one succeeds; "
        "`webhookd subscriptions enable partner` asks at once\n"
    )


def test_retry_of_what_nothing_keeps_says_when(webhookd: Cli) -> None:
    webhookd.add()
    (first,) = owe(webhookd, "A")
    with daemon(webhookd):
        done = webhookd("deliveries", "retry", str(first))
        assert done.stderr == ""
        assert done.stdout == (
            f"delivery {first} was pending: it is due now; its schedule stays (attempt 1 of 10)\n"
        )
        webhookd.give_up(first)
        done = webhookd("deliveries", "retry", str(first))
    assert done.stdout.startswith(f"delivery {first} is pending, due at 20")
    assert done.stderr == ""


def test_retry_of_a_pending_one_says_that_its_schedule_stays(webhookd: Cli) -> None:
    """Whether its request is under way the file does not know; that it may be the last it does."""
    webhookd.add("--retry-delays", "30s")
    (first,) = owe(webhookd, "A")
    fail(webhookd, first, retry=True)
    said = f"delivery {first} was pending: it is due now; its schedule stays (attempt 2 of 2)\n"
    webhookd.sql("UPDATE webhookd_deliveries SET due_at = '2999-01-01T00:00:00.000Z'")
    with daemon(webhookd):
        done = webhookd("deliveries", "retry", str(first))
        assert (done.stdout, done.stderr) == (said, ""), "nothing was under way: one is left"
        done = webhookd("deliveries", "retry", str(first))
        assert done.stdout == said
        assert done.stderr == (
            f"webhookd: warning: delivery {first}: if its request is under way, that is the last "
            f"attempt of its schedule; `webhookd deliveries cancel {first}` and then `webhookd "
            f"deliveries retry {first}` begin a new one\n"
        )
        (shown,) = webhookd.json("deliveries", "retry", str(first))
        assert (shown["was_pending"], shown["schedule"]) == (True, {"attempt": 2, "of": 2})
        webhookd("deliveries", "cancel", str(first))
        (shown,) = webhookd.json("deliveries", "retry", str(first))
        assert (shown["was_pending"], shown["schedule"]) == (False, {"attempt": 1, "of": 2})
    assert webhookd("deliveries", "retry", str(first)).stderr == "", "no daemon: no request"


def test_retry_where_the_profile_is_gone_says_no_figures(webhookd: Cli) -> None:
    webhookd.add()
    (first,) = owe(webhookd, "A")
    webhookd.sql("UPDATE webhookd_subscriptions SET profile = 'mine'")
    with daemon(webhookd):
        done = webhookd("deliveries", "retry", str(first))
    assert done.stdout == (f"delivery {first} was pending: it is due now; its schedule stays\n")
    assert done.stderr == ""


def test_retry_of_a_stale_one_warns(webhookd: Cli) -> None:
    webhookd.add()
    first, second = owe(webhookd, "A", "A")
    webhookd.give_up(first)
    webhookd.deliver(second)
    done = webhookd("deliveries", "retry", str(first))
    assert done.stderr == (
        f"webhookd: warning: delivery {first}: delivery {second}, of a newer event of its "
        "aggregate, was delivered already, so the receiver goes back in time\n"
    )


def test_retry_of_a_delivered_one_is_refused_unless_it_is_meant(webhookd: Cli) -> None:
    webhookd.add()
    first, other = owe(webhookd, "A", "B")
    webhookd.deliver(first)
    already = f"delivery {first} was delivered already at 2027-01-15T08:00:00.520Z"
    with daemon(webhookd):
        done = webhookd("deliveries", "retry", str(first), str(other), code=1)
        assert done.stderr == f"webhookd: {already}; say --delivered to send it again\n"
        assert done.stdout.startswith(f"delivery {other} was pending: it is due now; ")
        done = webhookd("deliveries", "retry", "--delivered", str(first))
        assert done.stdout.startswith(f"{already}; it is sent again, due at 20")
        assert done.stderr == ""
        (shown,) = webhookd.json("deliveries", "retry", "--delivered", str(first))
    assert (shown["state"], shown["delivered_at"]) == ("pending", None)


def test_retry_warns_of_a_newer_one_that_may_be_under_way(webhookd: Cli) -> None:
    webhookd.add()
    first, second = owe(webhookd, "A", "A")
    with daemon(webhookd):
        assert webhookd("deliveries", "retry", str(first)).stderr == "", "it stands behind it"
        webhookd.give_up(first)
        done = webhookd("deliveries", "retry", str(first))
    assert done.stderr == (
        f"webhookd: warning: delivery {first}: delivery {second}, of a newer event of its "
        "aggregate, is pending: if its request is under way, the receiver gets it first\n"
    )


def next_attempts(webhookd: Cli) -> list[str]:
    rows = webhookd("deliveries", "list").stdout.splitlines()
    at = rows[0].index("NEXT ATTEMPT")
    return [row[at:].split("  ")[0] for row in rows[1:]]


def test_next_attempt_is_what_will_happen(webhookd: Cli) -> None:
    webhookd.add()
    first, second, _ = owe(webhookd, "A", "A", "B")
    later = soon()
    webhookd.sql("UPDATE webhookd_deliveries SET due_at = ? WHERE id = ?", LONG_AGO, first)
    webhookd.sql("UPDATE webhookd_deliveries SET due_at = ? WHERE order_key > 1", later)
    assert next_attempts(webhookd) == [later, "waits", "due"]
    shown = webhookd("deliveries", "show", str(second)).stdout
    assert "next_attempt_at" in shown
    assert "waits\n" in shown
    unwell(webhookd, failing_since=LONG_AGO)
    assert next_attempts(webhookd) == [later, "waits", "probing"]
    with daemon(webhookd):
        assert any(line.endswith("  probing") for line in webhookd("status").stdout.splitlines())
    unwell(webhookd, held_until=to_text(time.time_ns() // 1_000_000 + 600_000))
    assert next_attempts(webhookd)[2].startswith("held until 20")
    with daemon(webhookd):
        assert "  held until 20" in webhookd("status").stdout
    webhookd("subscriptions", "pause", "partner")
    assert next_attempts(webhookd) == ["-", "-", "-"]
    assert webhookd.json("deliveries", "list")[0]["next_attempt_at"] is not None


def test_enable_says_what_will_expire(webhookd: Cli) -> None:
    webhookd.add("--max-age", "1h")
    owe(webhookd, "A", "B", "C")
    now = time.time_ns() // 1_000_000
    webhookd.sql("UPDATE webhookd_deliveries SET since = ?", to_text(now))
    webhookd.sql(
        "UPDATE webhookd_deliveries SET since = ? WHERE number < 3", to_text(now - 3_600_001)
    )
    webhookd("subscriptions", "pause", "partner")
    said = webhookd("subscriptions", "enable", "partner").stdout
    assert said.endswith("2 of them are older than max_age and will end as expired\n")
    assert webhookd.json("subscriptions", "enable", "partner")["too_old"] == 2


def test_enable_says_that_what_expired_is_not_opened_again(webhookd: Cli) -> None:
    webhookd.add()
    ids = owe(webhookd, "A", "B")
    for one in ids:
        webhookd.give_up(one)
    webhookd.sql("UPDATE webhookd_deliveries SET reason = 'expired'")
    webhookd.sql("UPDATE webhookd_counters SET failures = 0, failures_from = 0")
    webhookd("subscriptions", "pause", "partner")
    said = webhookd("subscriptions", "enable", "partner", "--retry-failed").stdout
    assert (
        "partner: 2 expired and are not opened again; `webhookd replay --subscription partner "
        "--failed-only --since TIME` sends what is wanted\n"
    ) in said


def test_newest_only_asks_first(webhookd: Cli) -> None:
    webhookd.add()
    owe(webhookd, "A", "A")
    line = webhookd.fails("subscriptions", "enable", "partner", "--newest-only", code=2)
    assert line == (
        "partner: 2 deliveries are owed and would be cancelled, all but the newest of each "
        "aggregate; say --yes to skip them"
    )


def test_the_deliveries_and_events_of_an_aggregate(webhookd: Cli) -> None:
    webhookd.add()
    webhookd.add("--tenant", "t", name="of-t")
    for args in (("order.made",), ("order.made", "--tenant", "t"), ("thing.made",)):
        webhookd.emit(*args, "--aggregate-id", "4711", "--event-id", f"e{len(args)}{args[0]}"[:7])
    owe(webhookd, "A")
    listed = webhookd.json("events", "list", "--aggregate-id", "4711")
    assert [(one["event_type"], one["tenant"]) for one in listed] == [
        *(("thing.made", None), ("order.made", "t"), ("order.made", None)),
    ]
    assert len(webhookd.json("deliveries", "list", "--aggregate-id", "4711")) == 4
    listed = webhookd.json("deliveries", "list", "--aggregate-id", "4711", "--subscription", "of-t")
    assert len(listed) == 1
    assert webhookd.json("deliveries", "list", "--aggregate-id", "none") == []
    line = webhookd.fails("events", "explain", "4711", code=1)
    assert line.startswith("no event '4711', but an aggregate with that id; its newest events: e")
    assert line.endswith("`webhookd events list --aggregate-id 4711` has all")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        *(("a.*", 2), ("*", 3), ("a.b", 1), ("*.b", 1), ("A.CO*", 1)),
        *(("a.b*", 0), ("?.b*", 0), ("[a]*", 0)),
    ],
)
def test_events_are_listed_by_a_pattern(webhookd: Cli, pattern: str, found: int) -> None:
    webhookd.emit("a.b")
    webhookd.emit("a.c")
    webhookd.emit("COMMITTED", "--aggregate-type", "A")
    webhookd.ingest()
    assert len(webhookd.json("events", "list", "--type", pattern)) == found


def test_who_is_held_back_is_nowhere_told_as_due(webhookd: Cli) -> None:
    webhookd.add()
    (first,) = owe(webhookd, "A")
    webhookd.sql("UPDATE webhookd_deliveries SET due_at = ?", LONG_AGO)
    problem = "env:KEY: no such environment variable; set it where webhookd starts"
    waits = f"waits: its subscription is held back: {problem}; once that is mended"
    with daemon(webhookd, problems=[f"subscription partner is held back: {problem}"]):
        explained = webhookd("events", "explain", "1").stdout
        listed = webhookd("deliveries", "list").stdout
        shown = webhookd("deliveries", "show", str(first)).stdout
        board = webhookd("status", code=1).stdout
        again = webhookd("deliveries", "retry", str(first)).stdout
    assert waits in explained
    assert waits in shown
    assert "waits: its subscription is held back" in again
    for text in (explained, listed, shown):
        assert "is due" not in text
        assert " due " not in f"{text} "
    assert "held back" in listed
    (row,) = (line for line in board.splitlines() if line.startswith("partner "))
    assert row.split()[1:3] == ["held", "back"]
    assert row.endswith("held back")
    assert f"! subscription partner is held back: {problem}" in board
    assert "due         nothing waits to be sent" in board
    stopped = webhookd("events", "explain", "1").stdout
    assert "waits: the daemon does not run" in stopped
    assert "held back" not in stopped
