"""Bulk changes of what a subscription is owed: each given as one small row, obeyed at once.

Theory
======

A bulk change may concern a million deliveries, and no transaction may. So it is given as a row that
says what is wanted (`give`), in the same transaction as whatever calls for it, and from that commit
on nothing is sent to the subscription: its lane stops, and what is under way ends as it may. Then
the deliveries follow in short steps (`webhookd.store.bulk`). A step is one transaction that changes
a batch of them and moves the instruction's own place along, so that

- whoever comes first carries a step out, the command that gave the instruction or the daemon, and
  both may work at once;
- it matters to nobody who of them dies, and when: the next step goes on from the row;
- no delivery is changed twice, and none is left out.

All kinds hold their subscription until they are done. Those that only re-open need it too: a step
re-opens the oldest first, and a lane that ran meanwhile would send what is behind those that are
re-opened one step later. Instructions of one subscription are carried out in the order of giving;
subscriptions take turns, so that a large change of one does not hold up a small one of another.

One that is done holds nobody. Its row stays for a while, because the last step may have been
another's, and the command that gave it wants to say what came of it.
"""

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.times import to_text
from webhookd.store.driver import Connection
from webhookd.store.transaction import Transaction

KEPT: Final = 3_600_000
"""Milliseconds that one which is done stays: longer than any command needs to read it."""

_SELECT: Final = (
    "SELECT key, kind, subscription, position, last, options, done, given_at, done_at"
    " FROM webhookd_instructions"
)
FIND: Final = f"{_SELECT} WHERE key = ?"
_UNDER_WAY: Final = f"{_SELECT} INDEXED BY webhookd_instructions_under_way WHERE done_at IS NULL"
FIRST: Final = f"{_UNDER_WAY} AND subscription > ? ORDER BY subscription, key LIMIT 1"
FIRST_OF: Final = f"{_UNDER_WAY} AND subscription = ? ORDER BY key LIMIT 1"
KEEP: Final = "UPDATE webhookd_instructions SET position = ?, options = ?, done = ? WHERE key = ?"
FINISH: Final = "UPDATE webhookd_instructions SET done_at = ? WHERE key = ?"
PRUNE: Final = "DELETE FROM webhookd_instructions WHERE done_at <= ?"
SUPERSEDE: Final = (
    "DELETE FROM webhookd_instructions WHERE subscription = ? AND kind = ? AND done_at IS NULL"
)


class Kind(StrEnum):
    """What is wanted."""

    SKIP_BACKLOG = "skip_backlog"
    """Cancel all that was pending."""
    NEWEST_ONLY = "newest_only"
    """Of what was pending keep the newest of each aggregate, and what has none; cancel the rest."""
    RETRY_FAILED = "retry_failed"
    """Open again what ended failed in the streak that led to a disabling."""
    REPLAY = "replay"
    """Send the events of a span of time again."""
    REALIGN = "realign"
    """Put what is pending into the lines of another ordering, and let it coalesce or not."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A bulk change as it stands in the file."""

    key: int
    kind: Kind
    subscription: SubscriptionKey
    position: int
    """How far it has come: the id, event or (`RETRY_FAILED`) end looked at last."""
    last: int
    """The highest of these that it concerns."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else the kind needs to know. `counts` says what came of it so far."""
    done: int = 0
    """Deliveries changed so far."""
    given_at: str = ""
    is_done: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """What came of it so far, by words of its kind."""
        return dict(self.options.get("counts", {}))

    def after(
        self, position: int, *, done: int = 0, counts: dict[str, int] | None = None, **options: Any
    ) -> "Instruction":
        """As it is after a step: further along, with so many more changed and counted."""
        sums = self.counts
        for name, count in (counts or {}).items():
            sums[name] = sums.get(name, 0) + count
        return replace(
            self,
            position=position,
            options=self.options | options | ({"counts": sums} if sums else {}),
            done=self.done + done,
        )


def give(
    transaction: Transaction,
    kind: Kind,
    subscription: SubscriptionKey,
    *,
    position: int,
    last: int,
    now: Millis | None,
    options: dict[str, Any] | None = None,
) -> int:
    """Give an instruction: from the commit on nothing is sent to its subscription until it is done.

    A new `REALIGN` takes the place of one that is under way. Returns the instruction's key.
    """
    connection = transaction.connection
    if kind is Kind.REALIGN:
        connection.execute(SUPERSEDE, (subscription, kind))
    if now is not None:
        connection.execute(PRUNE, (to_text(now - KEPT),))
    key = transaction.file.sequence + 1
    transaction.file = replace(transaction.file, sequence=key)
    connection.execute(
        "INSERT INTO webhookd_instructions (key, kind, subscription, position, last, options,"
        " done, given_at) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        (
            key,
            kind,
            subscription,
            position,
            last,
            json.dumps(options or {}),
            "" if now is None else to_text(now),
        ),
    )
    transaction.bump(roll=True)
    return key


def find(connection: Connection, key: int) -> Instruction | None:
    """One instruction, under way or done; None once it is gone."""
    return _read(connection.execute(FIND, (key,)).fetchone())


def first(
    connection: Connection, subscription: SubscriptionKey | None = None, *, after: int = 0
) -> Instruction | None:
    """The one that is to be carried out next; None where there is none.

    Of one subscription; or of all, of the one whose turn it is `after` that one.
    """
    if subscription is not None:
        return _read(connection.execute(FIRST_OF, (subscription,)).fetchone())
    found = connection.execute(FIRST, (after,)).fetchone()
    if found is None and after:
        found = connection.execute(FIRST, (0,)).fetchone()
    return _read(found)


def keep(transaction: Transaction, one: Instruction) -> None:
    """Write down how far it has come."""
    transaction.connection.execute(KEEP, (one.position, json.dumps(one.options), one.done, one.key))


def finish(transaction: Transaction, one: Instruction, now: Millis) -> None:
    """It is done: its subscription's lane may run again."""
    keep(transaction, one)
    transaction.connection.execute(FINISH, (to_text(now), one.key))
    transaction.bump(roll=True)


def forget(transaction: Transaction, key: int) -> None:
    """Take one that is done away: its giver knows what came of it."""
    transaction.connection.execute(
        "DELETE FROM webhookd_instructions WHERE key = ? AND done_at IS NOT NULL", (key,)
    )


def drop(transaction: Transaction, subscription: SubscriptionKey | None = None) -> None:
    """Take all instructions away (of one subscription), done or not: nobody wants them any more."""
    if subscription is None:
        transaction.connection.execute("DELETE FROM webhookd_instructions")
    else:
        transaction.connection.execute(
            "DELETE FROM webhookd_instructions WHERE subscription = ?", (subscription,)
        )
    transaction.bump(roll=True)


def _read(row: tuple[Any, ...] | None) -> Instruction | None:
    if row is None:
        return None
    key, kind, subscription, position, last, options, done, given_at, done_at = row
    return Instruction(
        key,
        Kind(kind),
        SubscriptionKey(subscription),
        position,
        last,
        json.loads(options),
        done,
        given_at,
        done_at is not None,
    )
