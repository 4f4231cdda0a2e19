"""What the daemon is given: a file with subscriptions and events. And what it made of it."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bench.processes import Receiver, addresses, module
from bench.report import BenchFailed
from bench.writing import ingesting
from webhookd.core import model
from webhookd.core.model import Event, SubscriptionId
from webhookd.core.profiles import BUILT_IN
from webhookd.core.request import Request
from webhookd.daemon.roster import Member, enroll
from webhookd.daemon.storage import CHECKPOINT_PAGES
from webhookd.store import create, subscriptions
from webhookd.store.driver import Connection, connect
from webhookd.store.sqlite import SqliteStore, open_checked
from webhookd.store.transaction import Session

ATTEMPTS: Final = (
    "SELECT count(*) FROM webhookd_attempts WHERE delivery IN"
    " (SELECT id FROM webhookd_deliveries WHERE subscription <= ?)"
)
LOOPBACK: Final = "127.0.0.1"
ALL: Final = (1 << 63) - 1
"""Subscriptions: the key of the last one, at most."""

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 - guards nothing

PAYLOAD: Final = (
    '{"code":"V%06d","name":"Hoeve de Linde BV","city":"Aalsmeer","country":"NL",'
    '"currency":"EUR","credit_limit":12500.00,"blocked":false,"tags":["flowers","export"]}'
)
"""What a host might send of a supplier: 160 bytes."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A prepared file with events in its outbox, each owed to exactly one subscription."""

    database: Path
    config: Path
    events: int

    def command(self, *options: str) -> list[str]:
        """The command line of the real daemon on this file."""
        return [*module("webhookd", "--config", self.config, "run"), *options]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A subscription that is to be made: all its defaults but for these."""

    port: int
    tenant: str = ""
    patterns: tuple[str, ...] = ("*",)
    address: str = LOOPBACK
    policy: Mapping[str, object] = field(default_factory=dict)


def prepare(
    folder: Path, *, port: int, endpoints: int, events: int, apart: bool = False
) -> Workload:
    """Make a file in `folder` whose `events` are spread evenly over `endpoints` subscriptions.

    Each event is an aggregate of its own. Several subscriptions are told apart by tenant and path;
    one alone has no tenant, and so gets every event. `apart`: each has an address of its own.
    """
    places = addresses(endpoints) if apart else [LOOPBACK] * endpoints
    workload = prepare_for(
        folder,
        [
            Endpoint(port, f"tenant-{number:02d}" if endpoints > 1 else "", address=place)
            for number, place in enumerate(places)
        ],
    )
    with Session(workload.database, write=True) as session, session.write() as transaction:
        insert(transaction.connection, range(events), endpoints)
    return replace(workload, events=events)


def prepare_for(folder: Path, endpoints: Sequence[Endpoint]) -> Workload:
    """Make a file in `folder` with these subscriptions and no event.

    All defaults: WAL, profile `standard` with a signature, order by aggregate.
    """
    database = folder / "host.db"
    now = time.time_ns() // 1_000_000
    create.prepare(
        database, table="outbox", start=None, ids_never_reused=False, may_create=True, now=now
    )
    with Session(database, write=True) as session, session.write() as transaction:
        for number, endpoint in enumerate(endpoints):
            subscriptions.add(
                transaction,
                subscriptions.NewSubscription(
                    id=SubscriptionId(f"wh_{number:022d}"),
                    name=f"endpoint {number}",
                    url=f"http://{endpoint.address}:{endpoint.port}/webhooks/{number:02d}",
                    events=endpoint.patterns,
                    tenant=endpoint.tenant,
                    profile="standard",
                    mode="",
                    method="POST",
                    headers=(),
                    policy=dict(endpoint.policy),
                    managed_by="cli",
                ),
                [subscriptions.NewSecret(SECRET, is_reference=False)],
                now,
            )
    config = folder / "config.toml"
    config.write_text('database = "host.db"\n[egress]\nallow = ["127.0.0.0/8"]\n', encoding="utf-8")
    return Workload(database, config, 0)


def insert(connection: Connection, numbers: Iterable[int], endpoints: int = 1) -> None:
    """Put a row into the outbox for each number, within a transaction of the caller's."""
    insert_rows(
        connection,
        ((number, "supplier.created", f"tenant-{number % endpoints:02d}") for number in numbers),
    )


