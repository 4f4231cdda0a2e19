"""Seeded defects: bugs that the real code does not have, each to be switched on by a test.

Each is one function that puts wrong behaviour in the place of right behaviour, by replacing a
method of a class in the running program; they are in the files named here, one for each part of
it. The simulation must catch every one of them; one that it does not catch is a hole in the model.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.simulation import (
    defects_of_bulk,
    defects_of_core,
    defects_of_daemon,
    defects_of_retention,
    defects_of_rules,
    defects_of_store,
)
from tests.simulation.planting import PLANTED, Defect

PARTS: Final = (
    defects_of_core,
    defects_of_store,
    defects_of_daemon,
    defects_of_rules,
    defects_of_bulk,
    defects_of_retention,
)
DEFECTS: Final[dict[str, Defect]] = PLANTED


@contextmanager
def switched_on(name: str) -> Iterator[None]:
    """The program with one defect in it, for the length of the block; '' for none."""
    with ExitStack() as stack:
        if name:
            DEFECTS[name](stack)
        yield
