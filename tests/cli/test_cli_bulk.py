"""`subscriptions enable` with its wishes, `replay`, a changed ordering, and what blocks."""

from typing import Any

import click
import pytest

from tests.cli.conftest import Cli
from webhookd.cli import bulk
from webhookd.cli.commands import replay, subscription_enable
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Reason
from webhookd.core.outcomes import Signs
from webhookd.core.storage import AttemptNote, Record
from webhookd.errors import StoreBusy
from webhookd.store import bulk as stored

AT = 1_800_000_000_520


def owe(webhookd: Cli, *aggregates: str) -> list[int]:
    """Rows of these aggregates, taken in; returns the deliveries' ids, the oldest first."""
    for name in aggregates:
        webhookd.emit("supplier.updated", "--aggregate-id", name)
    webhookd.ingest()
    return [row["delivery_id"] for row in webhookd.json("deliveries", "list")][::-1]


def fail(webhookd: Cli, *ids: int, retry: bool = False) -> None:
    note = AttemptNote(1, AT - 20, 20, 500, "http_5xx", "status 500", "", b"", b"")
    happening = Happening.RETRY if retry else Happening.FAILED
    happened = Move(
        happening,
        AT,
        reason=None if retry else Reason.EXHAUSTED,
        attempted_at=AT - 20,
        status=500,
        error="status 500",
        retry_at=AT + 5_000 if retry else None,
    )
    for number in ids:
        webhookd.record(Record(DeliveryId(number), happened, note, Signs(ill=True)))


def states(webhookd: Cli) -> list[str]:
    rows = webhookd.sql("SELECT state, reason FROM webhookd_deliveries ORDER BY event")
    return [f"{state} {reason}".strip() for state, reason in rows]


def test_enable_skips_the_backlog(webhookd: Cli) -> None:
    webhookd.add()
    owe(webhookd, "A", "A", "B")
    webhookd("subscriptions", "pause", "partner")
    line = webhookd.fails("subscriptions", "enable", "partner", "--skip-backlog", code=2)
    assert line == ("partner: 3 deliveries are owed and would be cancelled; say --yes to skip them")
    assert states(webhookd) == ["pending"] * 3
    assert webhookd.json("subscriptions", "show", "partner")["state"] == "paused"
    done = webhookd("subscriptions", "enable", "partner", "--skip-backlog", "--yes")
    assert done.stdout == (
        "partner: 3 deliveries are cancelled (backlog_skipped)\n"
        "partner is enabled; 0 deliveries are owed and will be sent once the daemon runs\n"
    )
    assert done.stderr == ""
    assert states(webhookd) == ["cancelled backlog_skipped"] * 3
    again = webhookd("subscriptions", "enable", "partner", "--skip-backlog")
    assert again.stdout.startswith("partner: nothing was owed, so nothing is cancelled\n")
    assert webhookd.sql("SELECT * FROM webhookd_instructions") == []