def insert_rows(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """The same of rows with a number, an event type and a tenant each."""
    connection.executemany(
        "INSERT INTO outbox (event_type, aggregate_id, tenant, payload) VALUES (?, ?, ?, ?)",
        ((kind, f"V{number:06d}", tenant, PAYLOAD % number) for number, kind, tenant in rows),
    )


def open_store(workload: Workload) -> SqliteStore:
    """The daemon's own store on the file; to be closed by the caller."""
    return open_checked(
        workload.database,
        default_tenant="",
        max_payload=1 << 20,
        ids_never_reused=False,
        known_mark=None,
    )


def take_in(store: SqliteStore) -> list[float]:
    """Ingest all that is in the outbox, so that it is owed.

    Returns:
        Milliseconds for which each batch held the write lock.
    """
    now = time.time_ns() // 1_000_000
    held, more = [], True
    while more:
        done, commit = ingesting(store, now)
        held.append(commit())
        if store.wal_pages() >= CHECKPOINT_PAGES:
            store.checkpoint(truncate=False)
        more = done.more
    return held


def member(workload: Workload) -> Member:
    """The first subscription, as the daemon has it."""
    with Session(workload.database, write=False) as session, session.read() as connection:
        found = enroll(subscriptions.load(connection)[0], BUILT_IN, {}, time.time_ns() // 1_000_000)
    if not isinstance(found, Member):
        raise BenchFailed(found.problem)
    return found


def request(workload: Workload) -> Request:
    """The very request that the daemon makes of one of the events."""
    event = Event(
        sequence=model.Sequence(1),
        outbox_id=1,
        event_id="01939f3a-7c00-7000-8000-000000000000",
        event_type="supplier.created",
        aggregate_type="supplier",
        aggregate_id="V000000",
        tenant="tenant-00",
        payload=(PAYLOAD % 0).encode(),
        occurred_at="2025-01-01T00:00:00.000Z",
    )
    return member(workload).renderer.render(
        event, number=10_000, attempt=1, now=time.time_ns() // 1_000_000
    )


@contextmanager
def arriving(workload: Workload, serving: Receiver, *, last: int = ALL) -> Iterator[None]:
    """A block whose attempts, as the file has them at its end, have each arrived, once.

    `last`: of the subscriptions up to that key; the others are not at this receiver. The daemon
    must have ended by the end of the block.

    Raises:
        BenchFailed: an attempt was recorded and not made, made twice, or made and not recorded.
    """
    before = _attempts(workload, last)
    with serving.expecting(lambda: _attempts(workload, last) - before):
        yield


def _attempts(workload: Workload, last: int) -> int:
    with closing(connect(workload.database, mode="ro")) as connection:
        found: int = connection.execute(ATTEMPTS, (last,)).fetchone()[0]
    return found


def check_delivered(workload: Workload) -> None:
    """Raises BenchFailed unless every event was delivered, once, with one attempt."""
    connection = connect(workload.database, mode="ro")
    try:
        states = connection.execute(
            "SELECT state, attempts, count(*), count(DISTINCT event_id) FROM webhook_results"
            " GROUP BY state, attempts"
        ).fetchall()
        attempts = connection.execute("SELECT count(*) FROM webhookd_attempts").fetchone()[0]
    finally:
        connection.close()
    events = workload.events
    if states != [("delivered", 1, events, events)] or attempts != events:
        raise BenchFailed(
            f"{events} events, but the file says {states} (state, attempts, deliveries, events)"
            f" and has {attempts} attempts"
        )


def check_so_far(workload: Workload) -> None:
    """Raises BenchFailed unless all that was attempted was delivered at its first attempt."""
    connection = connect(workload.database, mode="ro")
    try:
        states = connection.execute(
            "SELECT state, attempts, count(*) FROM webhookd_deliveries GROUP BY state, attempts"
        ).fetchall()
        attempts = connection.execute("SELECT count(*) FROM webhookd_attempts").fetchone()[0]
    finally:
        connection.close()
    found = {(state, made): count for state, made, count in states}
    done = found.pop(("delivered", 1), 0)
    if found.keys() - {("pending", 0)} or done != attempts:
        raise BenchFailed(f"the file says {states} (state, attempts, deliveries), {attempts} made")


def check_sent(workload: Workload) -> None:
    """Raises BenchFailed unless a script (`bench.scripts`) has recorded every event as sent."""
    connection = connect(workload.database, mode="ro")
    try:
        sent = connection.execute("SELECT count(*) FROM sent WHERE status = 200").fetchone()[0]
    finally:
        connection.close()
    if sent != workload.events:
        raise BenchFailed(f"{workload.events} events, but the script has recorded {sent}")


def first_attempt_at(workload: Workload) -> str:
    """When the first request was begun, as the file has it."""
    connection = connect(workload.database, mode="ro")
    try:
        found: str = connection.execute("SELECT min(started_at) FROM webhookd_attempts").fetchone()[
            0
        ]
    finally:
        connection.close()
    return found
