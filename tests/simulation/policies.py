"""What subscriptions' policies may say: delays and limits always, rules now and then."""

import random
from typing import Any, Final

from tests.simulation.kinds import Kind

NO_RULES: Final[dict[str, Any]] = {
    "rate_limit": 0.0,
    "max_age": 0,
    "max_block": 0,
    "coalesce": False,
    "permanent_statuses": [],
    "gone_disables": True,
    "failing_after": 5,
    "disable_after_failures": 0,
    "disable_after": 0,
}
RULES: Final[dict[str, tuple[Any, ...]]] = {
    "rate_limit": (2.0, 10.0),
    "max_age": (4_000, 15_000),
    "max_block": (1_500, 8_000),
    "coalesce": (True,),
    "permanent_statuses": (["4xx"], ["404", "503"], ["5xx"]),
    "gone_disables": (False,),
    "failing_after": (2, 3),
    "disable_after_failures": (1, 3),
    "disable_after": (3_000, 20_000),
}
"""What a policy may say beside its delays, and what it says then."""
ORDERINGS: Final = ("aggregate", "aggregate", "aggregate", "subscription", "none")


def draw(dice: random.Random, kind: Kind) -> dict[str, Any]:
    """All of a policy but its ordering."""
    rules = {
        name: dice.choice(values) for name, values in RULES.items() if dice.random() < kind.rules
    }
    return NO_RULES | {
        "retry_delays": dice.choice(kind.delays),
        "timeout": dice.choice((1_000, 5_000, 15_000)),
        "concurrency": dice.choice(kind.concurrency),
        "jitter": dice.choice((0.0, 0.1)),
        "retry_after_max": dice.choice((0, 12_000)),
        **rules,
    }