def test_skip_backlog_asks_at_a_terminal(webhookd: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    webhookd.add()
    owe(webhookd, "A")
    asked: list[str] = []

    def confirm(question: str, **_options: object) -> None:
        asked.append(question)
        if len(asked) == 1:
            raise click.Abort

    monkeypatch.setattr(subscription_enable.click, "confirm", confirm)
    monkeypatch.setattr(subscription_enable, "is_asked", lambda: True)
    webhookd("subscriptions", "enable", "partner", "--skip-backlog", code=130)
    assert states(webhookd) == ["pending"]
    webhookd("subscriptions", "enable", "partner", "--skip-backlog")
    assert states(webhookd) == ["cancelled backlog_skipped"]
    assert asked == ["partner: 1 delivery is owed and will be cancelled. Skip them?"] * 2


def test_enable_with_the_newest_only(webhookd: Cli) -> None:
    webhookd.add()
    owe(webhookd, "A", "A", "B", "A")
    webhookd("subscriptions", "pause", "partner")
    shown = webhookd.json("subscriptions", "enable", "partner", "--newest-only", "--yes")
    assert (shown["state"], shown["owed"], shown["cancelled"], shown["reopened"]) == (
        "enabled", 2, 2, 0
    )  # fmt: skip
    owe(webhookd, "A")
    said = webhookd("subscriptions", "enable", "partner", "--newest-only", "--yes").stdout
    assert said == (
        "partner: 1 delivery is cancelled (newest_only), 2 kept\n"
        "partner is enabled; 2 deliveries are owed and will be sent once the daemon runs\n"
    )
    older = "cancelled newest_only"
    assert states(webhookd) == [older, older, "pending", older, "pending"]


def test_enable_retries_what_failed(webhookd: Cli) -> None:
    webhookd.add()
    ids = owe(webhookd, "A", "B", "C")
    said = webhookd("subscriptions", "enable", "partner", "--retry-failed").stdout
    assert "partner: no delivery has failed since the last success" in said
    fail(webhookd, *ids[:2])
    assert states(webhookd)[:2] == ["failed exhausted"] * 2
    said = webhookd("subscriptions", "enable", "partner", "--retry-failed").stdout
    assert said == (
        "partner: 2 failed deliveries are opened again\n"
        "partner is enabled; 3 deliveries are owed and will be sent once the daemon runs\n"
    )
    assert webhookd.sql("SELECT failures, failures_since FROM webhookd_counters") == [(0, None)]


def test_enable_clears_a_holding_back(webhookd: Cli) -> None:
    webhookd.add()
    webhookd.sql(
        "UPDATE webhookd_counters SET held_until = '2027-01-15T08:00:00.000Z', failures = 3,"
        " no_success_since = '2027-01-15T07:00:00.000Z'"
    )
    webhookd("subscriptions", "enable", "partner")
    assert webhookd.sql("SELECT held_until, failures, no_success_since FROM webhookd_counters") == [
        (None, 0, None)
    ]


def test_retry_failed_passes_over_what_was_erased(webhookd: Cli) -> None:
    webhookd.add()
    webhookd.emit("a.b", "--aggregate-id", "A", "--payload", "{}")
    ids = owe(webhookd, "B")
    fail(webhookd, *ids)
    webhookd("events", "erase", "--aggregate-id", "A")
    said = webhookd("subscriptions", "enable", "partner", "--retry-failed").stdout
    assert said.startswith(
        "partner: 1 failed delivery is opened again, 1 passed over as erased: nothing is left to "
        "send\n"
    )
    assert states(webhookd) == ["failed exhausted", "pending"]
    fail(webhookd, ids[1])
    shown = webhookd.json("subscriptions", "enable", "partner", "--retry-failed")
    assert (shown["reopened"], shown["erased"], shown["owed"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["subscriptions", "enable", "partner", "--skip-backlog", "--newest-only"], 2,
         "--newest-only: keeps some of what --skip-backlog cancels; leave one out"),
        (["subscriptions", "enable", "nobody", "--skip-backlog"], 1, "no subscription 'nobody'"),
        (["replay", "--subscription", "nobody", "--since", "1h"], 1, "no subscription 'nobody'"),
        (["replay", "--since", "1h"], 2, "Missing option '--subscription'"),
        (["replay", "--subscription", "partner"], 2, "Missing option '--since'"),
        (["replay", "--subscription", "partner", "--since", "soon"], 2, "takes a moment, like"),
        (["replay", "--subscription", "partner", "--since", "1h", "--until", "2h"], 2,
         "--until: is not after --since, so there is nothing between them"),
        (["deliveries", "list", "--blocking", "--state", "failed"], 2,
         "--blocking: goes with --subscription and --limit alone"),
        (["deliveries", "list", "--blocking", "--subscription", "nobody"], 1,
         "no subscription 'nobody'"),
    ],
)  # fmt: skip
def test_faults_in_one_line(webhookd: Cli, args: list[str], code: int, said: str) -> None:
    webhookd.add()
    assert said in webhookd.fails(*args, code=code)


SINCE = ("--since", "2027-01-15T00:00:00Z")


def replayed(webhookd: Cli, *args: str) -> dict[str, Any]:
    shown: dict[str, Any] = webhookd.json("replay", "--subscription", "partner", *SINCE, *args)
    return shown


