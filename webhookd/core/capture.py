"""What a capture watches and what it says, judged before any of it reaches a host's table."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from webhookd.core.rows import MAX_TYPE, OWN_TYPES


class Action(StrEnum):
    """What the host does to a row."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


VERBS: Final = {Action.INSERT: "created", Action.UPDATE: "updated", Action.DELETE: "deleted"}
"""The last part of an event's type."""
LONGEST_PREFIX: Final = MAX_TYPE - 1 - max(map(len, VERBS.values()))

_PREFIX: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Capture:
    """A table of the host's, and what is made of a change in it."""

    table: str
    event_prefix: str
    """`supplier` for `supplier.created`, `supplier.updated` and `supplier.deleted`."""
    id_column: str
    """Its value is the aggregate's id."""
    tenant_column: str = ""
    """Its value is the tenant; `''` for none."""
    columns: tuple[str, ...] = ()
    """A change in one of these is an update; empty for all that the table has."""
    actions: tuple[Action, ...] = tuple(Action)

    def event_type(self, action: Action) -> str:
        """The type of the event for it."""
        return f"{self.event_prefix}.{VERBS[action]}"


def fault(wanted: Capture) -> str:
    """Why nothing can be captured so; `''` if it can, as far as the table does not matter."""
    prefix = wanted.event_prefix
    if not _PREFIX.fullmatch(prefix):
        return "--event-prefix: is 1 or more visible ASCII characters, like supplier"
    if len(prefix) > LONGEST_PREFIX:
        return f"--event-prefix: is at most {LONGEST_PREFIX} characters, or the type is too long"
    if f"{prefix}.".startswith(OWN_TYPES):
        return f"--event-prefix: {OWN_TYPES} is kept for webhookd's own events; name another"
    if not wanted.actions:
        return "--on: name insert, update or delete"
    if wanted.columns and Action.UPDATE not in wanted.actions:
        return "--columns: only updates look at columns; add update to --on"
    return ""
