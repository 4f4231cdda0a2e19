"""Constants of the program, turned so that a short story meets every edge.

The sizes of batches and windows are turned down at random, so that few rows are enough (`KNOBS`).
Waits that would fill a story with nothing are shortened in every seed (`WAITS`), and how often the
daemon looks by itself is drawn, because most of a story's cost is such looks (`LOOKS`). A new
constant is one more row. Whoever judges by one of them reads it from the program, as it is turned.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

from webhookd.daemon import alarms, clock, janitor, lane, recorder, storage, supervisor, tailer
from webhookd.store import (
    bulk,
    deliveries,
    erase,
    ingest,
    intake,
    newest,
    outbox,
    replay,
    retention,
    upkeep,
)
from webhookd.store.newest import Budget

KNOBS: Final[tuple[tuple[ModuleType, str, tuple[Any, ...]], ...]] = (
    (outbox, "BATCH_ROWS", (1, 2, 5)),
    (ingest, "DELIVERIES_A_BATCH", (1, 3, 10)),
    (lane, "WINDOW", (1, 2, 7)),
    (recorder, "BATCH", (1, 2, 10)),
    (deliveries, "BULK_ROWS", (1, 3)),
    (upkeep, "BULK_ROWS", (1, 3)),
    (bulk, "Budget", (partial(Budget, 1), partial(Budget, 25))),
    (newest, "A_GLANCE", (1, 2)),
    (newest, "A_LOOK", (1, 2)),
    (replay, "PAGE", (1, 3)),
    (intake, "GAPS_A_SWEEP", (1, 2, 5)),
    (retention, "ROWS", (1, 2, 7)),
    (erase, "PAGE", (1, 5)),
)
"""Where, what, and the small values; the real one is as likely as all of them."""
WAITS: Final[tuple[tuple[ModuleType, str, float], ...]] = (
    (tailer, "SWEEP_EVERY", 60.0),
    (alarms, "LONGEST_WAIT", 15.0),
    (clock, "DOUBT", 10.0),
    (supervisor, "LOOK_AGAIN", 10_000),
    (supervisor, "LONGEST_RESTART", 10.0),
    (janitor, "EVERY", 4.0),
    # In real seconds, of which a story must know nothing.
    (retention, "A_MOMENT", 1e9),
    (erase, "A_MOMENT", 1e9),
)
"""Where, what, and how long it is in every seed."""
LOOKS: Final[tuple[tuple[ModuleType, str, tuple[float, ...]], ...]] = (
    (tailer, "POLL", (0.25, 0.5, 0.5)),
    (storage, "LONGEST_PAUSE", (0.05, 0.25)),
)
"""Where, what, and the values it may have."""


@contextmanager
def turned(seed: int, real: frozenset[str]) -> Iterator[None]:
    """The knobs of a seed, but for those that stay `real`, for the length of the block."""
    dice = random.Random(f"{seed} knobs")
    with ExitStack() as stack:
        for module, name, values in KNOBS:
            small = dice.choice(values)
            if dice.random() < 0.5 and name not in real:
                stack.enter_context(patch.object(module, name, small))
        for module, name, wait in WAITS:
            stack.enter_context(patch.object(module, name, wait))
        for module, name, looks in LOOKS:
            stack.enter_context(patch.object(module, name, dice.choice(looks)))
        yield
