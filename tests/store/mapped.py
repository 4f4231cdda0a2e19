"""Tables that hosts have made for their own outboxes, and few words to work on them."""

from pathlib import Path
from typing import Any

from tests.store.conftest import NOW, Box
from webhookd.core.columns import Columns
from webhookd.store import create, driver

DEBEZIUM = Columns(
    id="id",
    event_type="type",
    aggregate_type="aggregatetype",
    aggregate_id="aggregateid",
    tenant="",
    payload="payload",
    occurred_at="",
    event_id="id",
)
_REST = "aggregatetype TEXT, aggregateid TEXT, type TEXT, payload TEXT"


def ordered(column: str) -> Columns:
    """Debezium's columns, in the order of another one."""
    return Columns(
        **{name: getattr(DEBEZIUM, name) for name in DEBEZIUM.__slots__ if name != "order_column"},
        order_column=column,
    )


KINDS = {
    "integer": (
        f"CREATE TABLE outboxevent (id TEXT, {_REST}, seq INTEGER PRIMARY KEY AUTOINCREMENT)",
        ordered("seq"),
    ),
    "ordered": (
        f"CREATE TABLE outboxevent (id TEXT PRIMARY KEY, {_REST}, seq INTEGER)",
        ordered("seq"),
    ),
    "text order": (
        f"CREATE TABLE outboxevent (id TEXT NOT NULL UNIQUE, {_REST}, seq TEXT)",
        ordered("seq"),
    ),
    "keys alone": (
        f"CREATE TABLE outboxevent (id TEXT PRIMARY KEY, {_REST}, seq INTEGER)",
        DEBEZIUM,
    ),
    "no row numbers": (
        f"CREATE TABLE outboxevent (id TEXT PRIMARY KEY, {_REST}, seq INTEGER) WITHOUT ROWID",
        DEBEZIUM,
    ),
    "no row numbers, ordered": (
        f"CREATE TABLE outboxevent (id TEXT PRIMARY KEY, {_REST}, seq INTEGER) WITHOUT ROWID",
        ordered("seq"),
    ),
}
LEDGERS = [kind for kind in KINDS if kind != "integer"]
ORDERED = ["integer", "ordered", "text order", "no row numbers, ordered"]


class Mapped(Box):
    """A file whose outbox the host has made."""

    def __init__(self, path: Path, kind: str, *, start: Any = "beginning", rows: int = 0) -> None:
        sql, self.columns = KINDS[kind]
        self.kind = kind
        host = driver.connect(path, mode="rwc")
        host.execute("PRAGMA journal_mode = WAL")
        host.execute(sql)
        if kind != "integer":
            host.execute("CREATE INDEX by_seq ON outboxevent (seq)")
        self.seq = 0
        self.host = host
        for n in range(rows):
            self.row(f"old-{n}")
        self.prepare(path, start)
        host.close()
        super().__init__(path, columns=self.columns, ids_never_reused=True, table="outboxevent")

    def prepare(self, path: Path, start: Any = None) -> create.Prepared:
        """`webhookd init`."""
        return create.prepare(
            path,
            table="outboxevent",
            start=start,
            columns=self.columns,
            ids_never_reused=True,
            may_create=False,
            now=NOW,
        )

    def row(self, key: str | None, *, seq: object = None, **columns: object) -> None:
        """The host inserts a row; its order value grows unless it is told."""
        self.seq += 1
        given = {
            "id": key,
            "aggregatetype": "order",
            "aggregateid": "A1",
            "type": "order.changed",
            "payload": "{}",
            "seq": f"{self.seq:09}" if self.kind == "text order" else self.seq,
        } | columns
        if seq is not None:
            given["seq"] = seq
        if self.kind == "integer":
            del given["seq"]
        self.host.execute(
            f"INSERT INTO outboxevent ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
            list(given.values()),
        )

    def look(self, looks: int = 30) -> list[str]:
        """What the daemon does at so many looks, as long as there is anything to look for; returns
        the event ids of all events, in order."""
        for _ in range(looks):
            if not self.store.changed() and self.store.rests():
                break
            seen = self.store.outlook()
            while seen.outbox_end is not None and seen.outbox_end > seen.cursor:
                self.ingest_all()
                seen = self.store.outlook()
        return self.taken()

    def taken(self) -> list[str]:
        """The ids of all events, in order."""
        return [
            one for (one,) in self.rows("SELECT event_id FROM webhookd_events ORDER BY sequence")
        ]
