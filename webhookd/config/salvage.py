"""What can be had of a configuration that is refused: enough to look at the file it is about.

A fault in `config.toml` stops what writes. It must not blind the operator: the daemon goes on with
the configuration that it has, and whoever asks how it is has to be told.
"""

import re
import tomllib
from pathlib import Path
from typing import Final

from webhookd.config.settings import Settings

_LINE: Final = re.compile(r"[ \t]*(?:database|\"database\"|'database')[ \t]*=.*")


def salvage(path: Path, database: str | None) -> Settings | None:
    """Defaults with the database of the refused file; None where even that cannot be read.

    Args:
        path: the file, which may be missing, unreadable or no TOML.
        database: what the command line says, which wins.
    """
    if database:
        return Settings(Path(database))
    named = _database(path)
    return Settings(path.parent / named) if named else None


def _database(path: Path) -> str:
    """The value of `database`, the key at the file's top; `''` where it has none that is fit."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    try:
        found = tomllib.loads(text).get("database")
    except (tomllib.TOMLDecodeError, RecursionError):
        found = _of_lines(text)
    if not isinstance(found, str) or "\0" in found or "\N{REPLACEMENT CHARACTER}" in found:
        return ""
    return found


def _of_lines(text: str) -> object:
    """Of a file that is no TOML: the line of the key, if it stands on its own above any table."""
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            return None
        if _LINE.fullmatch(line):
            try:
                return tomllib.loads(line).get("database")
            except tomllib.TOMLDecodeError:
                return None
    return None
