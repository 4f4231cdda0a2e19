"""The feeds as the CLI pages through them."""

import pytest

from tests.store.conftest import Box
from tests.store.test_store_retention_properties import prune
from webhookd.core.retention import DAY, Retention
from webhookd.errors import FeedReset
from webhookd.store import feeds


@pytest.fixture
def full(box: Box) -> Box:
    box.subscribe()
    for name in ("S-1", "S-2", "S-1", None):
        box.put(aggregate_id=name)
    box.ingest()
    return box


@pytest.mark.parametrize(
    ("feed", "sequences"),
    [("results", [2, 4, 6, 8]), ("changes", [3, 5]), ("events", [1, 3, 5, 7])],
)
def test_pages_of_each_feed(full: Box, feed: str, sequences: list[int]) -> None:
    page = feeds.page(full.host, feed, 0, 100)
    assert [row["sequence"] for row in page.rows] == sequences
    assert (page.cursor, page.epoch, page.highest) == (sequences[-1], 1, 8)
    maxima = dict(full.rows("SELECT feed, maximum_sequence FROM webhook_feeds"))
    assert maxima[feed] == sequences[-1]
    first = feeds.page(full.host, feed, 0, 1)
    assert [row["sequence"] for row in first.rows] == sequences[:1]
    second = feeds.page(full.host, feed, first.cursor, 100)
    assert [row["sequence"] for row in second.rows] == sequences[1:]
    end = feeds.page(full.host, feed, page.cursor, 100)
    assert (end.rows, end.cursor) == ([], page.cursor)


def test_an_empty_feed(box: Box) -> None:
    assert feeds.page(box.host, "results", 0, 10) == feeds.Page([], 0, 1, 0)


def test_a_cursor_below_what_was_pruned_is_a_reset(full: Box) -> None:
    full.host.execute("UPDATE webhookd_feeds SET minimum_cursor = 4 WHERE feed = 'results'")
    with pytest.raises(FeedReset, match="results: rows up to 4 have been pruned and cursor 3"):
        feeds.page(full.host, "results", 3, 10)
    assert feeds.page(full.host, "results", 4, 10).cursor == 8
    assert feeds.page(full.host, "results", 0, 10).cursor == 8, "0 asks for all that remains"
    assert feeds.page(full.host, "events", 3, 10).cursor == 7, "the others are untouched"


def test_who_begins_at_0_comes_to_the_end_of_what_is_left(full: Box) -> None:
    """Though all of it lies below what was pruned; what moves and goes meanwhile is a reset."""
    full.succeed(8)
    full.now += 8 * DAY
    prune(full, Retention())
    assert full.rows("SELECT minimum_cursor FROM webhook_feeds WHERE feed = 'results'") == [(9,)]
    first = feeds.page(full.host, "results", 0, 2)
    assert (first.cursor, first.floor) == (4, 9)
    second = feeds.page(full.host, "results", 4, 2, floor=9)
    assert [row["sequence"] for row in second.rows] == [6]
    assert (second.cursor, second.floor) == (9, 0), "it has caught up, and is told of what follows"
    assert feeds.page(full.host, "results", 0, 9).cursor == 9, "in one page as well"
    full.succeed(2)
    full.now += 8 * DAY
    prune(full, Retention())
    for cursor, floor in ((4, 9), (9, 0)):
        with pytest.raises(FeedReset, match="rows up to 10 have been pruned"):
            feeds.page(full.host, "results", cursor, 2, floor=floor)


def test_a_cursor_of_another_epoch_is_a_reset(full: Box) -> None:
    assert feeds.page(full.host, "results", 2, 10, epoch=1).cursor == 8
    full.host.execute("UPDATE webhookd_file SET epoch = 2")
    for after in (0, 2):
        with pytest.raises(FeedReset, match="is in epoch 2, and the cursor is of epoch 1"):
            feeds.page(full.host, "results", after, 10, epoch=1)
    assert feeds.page(full.host, "results", 2, 10, epoch=2).epoch == 2
    assert feeds.page(full.host, "results", 2, 10).epoch == 2, "who keeps none is not asked"


def test_the_watermark_stays_when_all_was_pruned(full: Box) -> None:
    full.host.execute("UPDATE webhookd_feeds SET minimum_cursor = 8 WHERE feed = 'results'")
    full.host.execute("DELETE FROM webhookd_deliveries")
    assert feeds.page(full.host, "results", 8, 10) == feeds.Page([], 8, 1, 8)


RESULTS = (
    "sequence, delivery_id, outbox_id, event_id, subscription_id, subscription_name, tenant,"
    " event_type, aggregate_type, aggregate_id, state, reason, attempts, last_status, last_error,"
    " next_attempt_at, created_at, first_attempt_at, finished_at"
)
CHANGES = "sequence, tenant, aggregate_type, aggregate_id, event_type, event_id, occurred_at"
EVENTS = (
    "sequence, outbox_id, event_id, tenant, event_type, aggregate_type, aggregate_id, occurred_at,"
    " ingested_at"
)


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("webhook_results", RESULTS),
        ("webhook_changes", CHANGES),
        ("webhook_events", EVENTS),
        ("webhook_feeds", "feed, epoch, maximum_sequence, minimum_cursor"),
    ],
)
def test_the_columns_that_hosts_rely_on(box: Box, view: str, columns: str) -> None:
    cursor = box.host.execute(f"SELECT * FROM {view}")
    assert [column[0] for column in cursor.description] == columns.split(", ")


def test_a_change_is_at_its_newest_place(full: Box) -> None:
    full.put("supplier.removed", aggregate_id="S-2")
    full.ingest()
    page = feeds.page(full.host, "changes", 0, 10)
    assert [(row["aggregate_id"], row["event_type"]) for row in page.rows] == [
        ("S-1", "supplier.created"), ("S-2", "supplier.removed"),
    ]  # fmt: skip
    newest = feeds.page(full.host, "events", 8, 10).rows[0]
    assert page.rows[1]["sequence"] == newest["sequence"]
    assert page.rows[1]["event_id"] == newest["event_id"]
    assert page.rows[0]["tenant"] is None


def test_a_page_reads_the_feeds_once_and_all_in_one_snapshot(full: Box) -> None:
    said: list[str] = []
    full.host.set_trace_callback(said.append)
    feeds.page(full.host, "results", 0, 2)
    full.host.set_trace_callback(None)
    asked = [one for one in said if "FROM webhook_feeds" in one]
    assert (said[0], len(asked), said[-1]) == ("BEGIN", 1, "ROLLBACK")
    assert not full.host.in_transaction
    with pytest.raises(FeedReset):
        feeds.page(full.host, "results", 2, 2, epoch=9)
    assert not full.host.in_transaction
