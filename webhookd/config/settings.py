"""Every key of `config.toml`, with its default. What is here is already judged: see `load`.

Names are those of the file: `Settings.outbox.max_payload` is `[outbox] max_payload`. Spans are
milliseconds, sizes are bytes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from webhookd.core.columns import OWN, Columns
from webhookd.core.declaration import Declared
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import Millis
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.core.retention import Retention

SYSTEMS: Final = ("ntropy", "floriday", "onestock")
"""Those whose event types are known: see `webhookd.config.catalog`."""
SUBSCRIPTIONS: Final = "subscriptions"
"""The key that they are declared under: see `webhookd.config.declared`."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where events come from."""

    table: str = "outbox"
    start: Literal["", "beginning", "end"] | int = ""
    """Where a file's first ingest begins; `''` leaves it to `init`."""
    ids: Literal["", "never-reused"] = ""
    """`never-reused`: the host vouches for a table that has no AUTOINCREMENT."""
    max_payload: int = 1_048_576
    """Bytes; a larger payload is rejected."""
    default_tenant: str = ""
    validate: Literal["off", "warn", "reject"] = "off"
    """What comes of a payload that is not made as its event type's catalogue says."""
    catalog: tuple[str, ...] = SYSTEMS
    """The systems whose event types `validate` knows."""
    columns: Columns = OWN
    """Where in the host's own table the columns are: `[outbox.columns]` and `order_column`."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The limits that all subscriptions share."""

    shutdown_grace: Millis = 20_000
    """How long attempts under way may take to finish once the daemon is asked to stop."""
    max_in_flight: int = 256
    """Attempts under way at once over all subscriptions."""
    max_per_host: int = 64
    """Attempts under way at once to one host, over all subscriptions that lead there."""
    max_unrecorded: int = 1_000
    """Outcomes kept in memory while the file cannot be written; at this many sending stops."""


@dataclass(frozen=True, slots=True)
class Log:
    """What the daemon writes to standard error."""

    format: Literal["json", "text"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Status:
    """Over what `status` says degraded."""

    max_lag: Millis = 300_000
    """How long the oldest outbox row may wait for ingest."""
    max_owed_age: Millis = 3_600_000
    """How long the oldest delivery that is owed may wait."""
    max_failed: int | None = None
    """How many deliveries may fail within an hour; None for any number."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration of one daemon or one command."""

    database: Path
    outbox: Outbox = Outbox()
    delivery: Delivery = Delivery()
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    log: Log = Log()
    status: Status = Status()
    retention: Retention = field(default_factory=Retention)
    """How long what is done with is kept."""
    profiles: Known = BUILT_IN
    """The built-in ones, and one's own of `[profiles.NAME]`."""
    subscriptions: tuple[Declared, ...] | None = None
    """What the file declares; None where no file is read: then what one declared before stays."""
