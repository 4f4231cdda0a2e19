"""What kind of world a seed is: which of its people are busy, slow or at odds with each other.

A kind only shifts odds. Each is one row of `KINDS`; a defect that needs a certain kind of world to
show itself is a reason for one more.
"""

import random
from dataclasses import dataclass, field
from typing import Final

Spells = tuple[tuple[str, ...], ...]
"""What a receiver may be like for a while: by which of `network.WAYS` it behaves."""

ANY_SPELLS: Final[Spells] = (
    ("fast",),
    ("fast",),
    ("fast", "slow"),
    ("slow",),
    ("breaks",),
    ("hangs", "late"),
    ("unreached",),
    ("fast", "breaks", "fast", "loses"),
    ("fast", "resets", "throttles"),
    (),
)
"""An empty one stands for every way there is."""


@dataclass(frozen=True)
class Kind:
    """The odds of a world; each tuple is a choice of values."""

    trouble: tuple[float, ...] = (3, 8, 15, 40)
    """Seconds until it heals."""
    host_paces: tuple[float, ...] = (0.02, 0.2, 1.0)
    """Seconds between two transactions of the host's, on average."""
    transactions: tuple[int, ...] = (8, 20, 40)
    bursts: tuple[int, ...] = (1, 1, 2, 3, 12)
    """Rows that it inserts at once."""
    aggregates: tuple[int, ...] = (1, 3, 8)
    patterns: tuple[tuple[str, ...], ...] = (
        ("*",),
        ("*",),
        ("order.*",),
        ("SALESORDER.COMMITTED", "ping@v3"),
        ("*.changed",),
        ("*", "webhookd.*"),
    )
    """What subscriptions want."""
    sub_tenants: tuple[str, ...] = ("", "", "t1")
    ends: dict[str, int] = field(default_factory=dict)
    """How often a life of the daemon ends so, in the place of what `machine.ENDS` says."""
    spells: Spells = ANY_SPELLS
    delays: tuple[list[int], ...] = (
        [500, 2_000, 10_000],
        [1_000] * 8,
        [5_000, 20_000],
        [0, 0, 12_000],
        [],
    )
    concurrency: tuple[int, ...] = (1, 2, 8)
    max_in_flight: tuple[int, ...] = (2, 12, 256)
    commands: tuple[int, int] = (0, 25)
    """The fewest and the most of them."""
    command_paces: tuple[float, ...] = (0.1, 0.5, 3.0, 20.0)
    """Seconds between two commands, on average."""
    weather: dict[str, int] = field(default_factory=dict)
    """How often something befalls the machine, in the place of once."""
    troubles: tuple[int, ...] = (0, 0, 1, 3, 6)
    """How many things befall it."""
    rules: float = 0.1
    """The share of policies that have any one rule beside their delays."""
    weights: dict[str, int] = field(default_factory=dict)
    """How often a command is given, in the place of what `operators.COMMANDS` says."""
    at_windows: float = 0.0
    """The share of commands that are about what a lane has read, or puts itself before that."""
    real: frozenset[str] = frozenset()
    """Constants that `knobs` leaves as they are."""


KINDS: Final[dict[str, tuple[int, Kind]]] = {
    "mixed": (2, Kind()),
    "backlog": (
        1,
        Kind(
            trouble=(15, 25),
            host_paces=(0.2, 1.0),
            transactions=(4, 8),
            bursts=(2, 5, 8),
            aggregates=(3, 8),
            patterns=(("*",), ("*",), ("order.*",)),
            sub_tenants=("",),
            ends={"lives": 20},
            spells=(("slow",), ("fast", "slow"), ("slow", "breaks"), ("fast", "slow", "breaks")),
            concurrency=(1, 2),
            max_in_flight=(2, 256),
            commands=(15, 30),
            command_paces=(0.3, 1.0),
            weights={"cancel": 12, "retry": 16, "set state": 3, "remove": 1},
            at_windows=0.7,
            real=frozenset({"WINDOW"}),
        ),
    ),
    "bulk": (
        2,
        Kind(
            trouble=(8, 20),
            host_paces=(0.1, 0.5),
            transactions=(5, 12),
            bursts=(1, 3, 5),
            aggregates=(1, 3),
            patterns=(("*",), ("*",), ("order.*",), ("*.changed",)),
            sub_tenants=("",),
            spells=(("fast", "breaks"), ("slow", "refuses"), ("breaks",), ("fast", "slow")),
            delays=([500, 2_000], [2_000, 5_000], [300], []),
            commands=(15, 40),
            command_paces=(0.2, 0.6),
            weights={
                "enable": 14,
                "replay": 14,
                "take a step": 20,
                "edit ordering": 14,
                "set state": 8,
                "edit events": 12,
                "remove": 1,
            },
        ),
    ),
    "ill": (
        2,
        Kind(
            trouble=(8, 20, 40),
            host_paces=(0.1, 0.5),
            bursts=(1, 3, 12),
            patterns=(("*",), ("*",), ("*", "webhookd.*"), ("webhookd.subscription.*",)),
            sub_tenants=("",),
            spells=(
                ("breaks",),
                ("throttles", "fast"),
                ("fast", "is gone"),
                ("refuses", "fast"),
                ("breaks", "hangs"),
                ("fast", "slow"),
            ),
            concurrency=(2, 8),
            commands=(5, 20),
            rules=0.35,
            weights={"enable": 10, "edit policy": 8, "edit ordering": 0, "remove": 1},
        ),
    ),
    "machine": (
        1,
        Kind(
            trouble=(15, 40),
            patterns=(("*",), ("*",), ("order.*",)),
            spells=(("fast",), ("fast", "breaks"), ("no route", "fast"), ("unreached",)),
            troubles=(3, 6, 10),
            weather={"the network is down": 6, "the clock jumps": 5, "the power goes": 0},
            ends={"lives": 20},
            rules=0.15,
        ),
    ),
    "quarrel": (
        1,
        Kind(
            trouble=(8, 20),
            host_paces=(0.2,),
            transactions=(5, 8),
            bursts=(1, 3, 5),
            aggregates=(1, 2),
            patterns=(("*",), ("*",), ("order.*",)),
            sub_tenants=("",),
            ends={"lives": 10},
            spells=(("slow", "breaks"), ("fast", "breaks"), ("slow", "fast", "breaks")),
            delays=([500, 2_000, 10_000], [5_000, 20_000], [300, 300]),
            concurrency=(2, 8),
            max_in_flight=(2, 2, 256),
            commands=(15, 40),
            command_paces=(0.2, 0.6),
            weights={"add": 4, "cancel": 16, "retry": 30, "set state": 2, "remove": 0},
            at_windows=0.7,
        ),
    ),
}
"""Every kind of world, and how often it is.

Bulk changes come thick and fast in one of their name, while receivers are of two minds. Where they
are ill, rules disable them, and operators enable them again. In a machine's trouble the network and
the clock fail. In a backlog lanes have long windows, which they work off slowly, while operators
change what is in them. In a quarrel operators take back and re-open, again and again, what stands
in a few lines, waits for its turn or is under way, while receivers are of two minds.
"""


def kind_of(seed: int) -> tuple[str, Kind]:
    """The kind of a seed's world, with its name."""
    dice = random.Random(f"{seed} kind")
    name = dice.choices(tuple(KINDS), [weight for weight, _ in KINDS.values()])[0]
    return name, KINDS[name][1]
