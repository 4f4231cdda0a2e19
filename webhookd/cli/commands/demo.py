"""`webhookd demo`: the whole thing on a temporary file, judged at its end."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webhookd.cli.output import complain, document, json_option, say
from webhookd.errors import EXIT_OK, EXIT_WRONG, Refused

if TYPE_CHECKING:
    from webhookd.cli.demo.console import Console
    from webhookd.cli.demo.story import Outcome


@click.command()
@click.option("--keep", is_flag=True, help="Keep the directory with the file and the log.")
@json_option
def demo(keep: bool, as_json: bool) -> int:
    """Show everything on a temporary file: an ERP, two partners, the daemon. Ends by itself.

    Needs no configuration and touches nothing of yours. Every process, request and row is real.
    Exits with 0 only if every check at its end held.
    """
    from webhookd.cli.demo.console import Console
    from webhookd.cli.demo.story import run

    console = Console(silent=as_json)
    with _directory(keep=keep) as home:
        console.say(f"All of this is real, and happens in {home}")
        outcome = run(home, console)
        if outcome.signal:
            say(f"interrupted at {console.at}; the daemon and the ERP were stopped")
            return 128 + outcome.signal
        if as_json:
            document(_summary(outcome, home if keep else None))
        else:
            _tell(outcome, console)
        if not outcome.ok:
            _complain(outcome)
    return EXIT_OK if outcome.ok else EXIT_WRONG


@contextmanager
def _directory(*, keep: bool) -> Iterator[Path]:
    """A new directory, that is removed at the end or else named.

    Raises:
        Refused: there is no place for one.
    """
    try:
        home = Path(tempfile.mkdtemp(prefix="webhookd-demo-"))
    except OSError as error:
        raise Refused(
            f"no directory for temporary files can be written ({error.strerror}); "
            "set TMPDIR to one that can"
        ) from None
    try:
        yield home
    finally:
        if keep:
            sys.stdout.flush()
            say(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def _tell(outcome: "Outcome", console: "Console") -> None:
    if not outcome.checks:
        return
    console.step("Did everything hold?")
    for one in outcome.checks:
        sign = console.sign("✓" if one.held else "✗")
        fault = "" if one.held else f" {console.sign('—')} {one.fault}"
        console.say(f"{sign} {one.name}: {one.promise}{fault}")
    held = sum(one.held for one in outcome.checks)
    console.say("", f"{held} of {len(outcome.checks)} checks held, after {outcome.seconds:.1f} s.")


def _summary(outcome: "Outcome", kept: Path | None) -> dict[str, Any]:
    seen = outcome.evidence
    return {
        "ok": outcome.ok,
        "seconds": round(outcome.seconds, 1),
        "checks": [
            {"name": one.name, "promise": one.promise, "held": one.held, "fault": one.fault or None}
            for one in outcome.checks
        ],
        "broken": outcome.broken or None,
        "requests": [
            {
                "partner": one.partner,
                "event_id": one.event_id,
                "event_type": one.event_type,
                "attempt": one.attempt,
                "verified": not one.flaw,
                "status": one.status,
            }
            for one in (seen.arrivals if seen else ())
        ],
        "results": [row for page in (seen.pages if seen else ()) for row in page],
        "changes": list(seen.changes) if seen else [],
        "directory": None if kept is None else str(kept),
    }


def _complain(outcome: "Outcome") -> None:
    """What failed, and the end of the daemon's log."""
    sys.stdout.flush()
    if outcome.log:
        say("the last lines of the daemon's log:")
        for line in outcome.log:
            say(f"  {line}")
    if outcome.broken:
        complain(f"demo: {outcome.broken}")
    for one in outcome.checks:
        if not one.held:
            complain(f"demo: check {one.name!r} failed: {one.fault}")
