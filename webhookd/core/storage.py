"""What the daemon and a store say to each other: plain values, and the one Protocol between them.

A store is synchronous. What changes it happens between `begin` and `commit`: the caller decides
when to wait and how often to try again; the store never waits for a lock. What only reads may be
called at any time, also while a commit is under way elsewhere.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from webhookd.core.declaration import Declared, Difference
from webhookd.core.delivery import Move, Standing
from webhookd.core.health import Change, Health, Rule
from webhookd.core.model import (
    DeliveryId,
    Event,
    Millis,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.model import Sequence as EventSequence
from webhookd.core.outcomes import Signs
from webhookd.core.profiles import Known
from webhookd.core.retention import Retention, Work
from webhookd.core.structure import Validation


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come. Its event is read when there is a place to send from."""

    id: DeliveryId
    number: int
    """Its own consecutive number within its subscription."""
    attempts: int
    tries: int
    order_key: int
    """What it is in line with: an aggregate's key, -1 for the whole subscription, 0 for nothing."""
    due_at: Millis
    event: EventSequence
    since: str
    """When it was taken in, or re-opened since then: what `max_age` counts from."""


@dataclass(frozen=True, slots=True)
class AttemptNote:
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


@dataclass(frozen=True, slots=True)
class Record:
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
    is_whole: bool
    """All of it is in the database file: nobody reads what is older, and nobody wrote meanwhile."""


