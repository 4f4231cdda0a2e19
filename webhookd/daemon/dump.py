"""Where every task is: for the moment in which nobody understands what the daemon is doing.

Names of tasks and places in the code, nothing else: no values, so no secrets. Bounded, since there
may be thousands of lanes: of siblings with the same name and place only the first few are shown.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from webhookd.core.text import printable
from webhookd.logs.actions import Action, log

MOST_LINES: Final = 200
"""Lines of a dump; more would tell a person nothing more."""

ALIKE: Final = 3
"""Siblings of one kind at one place that are shown."""

DEPTH: Final = 20
"""Levels of the tree; there are eight."""

FRAMES: Final = 3
"""Places of a task that are shown: the innermost ones of webhookd."""

WIDTH: Final = 300
"""Characters of a line."""

_PACKAGE: Final = Path(__file__).parent.parent


def tell_tasks() -> None:
    """Log the tree of tasks, one line a task. To be called inside a run of Trio."""
    lines = list(_bounded(tree()))
    for line in lines:
        log(Action.DAEMON_TASKS, logging.WARNING, task=line)


def tree() -> Iterator[str]:
    """The tasks of this run, indented by whose children they are."""
    root = trio.lowlevel.current_root_task()
    if root is not None:
        yield from _of(root, 0)


def _of(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield printable(f"{indent}{_kind(task)} at {_place(task)}", WIDTH)
    if depth >= DEPTH:
        return
    seen: Counter[tuple[str, str]] = Counter()
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda one: one.name):
            alike = (child.name.partition(" ")[0], _place(child))
            seen[alike] += 1
            if seen[alike] <= ALIKE:
                yield from _of(child, depth + 1)
    for (name, place), count in seen.items():
        if count > ALIKE:
            yield printable(f"{indent}  and {count - ALIKE} more {name} at {place}", WIDTH)


def _kind(task: trio.lowlevel.Task) -> str:
    """Its name; Trio's own of a task that has none is the function's, as long as a path."""
    return task.name.rpartition("webhookd.")[2]


def _place(task: trio.lowlevel.Task) -> str:
    """Where in webhookd it waits; of a task that never was there, wherever it is."""
    frames = [(frame.f_code.co_filename, line) for frame, line in task.iter_await_frames()]
    own = [place for place in frames if _PACKAGE in Path(place[0]).parents]
    shown = own[-FRAMES:] or frames[-1:]
    return " > ".join(f"{_short(name)}:{line}" for name, line in shown) or "its end"


def _short(name: str) -> str:
    path = Path(name)
    return str(path.relative_to(_PACKAGE)) if _PACKAGE in path.parents else path.name


def _bounded(lines: Iterator[str]) -> Iterator[str]:
    """The first lines; the rest is not even made."""
    for count, line in enumerate(lines):
        if count == MOST_LINES:
            yield "and more; the tree is cut here"
            return
        yield line
