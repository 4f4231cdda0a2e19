"""Which subscriptions the daemon holds back, and why, as it tells others.

Only the daemon knows: what a reference leads to may be for its eyes alone, as the credentials of
its service are. It says so among its problems, in a sentence that is made and read here. It names
but so many problems; whom else it holds back it says by their keys alone, in runs of neighbours.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LOGGED: Final = "the daemon's log says why (secret.missing)"
"""Said of one whose problem is not named."""


def told(name: str, problem: str) -> str:
    """The sentence of a subscription that is held back."""
    return f"{_before(name)}{problem}"


def problem_of(name: str, problems: Iterable[object]) -> str:
    """Why the subscription of that name is held back; `''` where no problem says that it is."""
    before = _before(name)
    found = (str(one) for one in problems)
    return next((one.removeprefix(before) for one in found if one.startswith(before)), "")


def _before(name: str) -> str:
    return f"subscription {name} is held back: "


@dataclass(frozen=True, slots=True)
class Daemon:
    """What can be seen of the daemon from outside."""

    running: bool
    """It holds the file."""
    problems: tuple[str, ...] = ()
    """What it says that a person should look at; none of one that does not run."""
    held_back: Sequence[Sequence[int]] = ()
    """The keys of all that it holds back, as ascending inclusive runs."""

    def holds_back(self, name: str, key: int) -> str:
        """Why it holds that subscription back; `''` where it does not."""
        return problem_of(name, self.problems) or (LOGGED if self._has(key) else "")

    def _has(self, key: int) -> bool:
        at = bisect_right(self.held_back, key, key=lambda run: run[0])
        return at > 0 and key <= self.held_back[at - 1][1]


def seen(lock: Mapping[str, Any], *, held: bool) -> Daemon:
    """The daemon by what its lock file says; what one that is gone has left says nothing of now."""
    if not held:
        return Daemon(running=False)
    problems, runs = lock.get("problems"), lock.get("held_back")
    return Daemon(
        running=True,
        problems=tuple(problems if isinstance(problems, list) else ()),
        held_back=runs if isinstance(runs, list) else (),
    )
