"""The three feeds that a host polls, read as a poller reads them: from the views alone.

A poller that begins at 0 finds what is left, and much of that may lie below what was pruned: to
reach a cursor there means nothing. So it keeps, as its floor, how far the feed went when it began.
What is pruned up to there, before it has come to it, it never knew of: a delivery or an aggregate
that it has seen can only have moved to a number above.
"""

from dataclasses import dataclass
from typing import Any, Final

from webhookd.errors import FeedReset
from webhookd.store.driver import Connection
from webhookd.store.transaction import snapshot

VIEWS: Final = {
    "results": "webhook_results",
    "changes": "webhook_changes",
    "events": "webhook_events",
}
HEADS: Final = "SELECT feed, epoch, maximum_sequence, minimum_cursor FROM webhook_feeds"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a feed."""

    rows: list[dict[str, Any]]
    cursor: int
    """Where to go on: the highest sequence of the page, or the given one if it was empty; once
    nothing is left up to the floor, that."""
    epoch: int
    """Of the numbers: when it is another one than before, start again at 0."""
    highest: int
    """The highest sequence of all feeds: they share one counter, and no cursor lies above it."""
    floor: int = 0
    """To be kept beside a cursor that is on its way up from 0; 0 once that is over."""


def page(
    connection: Connection,
    feed: str,
    after: int,
    limit: int,
    *,
    epoch: int | None = None,
    floor: int = 0,
) -> Page:
    """The rows of `feed` with a sequence above `after`, at most `limit`, ascending.

    Page and watermark are of one moment: nothing can be pruned in between.

    Args:
        connection: to read by; in no transaction.
        feed: a key of `VIEWS`.
        after: the cursor; 0 for all that remains.
        limit: rows.
        epoch: that of the cursor; None where the poller keeps none.
        floor: of the page before this one.

    Raises:
        FeedReset: `after` lies below what retention has taken, or is of another epoch.
    """
    with snapshot(connection):
        cursor = connection.execute(
            f"SELECT * FROM {VIEWS[feed]} WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        heads = {name: head for name, *head in connection.execute(HEADS)}
    current, maximum, minimum = heads[feed]
    if after == 0:
        floor = maximum
    if epoch is not None and epoch != current:
        raise FeedReset(
            f"{feed}: the file is in epoch {current}, and the cursor is of epoch {epoch}: it was "
            f"restored or copied; start again with --after 0 --epoch {current}"
        )
    if after > 0 and max(after, floor) < minimum:
        raise FeedReset(
            f"{feed}: rows up to {minimum} have been pruned and cursor {after} lies below; "
            f"start again with --after 0 --epoch {current}"
        )
    highest = max(head[1] for head in heads.values())
    reached = rows[-1]["sequence"] if rows else after
    if len(rows) < limit:
        reached = max(reached, floor)
    return Page(rows, reached, current, highest, floor if reached < floor else 0)
