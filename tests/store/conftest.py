"""A prepared file of its own for each test, and few words to work on it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from webhookd.core.delivery import Happening, Move, Standing
from webhookd.core.model import DeliveryId, Reason, SubscriptionId, SubscriptionKey
from webhookd.core.storage import AttemptNote, Ingested, Record, Recorded, StoredSubscription
from webhookd.core.times import from_text
from webhookd.store import create, deliveries, driver, lockfile, subscriptions
from webhookd.store.sqlite import SqliteStore, open_checked
from webhookd.store.transaction import Session, Transaction

NOW = from_text("2026-01-31T12:00:00.000Z")
LIMIT = 1024 * 1024


def move_home(path: Path) -> None:
    """Let a file that was copied believe that it has always been here."""
    connection = driver.connect(path, mode="rw")
    connection.execute("UPDATE webhookd_file SET path = ?", (str(path),))
    connection.close()


def secret(value: str, *, is_reference: bool = False) -> subscriptions.NewSecret:
    return subscriptions.NewSecret(value, is_reference)


def new_subscription(name: str, **changes: Any) -> subscriptions.NewSubscription:
    given: dict[str, Any] = {
        "id": SubscriptionId(f"wh_{name:_<22}"),
        "name": name,
        "url": f"https://{name}.example.com/hook?token=hidden",
        "events": ("*",),
        "tenant": "",
        "profile": "standard",
        "mode": "",
        "method": "POST",
        "headers": (),
        "policy": {},
        "managed_by": "cli",
    }
    return subscriptions.NewSubscription(**given | changes)


class Box:
    """One file: the store as the daemon has it, a host beside it, and a command now and then."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.path = path
        self.now = NOW
        self.options: dict[str, Any] = {
            "default_tenant": "",
            "max_payload": LIMIT,
            "ids_never_reused": False,
            "known_mark": None,
        } | changes
        self.store: SqliteStore = open_checked(path, **self.options)
        self.host = driver.connect(path, mode="rw")
        self.host.execute("PRAGMA synchronous = OFF")  # how safe a host is, is its own affair

    def reopen(self) -> None:
        self.store.close()
        self.store = open_checked(self.path, **self.options)

    def close(self) -> None:
        self.store.close()
        self.host.close()

    def put(self, event_type: object = "supplier.created", **columns: object) -> int:
        """The host inserts a row; returns its id."""
        given = {"event_type": event_type, **columns}
        cursor = self.host.execute(
            f"INSERT INTO outbox ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
            list(given.values()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def ingest(self) -> Ingested:
        """One batch."""
        ahead = self.store.fresh(self.now)
        self.store.begin()
        done = self.store.ingest(self.now, ahead)
        self.store.commit()
        return done

    def ingest_all(self) -> list[Ingested]:
        found = [self.ingest()]
        while found[-1].more:
            found.append(self.ingest())
        return found

    def sweep_all(self) -> list[Ingested]:
        found: list[Ingested] = []
        while not found or found[-1].more:
            self.store.begin()
            found.append(self.store.sweep(self.now))
            self.store.commit()
        return found

    def subscribe(self, name: str = "one", **changes: Any) -> StoredSubscription:
        return self.command(
            lambda t: subscriptions.add(t, new_subscription(name, **changes), [], self.now)
        )

    def command(self, work: Callable[[Transaction], Any]) -> Any:
        """What a command of the CLI does in one transaction."""
        with Session(self.path, write=True) as session, session.write() as transaction:
            return work(transaction)

    def record(self, *records: Record) -> Recorded:
        ahead = self.store.examine(records)
        self.store.begin()
        done = self.store.record(records, self.now, ahead)
        self.store.commit()
        return done

    def attempts(self, delivery: int) -> int:
        found = self.one("SELECT attempts FROM webhookd_deliveries WHERE id = ?", delivery)
        assert isinstance(found, int)
        return found

    def succeed(self, delivery: int) -> Recorded:
        return self.record(self.outcome(delivery, Happening.SUCCEEDED, status=200))

    def retry(self, delivery: int, after: int = 5_000) -> Recorded:
        return self.record(self.outcome(delivery, Happening.RETRY, retry_at=self.now + after))

    def fail(self, delivery: int) -> Recorded:
        return self.record(self.outcome(delivery, Happening.FAILED, reason=Reason.EXHAUSTED))

    def cancel(self, delivery: int) -> Standing:
        done = self.command(lambda t: deliveries.cancel(t, delivery, self.now))
        assert isinstance(done, Standing)
        return done

    def reopen_delivery(self, delivery: int) -> Standing:
        done = self.command(lambda t: deliveries.retry(t, delivery, self.now))
        assert isinstance(done, Standing)
        return done

    def outcome(
        self,
        delivery: int,
        happening: Happening,
        *,
        status: int = 500,
        reason: Reason | None = None,
        retry_at: int | None = None,
        number: int | None = None,
        body: bytes = b"h" * 32,
    ) -> Record:
        good = happening is Happening.SUCCEEDED
        error = "" if good else f"http {status}"
        return Record(
            DeliveryId(delivery),
            Move(happening, self.now, reason, self.now - 20, status, error, retry_at),
            AttemptNote(
                self.attempts(delivery) + 1 if number is None else number,
                self.now - 20,
                15,
                status,
                "" if good else "http_5xx",
                error,
                "",
                b"ok" if good else b"sorry",
                body,
            ),
        )

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.host.execute(sql, values).fetchall()

    def one(self, sql: str, *values: object) -> Any:
        found = self.rows(sql, *values)
        assert len(found) == 1, found
        assert len(found[0]) == 1, found
        return found[0][0]

    def due(self, key: int, at: int | None = None, limit: int = 1000) -> list[int]:
        at = self.now if at is None else at
        return [due.id for due in self.store.due(SubscriptionKey(key), at, limit, ())]

    def results(self) -> list[dict[str, Any]]:
        cursor = self.host.execute("SELECT * FROM webhook_results ORDER BY delivery_id")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new file as `init` makes it, closed; copy it, never open it."""
    path = tmp_path_factory.mktemp("template") / "erp.db"
    create.prepare(
        path, table="outbox", start=None, ids_never_reused=False, may_create=True, now=NOW
    )
    lockfile.beside(path).unlink()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """A prepared file in WAL mode with an empty outbox."""
    copy = tmp_path / "erp.db"
    shutil.copyfile(template, copy)
    move_home(copy)
    return copy


@pytest.fixture
def box(path: Path) -> Iterator[Box]:
    made = Box(path)
    yield made
    made.close()
