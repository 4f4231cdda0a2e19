"""Carrying instructions out, step by step: the daemon does it, and the command that gave one too.

See `webhookd.store.instructions` for why it does not matter who does it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.storage import Step
from webhookd.store import backlog, deliveries, instructions, realign, replay
from webhookd.store.acceptance import BREATH
from webhookd.store.instructions import Instruction, Kind
from webhookd.store.newest import Budget
from webhookd.store.step import Done
from webhookd.store.transaction import BULK_ROWS, Session, Transaction

_KINDS: Final[dict[Kind, Callable[[Transaction, Instruction, Budget, Millis], Done]]] = {
    Kind.SKIP_BACKLOG: backlog.skip,
    Kind.NEWEST_ONLY: backlog.keep_newest,
    Kind.RETRY_FAILED: backlog.retry_failed,
    Kind.REPLAY: replay.replay,
    Kind.REALIGN: realign.realign,
}


A_STEP: Final = 3
"""Changes of a row that a step costs beside those it makes: it reads and writes its instruction."""


@dataclass(slots=True)
class Turns:
    """Whose turn it is, from transaction to transaction. Nothing depends on it but fairness."""

    last: int = 0
    """The subscription that had its turn last."""


def carry_out(transaction: Transaction, now: Millis, turns: Turns | None = None) -> Step:
    """Take the next step of whatever is under way in the file, as much as one transaction may do.

    First what holds subscriptions, by turns, and for each in the order of giving; then what removed
    ones were owed.
    """
    turns = turns or Turns()
    budget = Budget()
    rows = 0
    ready: set[SubscriptionKey] = set()
    while not budget.is_spent:
        one = instructions.first(transaction.connection, after=turns.last)
        if one is None:
            cancelled = deliveries.cancel_removed(transaction, now)
            return Step(rows + cancelled, frozenset(ready), more=cancelled == BULK_ROWS)
        turns.last = one.subscription
        for done in _steps_of(transaction, one.subscription, budget, now):
            rows += done.rows
            ready |= done.ready
    return Step(rows, frozenset(ready), more=True)


def complete(
    session: Session,
    key: int,
    clock: Callable[[], Millis],
    tell: Callable[[Instruction], None] = lambda _: None,
) -> Instruction | None:
    """Carry an instruction out to its end, and those before it that hold the same subscription.

    A daemon may work on it too, and it goes on if this is broken off.

    Args:
        session: for transactions of its own, with a breath in between.
        key: as `instructions.give` returned it.
        clock: the time.
        tell: is told after each step how far the instruction has come.

    Returns:
        The instruction as it was when it was done; None where its subscription was removed, or a
        newer instruction has taken its place.
    """
    while True:
        with session.write() as transaction:
            one = instructions.find(transaction.connection, key)
            if one is None or one.is_done:
                instructions.forget(transaction, key)
                return one
            _carry_out_of(transaction, one.subscription, clock())
            one = instructions.find(transaction.connection, key)
        if one is not None:
            tell(one)
        time.sleep(BREATH)


def _carry_out_of(transaction: Transaction, key: SubscriptionKey, now: Millis) -> None:
    """As much as one transaction may do of what holds one subscription."""
    for _ in _steps_of(transaction, key, Budget(), now):
        pass


def _steps_of(
    transaction: Transaction, key: SubscriptionKey, budget: Budget, now: Millis
) -> Iterator[Done]:
    """Steps of what holds one subscription, for as long as the budget lasts."""
    while not budget.is_spent:
        one = instructions.first(transaction.connection, key)
        if one is None:
            return
        yield _step(transaction, one, budget, now)


def _step(transaction: Transaction, one: Instruction, budget: Budget, now: Millis) -> Done:
    done = _KINDS[one.kind](transaction, one, budget, now)
    budget.change(A_STEP)  # so that many small ones, too, come to an end of the transaction
    if done.is_last:
        instructions.finish(transaction, done.instruction, now)
    else:
        instructions.keep(transaction, done.instruction)
    return done
