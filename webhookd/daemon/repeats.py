"""Failures that repeat: the first few of a minute are told one by one, the others are counted.

One endpoint that refuses everything fails hundreds of times a second. Its lines would push those of
all others out of the journal; what became of each delivery is in the file anyway.
"""

from dataclasses import dataclass
from typing import Final

import trio

from webhookd.logs.actions import Action, Field, log

A_MINUTE: Final = 60.0
"""Seconds for which failures of one kind are counted together."""

TOLD: Final = 20
"""Failures of one kind, of one subscription, that have a line of their own in that time."""


@dataclass(slots=True)
class _Count:
    since: float
    level: int
    told: int = 0
    more: int = 0
    given_up: int = 0


class Repeats:
    """Tells failures of subscriptions, not too many of each."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Action, str], _Count] = {}

    def tell(
        self,
        action: Action,
        level: int,
        *,
        subscription: str,
        error: BaseException | None = None,
        **fields: Field,
    ) -> None:
        """Tell one failure, or count it; `run` tells how many were counted.

        A field `state` that says `failed` is counted as a delivery that was given up.
        """
        key, now = (action, subscription), trio.current_time()
        count = self._counts.get(key)
        if count is not None and now - count.since >= A_MINUTE:
            self._sum_up(key)
            count = None
        if count is None:
            count = self._counts[key] = _Count(now, level)
        if count.told < TOLD:
            count.told += 1
            log(action, level, error=error, subscription=subscription, **fields)
            return
        count.more += 1
        count.given_up += fields.get("state") == "failed"

    async def run(self) -> None:
        """Sum up what repeats, once a minute until cancelled; what is left then as well."""
        try:
            while True:
                await trio.sleep(A_MINUTE / 2)
                horizon = trio.current_time() - A_MINUTE
                for key in [key for key, one in self._counts.items() if one.since <= horizon]:
                    self._sum_up(key)
        finally:
            for key in list(self._counts):
                self._sum_up(key)

    def _sum_up(self, key: tuple[Action, str]) -> None:
        count = self._counts.pop(key)
        if count.more:
            action, subscription = key
            log(
                Action.REPEATED,
                count.level,
                subscription=subscription,
                of=action.value,
                more=count.more,
                given_up=count.given_up,
                within_s=round(trio.current_time() - count.since),
            )
