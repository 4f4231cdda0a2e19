"""What a store is opened with; see `webhookd.store.sqlite.SqliteStore`."""

from typing import NotRequired, TypedDict

from webhookd.core.columns import Columns
from webhookd.core.profiles import Known
from webhookd.core.structure import Validation


class Options(TypedDict):
    """The arguments of `SqliteStore` beside the path."""

    default_tenant: str
    max_payload: int
    ids_never_reused: bool
    known_mark: dict[str, object] | None
    table: NotRequired[str | None]
    columns: NotRequired[Columns]
    profiles: NotRequired[Known]
    validation: NotRequired[Validation | None]
