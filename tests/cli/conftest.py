"""One file, one configuration, and the command line over them."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from webhookd.cli.main import cli
from webhookd.core.delivery import Happening, Move
from webhookd.core.model import DeliveryId, Reason
from webhookd.core.storage import AttemptNote, Record
from webhookd.store.driver import connect
from webhookd.store.sqlite import SqliteStore


class Cli:
    """Runs commands on the file `database` with the configuration `config`."""

    def __init__(self, home: Path) -> None:
        self.config = home / "config.toml"
        self.database = home / "erp.db"
        self.configure("")

    def configure(self, text: str) -> None:
        self.config.write_text(f'database = "{self.database.name}"\n{text}')

    def __call__(self, *args: str, code: int = 0, stdin: str | bytes | None = None) -> Result:
        result = self.invoke(*args, stdin=stdin)
        assert result.exit_code == code, result.output
        assert ("Traceback" in result.stderr) == (code == 70)
        return result

    def invoke(self, *args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.config), *args], input=stdin)

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self(*args, "--json", code=code).stdout)

    def fails(self, *args: str, code: int, stdin: str | None = None) -> str:
        """The one line that a command says when it ends with `code`, and nothing else."""
        result = self(*args, code=code, stdin=stdin)
        assert result.stdout == ""
        said = [line for line in result.stderr.splitlines() if ": warning: " not in line]
        assert len(said) == 1, result.stderr
        assert said[0].startswith("webhookd: ")
        return said[0].removeprefix("webhookd: ")

    def add(self, *args: str, name: str = "partner") -> dict[str, Any]:
        shown: dict[str, Any] = self.json(
            "subscriptions", "add", "https://partner.example/in", "--name", name, *args
        )
        return shown

    def emit(self, *args: str) -> int:
        shown: dict[str, int] = self.json("events", "emit", *args)
        return shown["outbox_id"]

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """What another program does to the file."""
        connection = connect(self.database, mode="rw", wait=5)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def init_vouched_for(self) -> None:
        """A host's own table, whose ids only the configuration says never come back."""
        self.configure('[outbox]\ntable = "said"\nids = "never-reused"\n')
        connect(self.database, mode="rwc", wait=5).execute(
            "CREATE TABLE said (id INTEGER PRIMARY KEY, event_type TEXT, aggregate_type TEXT,"
            " aggregate_id TEXT, tenant TEXT, payload TEXT, occurred_at TEXT, event_id TEXT)"
        ).connection.close()
        self("init")

    def insert(self, count: int) -> None:
        """What a busy host does: rows without an aggregate, all of one type."""
        self.sql(
            "INSERT INTO outbox (event_type) WITH RECURSIVE n(i) AS"
            " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT 'a.b' FROM n",
            count,
        )

    def store(self) -> SqliteStore:
        return SqliteStore(
            self.database.resolve(),
            default_tenant="",
            max_payload=1_048_576,
            ids_never_reused=False,
            known_mark=None,
        )

    def ingest(self, now: int = 1_800_000_000_000) -> None:
        """What the daemon does with the outbox."""
        store = self.store()
        try:
            more = True
            while more:
                store.begin()
                more = store.ingest(now).more
                store.commit()
        finally:
            store.close()

    def record(self, *records: Record, now: int = 1_800_000_001_000) -> None:
        """What the daemon does with outcomes."""
        store = self.store()
        try:
            store.begin()
            store.record(records, now)
            store.commit()
        finally:
            store.close()

    def deliver(self, delivery: int) -> None:
        note = AttemptNote(1, 1_800_000_000_500, 20, 200, "", "", "", b"thanks", b"")
        happened = Move(Happening.SUCCEEDED, 1_800_000_000_520, attempted_at=note.started_at)
        self.record(Record(DeliveryId(delivery), happened, note))

    def give_up(self, delivery: int) -> None:
        note = AttemptNote(1, 1_800_000_000_500, 20, 500, "http_5xx", "status 500", "", b"", b"")
        happened = Move(
            Happening.FAILED,
            1_800_000_000_520,
            reason=Reason.EXHAUSTED,
            attempted_at=note.started_at,
            status=500,
            error="status 500",
        )
        self.record(Record(DeliveryId(delivery), happened, note))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Nothing prepared yet."""
    for name in ("WEBHOOKD_CONFIG", "WEBHOOKD_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    return Cli(tmp_path)


@pytest.fixture
def webhookd(bare: Cli) -> Cli:
    """A prepared file without subscriptions."""
    bare("init")
    return bare


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers as its server says, and remembers there what it was asked."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.path, dict(self.headers), body)

    def do_OPTIONS(self) -> None:
        self._answer(self.path, dict(self.headers))

    def _answer(self, *asked: object) -> None:
        server: Any = self.server
        server.asked.append(asked)
        self.send_response(server.status)
        for name, value in server.answer.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A receiver on a socket: what it was `asked`, the `status` and the headers of its `answer`."""
    server: Any = http.server.HTTPServer(("127.0.0.1", 0), Answering)
    server.asked, server.status, server.answer = [], 204, {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
