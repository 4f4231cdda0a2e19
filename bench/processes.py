"""The other processes of a benchmark. Each is ended by whoever started it, in a `with` block."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from bench.host import Commit
from bench.report import ROOT, BenchFailed

READY_WITHIN: Final = 30.0
"""Seconds that a process may take until it serves: an interpreter on a busy machine takes one."""

OVER_WITHIN: Final = 300.0
"""Seconds that a process may take to its end: a run takes a few."""

LOOK_EVERY: Final = 0.02

ENVIRONMENT: Final = {
    name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
}
"""Of every process: as where nobody has told Python not to keep what it compiles."""

NGINX: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  server {{
    {listen}
    location / {{ return 200; }}
    location = /count {{ stub_status; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that is serving."""

    name: str
    port: int

    @contextmanager
    def expecting(self, requests: Callable[[], int]) -> Iterator[None]:
        """A block in which so many requests arrive; how many is asked at its end.

        Raises:
            BenchFailed: there were more or fewer.
        """
        before = self._count()
        yield
        arrived = self._count() - before - 1  # the question itself counts
        if arrived != (expected := requests()):
            raise BenchFailed(f"{expected} requests were to be made, but {arrived} arrived")

    def _count(self) -> int:
        """All requests so far, as nginx tells them: three numbers in the third line."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}/count", trust_env=False)
        return int(answer.text.splitlines()[2].split()[2])


def addresses(endpoints: int) -> list[str]:
    """Of that many endpoints, each a host of its own: what is under way to one host is limited."""
    return [f"127.0.0.{number + 1}" for number in range(endpoints)]


def module(name: str, *arguments: object) -> list[str]:
    """The command line of a module that is run as a process."""
    return [sys.executable, "-m", name, *map(str, arguments)]


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process, ended with the block; what it says on stderr goes to `log`.

    `environment`: more than what every process has.
    """
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=ENVIRONMENT | dict(environment or {}),
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def output(command: Sequence[str], log: Path) -> str:
    """What a process writes to stdout up to its end.

    Raises:
        BenchFailed: it ended with another code than 0.
    """
    with running(command, log) as process:
        try:
            told, _ = process.communicate(timeout=OVER_WITHIN)
        except subprocess.TimeoutExpired:
            raise BenchFailed(f"{command[2]}: not over after {OVER_WITHIN:g} s") from None
    if process.returncode:
        raise BenchFailed(f"{command[2]}: exit code {process.returncode}: {_last_line(log)}")
    return told.decode()


def host_commits(
    database: Path, events: int, per_second: float, endpoints: int = 1
) -> list[Commit]:
    """What a host, in a process of its own, commits to the file: all of it, in its order."""
    command = module("bench.host", database, events, per_second, endpoints)
    told = output(command, database.with_name("host.log"))
    return [Commit.parse(line) for line in told.splitlines()]


@contextmanager
def receiver(
    folder: Path, certificate: Path | None = None, *, endpoints: int = 1
) -> Iterator[Receiver]:
    """nginx where there is one, else our own; both answer 200 to everything.

    With `certificate` (PEM, its key in the same file) they speak TLS. `endpoints`: they serve at
    the addresses of so many.
    """
    port = free_port()
    nginx = shutil.which("nginx")
    if nginx is None:
        more: tuple[str, ...] = () if certificate is None else (f"--certificate={certificate}",)
        more = (*more, f"--addresses={','.join(addresses(endpoints))}")
        name, command = "bench.receiver", module("bench.receiver", port, *more)
    else:
        config = folder / "nginx.conf"
        tls = f" ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}"
        listen = " ".join(
            f"listen {address}:{port}{tls if certificate else ''};"
            for address in addresses(endpoints)
        )
        text = NGINX.format(folder=folder, listen=listen)
        config.write_text(text, encoding="utf-8")
        name, command = "nginx", [nginx, "-p", str(folder), "-c", str(config)]
    with running(command, folder / "receiver.log") as process:
        wait_for_port(process, port, folder / "receiver.log")
        yield Receiver(name, port)


def free_port() -> int:
    """A port of the loopback address that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Return once `process` takes connections. Raises BenchFailed when it does not."""
    for _ in _looks(process, f"no receiver on port {port}", log):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return


def wait_for_line(process: "subprocess.Popen[bytes]", log: Path, text: str) -> None:
    """Return once `text` stands in a process's log. Raises BenchFailed when it never does."""
    for _ in _looks(process, f"never said {text!r}", log):
        if text in log.read_text(encoding="utf-8"):
            return


def _looks(process: "subprocess.Popen[bytes]", fault: str, log: Path) -> Iterator[None]:
    """Gives its caller one look after the other, as long as there is hope."""
    until = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < until:
        yield
        time.sleep(LOOK_EVERY)
    raise BenchFailed(f"{fault}: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"
