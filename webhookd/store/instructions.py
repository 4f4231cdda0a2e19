"""Bulk changes of what subscriptions are owed: given as one small row, carried out in batches.

Whoever comes first carries a step out, the command that gave the instruction or the daemon; a step
is a transaction that moves the instruction's own place along, so that it matters to nobody who of
them dies on the way. Until an instruction is done nothing is sent to its subscription.
"""

from webhookd.core.model import Millis
from webhookd.core.storage import Step
from webhookd.store import deliveries
from webhookd.store.transaction import BULK_ROWS, Transaction


def carry_out(transaction: Transaction, now: Millis) -> Step:
    """Take the next step of whatever is under way in the file."""
    cancelled = deliveries.cancel_removed(transaction, now)
    return Step(cancelled, more=cancelled == BULK_ROWS)
