"""The host: a program with a connection of its own that writes rows at random, and worse.

Each thing that it does is one function in `DEEDS`, run inside a transaction of the host's; a new
habit of a host's is one more row of that table.
"""

import json
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import Row
from webhookd.store.driver import Connection, connect, sqlite3

if TYPE_CHECKING:
    from tests.simulation.world import World

TYPES: Final = ("order.created", "order.paid", "supplier.changed", "COMMITTED", "ping@v3")
TENANTS: Final = (None, None, "t1", "t2")
FAULTS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("bad_event_type", {"event_type": None}),
    ("bad_event_type", {"event_type": "two words"}),
    ("bad_event_type", {"event_type": "webhookd.mine"}),
    ("bad_payload", {"payload": '{"n": '}),
    ("bad_payload", {"payload": "NaN"}),
    ("bad_payload", {"payload": ""}),
    ("bad_event_id", {"event_id": "not an id!"}),
    ("bad_tenant", {"tenant": "x" * 600}),
    ("bad_aggregate_id", {"aggregate_id": "tab\there"}),
    ("payload_too_large", {"payload": json.dumps("x" * 5_000)}),
)
"""What is wrong with a row, and what is said of it."""
MAX_PAYLOAD: Final = 4_000


class Host:
    """The program that owns the file."""

    def __init__(self, world: "World", dice: random.Random) -> None:
        self.world = world
        self._dice = dice
        self._connection: Connection | None = None
        self._synchronous = dice.choice(("NORMAL", "NORMAL", "FULL"))
        self._aggregates = dice.choice(world.kind.aggregates)
        self._count = 0
        self._undo: list[Callable[[], None]] = []
        self._redo: list[Callable[[], None]] = []
        self.unsynced: list[tuple[int, list[Callable[[], None]]]] = []
        """Commits that a power cut may take: where they end in the `-wal`, how to forget them."""
        self.holds_lock = False
        self.healed = False
        self._used: set[int] = set()

    @property
    def connection(self) -> Connection:
        """The host's own connection, never checkpointing by itself."""
        if self._connection is None:
            self._connection = connect(self.world.path, mode="rw")
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        return self._connection

    def die(self) -> None:
        """The power went: a transaction that was open is gone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.holds_lock = False
        self._undo, self._redo = [], []

    def lose(self, at: int) -> None:
        """Of what was committed, forget what ends behind `at` in the `-wal`."""
        for end, undo in reversed(self.unsynced):
            if end > at:
                for forget in reversed(undo):
                    forget()
        self.unsynced.clear()

    async def run(self) -> None:
        """Live, until the world is to heal."""
        dice = self._dice
        pace = dice.choice(self.world.kind.host_paces)
        for _ in range(dice.choice(self.world.kind.transactions)):
            await trio.sleep(dice.expovariate(1 / pace))
            if self.healed:
                break
            await self._transaction()

    async def _transaction(self) -> None:
        dice, connection = self._dice, self.connection
        if self.world.outbox_is_away:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return  # the daemon or an operator writes: this host does not insist
        self.holds_lock = True
        self._undo, self._redo = [], []
        for _ in range(dice.choice((1, 1, 2, 5))):
            name = dice.choices(tuple(DEEDS), [weight for weight, _ in DEEDS.values()])[0]
            DEEDS[name][1](self, dice)
        await self._hold()
        if self._connection is not connection:
            return  # the power went meanwhile
        self.holds_lock = False
        if dice.random() < 0.12:
            connection.execute("ROLLBACK")
            self.world.trace("host rolls back")
            return
        connection.execute("COMMIT")
        for happen in self._redo:
            happen()
        self.unsynced.append((self.world.disk.end(), self._undo))
        self.world.committed("host", connection)
        if dice.random() < 0.06:
            self._checkpoint()

    async def _hold(self) -> None:
        """Keep the lock for a while: mostly not at all, sometimes for long."""
        chance = self._dice.random()
        if chance < 0.03:
            until = trio.current_time() + self._dice.uniform(3, 20)
        elif chance < 0.3:
            until = trio.current_time() + self._dice.uniform(0, 0.3)
        else:
            return
        while self.holds_lock and not self.healed and trio.current_time() < until:  # noqa: ASYNC110 - virtual
            await trio.sleep(min(1.0, until - trio.current_time()))

    def _checkpoint(self) -> None:
        mode = self._dice.choice(("PASSIVE", "RESTART"))
        busy = self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]
        self.world.checkpointed()
        self.world.trace(f"host checkpoints, {mode} {busy}")

    # What it does within a transaction.

    def insert(self, dice: random.Random) -> None:
        """One row or many."""
        for _ in range(dice.choice(self.world.kind.bursts)):
            self._insert(dice, None)

    def insert_low(self, dice: random.Random) -> None:
        """A row with an id of the host's own choice, low or with a gap before it."""
        highest = max(self._used, default=0)
        between = dice.randint(1, max(1, highest))
        number = dice.choice((-dice.randint(1, 99), 0, between, highest + 7))
        if number not in self._used:
            self._insert(dice, number)

    def _insert(self, dice: random.Random, number: int | None) -> None:
        self._count += 1
        n, fault = self._count, ""
        about = dice.randrange(self._aggregates)
        columns: dict[str, Any] = {
            "event_type": dice.choice(TYPES),
            "aggregate_type": dice.choice((None, "SALESORDER")),
            "aggregate_id": dice.choice((f"a{about}", f"a{about}", f"a{about}", None)),
            "tenant": dice.choice(TENANTS),
            "payload": dice.choice((json.dumps({"n": n}), f'{{ "n":{n}, "n":1e400 }}', None)),
            "occurred_at": dice.choice((None, None, "2026-01-31 12:00:00", "yesterday")),
            "event_id": dice.choice((None, f"ev-{n}", f"ev-{dice.randint(1, n)}")),
        }
        if dice.random() < 0.07:
            fault, wrong = dice.choice(FAULTS)
            columns |= wrong
        given = columns if number is None else columns | {"id": number}
        cursor = self.connection.execute(
            f"INSERT INTO outbox ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
            list(given.values()),
        )
        row = Row(n, int(cursor.lastrowid or 0), columns, fault)
        self._used.add(row.id)
        model = self.world.model

        def forget() -> None:
            model.rows.pop(row.id, None)
            model.waiting.pop(row.id, None)
            row.present = False
            if row.judged:
                self.world.violate(f"G1: row {row.id} was taken in, and the power took it")

        self._redo.append(lambda: model.inserted(row))
        self._undo.append(forget)

    def delete(self, dice: random.Random) -> None:
        """Delete rows, taken in or not."""
        for row in self._some(dice):
            self.connection.execute("DELETE FROM outbox WHERE id = ?", (row.id,))
            self._redo.append(partial(self._gone, row))
            self._undo.append(partial(self._back, row))

    def _gone(self, row: Row) -> None:
        row.present = False
        self.world.model.waiting.pop(row.id, None)

    def _back(self, row: Row) -> None:
        row.present = True
        if not row.judged:
            self.world.model.waiting[row.id] = row

    def update(self, dice: random.Random) -> None:
        """Change rows, taken in or not."""
        for row in self._some(dice):
            old = row.columns
            payload = json.dumps({"n": row.n, "again": dice.random()})
            new = old | {"payload": payload}
            self.connection.execute("UPDATE outbox SET payload = ? WHERE id = ?", (payload, row.id))
            if row.judged:
                continue  # what it says now is nobody's business any more
            self._redo.append(partial(setattr, row, "columns", new))
            self._undo.append(partial(setattr, row, "columns", old))

    def _some(self, dice: random.Random) -> list[Row]:
        """Rows that are there; one whose fault is yet to be found is not mended."""
        rows = [
            row
            for row in self.world.model.rows.values()
            if row.present and (row.judged or not row.fault)
        ]
        return dice.sample(rows, min(len(rows), dice.randint(0, 3)))


Deed = Callable[[Host, random.Random], None]
DEEDS: Final[dict[str, tuple[int, Deed]]] = {
    "insert": (80, Host.insert),
    "insert low": (5, Host.insert_low),
    "delete": (7, Host.delete),
    "update": (8, Host.update),
}
"""What a host does, and how often."""
