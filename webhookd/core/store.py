"""The one Protocol between the daemon and its file.

A store is synchronous. What changes it happens between `begin` and `commit`: the caller decides
when to wait and how often to try again; the store never waits for a lock. What only reads may be
called at any time, also while a commit is under way elsewhere.
"""

from collections.abc import Collection, Sequence
from typing import NewType, Protocol

from webhookd.core.declaration import Declared, Difference
from webhookd.core.health import Health
from webhookd.core.model import DeliveryId, Event, Millis, SubscriptionKey
from webhookd.core.model import Sequence as EventSequence
from webhookd.core.profiles import Known
from webhookd.core.retention import Retention, Work
from webhookd.core.storage import (
    Checkpointed,
    Due,
    Ingested,
    Outlook,
    Pruned,
    Record,
    Recorded,
    Step,
    StoredSubscription,
)
from webhookd.core.structure import Validation

Waiting = NewType("Waiting", object)
"""Rows of the outbox as they were before the write lock was taken. Only a store knows more."""
Plain = NewType("Plain", object)
"""Outcomes that need no second thought if things stand as they did. Only a store knows more."""


class Stale(Exception):
    """What was looked at ahead is not so any more: undo, and read under the lock."""


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

    def fresh(self, now: Millis) -> Waiting | None:
        """What `ingest` takes in next, read and judged before the write lock is taken.

        None where that is only known under the lock.

        Raises:
            OutboxUnreadable: the outbox is not as it was agreed.
        """

    def ingest(self, now: Millis, ahead: Waiting | None = None) -> Ingested:
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

    def examine(self, records: Sequence[Record]) -> Plain:
        """What `record` will make of them, as far as it is plain before the lock is taken."""

    def record(
        self, records: Sequence[Record], now: Millis, ahead: Plain | None = None
    ) -> Recorded:
        """Write outcomes down and bring the next in line to the head.

        `ahead`: what `examine` found of them.

        Raises:
            Stale: something of `ahead` is not so any more.
        """

    def carry_out(self, now: Millis) -> Step:
        """Take the next step of what operators have instructed: a batch of rows."""

    def expire(self, key: SubscriptionKey, before: Millis, now: Millis) -> Step:
        """End a batch of what the subscription has been owed since before `before`."""

    def let_pass(self, now: Millis) -> Step:
        """Let those behind heads that have failed for longer than `max_block` pass them."""

    def bring_forward(
        self, key: SubscriptionKey, now: Millis, latest: Millis, passed: Millis
    ) -> Step:
        """Make due in time what a clock that went wrong has put off.

        First attempts are made due at `now`, further ones at `latest`, where they are due later
        than these times were the milliseconds that have `passed` since added. Called again with
        the same times while there is more.
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
            OutboxMissing: the outbox is gone, or a column of it.
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

    def wal_pages(self) -> int:
        """Pages of it that wait for a checkpoint; 0 where commits see to that by themselves.

        Costs some microseconds; to be asked between transactions.
        """

    def checkpoint(self, *, truncate: bool) -> Checkpointed | None:
        """Bring the write-ahead log into the database file; None where that is not ours to do.

        It waits for nobody, and keeps nobody out but with `truncate`, for a moment, from writing.
        It blocks for the disk, so the daemon calls it in a thread; never two at once.
        """

    def outlook(self) -> Outlook:
        """Look whether anything changed; an outbox that cannot be read hides nothing else."""

    def changed(self) -> bool:
        """Whether any connection but this one's has committed since the last call; costs 4 µs."""

    def rests(self) -> bool:
        """Whether the outbox was gone through to its end since the file last changed."""

    def went_round(self) -> bool:
        """Whether all of the outbox was looked at since this was opened, but for what is new."""

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

    def acted_on(self, after: int, limit: int) -> list[DeliveryId]:
        """At most `limit` deliveries that operators opened again or cancelled after a sequence."""

    def hastened(
        self, beyond: SubscriptionKey, since: Millis, now: Millis, limit: int
    ) -> tuple[list[DeliveryId], SubscriptionKey | None]:
        """At most `limit` deliveries that operators made due at once between these moments.

        Of a few subscriptions, by key after `beyond`; also where the next few begin, None at the
        end.
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

    def outbox_faults(self) -> tuple[str, ...]:
        """Why a daemon would not start on the outbox as the host has made it since; as cheap."""

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
