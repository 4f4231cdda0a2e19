"""The sizes of batches and windows, turned down at random, so that few rows meet every edge.

A new constant is one more row of `KNOBS`.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Final
from unittest.mock import patch

from webhookd.daemon import lane, recorder
from webhookd.store import deliveries, ingest, outbox, sqlite

KNOBS: Final[tuple[tuple[ModuleType, str, tuple[int, ...]], ...]] = (
    (outbox, "BATCH_ROWS", (1, 2, 5)),
    (ingest, "DELIVERIES_A_BATCH", (1, 3, 10)),
    (lane, "WINDOW", (1, 2, 7)),
    (recorder, "BATCH", (1, 2, 10)),
    (deliveries, "BULK_ROWS", (1, 3)),
    (sqlite, "GAPS_A_SWEEP", (1, 2, 5)),
)
"""Where, what, and the small values; the real one is as likely as all of them."""


@contextmanager
def turned(seed: int) -> Iterator[None]:
    """The knobs of a seed, for the length of the block."""
    dice = random.Random(f"{seed} knobs")
    with ExitStack() as stack:
        for module, name, values in KNOBS:
            small = dice.choice(values)
            if dice.random() < 0.5:
                stack.enter_context(patch.object(module, name, small))
        yield
