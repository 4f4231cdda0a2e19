"""A request as a command that a person can run: the same bytes, sent by curl.

The body is piped into curl by `printf`, with every byte that is not plain written in octal. So the
command is one line of ASCII, no terminal is moved by it, it runs in every POSIX shell, and no body
is too long for it, as one would be for an argument.
"""

import shlex
from collections.abc import Collection
from typing import Final

from webhookd.core.model import Millis
from webhookd.core.request import Request

MASK: Final = "***"

_OWN_WAYS: Final = (
    *("curl", "--disable", "--silent", "--show-error", "--include", "--http1.1", "--globoff"),
    *("--path-as-is", "--noproxy", "*"),
)
"""Nothing from a `.curlrc` or a proxy variable, nothing read into the URL: as the daemon sends."""
_ADDED_BY_CURL: Final = ("Accept:", "Expect:")
"""Headers of curl's own; without a value they are left out."""

_WRITTEN: Final = tuple(
    {"%": "%%", "\\": "\\\\"}.get(chr(byte), chr(byte))
    if 0x20 <= byte < 0x7F and chr(byte) != "'"
    else f"\\{byte:03o}"
    for byte in range(256)
)
"""Each byte as a format of `printf` between single quotes has it."""


def command(request: Request, *, timeout: Millis, masked: Collection[str], mask_query: bool) -> str:
    """The command that sends `request` and prints the answer, head and body.

    Args:
        request: as the daemon would send it.
        timeout: the deadline of the whole exchange.
        masked: names of headers, in lower case, whose values are `***` in it.
        mask_query: whether the URL's query is.
    """
    headers = [
        f"{name}: {MASK if name.lower() in masked else value}"
        for name, value in request.headers
        if name != "Content-Length"  # curl counts the same bytes itself
    ]
    words = [*_OWN_WAYS, "--max-time", f"{timeout / 1000:g}", "--request", request.method]
    for header in (*_ADDED_BY_CURL, *headers):
        words += ["--header", header]
    url = request.url.shown if mask_query else request.url.text
    words += ["--data-binary", "@-", url]
    return f"printf '{printf_format(request.body)}' | {shlex.join(words)}"


def printf_format(data: bytes) -> str:
    """What the shell's `printf` makes `data` of, to stand between single quotes."""
    written = "".join([_WRITTEN[byte] for byte in data])
    # At the very beginning a hyphen would begin an option.
    return f"\\055{written[1:]}" if written.startswith("-") else written
