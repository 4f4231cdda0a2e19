"""Real processes, real files, real sockets: what the tests of the whole program are made of.

Everything that runs is a child process, ended by its pid when its test ends. The test itself opens
the database through `webhookd.store`'s own SQLite, and its hosts are processes of their own with
the SQLite of the standard library: two copies of the library never meet in one process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from webhookd.store.driver import Connection, sqlite3

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE = 30.0
"""Seconds after which whatever is waited for has failed: far more than any of it takes."""

WEBHOOKD = (sys.executable, "-m", "webhookd")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


def wait_until(condition: Callable[[], Any], what: str, within: float = PATIENCE) -> Any:
    """The first truthy value of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)
    return found


@pytest.fixture
def until() -> Callable[..., Any]:
    """`until(condition, what, within)`: see `wait_until`."""
    return wait_until


class Child:
    """A process that a test has started, and what it says, line by line in files."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path, printed: Path) -> None:
        self._process = process
        self._said = said
        self._printed = printed
        self.pid = process.pid

    @property
    def code(self) -> int | None:
        """The exit code (minus the signal's number); None while it runs."""
        return self._process.poll()

    def said(self) -> list[str]:
        """The lines on its stderr so far."""
        return self._said.read_text(encoding="utf-8").splitlines()

    def printed(self) -> list[str]:
        """The lines on its stdout so far."""
        return self._printed.read_text(encoding="utf-8").splitlines()

    def complaints(self) -> list[str]:
        """The lines on its stderr that are for a person: all that are no line of the log."""
        return [line for line in self.said() if not line.startswith("{")]

    def log(self, action: str) -> list[dict[str, Any]]:
        """The lines of its log about `action`; a line cut short by a kill is none."""
        found = []
        for line in self.said():
            if line.startswith("{") and line.endswith("}"):
                said = json.loads(line)
                if said["action"] == action:
                    found.append(said)
        return found

    def until_logged(self, action: str) -> dict[str, Any]:
        """Wait for the first line about `action`."""

        def look() -> list[dict[str, Any]]:
            assert self.log(action) or self.code is None, (
                f"ended with {self.code}: {self.said()[-3:]}"
            )
            return self.log(action)

        return wait_until(look, f"{action}, in {self._said}")[0]

    def memory(self, figure: str) -> int:
        """`VmRSS` (now) or `VmHWM` (the most so far), in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{figure}:"):
                return int(line.split()[1]) // 1024
        raise AssertionError(f"no {figure}: the process has ended")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, within: float = PATIENCE) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within:g} s: {self.said()[-5:]}") from None

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.terminate()
        return self.wait()

    def put_away(self) -> None:
        """End it, come what may."""
        if self.code is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a child process: `start(arguments, env=..., cwd=..., stderr=...)`."""
    children: list[Child] = []
    outputs: list[IO[bytes]] = []

    def run(
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stderr: int | None = None,
    ) -> Child:
        paths = [tmp_path / f"child-{len(children)}.{name}" for name in ("err", "out")]
        said, printed = (path.open("wb") for path in paths)
        outputs.extend((said, printed))
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=said if stderr is None else stderr,
            env=env,
            cwd=cwd or tmp_path,
        )
        children.append(Child(process, *paths))
        return children[-1]

    yield run
    for child in reversed(children):
        child.put_away()
    for output in outputs:
        output.close()


@pytest.fixture
def program(start: Start) -> Start:
    """Starts one of `programs/`: `program("host", database, 100)`."""

    def run(name: str, *arguments: object) -> Child:
        return start([sys.executable, PROGRAMS / f"{name}.py", *map(str, arguments)])

    return run


