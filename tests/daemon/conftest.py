"""The daemon in virtual time: a real store on a real file, a scripted receiver, a clock to bend.

`world` is the whole outside of a daemon: the host that inserts, the operator who changes things,
the receivers, and the wall clock. Time is Trio's mock clock, so an hour costs nothing.
"""

import base64
import contextlib
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from webhookd.config.settings import Delivery, Settings
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import (
    Answer,
    Fault,
    FaultKind,
    Phase,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
    Url,
)
from webhookd.core.store import Store
from webhookd.daemon import heartbeat, janitor, storage, tailer, upkeep
from webhookd.daemon.daemon import Daemon
from webhookd.daemon.tailer import Hints
from webhookd.logs.actions import Action
from webhookd.store import create, deliveries, subscriptions
from webhookd.store.driver import Connection, connect
from webhookd.store.sqlite import SqliteStore
from webhookd.store.transaction import Session, Transaction

EPOCH = 1_790_000_000_000
"""The wall time at which a test begins, in milliseconds."""
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OK = Answer(200)
DOWN = Answer(503)


class FakeClock:
    """Wall time that goes with Trio's, from `EPOCH`, and jumps when a test says so."""

    def __init__(self) -> None:
        self.offset = 0

    def now(self) -> int:
        return EPOCH + self.offset + round(trio.current_time() * 1000)


@dataclass(frozen=True)
class Seen:
    """One request as a receiver saw it."""

    who: str
    """The subscription's name: the first label of the URL's host."""
    at: float
    """Seconds of Trio's time at which it came."""
    headers: Mapping[str, str]
    body: bytes
    wire: bytes = field(repr=False)
    url: str = ""

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def sequence(self) -> int:
        return int(self.headers["webhookd-sequence"])

    @property
    def attempt(self) -> int:
        return int(self.headers["webhookd-attempt"])

    @property
    def data(self) -> Any:
        return json.loads(self.body).get("data")

    @property
    def n(self) -> int:
        """The number that `World.insert` gave the row."""
        return int(self.data["n"])

    @property
    def aggregate(self) -> str:
        return str(self.data["a"])


@dataclass(frozen=True)
class After:
    """A reply that takes some seconds."""

    seconds: float
    reply: Any


HANG = After(float("inf"), OK)
Script = Callable[[Seen], Any]


def parse(url: Url, wire: bytes) -> Seen:
    """A request's bytes, taken apart; what a receiver would refuse fails here."""
    head, _, body = wire.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    assert first == f"POST {url.target} HTTP/1.1"
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers
        headers[name.lower()] = value
    assert int(headers["content-length"]) == len(body)
    return Seen(url.host.split(".")[0], trio.current_time(), headers, body, wire, url.text)


