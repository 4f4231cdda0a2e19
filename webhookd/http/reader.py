"""What the receiver answers, parsed by llhttp, and judged more strictly than llhttp does.

What llhttp lets pass, and this does not: an empty line before the answer, `RTSP/1.0`, HTTP/0.9
and 2.0, status 099, a status line without a space after the status or with a control character in
it, any transfer coding but
`chunked`, 1xx without end, an upgrade that nobody asked for.

What llhttp holds against an answer that is already complete, and this does not: bytes behind it.
They only end the connection, for they would be taken for the answer to the next request.

llhttp's own state moves on to a second message within one call, so everything is taken down in
`on_headers_complete` of the first one that is not 1xx, and is not touched again.
"""

import re
from typing import Final

import httptools

from webhookd.core.model import Answer
from webhookd.http.limits import Limits

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9] [\t -~\x80-\xff]*\r\n")
_BLANK: Final = b"\r\n\r\n"
_LENGTHS: Final = frozenset(
    map(len, ("content-length", "transfer-encoding", "retry-after", "location", "date"))
)
"""Of the header names that matter: most others are passed over at the cost of a look-up."""
_MAX_SHOWN: Final = 2_000
"""Characters kept of a header that is only ever shown."""
_SWITCHING: Final = 101
_FINAL: Final = 200
"""Statuses below are not the answer yet."""
_BODILESS: Final = frozenset({204, 304})


