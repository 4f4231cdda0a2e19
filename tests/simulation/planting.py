"""How a defect is put into the running program, and taken out of it again."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from unittest.mock import patch

Defect = Callable[[ExitStack], None]
PLANTED: Final[dict[str, Defect]] = {}
"""Every seeded defect by its name."""


def defect(apply: Defect) -> Defect:
    """Let this function be a row of the table."""
    PLANTED[apply.__name__] = apply
    return apply


def instead(stack: ExitStack, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of the right one in its place."""
    stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))
