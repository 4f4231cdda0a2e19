"""What the daemon and a store say to each other, as plain values: see `webhookd.core.store`."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from webhookd.core.delivery import Move, Standing
from webhookd.core.health import Change, Rule
from webhookd.core.model import (
    DeliveryId,
    Millis,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.model import Sequence as EventSequence
from webhookd.core.outcomes import Signs


class Due(NamedTuple):
    """A delivery whose time has come. Its event is read when there is a place to send from."""

    id: DeliveryId
    number: int
    """Its own consecutive number within its subscription."""
    attempts: int
    tries: int
    order_key: int
    """What it is in line with: an aggregate's key, -1 for the whole subscription, 0 for nothing."""
    event: EventSequence
    since: str
    """When it was taken in, or re-opened since then: what `max_age` counts from."""


class AttemptNote(NamedTuple):
    """One HTTP request and what came of it, as `webhookd_attempts` keeps it."""

    number: int
    started_at: Millis
    duration: Millis
    status: int | None
    error_class: str
    """`''` for a success; else one short word: `timeout`, `http_5xx` ..."""
    error: str
    """One printable line."""
    note: str
    """What was odd about it though it counted; one printable line, else `''`."""
    excerpt: bytes
    """The first bytes of the answer's body."""
    body_hash: bytes
    """SHA-256 of the body that was sent; `b''` where none could be built."""


class Record(NamedTuple):
    """An outcome on its way into the file."""

    delivery: DeliveryId
    move: Move
    attempt: AttemptNote | None
    """None where nothing was attempted (it could not be rendered, say)."""
    signs: Signs | None = None
    """What a failed attempt says of the endpoint; None where it says nothing."""
    since: str = ""
    """`Due.since` of what was attempted: which opening of the delivery it was; `''` for the one
    that it now has."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A change in a subscription's health that people are told of."""

    subscription: SubscriptionKey
    name: str
    change: Change
    rule: Rule | None
    """With `Change.DISABLED`: by which rule."""
    last_status: int | None = field(default=None, compare=False)
    """What the attempt was answered that brought it about; None where no answer came."""
    last_error: str = field(default="", compare=False)
    """What was wrong with it; `''` for nothing."""


@dataclass(frozen=True, slots=True)
class BodyChanged:
    """A delivery whose body is another one than at its first attempt, for the log."""

    delivery: DeliveryId
    subscription: str
    """Its name."""
    event: str
    """Its id."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What `record` did, effective once the transaction is committed."""

    standings: dict[DeliveryId, Standing]
    """Each recorded delivery as it now stands; one that is gone from the file is missing here."""
    ready: frozenset[SubscriptionKey]
    """Subscriptions in which another delivery has come to the head of its line."""
    body_changed: tuple[BodyChanged, ...]
    """Deliveries whose body is another one than at their first attempt."""
    notices: tuple[Notice, ...] = ()
    """What changed in the health of subscriptions, in its order."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """An outbox row that could not become an event."""

    outbox_id: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class DoubtedRow:
    """An outbox row whose payload is not made as its type's catalogue says."""

    outbox_id: int
    detail: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one batch of ingest did, effective once the transaction is committed."""

    events: int
    deliveries: int
    rejected: tuple[RejectedRow, ...]
    guessed_times: tuple[int, ...]
    """Outbox ids whose `occurred_at` could not be read, so that the time of ingest stands in."""
    ready: frozenset[SubscriptionKey]
    """Subscriptions that have a new delivery at the head of its line."""
    more: bool
    """The batch was full: there may be more rows."""
    doubted: tuple[DoubtedRow, ...] = ()
    """Rows that became events although their payload is not made as their type says."""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One secret as it lies in the file."""

    value: str = field(repr=False)
    """The secret itself, or the reference to it (`env:NAME`, `file:PATH`)."""
    is_reference: bool
    created_at: Millis
    expires_at: Millis | None


@dataclass(frozen=True, slots=True)
class StoredSubscription:
    """A subscription as it lies in the file: nothing resolved, nothing applied."""

    key: SubscriptionKey
    id: SubscriptionId
    name: str
    url: str = field(repr=False)
    events: tuple[str, ...]
    tenant: str
    profile: str
    mode: str
    method: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    policy: dict[str, object] = field(repr=False)
    """Only what differs from the profile's preset; spans in milliseconds."""
    state: SubscriptionState
    state_reason: str
    managed_by: str
    created_at: str
    secrets: tuple[StoredSecret, ...]
    """Newest first; expired ones included until they are pruned."""
    instructed: bool = False
    """A bulk change of what it is owed is under way: nothing is sent to it until that is done."""
    latest: tuple[int, str] | None = None
    """The key and kind of the newest bulk change of late, done or not."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A glance at what may have changed: cheap enough for every wake-up."""

    outbox_end: int | None
    """The highest id in the outbox; None when it is empty."""
    cursor: int
    """The highest id that has been ingested or rejected in order."""
    control: int
    """Moves whenever an operator changed something that lanes must obey."""
    roll: int
    """Moves whenever a subscription was added, changed or removed, or given an instruction."""
    unannounced: int
    """Rows rejected since the last summary of them."""
    unreadable: str = ""
    """Why the outbox is not to be read, so that its end is not known; `''` while it is."""
    sequence: int = 0
    """The highest that was ever given out."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of bulk work did, effective once the transaction is committed."""

    rows: int
    """Deliveries that it changed."""
    ready: frozenset[SubscriptionKey] = frozenset()
    """Subscriptions in which another delivery has come to the head of its line."""
    more: bool = False
    """There may be more of it to do."""
    whose: tuple[tuple[SubscriptionKey, int], ...] = ()
    """Of `let_pass`: how many of them are which subscription's."""


NO_STEP: Final = Step(0)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one step of retention took away, effective once the transaction is committed."""

    rows: dict[str, int]
    """How many of each kind, by the keys of `[retention]`."""
    more: bool = False
    """There may be more of that work to do."""


NOTHING_PRUNED: Final = Pruned({})


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """How far a checkpoint has come."""

    wal_bytes: int
    """What the write-ahead log takes on disk, used or not."""
    left: int
    """Pages of it that are not in the database file: readers need what they take the place of, or
    they were written meanwhile."""
    is_whole: bool
    """None is left, and nobody was in the way."""
