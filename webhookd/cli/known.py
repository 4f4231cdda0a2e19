"""Says of an event pattern that it looks like a slip of the pen, where it does."""

from collections.abc import Collection, Iterable

from webhookd.cli.output import complain
from webhookd.config.catalog import of_systems
from webhookd.config.settings import SYSTEMS
from webhookd.core.suggestions import Known, doubts


def warn_of_slips(
    patterns: Iterable[str],
    seen: Collection[tuple[str, str]],
    profile: str,
    place: str = "--events",
) -> None:
    """A warning for each pattern that matches no known type and nearly one; never a refusal.

    Args:
        patterns: as they were given.
        seen: event type and aggregate type of the file's latest events.
        profile: of the subscription; that of a system makes its types worth comparing.
        place: where the patterns stand.
    """
    for line in slips(patterns, seen, profile):
        complain(f"warning: {place}: {line}")


def slips(patterns: Iterable[str], seen: Collection[tuple[str, str]], profile: str) -> list[str]:
    """What `warn_of_slips` says, a line a pattern."""
    return doubts(patterns, Known(seen, of_systems(SYSTEMS)), profile)