class Store(Protocol):
    """The daemon's view of the file."""

    def begin(self) -> None:
        """Begin a writing transaction.

        Raises:
            StoreBusy: another connection holds the write lock.
            StoreUnwritable: the disk is full or the file read-only.
            DatabaseError: the file is no longer the one that was opened, or is damaged.
        """

    def seal(self) -> None:
        """Write down what the transaction has counted, so that `commit` has but to commit."""

    def commit(self) -> None:
        """Make it durable; blocks for the disk, so the daemon calls it in a thread."""

    def rollback(self) -> None:
        """Undo the transaction, if there is one; never raises for the file's sake."""

    def fresh(self, now: Millis) -> object:
        """What `ingest` takes in next, read and judged before the write lock is taken.

        Raises:
            OutboxUnreadable: the outbox is not as it was agreed.
        """

    def ingest(self, now: Millis, ahead: object = None) -> Ingested:
        """Take in the next batch of outbox rows: events, deliveries owed and cursor together.

        `ahead`: what `fresh` found; what is not so any more is looked up again.

        Raises:
            OutboxUnreadable: the outbox is not as it was agreed.
        """

    def sweep(self, now: Millis) -> Ingested:
        """Take in rows that appeared below the cursor, from the next stretch of gaps.

        Raises:
            OutboxUnreadable: the outbox is not as it was agreed.
        """

    def examine(self, records: Sequence[Record]) -> object:
        """What `record` will make of them, as far as it is plain before the lock is taken."""

    def record(self, records: Sequence[Record], now: Millis, ahead: object = None) -> Recorded:
        """Write outcomes down and bring the next in line to the head.

        `ahead`: what `examine` found of them.

        Raises:
            StoreBusy: something of `ahead` is not so any more: look again.
        """

    def carry_out(self, now: Millis) -> Step:
        """Take the next step of what operators have instructed: a batch of rows."""

    def expire(self, key: SubscriptionKey, before: Millis, now: Millis) -> Step:
        """End a batch of what the subscription has been owed since before `before`."""

    def let_pass(self, now: Millis) -> Step:
        """Let those behind heads that have failed for longer than `max_block` pass them."""

    def bring_forward(self, key: SubscriptionKey, now: Millis, latest: Millis) -> Step:
        """Make due in time what a clock that went wrong has put off.

        First attempts are made due at `now`, further ones at `latest`. Called again with the same
        times while there is more.
        """

    def shift_health(self, by: Millis, now: Millis) -> Step:
        """Move the moments of health by what the wall clock has jumped, a batch at a time.

        Each subscription has its turn once, up to the step that says there is no more.
        """

    def announce_rejected(self, now: Millis) -> Step:
        """Tell those who want to know of the rows rejected since the last time."""

    def prune(self, work: Work, kept: Retention, now: Millis) -> Pruned:
        """Take away a batch of what is kept no longer.

        Raises:
            OutboxUnreadable: the outbox's rows cannot be deleted.
        """

    def may_prune(self, work: Work, kept: Retention, now: Millis) -> bool:
        """Whether `prune` would find anything: cheap, and takes no lock."""

    def forget_keys(self) -> Step:
        """Forget a batch of keys of a host's own outbox whose rows and events are gone."""

    def may_forget_keys(self) -> bool:
        """Whether the next stretch has such keys; goes round, a stretch a call, without a lock."""

    def give_back(self) -> Step:
        """Give a batch of free pages back to the file system, where the file can do that."""

    def can_give_back(self) -> bool:
        """Whether `give_back` would: cheap, and takes no lock."""

    def wal_bytes(self) -> int:
        """What the write-ahead log takes on disk."""

    def checkpoint(self, *, truncate: bool) -> Checkpointed | None:
        """Bring the write-ahead log into the database file; None where that is not ours to do.

        It waits for nobody, and keeps nobody out but with `truncate`, for a moment, from writing.
        It blocks for the disk, so the daemon calls it in a thread; never two at once.
        """

    def outlook(self) -> Outlook:
        """Look whether anything changed; an outbox that cannot be read hides nothing else."""

    def changed(self) -> bool:
        """Whether any connection but this one's has committed since the last call; costs 4 µs."""

    def due(
        self,
        key: SubscriptionKey,
        now: Millis,
        limit: int,
        without: Collection[DeliveryId],
    ) -> list[Due]:
        """Deliveries of one subscription that are due, at most `limit`, none of `without`.

        First attempts and further ones in turn, each oldest due time first, so that a crowd of
        one kind does not keep the other waiting.
        """

    def waiting(self, after: SubscriptionKey, limit: int) -> list[SubscriptionKey]:
        """The next subscriptions that have anything due, now or later; quiet ones cost nothing.

        By key, those above `after`; fewer than `limit` where these are the last.
        """

    def health(self, key: SubscriptionKey) -> Health:
        """The subscription's health as recorded."""

    def owed_since(self, key: SubscriptionKey) -> Millis | None:
        """Since when the subscription is owed what it is owed for the longest; None for nothing."""

    def acted_on(self, after: int, since: Millis, now: Millis, limit: int) -> list[DeliveryId]:
        """At most `limit` deliveries that operators opened again, cancelled or made due at once.

        That was after the sequence `after`, which was the file's at `since`.
        """

    def latest_due(self, key: SubscriptionKey, again: bool) -> Millis | None:
        """The latest due time of the subscription's first attempts; of its further ones: `again`.

        None where nothing of the kind is due, ever.
        """

    def next_pass(self) -> Millis | None:
        """When the next line may pass a head that keeps failing; None where none may."""

    def event(self, sequence: EventSequence) -> Event | None:
        """An event with its payload; None if it is gone."""

    def next_due(self, key: SubscriptionKey, after: Millis | None = None) -> Millis | None:
        """The subscription's earliest due time (later than `after`); None if there is none."""

    def capture_faults(self) -> tuple[str, ...]:
        """What is wrong with captures, each in one line with its remedy; costs 4 µs mostly."""

    def outbox_key(self, number: int) -> str | None:
        """The host's own key of an outbox row; None where its outbox id is that."""

    def subscriptions(self) -> list[StoredSubscription]:
        """All that are not removed, by key."""

    def difference(self, declared: Sequence[Declared]) -> Difference:
        """What `apply_declared` would do. Raises ConfigError as that does; only reads."""

    def apply_declared(self, declared: Sequence[Declared], now: Millis) -> Difference:
        """Make the file's declared subscriptions what they are declared to be.

        Raises:
            ConfigError: a name is taken, or what cannot be changed is declared otherwise.
        """

    def set_terms(
        self,
        *,
        default_tenant: str,
        max_payload: int,
        validation: Validation | None,
        profiles: Known,
    ) -> None:
        """By what rows and subscriptions are judged from the next batch on.

        It says nothing to the file. In a transaction that has begun, it counts for what is done
        after it.
        """

    def check_file(self) -> None:
        """Raise DatabaseError when the path no longer leads to the file that was opened."""

    def mark(self) -> dict[str, object]:
        """The high-water mark of the last commit, as the lock file keeps it."""

    def close(self) -> None:
        """Close every connection."""
