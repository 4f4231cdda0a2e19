"""How the story is told: on a terminal, a little slower, so that a person can follow it."""

import contextlib
import os
import sys
from typing import Final

from webhookd.core.text import printable

PAUSE: Final = 0.6
"""Seconds between two steps on a terminal."""
WIDTH: Final = 100
"""Characters of a line that shows a piece of something longer."""
INDENT: Final = "   "

_WISHED: Final = "✓✗→—"
_PLAIN: Final = {"✓": "ok", "✗": "FAILED", "→": "->", "—": "-"}


class Console:
    """Writes the story to stdout, or nowhere."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._signs = {sign: sign if _can_show(sign) else _PLAIN[sign] for sign in _WISHED}
        self._step = 0
        self.at = "the beginning"
        """The step that the story has come to."""
        self.lost = ""
        """Why the story can no longer be told; `''` while it can."""

    @property
    def pause(self) -> float:
        """Seconds to wait before the next step."""
        return 0.0 if self._silent or not sys.stdout.isatty() else PAUSE

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._step += 1
        self.at = f"step {self._step}, {title!r}"
        self._write("", f"{self._step}. {title}")

    def say(self, *texts: str) -> None:
        """Lines below the step's title."""
        self._write(*(INDENT + text if text else "" for text in texts))

    def piece(self, text: str, data: str) -> None:
        """A line that ends in as much of `data` as fits."""
        text = f"{INDENT}{text}  "
        self._write(text + printable(data, max(10, WIDTH - len(text))))

    def sign(self, sign: str) -> str:
        """The sign, or what stands for it where it cannot be shown."""
        return self._signs[sign]

    def _write(self, *texts: str) -> None:
        if self._silent or self.lost:
            return
        try:
            sys.stdout.write("".join(f"{printable(text, 10_000)}\n" for text in texts))
            sys.stdout.flush()
        except OSError as error:
            self.lost = error.strerror or str(error)
            _drop_stdout()


def _drop_stdout() -> None:
    """Let what is still in the stream's buffer go nowhere, instead of failing once more."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _can_show(sign: str) -> bool:
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
