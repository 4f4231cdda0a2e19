"""What a pattern may have been meant to be, where it looks like a slip of the pen and nothing else.

The list of types is open, so a pattern that matches nothing known is as good as any other. Only one
that is a letter or two from a known type is doubted: hosts have types of their own, and a warning
about each of them would soon be read by nobody.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from webhookd.core.catalog import Catalog
from webhookd.core.health import Change
from webhookd.core.matching import matches
from webhookd.core.rows import OWN_TYPES

LONGEST: Final = 50
"""Characters of a name that is compared: the work grows with both lengths."""
MOST_PATTERNS: Final = 10
"""Patterns of one subscription that are looked into; a thousand are not written by hand."""
MOST_SEEN: Final = 50
"""Types of the host's own that patterns are compared with."""
SHOWN: Final = 3

_LETTERS_A_SLIP: Final = 7
_MOST_SLIPS: Final = 2
_FAR: Final = 99
_STRUCTURE: Final = frozenset(".*@")
"""What divides a name, or stands for its parts: nobody writes a letter in its place by mistake."""

OWN: Final = (
    *(f"{OWN_TYPES}subscription.{change}" for change in Change),
    f"{OWN_TYPES}events.rejected",
)
"""webhookd's own types, which a subscription must name to get."""


@dataclass(frozen=True, slots=True)
class Known:
    """What event types there are, as far as one can know."""

    seen: Collection[tuple[str, str]]
    """Event type and aggregate type of the host's latest events."""
    catalog: Catalog

    def names(self, system: str) -> list[str]:
        """What a new pattern is compared with.

        A system's types count while the host has sent nothing yet, once it has sent one of them,
        and for a subscription in that system's own format: `system`.
        """
        found = [self.catalog.find(*types) for types in self.seen]
        relevant = {one.system.id for one in found if one is not None} | {system}
        names = [
            one.name for one in self.catalog.types if not self.seen or one.system.id in relevant
        ]
        for event_type, aggregate_type in list(self.seen)[:MOST_SEEN]:
            names += [event_type, f"{aggregate_type}.{event_type}"]
        return [name for name in dict.fromkeys([*names, *OWN]) if len(name) <= LONGEST]

    def matched(self, pattern: str) -> bool:
        """Whether a type that is known matches."""
        return (
            any(matches(pattern, *types) for types in self.seen)
            or any(
                matches(pattern, one.event_type, one.aggregate_type) for one in self.catalog.types
            )
            or any(matches(pattern, name, "") for name in OWN)
        )


def doubts(patterns: Iterable[str], known: Known, system: str) -> list[str]:
    """A line for each pattern that matches nothing known and looks like a slip in a known name."""
    unmatched = [one for one in patterns if len(one) <= LONGEST and not known.matched(one)]
    names = known.names(system) if unmatched else []
    found = []
    for pattern in unmatched[:MOST_PATTERNS]:
        near = nearest(pattern, names)
        if near:
            found.append(f"no known type matches `{pattern}`; near: {', '.join(near)}")
    return found


def nearest(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that `pattern` would match but for a slip, the nearest first; `SHOWN` at most."""
    letters = sum(1 for character in pattern if character not in _STRUCTURE)
    most = min(letters // _LETTERS_A_SLIP, _MOST_SLIPS)
    meant = pattern.casefold().replace("/", ".")
    needed = Counter(character for character in meant if character not in _STRUCTURE)
    ranked = sorted(
        (_slips(meant, name.casefold(), most), name)
        for name in names
        # Each letter that the name does not have is a slip: that rules out nearly all of them.
        if (needed - Counter(name.casefold())).total() <= most
    )
    return [name for slips, name in ranked if slips <= most][:SHOWN]


def _slips(pattern: str, name: str, most: int) -> int:
    """Letters missing, added, wrong or swapped; more than `most` are not counted to the end.

    Each `*` stands for one character or more of the name, at no cost. Row by row over the pattern:
    `row[n]` is what it costs to make its beginning match the first `n` characters of the name.
    """
    before: list[int] = []
    above: list[int] = []
    row = [0]
    for other in name:
        row.append(row[-1] + _cost(other))
    for at, character in enumerate(pattern):
        before, above, row = above, row, [row[0] + _cost(character)]
        for n, other in enumerate(name):
            if character == "*":
                row.append(min(above[n], row[n]))
                continue
            wrong = 0 if character == other else max(_cost(character), _cost(other))
            best = min(above[n] + wrong, above[n + 1] + _cost(character), row[n] + _cost(other))
            if at and n and character == name[n - 1] and pattern[at - 1] == other:
                best = min(best, before[n - 1] + max(_cost(character), _cost(other)))
            row.append(best)
        if min(row) > most:
            return _FAR
    return row[-1]


def _cost(character: str) -> int:
    """Of a letter that is one too many, or missing, or stands for another one."""
    return _FAR if character in _STRUCTURE else 1
