"""Which subscriptions an event is for.

A pattern is `*` (everything), an exact type, or a type with `*` for one or more characters. It is
compared with the event type, and with `aggregate_type.event_type`, so that `SALESORDER.COMMITTED`
finds a row whose type is `COMMITTED` and whose aggregate type is `SALESORDER`.

webhookd's own events (`webhookd.` ...) are for those who name them: a pattern that begins with
`webhookd.`, on a subscription without a tenant. `*` does not ask for them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from webhookd.core.model import SubscriptionKey
from webhookd.core.rows import MAX_TEXT, MAX_TYPE, OWN_TYPES
from webhookd.core.text import printable

MAX_PATTERN: Final = MAX_TEXT + 1 + MAX_TYPE
"""Characters: the longest aggregate type, a dot and the longest event type."""
MEMO_LIMIT: Final = 4096
"""Types that a matcher remembers. A host has tens of them; one that makes up a new type for each
row must not make the daemon grow."""
MEMO_WEIGHT: Final = 262_144
"""Patterns, over all those types: thousands of distinct ones may match each type."""

_VISIBLE: Final = re.compile("[!-~]*")
"""What an event type is made of; an aggregate type may hold any text."""
_FOREIGN: Final = (
    (re.compile(r"/.*/"), "/ at both ends"),
    (re.compile(r"!.*"), "! at the beginning"),
    (re.compile(r".*\*\*.*"), "**"),
    (re.compile(r".*\?.*"), "?"),
    (re.compile(r".*\[.*"), "["),
)
"""What means something in other languages of patterns."""
_ALONE: Final = "only * stands for other characters here, all else for itself"


@dataclass(frozen=True, slots=True)
class Interest:
    """What one subscription wants."""

    key: SubscriptionKey
    events: tuple[str, ...]
    tenant: str
    """`''`: every tenant's events."""


def check_pattern(text: str) -> None:
    """Pass if `text` can be a pattern.

    Raises:
        ValueError: with one line that says what is wrong; the caller names the place.
    """
    if not text:
        raise ValueError('an event pattern is empty; "*" matches every event')
    if len(text) > MAX_PATTERN:
        raise ValueError(f"an event pattern has at most {MAX_PATTERN} characters")
    if not text.isprintable():
        raise ValueError(f"an event pattern is printable throughout: {printable(text, 80)}")
    if text != text.strip():
        raise ValueError(f'an event pattern has no blanks around it: "{printable(text, 80)}"')
    if not _can_match(text):
        raise ValueError(
            f'no event can match "{printable(text, 80)}": a type has 1 to {MAX_TYPE} visible ASCII '
            "characters, and only what stands before the dot of AGGREGATE_TYPE.EVENT_TYPE may have "
            "others"
        )


def _can_match(pattern: str) -> bool:
    """Whether there is an event type, or an aggregate type with one, that `pattern` matches."""
    if len(pattern) <= MAX_TYPE and _VISIBLE.fullmatch(pattern):
        return True
    return any(
        character in ".*"
        and _fits(at, MAX_TEXT, character)
        and _fits(len(pattern) - at - 1, MAX_TYPE, character)
        and _VISIBLE.fullmatch(pattern, at + 1)
        for at, character in enumerate(pattern)
    )


def _fits(length: int, most: int, between: str) -> bool:
    """Whether so much beside the dot can be a type; a `*` lends it a character if it has none."""
    return length <= most and (length > 0 or between == "*")


def doubt(pattern: str) -> str | None:
    """What may be meant otherwise in a pattern, in words; None where nothing looks so."""
    for foreign, what in _FOREIGN:
        if foreign.fullmatch(pattern):
            meaning = "each * stands for one character or more" if what == "**" else _ALONE
            return f'"{printable(pattern, 80)}" has {what}: {meaning}'
    return None


def matches(pattern: str, event_type: str, aggregate_type: str) -> bool:
    """Whether an event of this type is one that `pattern` asks for; the tenant is not looked at."""
    if event_type.startswith(OWN_TYPES) and not pattern.startswith(OWN_TYPES):
        return False
    if pattern == "*":
        return True
    return _matches_text(pattern, event_type) or (
        bool(aggregate_type) and _matches_text(pattern, f"{aggregate_type}.{event_type}")
    )


def _matches_text(pattern: str, text: str) -> bool:
    """Match from left to right, each part at its first place: no backtracking, whatever is asked.

    Taking the first place is right because a `*` behind it can take up what is left over.
    """
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    if not text.startswith(first):
        return False
    *middle, last = others
    end = len(first)
    for part in middle:
        start = text.find(part, end + 1)
        if start < 0:
            return False
        end = start + len(part)
    return len(text) - len(last) > end and text.endswith(last)


_Keys = tuple[SubscriptionKey, ...]
_KeysOfTenant = dict[str, _Keys]


class Matcher:
    """Finds an event's subscriptions among all of them; made anew when they change.

    The first look at a type costs a step for each distinct pattern with a `*`. After that a match
    costs a step for each distinct pattern that matches the type, and what it finds: subscriptions
    of other tenants or types cost nothing, be there 10,000.
    """

    def __init__(self, interests: Iterable[Interest]) -> None:
        found: dict[str, dict[str, list[SubscriptionKey]]] = {}
        for interest in sorted(interests, key=lambda interest: interest.key):
            for pattern in dict.fromkeys(interest.events):
                found.setdefault(pattern, {}).setdefault(interest.tenant, []).append(interest.key)
        keys: dict[str, _KeysOfTenant] = {
            pattern: {tenant: tuple(those) for tenant, those in of_tenant.items()}
            for pattern, of_tenant in found.items()
        }
        self._exact = {pattern: those for pattern, those in keys.items() if "*" not in pattern}
        self._open = [(pattern, those) for pattern, those in keys.items() if "*" in pattern]
        self._memo: dict[tuple[str, str], tuple[_KeysOfTenant, ...]] = {}
        self._weight = 0

    def match(self, event_type: str, aggregate_type: str, tenant: str) -> _Keys:
        """The subscriptions that an event is for, each once, in ascending order of their keys."""
        of_type = self._memo.get((event_type, aggregate_type))
        if of_type is None:
            of_type = self._first_look(event_type, aggregate_type)
        found = [keys[""] for keys in of_type if "" in keys]
        # An own event that concerns a tenant's subscription is not that tenant's to see.
        if tenant and not event_type.startswith(OWN_TYPES):
            found += [keys[tenant] for keys in of_type if tenant in keys]
        if len(found) == 1:
            return found[0]
        return tuple(sorted(set(chain.from_iterable(found))))

    def _first_look(self, event_type: str, aggregate_type: str) -> tuple[_KeysOfTenant, ...]:
        names = dict.fromkeys((event_type, f"{aggregate_type}.{event_type}"))
        of_type = tuple(
            keys
            for pattern, keys in chain(
                ((name, self._exact[name]) for name in names if name in self._exact), self._open
            )
            if matches(pattern, event_type, aggregate_type)
        )
        self._weight += len(of_type)
        if len(self._memo) >= MEMO_LIMIT or self._weight > MEMO_WEIGHT:
            self._memo.clear()
            self._weight = len(of_type)
        self._memo[event_type, aggregate_type] = of_type
        return of_type
