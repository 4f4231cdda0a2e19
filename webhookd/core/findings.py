"""What `check` finds: one thing that is well or not, where it is, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may cease to, or costs something."""
    FAULT = "fault"
    """Something is not delivered because of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for a person; without secrets."""

    level: Level
    place: str
    text: str
    """What is the case and, where it is not well, the remedy."""