def test_replay(webhookd: Cli) -> None:
    webhookd.emit("supplier.updated", "--aggregate-id", "A")
    webhookd.ingest()
    added = webhookd.add("--events", "supplier.*")
    ids = owe(webhookd, "B", "B", "C")
    webhookd.emit("order.created", "--aggregate-id", "C")
    webhookd.ingest()
    fail(webhookd, ids[0])
    webhookd.deliver(ids[1])
    before = webhookd.sql("SELECT * FROM webhookd_deliveries")
    wanted = {
        "subscription_id": added["id"],
        "subscription_name": "partner",
        "since": "2027-01-15T00:00:00.000Z",
        "until": None,
        "dry_run": True,
        "events_pruned": False,
        "reopened": 1,
        "made": 1,
        "stale": 1,
        "erased": 0,
        "pending": 1,
        "not_failed": 0,
        "not_matching": 1,
    }
    assert replayed(webhookd, "--dry-run") == wanted
    said = webhookd("replay", "--subscription", "partner", *SINCE, "--dry-run").stdout
    assert said == (
        "partner: 1 delivery would be opened again, 1 would be made, 1 passed over as stale, "
        "1 pending already, 1 not matching\n"
        "nothing was changed: this was a dry run\n"
    )
    assert webhookd.sql("SELECT * FROM webhookd_deliveries") == before
    assert webhookd.sql("SELECT control FROM webhookd_file") == webhookd.sql(
        "SELECT control FROM webhookd_file"
    )
    done = webhookd("replay", "--subscription", "partner", *SINCE)
    assert done.stdout == (
        "partner: 1 delivery opened again, 1 made, 1 passed over as stale, "
        "1 pending already, 1 not matching\n"
        "they will be sent once the daemon runs\n"
    )
    assert done.stderr == ""
    assert states(webhookd) == ["pending", "failed exhausted", "pending", "pending"]
    wanted |= {"dry_run": False, "reopened": 1, "made": 0, "stale": 0, "pending": 3}
    assert replayed(webhookd, "--include-stale") == wanted | {"superseded": 0}
    assert states(webhookd) == ["pending"] * 4


