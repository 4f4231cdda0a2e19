"""The store that the daemon sees: one connection that writes, one that reads, both held open."""

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Final, Unpack, cast

from webhookd.core.columns import OWN, Columns
from webhookd.core.declaration import Declared, Difference
from webhookd.core.health import Health
from webhookd.core.model import DeliveryId, Event, Millis, Sequence, SubscriptionKey
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.core.storage import (
    Due,
    Outlook,
    Record,
    Recorded,
    Step,
    StoredSubscription,
)
from webhookd.core.store import Plain
from webhookd.core.structure import Validation
from webhookd.errors import DatabaseError, OutboxUnreadable
from webhookd.store import (
    acted,
    announce,
    bulk,
    capture_watch,
    checkup,
    create,
    health,
    keys,
    preflight,
    queue,
    sources,
    subscriptions,
    successes,
    upkeep,
)
from webhookd.store import declared as declarations
from webhookd.store import file as files
from webhookd.store.driver import connect, translated
from webhookd.store.file import FileRow
from webhookd.store.intake import Intake
from webhookd.store.options import Options
from webhookd.store.record import NOTHING_FOUND, record
from webhookd.store.successes import Success
from webhookd.store.transaction import Transaction, snapshot, undo

COMMIT_WAIT: Final = 100
LONGEST_COMMIT_WAIT: Final = 2_000
"""Milliseconds that a commit, in its thread, waits for whoever reads, in a file that is not in WAL
mode: doubled at each try in a row, because meanwhile no new reader of the host's gets in."""

OPEN_WAIT: Final = 5.0
"""Seconds that opening may wait for a host that is committing just then."""


