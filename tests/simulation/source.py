"""Whose commit it was, and what it may have done to deliveries."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Who has committed."""

    kind: str
    """`daemon`, `host` or `operator`."""
    name: str = ""
    retried: int = 0
    """The delivery that an operator may have re-opened."""
    cancelled: int = 0
    """The delivery that an operator may have cancelled."""
    removed: int = 0
    """The subscription whose deliveries an operator may have cancelled."""
    prunes: bool = False
    """It may have taken away what is kept no longer."""
    carries: bool = False
    """It is a step of what was instructed, or of what removed subscriptions were owed."""

    def __str__(self) -> str:
        return self.name or self.kind
