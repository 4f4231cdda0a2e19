"""A receiver of webhooks that does what it is told and remembers everything.

    receiver.py LOG SCRIPT

It listens on a free port of 127.0.0.1, prints it, and serves until it is ended. Each request
becomes a JSON line in LOG before it is answered. SCRIPT is a JSON file, read again when it
changes: a path (`*` for all others) and how it is answered:

    {"/flaky": {"status": 503, "fail_rate": 0.1}, "/slow": {"delay": 2.0}, "*": {"status": 200}}

`status` is the answer (200 by default); with `fail_rate` it is that of a share of the requests,
the others get 200. `delay` is in seconds. With `echo` the answer repeats the request, headers and
all, as servers in trouble do.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, TextIO


class Script:
    """How each path is answered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -1
        self._rules: dict[str, dict[str, Any]] = {}
        self._dice = random.Random(1)

    def answer(self, path: str) -> tuple[int, float, bool]:
        """Status and delay of the next request to `path`, and whether it is repeated to it."""
        changed_at = self._path.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._read_at = changed_at
            self._rules = json.loads(self._path.read_text())
        rule = self._rules.get(path, self._rules.get("*", {}))
        status = rule.get("status", 200)
        if self._dice.random() >= rule.get("fail_rate", 1.0):
            status = 200
        return status, rule.get("delay", 0.0), rule.get("echo", False)


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, script: Script, log: TextIO
) -> None:
    """One connection, request after request."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")[:-2]
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            path = first.split(" ")[1]
            status, delay, echo = script.answer(path)
            line = {
                "at": time.time_ns(),
                "path": path,
                "status": status,
                "headers": headers,
                "body": body.decode("utf-8"),
            }
            log.write(json.dumps(line) + "\n")
            log.flush()
            if delay:
                await asyncio.sleep(delay)
            said = (head.encode("latin-1") + body) if echo else b""
            writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: {len(said)}\r\n\r\n".encode())
            writer.write(said)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(log_path: str, script_path: str) -> None:
    """Serve until the process is ended."""
    script = Script(Path(script_path))
    with open(log_path, "a", encoding="utf-8") as log:  # noqa: ASYNC230, PTH123 - before serving
        server = await asyncio.start_server(
            lambda reader, writer: serve(reader, writer, script, log), "127.0.0.1", 0, backlog=512
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