class SqliteStore(Intake):
    """`webhookd.core.store.Store` on one SQLite file. Use from one thread at a time, but that
    `commit` may run in another one while only reading methods are called."""

    def __init__(
        self,
        path: Path,
        *,
        default_tenant: str,
        max_payload: int,
        ids_never_reused: bool,
        known_mark: dict[str, object] | None,
        table: str | None = None,
        columns: Columns = OWN,
        profiles: Known = BUILT_IN,
        validation: Validation | None = None,
    ) -> None:
        """Open a prepared file, migrate it if it is older, and hold it against what is known.

        Args:
            path: the real path, passed by `preflight.check`.
            default_tenant: of rows that name none.
            max_payload: bytes; larger payloads are rejected.
            ids_never_reused: the host vouches for a key that is no AUTOINCREMENT.
            validation: what payloads are held against; None where they are not.
            known_mark: what the lock file said before this start; None where there was none.
            table: the outbox that the file must have been prepared with; None for any.
            columns: where in that table the columns of the outbox are.
            profiles: by which ordering and policy of subscriptions are known.

        Raises:
            DatabaseError: unusable, not prepared, newer, moved, restored, or its outbox unfit.
        """
        super().__init__(
            path,
            default_tenant=default_tenant,
            max_payload=max_payload,
            profiles=profiles,
            validation=validation,
        )
        self._inode = files.inode(path)
        self._writer = connect(path, mode="rw", wait=OPEN_WAIT)
        try:
            self._reader = connect(path, mode="rw", wait=OPEN_WAIT)
        except BaseException:
            self._writer.close()
            raise
        try:
            with translated(path):
                self._reader.execute("PRAGMA query_only = 1")
                row = files.read(self._writer, path)
                files.check_mark(row, path, known_mark)
                files.check_home(row, path, files.machine_id())
                if table is not None:
                    files.check_outbox(row, path, table)
                self.applied = create.upgrade(self._writer, path)
                row = files.read(self._writer, path)
                sources.check_ready(
                    self._writer, path, row, columns, ids_never_reused=ids_never_reused
                )
                self._outbox = sources.open_outbox(self._writer, path, row, columns, max_payload)
                self.leave_checkpoints()
                # From here on nothing waits inside SQLite: the daemon's loop must turn.
                for connection in (self._writer, self._reader):
                    connection.execute("PRAGMA busy_timeout = 0")
                self._readers_block = self.journal_mode != "wal"
        except BaseException:
            self.close()
            raise
        self._known: FileRow = row
        self._seen: FileRow = row
        self._commit_wait = COMMIT_WAIT
        self._data_version = -1
        self._shift_from = self._shifted = 0
        self._turns = bulk.Turns()
        self._captures = capture_watch.SchemaWatch(capture_watch.faults)
        self._fitness = capture_watch.SchemaWatch(
            lambda connection, file: sources.unfit(
                connection, path, file, columns, ids_never_reused=ids_never_reused
            )
        )

    @property
    def journal_mode(self) -> str:
        """The host's journal mode: `wal`, `delete` ..."""
        return str(self._reader.execute("PRAGMA journal_mode").fetchone()[0])

    def begin(self) -> None:
        """Begin a writing transaction and make sure that the file is still the one we knew."""
        with translated(self.path):
            self._load_terms_ahead()
        transaction = Transaction(self._writer, self.path, self._profiles)
        try:
            self._check_known(transaction.file, self._known)
        except DatabaseError:
            undo(self._writer)
            raise
        self._transaction = transaction

    def seal(self) -> None:
        """Write down what the transaction has counted, so that `commit` has but to commit."""
        with translated(self.path):
            self._begun().seal()

    def commit(self) -> None:
        """Make the transaction durable. May run in a thread; blocks for the disk."""
        transaction = self._begun()
        self.seal()
        with translated(self.path):
            if self._readers_block:
                self._writer.execute(f"PRAGMA busy_timeout = {self._commit_wait}")
                # Readers that overlap without end must not keep us from ever committing.
                self._commit_wait = min(2 * self._commit_wait, LONGEST_COMMIT_WAIT)
            try:
                self._writer.execute("COMMIT")
            finally:
                if self._readers_block:
                    self._writer.execute("PRAGMA busy_timeout = 0")
        self._commit_wait = COMMIT_WAIT
        self._terms_in_doubt = False
        self._known = transaction.file
        self._swept, self._shifted = self._sweep_from, self._shift_from
        self._transaction = None

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        undo(self._writer)
        self._transaction = None
        # What was read or passed over in there may never have been.
        if self._terms_in_doubt:
            self._terms = None
        self._sweep_from, self._shift_from = self._swept, self._shifted

    def examine(self, records: Many[Record]) -> Plain:
        """Work out, ahead of the lock, what becomes of outcomes that need no second thought."""
        with translated(self.path), snapshot(self._reader) as connection:
            return Plain(successes.find(connection, records))

    def record(self, records: Many[Record], now: Millis, ahead: Plain | None = None) -> Recorded:
        """Write outcomes down and bring the next in line to the head."""
        found = NOTHING_FOUND if ahead is None else cast("Mapping[DeliveryId, Success]", ahead)
        with translated(self.path):
            transaction = self._begun()
            rules = self._current_terms(transaction)
            transaction.file, done = record(
                self._writer, transaction.file, rules, records, now, found
            )
            return done

    def carry_out(self, now: Millis) -> Step:
        """Take the next step of what operators have instructed: a batch of rows."""
        with translated(self.path):
            return bulk.carry_out(self._begun(), now, self._turns)

    def expire(self, key: SubscriptionKey, before: Millis, now: Millis) -> Step:
        """End a batch of what the subscription has been owed since before `before`."""
        with translated(self.path):
            return upkeep.expire(self._begun(), key, before, now)

    def let_pass(self, now: Millis) -> Step:
        """Let those behind heads that have failed for longer than `max_block` pass them."""
        with translated(self.path):
            return upkeep.let_pass(self._begun(), now)

    def bring_forward(
        self, key: SubscriptionKey, now: Millis, latest: Millis, passed: Millis
    ) -> Step:
        """Make due in time what a clock that went wrong has put off."""
        with translated(self.path):
            return upkeep.bring_forward(self._begun(), key, now, latest, passed)

    def shift_health(self, by: Millis, now: Millis) -> Step:
        """Move the moments of health by what the wall clock has jumped, a batch at a time."""
        with translated(self.path):
            connection = self._begun().connection
            step, self._shift_from = checkup.shift(connection, by, now, self._shift_from)
            return step

    def announce_rejected(self, now: Millis) -> Step:
        """Tell those who want to know of the rows rejected since the last time."""
        with translated(self.path):
            transaction = self._begun()
            rules = self._current_terms(transaction)
            transaction.file, step = announce.rejected(self._writer, transaction.file, rules, now)
            return step

    def outlook(self) -> Outlook:
        """Look whether anything changed, on the connection that reads."""
        # Taken first: while this reads, the commit's thread may get ahead of what is read.
        known = self._known
        with translated(self.path):
            row = files.reread(self._reader, self.path)
            self._check_known(row, known)
            self._seen = row
            end, unreadable = None, ""
            try:
                end = self._outbox.end(self._reader, row.cursor)
            except OutboxUnreadable as error:
                unreadable = str(error)
            return Outlook(
                end, row.cursor, row.control, row.roll, row.unannounced, unreadable, row.sequence
            )

    def changed(self) -> bool:
        """Whether another connection (our own writer's too) has committed since the last call."""
        with translated(self.path):
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
        moved: bool = version != self._data_version
        self._data_version = version
        return moved

    def rests(self) -> bool:
        """Whether the outbox was gone through to its end, in the version of the last `changed`."""
        return self._outbox.rests(self._data_version)

    def went_round(self) -> bool:
        """Whether all of the outbox was looked at since this was opened, but for what is new."""
        return self._outbox.went_round

    def due(
        self,
        key: SubscriptionKey,
        now: Millis,
        limit: int,
        without: Collection[DeliveryId],
    ) -> list[Due]:
        """Deliveries of one subscription that are due: see `webhookd.store.queue.due`."""
        with translated(self.path):
            return queue.due(self._reader, key, now, limit, without)

    def event(self, sequence: Sequence) -> Event | None:
        """An event with its payload; None if it is gone."""
        with translated(self.path):
            return queue.event(self._reader, sequence)

    def next_due(self, key: SubscriptionKey, after: Millis | None = None) -> Millis | None:
        """The subscription's earliest due time (later than `after`)."""
        with translated(self.path):
            return queue.next_due(self._reader, key, after)

    def waiting(self, after: SubscriptionKey, limit: int) -> list[SubscriptionKey]:
        """The next subscriptions, by key, that have anything due, now or later."""
        with translated(self.path):
            return queue.waiting(self._reader, after, limit)

    def health(self, key: SubscriptionKey) -> Health:
        """The subscription's health as recorded."""
        with translated(self.path):
            return health.read(self._reader, key)

    def owed_since(self, key: SubscriptionKey) -> Millis | None:
        """Since when the subscription is owed what it is owed for the longest; None for nothing."""
        with translated(self.path):
            return upkeep.owed_since(self._reader, key)

    def acted_on(self, after: int, limit: int) -> list[DeliveryId]:
        """Single deliveries that operators opened or cancelled since then: see `acted.find`."""
        with translated(self.path):
            return acted.find(self._reader, after, limit)

    def hastened(
        self, beyond: SubscriptionKey, since: Millis, now: Millis, limit: int
    ) -> tuple[list[DeliveryId], SubscriptionKey | None]:
        """Those that operators made due at once, of a few subscriptions: see `acted.hastened`."""
        with translated(self.path):
            return acted.hastened(self._reader, beyond, since, now, limit)

    def latest_due(self, key: SubscriptionKey, again: bool) -> Millis | None:
        """The latest due time of the subscription's first attempts, or of its further ones."""
        with translated(self.path):
            return queue.latest_due(self._reader, key, again)

    def capture_faults(self) -> tuple[str, ...]:
        """What is wrong with captures: see `webhookd.store.capture_watch`."""
        with translated(self.path):
            return self._captures.look(self._reader, self._known)

    def outbox_faults(self) -> tuple[str, ...]:
        """What keeps a daemon from starting on the outbox: see `webhookd.store.sources.unfit`."""
        with translated(self.path):
            return self._fitness.look(self._reader, self._known)

    def outbox_key(self, number: int) -> str | None:
        """The host's own key of an outbox row: see `webhookd.store.keys`."""
        with translated(self.path):
            return keys.shown(self._reader, number)

    def next_pass(self) -> Millis | None:
        """When the next line may pass a head that keeps failing; None where none may."""
        with translated(self.path):
            return queue.next_pass(self._reader)

    def subscriptions(self) -> list[StoredSubscription]:
        """All that are not removed, by key."""
        with translated(self.path):
            return subscriptions.load(self._reader)

    def difference(self, declared: Many[Declared]) -> Difference:
        """What `apply_declared` would do."""
        with translated(self.path):
            return declarations.difference(self._reader, declared)

    def apply_declared(self, declared: Many[Declared], now: Millis) -> Difference:
        """See `webhookd.store.declared.apply`."""
        with translated(self.path):
            return declarations.apply(self._begun(), declared, now)

    def check_file(self) -> None:
        """Raise DatabaseError when the path no longer leads to the file that was opened."""
        now = files.inode(self.path)
        if now == self._inode:
            return
        what = "was deleted" if now is None else "was replaced by another file"
        raise DatabaseError(
            f"{self.path}: {what} while webhookd ran; nothing more was sent or written. "
            "Put the right file in place without the old one's -wal and -shm beside it, and start "
            "webhookd again"
        )

    def mark(self) -> dict[str, object]:
        """The high-water mark: of the last commit here, or of a command's that was seen since."""
        known, seen = self._known, self._seen
        return files.as_mark(seen if seen.sequence > known.sequence else known)

    def close(self) -> None:
        """Close every connection."""
        super().close()
        for connection in (self._writer, self._reader):
            connection.close()

    def _check_known(self, row: FileRow, known: FileRow) -> None:
        """Notice a backup that was copied over the open file. Raises DatabaseError."""
        if row.sequence < known.sequence or row.cursor < known.cursor or row.uuid != known.uuid:
            files.check_mark(row, self.path, files.as_mark(known))

    def _begun(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("no transaction has begun")
        return self._transaction


def open_checked(path: Path, **options: Unpack[Options]) -> SqliteStore:
    """`SqliteStore` after the preflight that must come before the first open."""
    preflight.check(path)
    return SqliteStore(path, **options)
