"""Where lines go and what they look like.

A line is always one line (in text form a traceback follows it, indented): whatever a receiver, a
host or a library put into a value, no control character of it reaches a terminal or a file. And
logging never holds up delivering: a line that nobody takes is dropped and counted, and the count
is the first thing said when somebody listens again.
"""

import json
import logging
import math
import os
import re
import select
import traceback
from contextlib import suppress
from io import UnsupportedOperation
from typing import Final, Literal, TextIO

from pythonjsonlogger.core import LogData
from pythonjsonlogger.json import JsonEncoder, JsonFormatter

from webhookd.core import times
from webhookd.core.text import printable
from webhookd.logs.actions import LOGGER, Action, Field, Record

Format = Literal["json", "text"]
Level = Literal["debug", "info", "warning", "error"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

PIPE_ROOM: Final = 4096
"""Bytes that a pipe which `poll` calls writable takes without blocking (Linux: one page)."""

WIDEST: Final = 2_000
"""Characters of one value in text form: what is longer is no longer read by people."""

_URL_SECRETS: Final = re.compile(r"(?<=://)[^/\s@?#]*@|\?[^\s'\"<>]+")
_NEEDS_QUOTES: Final = re.compile(r'[\s"=\\]|^$')
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


def setup(stream: TextIO, *, format: Format, level: str) -> None:  # noqa: A002 - the config's key
    """Write lines to `stream` from now on, `level` (a key of `LEVELS`) and worse.

    Warnings of libraries come as lines too; what they say below that is not shown: httpx tells
    whole URLs at INFO. Calling it again replaces what was set up before; lines that were lost by
    then are told by the next one that gets through.
    """
    formatter = JsonLines() if format == "json" else TextLines()
    handler = LineHandler(stream, formatter)
    for name in (LOGGER, ""):
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old, LineHandler)]:
            logger.removeHandler(old)
            old.close()
            handler.take_over(old)
        logger.addHandler(handler)
    ours = logging.getLogger(LOGGER)
    ours.setLevel(LEVELS[level])
    ours.propagate = False
    # No line tells these, and each record would find them out.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger().setLevel(logging.WARNING)
    logging.captureWarnings(True)


class JsonLines(JsonFormatter):
    """One JSON object a line, in ASCII: `time`, `level`, `action`, then the action's own fields."""

    def __init__(self) -> None:
        super().__init__()
        # json.dumps would build this encoder anew for every line.
        self._encode = JsonEncoder(separators=(",", ":"), allow_nan=False).encode

    def format(self, record: logging.LogRecord) -> str:
        return self.serialize_log_record(document(record))

    def jsonify_log_record(self, log_data: LogData) -> str:
        try:
            return self._encode(log_data)
        except ValueError:
            return self._encode({key: _finite(value) for key, value in log_data.items()})


class TextLines(logging.Formatter):
    """`08:15:30.400 INFO  attempt  delivery=12 status=200`, for people; a traceback is indented."""

    def format(self, record: logging.LogRecord) -> str:
        fields = document(record)
        clock = str(fields.pop("time"))[11:23]
        level = str(fields.pop("level")).upper()
        action = fields.pop("action")
        trace = fields.pop("traceback", None)
        pairs = " ".join(
            f"{key}={_as_text(value)}" for key, value in fields.items() if value is not None
        )
        line = f"{clock} {level:<5} {action}  {pairs}".rstrip()
        if trace is None:
            return line
        return "\n".join(
            [line, *(f"    {printable(part, WIDEST)}" for part in str(trace).splitlines())]
        )


def document(record: logging.LogRecord) -> dict[str, Field]:
    """What a record says, under the names that a line has for it.

    A record that is not ours comes from a library: its text may quote a URL, so queries and
    userinfo are masked there and in tracebacks.
    """
    said: dict[str, Field] = {"time": "", "level": record.levelname.lower()}
    if isinstance(record, Record):
        said["action"] = record.action.value
        said.update(record.fields)
    else:
        said["action"] = Action.LIBRARY.value
        said["logger"] = record.name
        said["text"] = _masked(record.getMessage())
    said["time"] = times.to_text(int(record.created * 1000))
    if record.exc_info and record.exc_info[1] is not None:
        said["traceback"] = _masked("".join(traceback.format_exception(record.exc_info[1])))
    return said


class LineHandler(logging.Handler):
    """Writes whole lines to a stream, and never waits for its reader.

    `dropped` is how many lines were lost since one last got through.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        self._stream = stream
        self._torn = False
        self._encoding = stream.encoding or "utf-8"
        self._fd: int | None = None
        self._own_fd: int | None = None
        self._poll = select.poll()
        with suppress(AttributeError, UnsupportedOperation, ValueError):
            self._own_fd = _terminal(stream.fileno())
            self._fd = stream.fileno() if self._own_fd is None else self._own_fd
            self._poll.register(self._fd, select.POLLOUT)

    def close(self) -> None:
        """Let go of what was opened here; the stream is its owner's."""
        super().close()
        if self._own_fd is not None:
            os.close(self._own_fd)
            self._fd = self._own_fd = None

    def take_over(self, before: "LineHandler") -> None:
        """Go on where another one on the same stream stopped; more than once is the same."""
        if before._stream is self._stream:  # noqa: SLF001 - its own kind
            self.dropped = max(self.dropped, before.dropped)
            self._torn = self._torn or before._torn  # noqa: SLF001

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self.dropped:
                lost = Record(Action.LINES_DROPPED, logging.WARNING, {"count": self.dropped}, None)
                line = f"{self.format(lost)}\n{line}"
            self._write(line)
        except Exception:  # noqa: BLE001 - a line is never worth a delivery
            self.dropped += 1
        else:
            self.dropped = 0

    def _write(self, line: str) -> None:
        if self._fd is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        # A line that was cut short is ended first, so that it spoils no other.
        start = "\n" if self._torn else ""
        data = f"{start}{line}\n".encode(self._encoding, "backslashreplace")
        done = 0
        try:
            while done < len(data):
                events = self._poll.poll(0)
                if not events or not events[0][1] & select.POLLOUT:
                    raise BlockingIOError
                done += os.write(self._fd, data[done : done + PIPE_ROOM])
        finally:
            self._torn = 0 < done < len(data) or (self._torn and done == 0)


def _terminal(descriptor: int) -> int | None:
    """The terminal behind `descriptor`, opened anew so that no write waits; None if it is none.

    `poll` calls a terminal writable that has room for a byte. To make the one that we were given
    non-blocking would make it so for the shell around us, too.
    """
    try:
        if not os.isatty(descriptor):
            return None
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(os.ttyname(descriptor), flags)
    except OSError:
        return None


def _finite(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(value: Field) -> str:
    if type(value) is int:
        return str(value)  # as most are; a bool is written as JSON writes it
    if not isinstance(value, str):
        return printable(_encode(value), WIDEST)
    if not _NEEDS_QUOTES.search(value):
        return printable(value, WIDEST)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped, WIDEST)}"'


def _masked(text: str) -> str:
    return _URL_SECRETS.sub(lambda found: "?***" if found[0][0] == "?" else "***@", text)
