"""Which subscriptions the daemon holds back, and why, as it tells others.

Only the daemon knows: what a reference leads to may be for its eyes alone, as the credentials of
its service are. It says so among its problems, in a sentence that is made and read here.
"""

from collections.abc import Iterable
from dataclasses import dataclass


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

    def holds_back(self, name: str) -> str:
        """Why it holds that subscription back; `''` where it does not, or does not say so."""
        return problem_of(name, self.problems)