def test_replay_of_many_asks_at_a_terminal(webhookd: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    webhookd.insert(101)
    webhookd.ingest()
    webhookd.add()
    args = ("replay", "--subscription", "partner", *SINCE)
    asked: list[str] = []

    def confirm(question: str, **_options: object) -> None:
        asked.append(question)
        raise click.Abort

    monkeypatch.setattr(replay.click, "confirm", confirm)
    monkeypatch.setattr(replay, "is_asked", lambda: True)
    webhookd(*args, code=130)
    (question,) = asked
    assert question == (
        "partner: 0 deliveries would be opened again, 101 would be made, 0 passed over as stale, "
        "0 pending already, 0 not matching. Send them?"
    )
    assert states(webhookd) == []
    webhookd(*args, "--dry-run")
    webhookd(*args, "--yes")
    assert states(webhookd) == ["pending"] * 101
    delivered = (
        "UPDATE webhookd_deliveries SET state = 'delivered', finished_at = created_at,"
        " due_at = NULL, next_attempt_at = NULL WHERE number <= ?"
    )
    webhookd.sql(delivered, 100)
    webhookd(*args)
    monkeypatch.setattr(replay, "is_asked", lambda: False)
    webhookd.sql(delivered, 101)
    webhookd(*args)
    assert len(asked) == 1, "neither for a hundred, nor where nobody is there to answer"
    assert states(webhookd) == ["pending"] * 101


def test_replay_of_what_failed_within_a_span(webhookd: Cli) -> None:
    webhookd.add()
    ids = owe(webhookd, "A", "B")
    fail(webhookd, ids[0])
    webhookd.deliver(ids[1])
    early = ("--until", "2027-01-15T07:59:00Z")
    shown = replayed(webhookd, "--failed-only", *early)
    assert (shown["reopened"], shown["not_matching"]) == (0, 0)
    assert shown["until"] == "2027-01-15T07:59:00.000Z"
    shown = replayed(webhookd, "--failed-only")
    assert (shown["reopened"], shown["not_failed"], shown["not_matching"]) == (1, 1, 0)


def test_replay_to_a_paused_subscription_says_so(webhookd: Cli) -> None:
    webhookd.add()
    owe(webhookd, "A")
    webhookd("subscriptions", "pause", "partner")
    said = webhookd("replay", "--subscription", "partner", *SINCE).stdout
    assert said.endswith(
        "partner is paused, so nothing is sent before `webhookd subscriptions enable partner`\n"
    )


def test_replay_of_one_that_coalesces(webhookd: Cli) -> None:
    webhookd.add()
    webhookd.sql("UPDATE webhookd_subscriptions SET policy = '{\"coalesce\": true}'")
    owe(webhookd, "A", "A")
    said = webhookd("replay", "--subscription", "partner", *SINCE, "--include-stale").stdout
    assert said.startswith(
        "partner: 1 delivery opened again, 0 made, 1 of these superseded by newer ones, "
    )


def test_a_bar_at_a_terminal_only(webhookd: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    webhookd.add()
    owe(webhookd, "A", "B")
    bars: list[Any] = []

    class Bar:
        def __init__(self, length: int, label: str, file: object) -> None:
            self.length, self.label, self.pos = length, label, 0
            bars.append(self)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: int) -> None:
            assert count >= 0
            self.pos += count

    monkeypatch.setattr(bulk.click, "progressbar", Bar)
    replayed(webhookd)
    assert bars == []
    monkeypatch.setattr(bulk, "_is_watched", lambda: True)
    replayed(webhookd)
    replayed(webhookd, "--dry-run")
    webhookd("subscriptions", "update", "partner", "--ordering", "none")
    webhookd("subscriptions", "enable", "partner", "--skip-backlog", "--yes")
    assert [bar.label for bar in bars] == [
        "replaying", "counting", "putting in order", "carrying out"
    ]  # fmt: skip
    assert all(bar.pos == bar.length > 0 for bar in bars)


def test_an_interrupted_command_says_who_goes_on(
    webhookd: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhookd.add()
    owe(webhookd, "A", "A")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stored.time, "sleep", interrupted)
        done = webhookd("subscriptions", "enable", "partner", "--newest-only", "--yes", code=130)
    assert done.stderr == (
        "interrupted: what is left is for the daemon to do, which does it when it runs\n\n"
    )
    shown = webhookd("subscriptions", "enable", "partner").stdout
    assert "1 delivery is owed" in shown


def test_a_busy_file_between_steps_leaves_what_was_asked_for_in_force(
    webhookd: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhookd.add()
    fail(webhookd, *owe(webhookd, "A", "A"))
    path = webhookd.database

    def busy(*_: object) -> None:
        raise StoreBusy(f"{path}: another program holds the write lock; try again")

    with monkeypatch.context() as patch:
        patch.setattr(stored, "_carry_out_of", busy)
        said = webhookd.fails("subscriptions", "enable", "partner", "--retry-failed", code=4)
    assert said == (
        f"{path}: another program holds the write lock; what you asked for stands, so do not ask "
        "again: the daemon goes on with it when it runs, and nothing is sent to the subscription "
        "before it is done"
    )
    assert webhookd.sql("SELECT kind, done_at FROM webhookd_instructions") == [
        ("retry_failed", None)
    ]


def test_a_changed_ordering_puts_in_order_what_is_owed(webhookd: Cli) -> None:
    webhookd.add()
    owe(webhookd, "A", "A", "B")
    done = webhookd("subscriptions", "update", "partner", "--ordering", "subscription")
    assert done.stderr == "partner: 3 deliveries of 3 owed had to be put in order anew\n"
    assert "ordering      subscription" in done.stdout
    assert webhookd.sql("SELECT order_key FROM webhookd_deliveries") == [(-1,)] * 3
    due = "SELECT count(*) FROM webhookd_deliveries WHERE due_at IS NOT NULL"
    assert webhookd.sql(due) == [(1,)]
    done = webhookd("subscriptions", "update", "partner", "--ordering", "default")
    assert webhookd.sql(due) == [(2,)]
    assert webhookd("subscriptions", "update", "partner", "--timeout", "2s").stderr == ""


def test_what_blocks(webhookd: Cli) -> None:
    webhookd.add()
    ids = owe(webhookd, "A", "A", "B")
    assert webhookd("deliveries", "list", "--blocking").stderr == "nothing is held up\n"
    fail(webhookd, ids[0], ids[2], retry=True)
    (row,) = webhookd.json("deliveries", "list", "--blocking")
    assert row["delivery_id"] == ids[0]
    assert (row["attempts"], row["waiting"], row["more_waiting"]) == (1, 1, False)
    assert row["failing_since"] == "2027-01-15T08:00:00.520Z"
    assert row["next_attempt_at"] == "2027-01-15T08:00:05.520Z"
    said = webhookd("deliveries", "list", "--blocking", "--subscription", "partner").stdout
    heading, line = said.splitlines()
    assert heading.split("  ")[0] == "DELIVERY"
    for text in ("partner", "supplier", "2027-01-15T08:00:00.520Z", "status 500"):
        assert text in line


def test_show_tells_since_when_it_fails_and_whether_it_was_passed(webhookd: Cli) -> None:
    webhookd.add()
    ids = owe(webhookd, "A", "A")
    shown = webhookd.json("deliveries", "show", str(ids[0]))
    assert (shown["failing_since"], shown["passed_at"]) == (None, None)
    fail(webhookd, ids[0], retry=True)
    webhookd.sql(
        "UPDATE webhookd_deliveries SET passed_at = '2027-01-15T09:00:00.000Z' WHERE id = ?",
        ids[0],
    )
    shown = webhookd.json("deliveries", "show", str(ids[0]))
    assert shown["failing_since"] == "2027-01-15T08:00:00.520Z"
    assert shown["passed_at"] == "2027-01-15T09:00:00.000Z"
