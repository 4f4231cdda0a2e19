"""`[outbox.columns]` and `[outbox] order_column`: the columns of a table that the host made."""

from collections.abc import Callable
from typing import Any, Final

from webhookd.config.faults import shown
from webhookd.config.settings import Outbox
from webhookd.core.columns import NAMES, TEXTS, Columns, Constant, Source

_VALUE: Final = "value"


def name(value: object) -> str:
    """The name of a column. Raises ValueError."""
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError(f"is the name of a column, not {shown(value)}")


def _source(value: object) -> Source:
    if value == "":
        return ""
    if not isinstance(value, dict):
        return name(value)
    text = value.get(_VALUE)
    if list(value) != [_VALUE] or not isinstance(text, str) or "\0" in text:
        raise ValueError(
            f'is a column of the table, "" for none, or {{ value = "TEXT" }}, not {shown(value)}'
        )
    return Constant(text)


def _event_type(value: object) -> Source:
    if value == "":
        raise ValueError('is needed: name a column, or say { value = "TYPE" }')
    return _source(value)


READERS: Final[dict[str, Callable[[object], Any]]] = {
    **dict.fromkeys(NAMES, name),
    **dict.fromkeys(TEXTS, _source),
    "event_type": _event_type,
}
"""What reads each key of `[outbox.columns]`."""


def outbox(
    *, columns: dict[str, Source] | None = None, order_column: str = "", **found: Any
) -> Outbox:
    """The settings of `[outbox]`, of what was read in it."""
    named: dict[str, Any] = dict(columns or {})
    return Outbox(columns=Columns(**named, order_column=order_column), **found)
