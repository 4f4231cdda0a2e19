"""Subscriptions that a configuration declares, and what applying them to the file changes.

A name is the identity: a block under another name is another subscription.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from webhookd.core.text import counted

if TYPE_CHECKING:  # most commands declare nothing
    from webhookd.core.registration import Definition

BY_CONFIG: Final = "config"
"""`managed_by` of a subscription that a configuration declares; all others are `cli`."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One subscription of a configuration, judged whole."""

    place: str
    """Where it stands, for errors: `/etc/webhookd/config.toml: subscriptions[2]`."""
    name: str
    definition: "Definition"
    secret: str
    """The reference to it (`env:NAME`, `file:PATH`); `''` where the profile does without."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A subscription whose definition differs from the declared one, and in what."""

    name: str
    fields: tuple[str, ...]
    """Keys as the configuration has them; no values, which may be secrets."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What applying a configuration's subscriptions changes, or has changed, by their names."""

    added: tuple[str, ...] = ()
    changed: tuple[Changed, ...] = ()
    paused: tuple[str, ...] = ()
    """Not declared any more: paused, with what they are owed accruing."""
    resumed: tuple[str, ...] = ()
    """Declared again: enabled, as it was the end of the declaration that had paused them."""
    noted: tuple[str, ...] = ()
    """Not declared any more, or again, while paused or disabled for a reason of its own: only the
    reason that is shown changes."""
    unchanged: int = 0
    """Declared ones that are as they are declared."""

    @property
    def is_empty(self) -> bool:
        """There is nothing to write."""
        return not (self.added or self.changed or self.paused or self.resumed or self.noted)

    def in_words(self) -> list[str]:
        """A line each for a person, the unchanged ones in one; no secret is in it."""
        return [
            *(f"added      {name}" for name in self.added),
            *(f"changed    {one.name}: {', '.join(one.fields)}" for one in self.changed),
            *(f"paused     {name}: it is declared no more" for name in self.paused),
            *(f"resumed    {name}: it is declared again" for name in self.resumed),
            *(f"noted      {name}: its state stays as it is" for name in self.noted),
            f"unchanged  {counted(self.unchanged, 'subscription')}",
        ]


NO_DIFFERENCE: Final = Difference()
