"""Whoever polls the feeds: reads a page now and then, keeps what it says and where it was.

A poller is another machine's program, so it outlives every crash and every power cut here.
"""

import random
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.mirror import Mirror

if TYPE_CHECKING:
    from tests.simulation.world import World

FEEDS: Final = {
    "webhook_results": ("delivery_id",),
    "webhook_changes": ("tenant", "aggregate_type", "aggregate_id"),
    "webhook_events": ("sequence",),
}
"""Each feed, and what its rows are about."""


class Poller:
    """Reconstructs one feed from its pages."""

    def __init__(self, world: "World", feed: str, dice: random.Random) -> None:
        self.world = world
        self.feed = feed
        self._dice = dice
        self._look = Mirror(world.path)
        self._cursor = self._floor = 0
        self._copy: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._meaning: dict[int, dict[str, Any]] = {}

    def close(self) -> None:
        """The machine has lost its power; what was polled is elsewhere."""
        self._look.close()

    async def run(self) -> None:
        """Poll for ever."""
        pause = self._dice.choice((0.3, 2, 8))
        while True:
            await trio.sleep(self._dice.uniform(0, max(pause, 4 if self.world.healed else 0)))
            mirror = self.world.model.mirror
            if mirror.sequence > self._cursor or self.world.model.keeping.is_short:
                self.poll(self._dice.choice((1, 3, 1000)))

    def poll(self, limit: int = 1000) -> int:
        """One page; returns how many rows it had."""
        rows = self._look.table(
            f"SELECT * FROM {self.feed} WHERE sequence > ? ORDER BY sequence LIMIT ?",
            self._cursor,
            limit,
        )
        if not self._may_go_on(rows):
            return 1
        for row in rows:
            sequence = row["sequence"]
            before = self._meaning.setdefault(sequence, row)
            if before != row or sequence <= self._cursor:
                self.world.violate(f"G6: {self.feed}: {sequence} was {before} and is {row}")
            self._cursor = sequence
            self._copy[self._key(row)] = row
        return len(rows)

    def _head(self) -> dict[str, Any]:
        (head,) = self._look.table(
            "SELECT epoch, maximum_sequence, minimum_cursor FROM webhook_feeds WHERE feed = ?",
            self.feed.removeprefix("webhook_"),
        )
        return head

    def _may_go_on(self, rows: list[dict[str, Any]]) -> bool:
        """What `webhook_feeds` says, asked after each page; where not, it begins again."""
        head = self._head()
        highest = max((row["sequence"] for row in rows), default=self._cursor)
        if head["epoch"] != 1 or head["maximum_sequence"] < highest:
            self.world.violate(f"G6: {self.feed}: at {highest}, and its head is {head}")
        if max(self._cursor, self._floor) >= head["minimum_cursor"]:
            return True
        self.world.trace(f"the poller of {self.feed} begins again: {self._cursor}, {head}")
        self._floor, self._cursor = head["maximum_sequence"], 0
        self._copy.clear()
        return False

    def check(self) -> None:
        """What was polled is what the feed says, sequence by sequence."""
        for _ in range(1_000):
            if not self.poll():
                break
        else:
            self.world.violate(f"G6: {self.feed}: it never comes to the end")
        rows = self._look.table(f"SELECT * FROM {self.feed} ORDER BY sequence")
        for row in rows:
            if self._meaning.get(row["sequence"]) != row:
                old = self._meaning.get(row["sequence"])
                self.world.violate(f"G6: {self.feed}: polled {old}, and it is {row}")
        there = {self._key(row) for row in rows}
        copied = sorted(self._copy.values(), key=lambda row: row["sequence"])
        if [row for row in copied if self._key(row) in there] != rows:
            self.world.violate(f"G6: {self.feed}: {len(copied)} rows polled, {len(rows)} there")
        lowest = self._head()["minimum_cursor"]
        for row in copied:
            gone = self._key(row) not in there
            if gone and (row["sequence"] > lowest or row.get("state") == "pending"):
                self.world.violate(f"G6: {self.feed}: nobody said what became of {row}")

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in FEEDS[self.feed])