class Reader:
    """The answer to one request. Feed it what comes, then look at what it has become.

    `fault` is '' or why this is no HTTP answer; it can only be set before the head is complete,
    or by the body's framing. `feed` raises nothing, whatever it is given.
    """

    __slots__ = (
        "_bad_framing",
        "_content_length",
        "_date",
        "_encoding",
        "_excerpt",
        "_fields",
        "_head",
        "_head_start",
        "_interims",
        "_limits",
        "_location",
        "_parser",
        "_retry_after",
        "_seen",
        "begun",
        "body_size",
        "done",
        "extra",
        "fault",
        "keep_alive",
        "note",
        "status",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._head: bytes | bytearray = b""
        """All that came until the head was complete; then empty."""
        self._head_start = 0
        self._interims = 0
        self._fields = 0
        self._content_length: bytes | None = None
        self._encoding: bytes | None = None
        self._bad_framing = ""
        self._excerpt = b""
        self._retry_after = b""
        self._location = b""
        self._date = b""
        self.begun = False
        """A byte of an answer has come."""
        self.status = 0
        """Of the answer whose head is complete; 0 until then."""
        self.keep_alive = False
        """Whether the answer lets the connection live; meaningless before `done`."""
        self.body_size = 0
        """Bytes of the body as they came over the wire, its framing included."""
        self.done = False
        """The whole answer is there."""
        self.extra = False
        """Something came behind it."""
        self.fault = ""
        self.note = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def feed(self, data: bytes) -> None:
        """Takes in what has come, at least one byte."""
        self.begun = True
        if self.done:
            self.extra = True
        elif self.status:
            self.body_size += len(data)
            self._parse(data)
        else:
            self._feed_head(data)

    def end(self) -> bool:
        """Takes in that nothing more will come; whether the body is complete by that."""
        self.keep_alive = False
        if self._content_length is None and self._encoding is None:
            self.done = True
        return self.done

    def answer(self) -> Answer:
        """What was answered, once `status` is set."""
        return Answer(
            self.status,
            self._retry_after.decode("latin-1")[:_MAX_SHOWN] if self._retry_after else "",
            self._location.decode("latin-1")[:_MAX_SHOWN] if self._location else "",
            self._excerpt,
            self.note,
            self._date.decode("latin-1")[:_MAX_SHOWN],
        )

    def release(self) -> None:
        """Lets go of the parser, which refers back to this: the two need no garbage collector."""
        self._parser = None

    def _feed_head(self, data: bytes) -> None:
        before = len(self._head)
        room = self._limits.head - before
        is_too_much = len(data) > room
        part = data[:room] if is_too_much else data
        if not before:
            self._head = part
        else:
            if not isinstance(self._head, bytearray):
                self._head = bytearray(self._head)
            self._head += part
        self._parse(part)
        if self.status:
            # `_head_start` is now where the body begins
            self.body_size = before + len(data) - self._head_start
            self._head = b""
            if is_too_much and not self.fault:
                self._parse(data[room:])
        elif is_too_much and not self.fault:
            self.fault = f"the head is longer than {self._limits.head} bytes"

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._object(str(error))
        except httptools.HttpParserUpgrade:
            self._object("the connection was upgraded")

    def _object(self, reason: str) -> None:
        """Takes down what the parser has against what came."""
        if self.done:
            self.extra = True
        elif not self.fault:
            self.fault = self._say(reason)

    def _say(self, reason: str) -> str:
        head = bytes(self._head[self._head_start : self._head_start + 16])
        if self.status or self._interims or b"HTTP/".startswith(head[:5]):
            return reason
        if head.startswith(b"SSH-"):
            return "the port speaks SSH, not HTTP"
        if re.match(rb"[2-5][0-9][0-9][ -]", head):
            return "the port speaks SMTP, FTP or the like, not HTTP"
        if head[:1] in b"\x15\x16" and head[1:2] == b"\x03":
            return "the port speaks TLS, not plain HTTP"
        return f"the answer is not HTTP ({reason})"

    # What llhttp calls. None of these may raise: it would swallow the exception.

    def on_message_begin(self) -> None:
        if self.done:
            self.extra = True
        elif not self.status:
            self._content_length = self._encoding = None
            self._bad_framing = ""
            self._retry_after = self._location = self._date = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) not in _LENGTHS or self.status:
            return  # of no matter, a trailer, or a second answer
        name = name.lower()
        if name == b"content-length":
            self._content_length = value
            if not value.isdigit():
                self._bad_framing = "odd Content-Length"
        elif name == b"transfer-encoding":
            if self._encoding is not None or value.strip().lower() != b"chunked":
                self._bad_framing = "a Transfer-Encoding other than chunked"
            self._encoding = value
        elif name == b"retry-after":
            self._retry_after = value.strip(b" \t")
        elif name == b"location":
            self._location = value.strip(b" \t")
        elif name == b"date":
            self._date = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        if self.status or self.fault or self._parser is None:
            return
        status = self._parser.get_status_code()
        self.fault = self._judge_head(status)
        if self.fault:
            return
        self._head_start = self._head.find(_BLANK, self._head_start) + len(_BLANK)
        if status >= _FINAL:
            self.keep_alive = self._keeps_alive(status, self._parser.should_keep_alive())
            self.status = status

    def on_body(self, data: bytes) -> None:
        room = self._limits.excerpt - len(self._excerpt)
        if room > 0 and not self.done:
            self._excerpt += data[:room]

    def on_message_complete(self) -> None:
        if self.status:
            self.done = True

    def _judge_head(self, status: int) -> str:
        """What is wrong with the head that is complete; '' if it will do."""
        head, start = self._head, self._head_start
        if not _STATUS_LINE.match(head, start):
            return f"an odd status line: {bytes(head[start : start + 32])!r}"
        if head.find(b"\r\n", start) - start > self._limits.status_line:
            return f"the status line ({status}) is longer than {self._limits.status_line} bytes"
        end = head.find(_BLANK, start)
        if end < 0:
            return "the head has no empty line at its end"
        self._fields += head.count(b"\n", start, end)
        if self._fields > self._limits.fields:
            return f"more than {self._limits.fields} header fields"
        if status < _FINAL:
            self._interims += 1
            if status == _SWITCHING:
                return "status 101: the receiver switches to another protocol"
            if self._interims > self._limits.interims:
                return f"more than {self._limits.interims} answers of 1xx"
            return ""
        if self._bad_framing and (self._encoding is not None or not 200 <= status < 300):
            return self._bad_framing
        self.note = self._bad_framing
        return ""

    def _keeps_alive(self, status: int, llhttp_says: bool) -> bool:
        if self._content_length is None and self._encoding is None:
            return llhttp_says
        if self._encoding is not None and self._head.startswith(b"HTTP/1.0"):
            return False
        if status in _BODILESS and (self._encoding is not None or self._content_length != b"0"):
            # A server that believes it may send a body here could do so after we stopped reading.
            return False
        return llhttp_says and not self._bad_framing
