"""What the model remembers: rows, events, subscriptions and deliveries, in its own words."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

PENDING: Final = "pending"
OWN: Final = "webhookd."
"""How the types of webhookd's own events begin."""
Line = tuple[Any, ...]
"""What stands in one line; () for a delivery that waits for nothing."""


def iso(wall: int) -> str:
    """A moment in milliseconds as the file writes it."""
    moment = datetime.fromtimestamp(wall // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall % 1000:03}Z"


def millis(text: str) -> int:
    """A moment of the file in milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@dataclass(eq=False)
class Row:
    """One row that the host committed (unless the power took it)."""

    n: int
    """The host's own count of rows; never used twice."""
    id: int
    columns: dict[str, Any]
    fault: str
    """The reason for which it must be rejected; '' for a good one."""
    at: float = 0.0
    """When it was committed, in virtual seconds."""
    low: bool = False
    """It was committed with an id at or below the cursor: no promise of order."""
    present: bool = True
    judged: str = ""
    """'event' or a reason, once webhookd has taken it in."""


@dataclass(frozen=True)
class Event:
    """One event as the file shows it."""

    sequence: int
    outbox_id: int
    event_id: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    tenant: str
    payload: bytes | None
    occurred_at: str
    ingested_at: str

    @property
    def is_own(self) -> bool:
        """It is one of webhookd's own."""
        return self.event_type.startswith(OWN)

    @property
    def aggregate(self) -> tuple[str, str, str] | None:
        """What it is about; None if it is about nothing."""
        if not self.aggregate_id or self.is_own:
            return None
        return self.tenant, self.aggregate_type, self.aggregate_id


class History:
    """Values and since when they were in force."""

    def __init__(self, value: Any, at: float) -> None:
        self._entries: list[tuple[float, Any]] = [(at, value)]

    def set(self, value: Any, at: float) -> None:
        """`value` is in force from `at` on."""
        self._entries.append((at, value))

    @property
    def now(self) -> Any:
        """The newest value."""
        return self._entries[-1][1]

    def since(self, moment: float) -> list[Any]:
        """All values in force at any time from `moment` on."""
        found = [value for at, value in self._entries if at >= moment]
        before = [value for at, value in self._entries if at < moment]
        return [*before[-1:], *found]


@dataclass
class Health:
    """What the recorded attempts of a subscription say of its endpoint."""

    ill: int = 0
    failing: bool = False
    failures: int = 0
    no_success_since: int | None = None
    no_success_at: float = 0.0
    """The same in virtual seconds, which no clock moves."""
    held_until: int | None = None
    streak: list["Delivery"] = field(default_factory=list)
    """Deliveries that failed, since the last success or the last enabling."""

    def enabled(self) -> None:
        """An operator has enabled it."""
        self.failures, self.streak = 0, []
        self.no_success_since = self.held_until = None


@dataclass(eq=False)
class Secret:
    """What a subscription's requests are signed with."""

    at: float
    """Since when it is there."""
    key: bytes
    until: History
    """The wall time at which it ends."""
    hidden: bool = False
    """It is kept where it cannot always be found."""


def new_secret(at: float, key: bytes, *, hidden: bool = False) -> Secret:
    """One without an end."""
    return Secret(at, key, History(math.inf, at), hidden)


@dataclass(eq=False)
class Sub:
    """A subscription as its operators made it."""

    key: int
    name: str
    tenant: str
    patterns: tuple[str, ...]
    url: History
    policy: History
    state: History
    secrets: list["Secret"]
    """All that it ever had, the newest last."""
    pattern_edits: int = 0
    """How often an operator has changed what it wants, be it to what it was before."""
    removed_at: float | None = None
    missing: str = ""
    """The variable that its newest secret is to be read from, while that is not set."""
    found_at: float = float("-inf")
    """When it was set."""
    health: Health = field(default_factory=Health)
    """What its recorded attempts say of it, by the model's own account."""
    instructed_at: float = float("-inf")
    """When an instruction for it was last under way."""
    moved_at: float = float("-inf")
    """When any of its deliveries was last moved."""
    enabled_at: float = float("-inf")
    """When an operator last enabled it."""

    def line_of(self, event: Event, ordering: str = "") -> Line:
        """The line in which a delivery of this event stands, by the ordering as it is now."""
        ordering = ordering or self.policy.now["ordering"]
        if ordering == "subscription":
            return (self.key,)
        if event.is_own:
            # Those about one subscription are in order, whatever the ordering of others is.
            return (self.key, OWN, event.aggregate_id) if event.aggregate_id else ()
        if ordering == "aggregate" and event.aggregate is not None:
            return (self.key, *event.aggregate)
        return ()

    def replace_secrets(self, at: float, until: float) -> None:
        """Those there are end by `until`, in wall time, at the latest."""
        for secret in self.secrets:
            secret.until.set(min(secret.until.now, until), at)

    def wants(self, event: Event) -> bool:
        """Whether it is owed this event."""
        if self.removed_at is not None or (self.tenant and self.tenant != event.tenant):
            return False
        if event.is_own:
            asked = [one for one in self.patterns if one.startswith(OWN)]
            about_itself = event.aggregate_id == "wh_" + self.name.ljust(22, "_")
            return not about_itself and any(_fits(one, event.event_type) for one in asked)
        names = {event.event_type, f"{event.aggregate_type}.{event.event_type}"}
        return any(_fits(pattern, name) for pattern in self.patterns for name in names)


def _fits(pattern: str, name: str) -> bool:
    if pattern == "*" or pattern == name:
        return True
    before, star, after = pattern.partition("*")
    middle = len(name) - len(before) - len(after)
    return bool(star) and middle > 0 and name.startswith(before) and name.endswith(after)


@dataclass(eq=False)
class Delivery:
    """One delivery: as the file showed it last, and what the model counted by itself."""

    id: int
    event: Event
    sub: Sub
    number: int
    line: Line
    sequence: int
    created_at: str
    opened: int = 0
    """The sequence at which the file says that it was opened again."""
    since: str = ""
    """From when on its age counts."""
    finished_at: str | None = None
    passed: bool = False
    """Those behind it have passed it: it stands in no line any more."""
    failing_since: int | None = None
    """When its first attempt since it was opened failed, in wall time."""
    failing_at: float = 0.0
    """And in virtual seconds."""
    state: str = PENDING
    reason: str = ""
    attempts: int = 0
    tries: int = 0
    """Attempts recorded since it was opened; the model's own count."""
    touched_at: float = float("-inf")
    """When an operator last moved it."""
    reopened_at: float = float("-inf")
    not_before: str = ""
    """When its next try may be, as its last attempt was recorded; '' once an operator moved it."""
    not_before_of: tuple[float, int] = (0.0, 0)
    """When that attempt ended, in virtual seconds, and how far ahead of it the next may be, in
    milliseconds: the outcome may wait for the file, and the clock may jump meanwhile."""
    too_late: bool = False
    """The daemon was to stop when it was made: the next one sends it."""
    body: bytes | None = None
    """The bytes of its first request."""
    requests: list[Any] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        return self.state == PENDING

    def before(self, other: "Delivery") -> bool:
        """Whether it comes first where both stand in one line."""
        return self.event.sequence < other.event.sequence

    @property
    def kind(self) -> tuple[Any, ...] | None:
        """What a newer one must be equal in to take its place; None where none can."""
        event = self.event
        if event.payload is not None or event.aggregate is None:
            return None
        return self.sub.key, *event.aggregate, event.event_type

    def __str__(self) -> str:
        return f"delivery {self.id} ({self.sub.name}, {self.event.event_id})"
