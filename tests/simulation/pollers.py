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
        self._cursor = 0
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
            if self.world.model.mirror.sequence > self._cursor:
                self.poll(self._dice.choice((1, 3, 1000)))

    def poll(self, limit: int = 1000) -> int:
        """One page; returns how many rows it had."""
        rows = self._look.table(
            f"SELECT * FROM {self.feed} WHERE sequence > ? ORDER BY sequence LIMIT ?",
            self._cursor,
            limit,
        )
        for row in rows:
            sequence = row["sequence"]
            before = self._meaning.setdefault(sequence, row)
            if before != row or sequence <= self._cursor:
                self.world.violate(f"G6: {self.feed}: {sequence} was {before} and is {row}")
            self._cursor = sequence
            self._copy[tuple(row[name] for name in FEEDS[self.feed])] = row
        self._check_head()
        return len(rows)

    def _check_head(self) -> None:
        """What `webhook_feeds` says, which is asked after each page, goes with what was polled."""
        (head,) = self._look.table(
            "SELECT epoch, maximum_sequence, minimum_cursor FROM webhook_feeds WHERE feed = ?",
            self.feed.removeprefix("webhook_"),
        )
        sound = head["epoch"] == 1 and head["minimum_cursor"] == 0
        if not sound or head["maximum_sequence"] < self._cursor:
            self.world.violate(f"G6: {self.feed}: at {self._cursor}, and its head is {head}")

    def check(self) -> None:
        """What was polled is what the feed says, sequence by sequence."""
        while self.poll():
            pass
        rows = self._look.table(f"SELECT * FROM {self.feed} ORDER BY sequence")
        for row in rows:
            if self._meaning.get(row["sequence"]) != row:
                old = self._meaning.get(row["sequence"])
                self.world.violate(f"G6: {self.feed}: polled {old}, and it is {row}")
        copied = sorted(self._copy.values(), key=lambda row: row["sequence"])
        if copied != rows:
            self.world.violate(f"G6: {self.feed}: {len(copied)} rows polled, {len(rows)} there")
