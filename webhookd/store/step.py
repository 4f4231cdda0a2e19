"""What one step of an instruction has done, as its kind tells whoever carries it out."""

from dataclasses import dataclass

from webhookd.core.model import SubscriptionKey
from webhookd.store.instructions import Instruction


@dataclass(frozen=True, slots=True)
class Done:
    """A step, effective once its transaction is committed."""

    instruction: Instruction
    """As it is after the step."""
    is_last: bool
    """There is nothing left to do."""
    rows: int
    """Deliveries changed."""
    ready: frozenset[SubscriptionKey] = frozenset()
    """Subscriptions in which another delivery has come to the head of its line."""
