"""The demo's processes: the ERP, the commands and the daemon, each a child that is put away."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from webhookd.cli.demo.console import Console

LOG: Final = "daemon.log"
"""What the daemon says, in the demo's directory."""
ERP_LOG: Final = "erp.log"

CONFIG: Final = """\
database = "erp.db"

[egress]
allow = ["127.0.0.1"]     # the demo's partners are on this machine

[delivery]
shutdown_grace = "2s"
"""

LOOK_AGAIN: Final = 0.02
"""Seconds between two looks at what is waited for."""
CHUNK: Final = 65_536


class Broken(Exception):
    """The demo cannot go on; the text is one line for a person."""


def surroundings() -> dict[str, str]:
    """The environment of children: a real file that ours may name is none of the demo's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOKD_")}


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has run to its end."""

    code: int
    printed: str


class Stage:
    """Runs things in the demo's directory."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self.console = console
        self.waits_for = ""
        """What the story waits for now; `''` for nothing, or for a command's end."""
        self._daemon: trio.Process | None = None

    async def until(self, happened: Callable[[], bool | Awaitable[bool]], what: str) -> None:
        """Wait for it. The demo's deadline is the limit.

        Raises:
            Broken: it can no longer happen: the daemon has ended, or nobody watches.
        """
        self.waits_for = what
        while True:
            found = happened()
            if found if isinstance(found, bool) else await found:
                self.waits_for = ""
                return
            if self._daemon is not None and self._daemon.poll() is not None:
                raise Broken(f"the daemon ended with {self._daemon.returncode}; waited for {what}")
            if self.console.lost:
                raise Broken(f"standard output: {self.console.lost}")
            await trio.sleep(LOOK_AGAIN)

    async def webhookd(
        self, *arguments: str, shown: str = "", codes: Sequence[int] = (0,)
    ) -> Ended:
        """Run a command of webhookd's and show its line (`shown`, where that says it better).

        Raises:
            Broken: it ended with another code than `codes`.
        """
        self.console.say(f"$ webhookd {shown or shlex.join(arguments)}")
        done = await trio.run_process(
            self._command(*arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=surroundings(),
        )
        if codes and done.returncode not in codes:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise Broken(f"`webhookd {arguments[0]}` ended with {done.returncode}: {said}")
        return Ended(done.returncode, done.stdout.decode("utf-8", "replace"))

    async def start_daemon(self, nursery: trio.Nursery) -> int:
        """`webhookd run`, once it says that it is ready; returns its pid. Its end is the nursery's.

        Raises:
            Broken: it ended instead.
        """
        self.console.say(f"$ webhookd run 2> {LOG} &")
        with (self.home / LOG).open("wb") as log:
            self._daemon = await nursery.start(
                partial(
                    trio.run_process,
                    self._command("run"),
                    stdout=log,
                    stderr=log,
                    check=False,
                    env=surroundings(),
                )
            )
        await self.until(lambda: b'"daemon.ready"' in self._log(), "the daemon to be ready")
        return self._daemon.pid

    async def stop_daemon(self) -> int:
        """SIGTERM; returns its exit code."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            raise Broken("there is no daemon to stop")
        self.console.say(f"$ kill {daemon.pid}")
        daemon.terminate()
        return await daemon.wait()

    def last_words(self, lines: int) -> list[str]:
        """The end of the daemon's log, and all that the ERP complained of."""
        complaints = _text(self.home / ERP_LOG).splitlines()
        return _text(self.home / LOG).splitlines()[-lines:] + complaints[-lines:]

    def _log(self) -> bytes:
        return (self.home / LOG).read_bytes()

    def _command(self, *arguments: str) -> list[str]:
        config = str(self.home / "config.toml")
        return [sys.executable, "-m", "webhookd", "--config", config, *arguments]


class Erp:
    """The ERP's process, from this side of its stdin."""

    def __init__(
        self, pid: int, stdin: trio.abc.SendStream, stdout: trio.abc.ReceiveStream
    ) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._received = b""
        self.pid = pid
        self.sqlite = ""
        """The version of its SQLite."""

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path, nursery: trio.Nursery) -> "AsyncIterator[Erp]":
        """Start it on `erp.db`; it ends with the context."""
        with (home / ERP_LOG).open("wb") as log:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    [sys.executable, "-m", "webhookd.cli.demo.erp", str(home / "erp.db")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    check=False,
                    env=surroundings(),
                )
            )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("started without its pipes")
        erp = cls(process.pid, process.stdin, process.stdout)
        try:
            erp.sqlite = (await erp._answer())["sqlite"]
            yield erp
            await process.stdin.aclose()
            await process.wait()
        finally:
            await trio.aclose_forcefully(process.stdin)
            await trio.aclose_forcefully(process.stdout)

    async def transaction(self, statements: Sequence[str], *, commit: bool = True) -> list[int]:
        """One transaction; the rowid after each of its statements."""
        answer = await self._ask({"transaction": list(statements), "commit": commit})
        ids: list[int] = answer["ids"]
        return ids

    async def query(self, sql: str, **values: object) -> list[dict[str, Any]]:
        """What a SELECT finds."""
        answer = await self._ask({"query": sql, "values": values})
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def _ask(self, command: Mapping[str, object]) -> dict[str, Any]:
        try:
            await self._stdin.send_all(json.dumps(command).encode() + b"\n")
        except trio.BrokenResourceError:
            raise Broken("the ERP has ended") from None
        answer = await self._answer()
        if "error" in answer:
            raise Broken(f"the ERP: {answer['error']}")
        return answer

    async def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            data = await self._stdout.receive_some(CHUNK)
            if not data:
                raise Broken("the ERP has ended")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
