"""How results and messages are written: ASCII where we choose the characters, one line a fault."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from webhookd.core.text import printable

MESSAGE: Final = 1_000
"""Characters of a message."""
CELL: Final = 60
"""Characters of one cell of a table: what is longer is for `show` and `--json`."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def say(text: str) -> None:
    """A message for the person at the terminal, on stderr."""
    sys.stderr.write(f"{printable(text, MESSAGE)}\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """The one line of an error or a warning, on stderr."""
    say(f"webhookd: {text}")


def is_asked() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def document(value: object) -> None:
    """A result as JSON, for people to read too."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def json_line(value: object) -> None:
    """One result of a stream of them: one line of JSON, out at once."""
    sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")


def lines(*texts: str) -> None:
    """A result in words, a line each."""
    sys.stdout.write("".join(f"{printable(text, 10_000)}\n" for text in texts))


def program_text(text: str) -> None:
    """A line for another program to read, whole: it is made of ASCII already."""
    sys.stdout.write(f"{text}\n")


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, whole_last: bool = False
) -> list[str]:
    """Rows in columns as wide as their widest cell, `-` for what is absent.

    With `whole_last` nothing of the last column is cut where no terminal limits the line.
    """
    last = len(headings) - 1 if whole_last and not sys.stdout.isatty() else -1
    cells = [
        tuple(headings),
        *(
            tuple(_cell(value, MESSAGE if at == last else CELL) for at, value in enumerate(row))
            for row in rows
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def fields(shown: dict[str, Any]) -> list[str]:
    """One thing, a field a line; lists with a line for each of their members."""
    width = max(map(len, shown), default=0) + 2
    found: list[str] = []
    for name, value in shown.items():
        many = value if isinstance(value, list) else [value]
        for number, one in enumerate(many or [None]):
            label = name if number == 0 else ""
            text = "-" if one is None else str(one).lower() if isinstance(one, bool) else str(one)
            found.append(f"{label:<{width}}{text}")
    return found


def _cell(value: object, most: int) -> str:
    if value is None or value == "":
        return "-"
    return printable(str(value), most)
