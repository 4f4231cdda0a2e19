"""Bulk changes as a command carries them out: with a bar for the person who waits."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

from webhookd.cli.context import App
from webhookd.cli.output import say
from webhookd.errors import StoreBusy
from webhookd.store import bulk
from webhookd.store.instructions import Instruction
from webhookd.store.transaction import Session


@contextlib.contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, moved by saying how much of `length` is done; none but on a terminal."""
    if length <= 0 or not _is_watched():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda reached: bar.update(max(0, min(reached, length) - bar.pos))


def complete(
    app: App,
    session: Session,
    key: int,
    label: str,
    length: int,
    measure: Callable[[Instruction], int],
) -> Instruction | None:
    """Carry an instruction out; None where it is not wanted any more.

    Args:
        app: for its clock.
        session: for transactions of its own.
        key: of the instruction.
        label: what the bar is called.
        length: of all that there is to do.
        measure: how much of that is done.

    Raises:
        StoreBusy: the host held the lock for long. The instruction stands all the same.
    """
    try:
        with progress(label, length) as reach:
            return bulk.complete(session, key, app.now, lambda one: reach(measure(one)))
    except KeyboardInterrupt:
        say("interrupted: what is left is for the daemon to do, which does it when it runs")
        raise
    except StoreBusy as error:
        raise StoreBusy(
            f"{str(error).removesuffix('; try again')}; what you asked for stands, so do not ask "
            "again: the daemon goes on with it when it runs, and nothing is sent to the "
            "subscription before it is done"
        ) from error


def _is_watched() -> bool:
    """Whether there is somebody to see a bar."""
    return sys.stderr.isatty()
