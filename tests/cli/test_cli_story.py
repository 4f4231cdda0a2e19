"""`deliveries show`: the story of one delivery."""

import pytest

from tests.cli.test_cli_status import daemon
from webhookd.core.delivery import Happening, Move
from webhookd.core.storage import AttemptNote, Record

BEGUN = 1_800_000_000_500


def attempt(delivery, number, happening=Happening.RETRY, **changes):
    error = changes.pop("error", "http 503")
    status = changes.pop("status", 503)
    note = AttemptNote(
        number, BEGUN, 20, status, changes.pop("kind", "http_5xx"), error,
        changes.pop("note", ""), changes.pop("excerpt", b"down\x1b[2J for repair"), b"",
    )  # fmt: skip
    at = BEGUN + 20
    retry_at = at + 60_000 if happening is Happening.RETRY else None
    happened = Move(happening, at, None, BEGUN, status, error, retry_at)
    return Record(delivery, happened, note)


@pytest.fixture
def two(webhookd):
    """Two deliveries of one aggregate."""
    webhookd.add()
    for _ in range(2):
        webhookd.emit("order.paid", "--aggregate-id", "4711")
    webhookd.ingest()
    return [row["delivery_id"] for row in reversed(webhookd.json("deliveries", "list"))]


def story(webhookd, delivery):
    return webhookd("deliveries", "show", str(delivery)).stdout.splitlines()


def test_one_that_is_tried_again(webhookd, two):
    webhookd.record(attempt(two[0], 1), attempt(two[0], 2, note="a slow body", excerpt=b""))
    with daemon(webhookd):
        said = story(webhookd, two[0])
    event = webhookd.json("deliveries", "show", str(two[0]))["event_id"]
    assert said[:2] == [
        f"delivery {two[0]}: order.paid of 4711 (event {event}) to partner",
        "it is pending, 2 attempts",
    ]
    assert said[2].startswith("waits: the next attempt is due at 2027-01-15T08:01:00.")
    assert said[-4:] == [
        "attempt 1  2027-01-15T08:00:00.500Z  20 ms  http 503 (http_5xx)",
        "  answered: down\\x1b[2J for repair",
        "attempt 2  2027-01-15T08:00:00.500Z  20 ms  http 503 (http_5xx)",
        "  note: a slow body",
    ]


def test_one_that_waits_behind_another(webhookd, two):
    webhookd.record(attempt(two[0], 1))
    with daemon(webhookd):
        said = story(webhookd, two[1])
        shown = webhookd.json("deliveries", "show", str(two[1]))
    assert said[1] == "it is pending, 0 attempts"
    assert said[2].startswith(f"waits: behind delivery {two[0]} of the same aggregate (1 attempt; ")
    assert shown["behind_delivery"] == two[0]
    assert shown["next_attempt"] == "waits"
    assert [one["cause"] for one in shown["waits_for"]] == ["behind"]
    assert shown["attempts_made"] == []


def test_one_that_is_done_and_one_that_failed(webhookd, two):
    done = attempt(two[0], 1, Happening.SUCCEEDED, error="", status=200, kind="", excerpt=b"ok")
    webhookd.record(done)
    webhookd.give_up(two[1])
    said = story(webhookd, two[0])
    assert said[1] == "it was delivered at 2027-01-15T08:00:00.520Z, 1 attempt"
    assert said[-2:] == [
        "attempt 1  2027-01-15T08:00:00.500Z  20 ms  http 200, taken",
        "  answered: ok",
    ]
    failed = story(webhookd, two[1])
    assert failed[1] == "it failed (exhausted) at 2027-01-15T08:00:00.520Z, 1 attempt"
    assert failed[2] == f"`webhookd deliveries retry {two[1]}` sends it again"


def test_one_of_a_subscription_that_was_removed(webhookd, two):
    webhookd.give_up(two[0])
    webhookd("subscriptions", "remove", "partner", "--yes")
    said = story(webhookd, two[0])
    assert "sends it again" not in "\n".join(said)
    assert "subscription_state  removed" in said


def test_it_is_told_without_a_daemon(webhookd, two):
    assert "waits: the daemon does not run: nothing is sent" in story(webhookd, two[0])