class Receiver:
    """A running `programs/receiver.py`."""

    def __init__(self, port: int, log: Path, script: Path) -> None:
        self.port = port
        self._log = log
        self._script = script
        self._read = 0
        self._requests: list[dict[str, Any]] = []

    def url(self, path: str) -> str:
        """The URL of one of its paths."""
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, **rules: Mapping[str, object]) -> None:
        """How it answers from now on: `answer(slow={"delay": 2})` for `/slow`."""
        fresh = self._script.with_suffix(".new")
        fresh.write_text(json.dumps({f"/{name}": rule for name, rule in rules.items()}))
        fresh.replace(self._script)

    def requests(self, path: str | None = None) -> list[dict[str, Any]]:
        """What has come so far, in order: `at` (ns), `path`, `status`, `headers`, `body`."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._requests.append(json.loads(line))
        return [one for one in self._requests if path is None or one["path"] == path]

    def count(self, path: str | None = None) -> int:
        """How many requests have come."""
        return len(self.requests(path))

    def until_count(self, count: int, path: str | None = None, within: float = PATIENCE) -> None:
        """Wait until as many requests have come, at least."""
        wait_until(lambda: self.count(path) >= count, f"{count} requests to {path}", within)


@pytest.fixture
def receiver(program: Start, tmp_path: Path) -> Receiver:
    """A receiver that answers 200 until it is told otherwise."""
    log, script = tmp_path / "received.jsonl", tmp_path / "script.json"
    log.touch()
    script.write_text("{}")
    child = program("receiver", log, script)
    wait_until(child.printed, "the port of the receiver")
    return Receiver(int(child.printed()[0]), log, script)


class Site:
    """A database with webhookd's configuration beside it, and the commands for them."""

    def __init__(self, home: Path, start: Start) -> None:
        self.database = home / "erp.db"
        self.config = home / "config.toml"
        self._start = start
        self._daemon: Child | None = None
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the configuration: the receiver is allowed, and whatever `more` says."""
        egress = '[egress]\nallow = ["127.0.0.1"]\n'
        self.config.write_text(f'database = "{self.database}"\n{egress}{more}')

    def arguments(self, *command: str) -> list[str]:
        """The whole command line of a command."""
        return [*WEBHOOKD, "--config", str(self.config), *command]

    def command(self, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `code` is what it must exit with (None: anything)."""
        done = subprocess.run(
            self.arguments(*command), capture_output=True, text=True, timeout=120, check=False
        )
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def prepare(self, *command: str) -> None:
        """`webhookd init`."""
        self.command("init", *command)

    def subscribe(self, name: str, url: str, *options: str) -> None:
        """`webhookd subscriptions add`, with retries soon enough for a test."""
        quick = ("--retry-delays", ",".join(["100ms", "200ms", *["300ms"] * 40]), "--jitter", "0.2")
        self.command(
            "subscriptions", "add", url, "--name", name, "--secret", SECRET, *quick, *options
        )

    def daemon(
        self, *, ready: bool = True, before: Sequence[str] = (), **surroundings: Any
    ) -> Child:
        """`webhookd run`, once it says that it is ready; `before` stands before the command."""
        child = self._daemon = self._start([*before, *self.arguments("run")], **surroundings)
        if ready:
            child.until_logged("daemon.ready")
        return child

    def refused(self) -> str:
        """The one line with which `webhookd run` refuses this file with exit code 4."""
        child = self.daemon(ready=False)
        assert child.wait() == 4, child.said()
        (line,) = child.said()
        assert line.startswith("webhookd: ")
        return line

    def open(self) -> Connection:
        """A connection for the test itself."""
        return sqlite3.connect(str(self.database), timeout=PATIENCE, isolation_level=None)

    def rows(self, sql: str, *values: object) -> list[Any]:
        """What a query finds."""
        connection = self.open()
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def value(self, sql: str, *values: object) -> Any:
        """The one value that a query finds."""
        return self.rows(sql, *values)[0][0]

    def execute(self, *statements: str) -> None:
        """Statements, each a transaction of its own; the connection is closed after them."""
        connection = self.open()
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close()

    def insert(self, count: int, *, aggregates: int = 10, kind: str = "order.changed") -> None:
        """`count` outbox rows in one transaction; their payloads are {"n": 1} and so on."""
        self.execute(
            "INSERT INTO outbox (event_type, aggregate_id, payload) WITH RECURSIVE n(n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})"
            f" SELECT '{kind}', 'A' || (n % {aggregates}),"
            " '{\"n\": ' || n || '}' FROM n"
        )

    def states(self) -> dict[str, int]:
        """How many deliveries there are by state."""
        return dict(self.rows("SELECT state, count(*) FROM webhook_results GROUP BY state"))

    def until_delivered(self, count: int, within: float = PATIENCE) -> None:
        """Wait until `count` deliveries are delivered, and no other is left."""
        deadline = time.monotonic() + within
        while (states := self.states()) != {"delivered": count}:
            assert time.monotonic() < deadline, f"not {count} delivered within {within:g} s"
            assert set(states) <= {"pending", "delivered"}, states
            assert self._daemon is None or self._daemon.code is None, self._daemon.said()[-2:]
            time.sleep(0.02)

    def until_delivered_by(self, name: str, count: int, within: float = PATIENCE) -> None:
        """Wait until `count` deliveries to one subscription are delivered."""
        sql = (
            "SELECT count(*) FROM webhook_results WHERE subscription_name = ?"
            " AND state = 'delivered'"
        )
        wait_until(lambda: self.value(sql, name) == count, f"{count} delivered to {name}", within)

    def intact(self) -> bool:
        """Whether SQLite finds nothing wrong with the file."""
        return bool(self.rows("PRAGMA integrity_check") == [("ok",)])


@pytest.fixture
def site(tmp_path: Path, start: Start) -> Site:
    """A directory with a configuration; `prepare` makes the database."""
    home = tmp_path / "site"
    home.mkdir()
    return Site(home, start)


@pytest.fixture
def bare_environment() -> dict[str, str]:
    """What a service manager with nothing set would give: no HOME, no locale but C."""
    return {"LANG": "C", "LC_ALL": "C", "PATH": os.defpath}