class FakeChannel:
    """Stands in for `webhookd.http.channel.Channel`; one task at a time, closed in the end."""

    def __init__(self, sender: "FakeSender") -> None:
        self._sender = sender
        self._busy = False
        self.closed = False

    async def send(
        self,
        url: Url,
        wire: bytes,
        timeout: int,  # noqa: ASYNC109
        terms: object = None,
    ) -> Answer | Fault:
        assert not self._busy, "two requests at once on one channel"
        assert not self.closed
        self._busy = True
        self._sender.terms.append(terms)
        seen = parse(url, wire)
        self._sender.begin(seen)
        try:
            await trio.lowlevel.checkpoint()
            reply = self._sender.script(seen)
            with trio.move_on_after(timeout / 1000):
                while isinstance(reply, After):
                    await trio.sleep(reply.seconds)
                    reply = reply.reply
                if isinstance(reply, BaseException):
                    raise reply
                assert isinstance(reply, Answer | Fault)
                return reply
            return Fault(FaultKind.TIMEOUT, f"no answer within {timeout} ms", Phase.HEAD)
        finally:
            self._busy = False
            self._sender.end(seen)

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class FakeSender:
    """Receivers that answer by a script; remembers every request, and who overlapped whom."""

    def __init__(self) -> None:
        self.script: Script = lambda _: OK
        self.seen: list[Seen] = []
        self.finished: list[Seen] = []
        self.terms: list[object] = []
        """On which each request was to be sent."""
        self.channels: list[FakeChannel] = []
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.lines: Counter[tuple[str, str]] = Counter()
        self.egress: list[EgressPolicy] = []
        """Every policy that it was told to use, newest last."""
        self.one_line_at_a_time = True
        """Whether two requests of one aggregate at once fail the test."""

    def channel(self) -> FakeChannel:
        self.channels.append(FakeChannel(self))
        return self.channels[-1]

    def use(self, egress: EgressPolicy) -> None:
        self.egress.append(egress)

    def begin(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.under_way[seen.who] += 1
        self.most[seen.who] = max(self.most[seen.who], self.under_way[seen.who])
        line = (seen.who, str(seen.data.get("a", "")) if isinstance(seen.data, dict) else "")
        self.lines[line] += 1
        assert not (self.one_line_at_a_time and line[1] and self.lines[line] > 1), line

    def end(self, seen: Seen) -> None:
        self.finished.append(seen)
        self.under_way[seen.who] -= 1
        line = (seen.who, str(seen.data.get("a", "")) if isinstance(seen.data, dict) else "")
        self.lines[line] -= 1

    def of(self, who: str) -> list[Seen]:
        """The requests that one subscription sent, in order."""
        return [seen for seen in self.seen if seen.who == who]


class World:
    """Everything around a daemon."""

    epoch = EPOCH
    secret = SECRET
    ok = OK
    down = DOWN
    hang = HANG
    after = After

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = Settings(database=path)
        self.clock = FakeClock()
        self.sender = FakeSender()
        self.stores: list[SqliteStore] = []
        self.rows = 0
        self._host: Connection | None = None
        create.prepare(
            path, table="outbox", start=None, ids_never_reused=False, may_create=True, now=EPOCH
        )

    @property
    def host(self) -> Connection:
        """The host's own connection."""
        if self._host is None:
            self._host = connect(self.path, mode="rw")
        return self._host

    def close(self) -> None:
        for store in self.stores:
            store.close()
        self.stores.clear()
        if self._host is not None:
            self._host.close()
            self._host = None

    def set(self, **delivery: int) -> None:
        """Change `[delivery]` for daemons made from now on."""
        self.settings = replace(self.settings, delivery=replace(Delivery(), **delivery))

    @contextlib.contextmanager
    def command(self) -> Iterator[Transaction]:
        """A transaction of an operator's command."""
        with Session(self.path, write=True) as session, session.write() as transaction:
            yield transaction

    def subscribe(
        self,
        name: str,
        *,
        events: Sequence[str] = ("*",),
        secret: str | None = SECRET,
        profile: str = "standard",
        **policy: object,
    ) -> SubscriptionKey:
        """Add a subscription; `policy` as the file has it, spans in milliseconds."""
        new = subscriptions.NewSubscription(
            id=SubscriptionId("wh_" + name.ljust(22, "_")),
            name=name,
            url=f"https://{name}.example/hook",
            events=tuple(events),
            tenant="",
            profile=profile,
            mode="",
            method="POST",
            headers=(),
            policy={"jitter": 0.0, **policy},
            managed_by="cli",
        )
        secrets = []
        if secret is not None:
            secrets = [subscriptions.NewSecret(secret, secret.startswith(("env:", "file:")))]
        with self.command() as transaction:
            return subscriptions.add(transaction, new, secrets, EPOCH).key

    def state(self, key: SubscriptionKey, state: SubscriptionState) -> None:
        with self.command() as transaction:
            subscriptions.set_state(transaction, key, state, "operator")

    def update(self, key: SubscriptionKey, **changes: Any) -> None:
        with self.command() as transaction:
            subscriptions.update(transaction, key, changes)

    def remove(self, key: SubscriptionKey) -> None:
        with self.command() as transaction:
            subscriptions.remove(transaction, key, EPOCH)

    def retry(self, delivery: int) -> None:
        with self.command() as transaction:
            deliveries.retry(transaction, delivery, self.clock.now())

    def cancel(self, delivery: int) -> None:
        with self.command() as transaction:
            deliveries.cancel(transaction, delivery, self.clock.now())

    def insert(
        self, aggregate: str = "", event_type: str = "order.changed", **columns: object
    ) -> int:
        """A row by the host; its payload says which aggregate, and the how-manieth row it is."""
        self.rows += 1
        values = {
            "event_type": event_type,
            "aggregate_id": aggregate or None,
            "payload": json.dumps({"a": aggregate, "n": self.rows}),
            **columns,
        }
        self.host.execute(
            f"INSERT INTO outbox ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            list(values.values()),
        )
        return self.rows

    def table(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """What a query finds."""
        cursor = self.host.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def deliveries(self, who: str = "") -> list[dict[str, Any]]:
        """Deliveries as the feed shows them, oldest first."""
        rows = self.table("SELECT * FROM webhook_results ORDER BY delivery_id")
        return [row for row in rows if not who or row["subscription_name"] == who]

    def states(self, who: str = "") -> list[str]:
        return [row["state"] for row in self.deliveries(who)]

    def attempts(self) -> list[dict[str, Any]]:
        return self.table("SELECT * FROM webhookd_attempts ORDER BY delivery, number")

    def store(self) -> SqliteStore:
        store = SqliteStore(
            self.path,
            default_tenant="",
            max_payload=1_048_576,
            ids_never_reused=False,
            known_mark=None,
            profiles=self.settings.profiles,
        )
        self.stores.append(store)
        return store

    def daemon(
        self,
        *,
        store: Store | None = None,
        hints: Hints | None = None,
        linger: float = 4.0,
        seed: int = 1,
    ) -> Daemon:
        return Daemon(
            self.settings,
            storage.AsyncStore(
                store or self.store(), commit=storage.inline, dice=random.Random(seed)
            ),
            sender=self.sender,
            clock=self.clock,
            hints=hints,
            linger=linger,
            dice=random.Random(seed),
        )

    @contextlib.asynccontextmanager
    async def running(self, daemon: Daemon | None = None, **options: Any) -> AsyncIterator[Daemon]:
        """A daemon at work for the length of the block, stopped gently at its end."""
        daemon = daemon or self.daemon(**options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.run, name="daemon")
            yield daemon
            daemon.stop()
        assert all(channel.closed for channel in self.sender.channels)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A file with an empty outbox and no subscription, and all around it."""
    made = World(tmp_path / "erp.db")
    yield made
    made.close()


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """Worlds of one's own, by name."""
    made: list[World] = []

    def make(name: str) -> World:
        (tmp_path / name).mkdir()
        made.append(World(tmp_path / name / "erp.db"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def warnings(expected_logs: list[Any]) -> Callable[[], Counter[Action]]:
    """How often each action was said so far, of those that a person has to read; none is stray."""
    return lambda: Counter(one.action for one in expected_logs if one.levelno >= logging.WARNING)


@pytest.fixture
def long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days of virtual time without a million looks at the file."""
    monkeypatch.setattr(tailer, "POLL", 300.0)
    monkeypatch.setattr(upkeep, "EVERY", 300.0)
    monkeypatch.setattr(upkeep, "CLOCK_EVERY", 300.0)
    monkeypatch.setattr(janitor, "EVERY", 3_600.0)
    monkeypatch.setattr(janitor, "WAL_EVERY", 3_600.0)
    monkeypatch.setattr(heartbeat, "EVERY", 300.0)
