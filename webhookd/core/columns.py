"""Where in the host's table the columns of the outbox are, for a table that the host made."""

from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Constant:
    """What every row says, for a column that the table does not have."""

    text: str

    def __str__(self) -> str:
        return repr(self.text)


Source = str | Constant
"""A column of the host's by its name, `''` for none, or the text that stands for all rows."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns by the names that `webhookd init` gives them in its own table, and whose names
    stand for them in the host's."""

    id: str = "id"
    """The key: one value a row, never two rows with the same."""
    event_type: Source = "event_type"
    aggregate_type: Source = "aggregate_type"
    aggregate_id: Source = "aggregate_id"
    tenant: Source = "tenant"
    payload: Source = "payload"
    occurred_at: Source = "occurred_at"
    event_id: Source = "event_id"
    order_column: str = ""
    """The column whose values grow with every row; `''` where the key itself does, or none."""

    def __str__(self) -> str:
        """What is not as in `webhookd init`'s own table; `''` for nothing."""
        pairs = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ", ".join(
            f"{name} = {value}" for name, value in pairs if value != getattr(OWN, name)
        )

    @property
    def mapped(self) -> bool:
        """Whether anything is not as in the table that `webhookd init` makes."""
        return self != OWN

    @property
    def texts(self) -> tuple[Source, ...]:
        """The columns of a row beside its key, in the order of `webhookd.core.rows.RawRow`."""
        return tuple(getattr(self, name) for name in TEXTS)

    @property
    def needed(self) -> dict[str, str]:
        """The columns that the table must have, each with the key of the settings that names it."""
        found = {
            name: name_of_key
            for name_of_key in NAMES
            if isinstance(name := getattr(self, name_of_key), str) and name
        }
        return {self.order_column: "order_column"} | found if self.order_column else found


OWN: Final = Columns()
NAMES: Final = tuple(field.name for field in fields(Columns) if field.name != "order_column")
"""The keys of `[outbox.columns]`."""
TEXTS: Final = NAMES[1:]
