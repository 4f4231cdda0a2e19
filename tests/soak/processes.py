"""The processes of a soak, each ended by its pid with the block that started it."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "system" / "programs"
READY_WITHIN = 60.0
END_WITHIN = 60.0


class Refused(Exception):
    """A process did not do what the soak needs of it."""


@contextmanager
def program(name: str, *arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
    """One of the programs of the system tests."""
    command_line = [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def command(site: Path, *arguments: str) -> None:
    """A command of webhookd, to its end. Raises Refused."""
    done = subprocess.run(webhookd(site, *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{arguments[0]}: exit code {done.returncode}: {done.stderr.strip()}")


def webhookd(site: Path, *arguments: str) -> list[str]:
    """The command line of a command."""
    return [sys.executable, "-m", "webhookd", "--config", str(site / "config.toml"), *arguments]


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Daemon:
    """`webhookd run`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._proc = Path(f"/proc/{process.pid}")

    @classmethod
    @contextmanager
    def running(cls, site: Path) -> Iterator["Daemon"]:
        """A daemon that is ready; killed at the end of the block unless it has ended by then."""
        log = site / "daemon.log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(webhookd(site, "run"), stderr=errors) as process,
        ):
            try:
                until = time.monotonic() + READY_WITHIN
                while b'"daemon.ready"' not in log.read_bytes():
                    if process.poll() is not None or time.monotonic() > until:
                        raise Refused(f"the daemon is not ready: {log.read_text()[-300:]}")
                    time.sleep(0.05)
                yield cls(process)
            finally:
                process.kill()

    @property
    def code(self) -> int | None:
        """The exit code, if it has ended."""
        return self._process.poll()

    def figures(self) -> tuple[float, int, int]:
        """MiB of memory, descriptors, threads. Raises Refused when it has ended by itself."""
        try:
            status = (self._proc / "status").read_text(encoding="ascii")
            said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            memory = int(said["VmRSS"].split()[0]) / 1024
            return memory, len(list((self._proc / "fd").iterdir())), int(said["Threads"])
        except (OSError, KeyError):
            raise Refused(f"the daemon has ended by itself, with {self.code}") from None

    def reload(self) -> None:
        """SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.terminate()
        return self._process.wait(END_WITHIN)
