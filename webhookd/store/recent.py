"""The figures of the last hour in the file: a ring of slots for each subscription.

They are written with the outcomes, one statement a subscription and batch, and read without looking
at any delivery. A slot whose five minutes are long over is written over by the next ones, so no
subscription has more than `SLOTS` rows, and nothing has to be pruned.
"""

from collections import Counter, defaultdict
from typing import Final

from webhookd.core.model import DeliveryState, Millis, SubscriptionKey
from webhookd.core.recent import CLASSES, SLOTS, Recent, class_of, slot_of
from webhookd.store.driver import Connection

SCHEMA: Final = """
-- What each subscription did in the last hour, in slots of five minutes that are used in turn: see
-- webhookd.core.recent. A slot of an hour ago is written over.
CREATE TABLE webhookd_recent (
    slot         INTEGER NOT NULL,  -- period modulo 13
    subscription INTEGER NOT NULL,  -- webhookd_subscriptions.key
    period       INTEGER NOT NULL,  -- which five minutes, counted from the epoch on
    delivered    INTEGER NOT NULL,  -- deliveries that ended so in it
    failed       INTEGER NOT NULL,  -- like the one before
    under_8      INTEGER NOT NULL,  -- attempts that took less than 8 ms
    under_16     INTEGER NOT NULL,  -- 8 to 15 ms
    under_32     INTEGER NOT NULL,  -- 16 to 31 ms
    under_64     INTEGER NOT NULL,  -- 32 to 63 ms
    under_128    INTEGER NOT NULL,  -- 64 to 127 ms
    under_256    INTEGER NOT NULL,  -- 128 to 255 ms
    under_512    INTEGER NOT NULL,  -- 256 to 511 ms
    under_1024   INTEGER NOT NULL,  -- 512 to 1023 ms
    under_2048   INTEGER NOT NULL,  -- 1024 to 2047 ms
    under_4096   INTEGER NOT NULL,  -- 2048 to 4095 ms
    under_8192   INTEGER NOT NULL,  -- 4096 to 8191 ms
    under_16384  INTEGER NOT NULL,  -- 8192 to 16383 ms
    under_32768  INTEGER NOT NULL,  -- 16384 to 32767 ms
    under_65536  INTEGER NOT NULL,  -- 32768 to 65535 ms
    under_131072 INTEGER NOT NULL,  -- 65536 to 131071 ms
    longer       INTEGER NOT NULL,  -- more than that
    PRIMARY KEY (slot, subscription)
) WITHOUT ROWID;
"""
"""Slot first: what one batch touches lies together, however many subscriptions it concerns."""

_DURATIONS: Final = (*(f"under_{8 << number}" for number in range(CLASSES - 1)), "longer")
_COUNTS: Final = ("delivered", "failed", *_DURATIONS)

ADD: Final = (
    f"UPDATE webhookd_recent SET {', '.join(f'{name} = {name} + ?' for name in _COUNTS)}"
    " WHERE slot = ? AND subscription = ? AND period = ?"
)
BEGIN: Final = (
    f"INSERT OR REPLACE INTO webhookd_recent ({', '.join(_COUNTS)}, slot, subscription, period)"
    f" VALUES ({', '.join('?' * (len(_COUNTS) + 3))})"
)
READ: Final = (
    f"SELECT subscription, {', '.join(f'sum({name})' for name in _COUNTS)} FROM webhookd_recent"
    " WHERE period BETWEEN ? AND ? GROUP BY subscription"
)
FORGET: Final = (
    f"DELETE FROM webhookd_recent WHERE slot IN ({', '.join(map(str, range(SLOTS)))})"
    " AND subscription = ?"
)


class Tally:
    """What one transaction adds to the slot of its moment."""

    def __init__(self, connection: Connection, now: Millis) -> None:
        self._connection = connection
        self._slot, self._period = slot_of(now)
        self._ended: dict[SubscriptionKey, Counter[DeliveryState]] = defaultdict(Counter)
        self._durations: dict[SubscriptionKey, list[int]] = defaultdict(_NONE.copy)

    def ended(self, key: SubscriptionKey, state: DeliveryState) -> None:
        """A delivery of the subscription has come to this state."""
        self._ended[key][state] += 1

    def attempted(self, key: SubscriptionKey, duration: Millis) -> None:
        """An attempt for the subscription has ended."""
        self._durations[key][class_of(duration)] += 1

    def close(self) -> None:
        """Write it down."""
        for key in self._durations.keys() | self._ended.keys():
            ended = self._ended[key]
            counts = (
                ended[DeliveryState.DELIVERED],
                ended[DeliveryState.FAILED],
                *self._durations[key],
            )
            if any(counts):
                self._add((*counts, self._slot, key, self._period))

    def _add(self, values: tuple[int, ...]) -> None:
        if self._connection.execute(ADD, values).rowcount == 0:
            self._connection.execute(BEGIN, values)


_NONE: Final = [0] * CLASSES


def read(connection: Connection, now: Millis) -> dict[SubscriptionKey, Recent]:
    """What each subscription did in the last hour, give or take five minutes, if it did anything.

    The whole table is read: `SLOTS` rows a subscription at most.
    """
    _, period = slot_of(now)
    found = connection.execute(READ, (period - SLOTS + 1, period)).fetchall()
    return {row[0]: Recent(row[1], row[2], row[3:]) for row in found}


def forget(connection: Connection, key: SubscriptionKey) -> None:
    """Take away the figures of a subscription that is removed."""
    connection.execute(FORGET, (key,))
