"""The bounds of the sender, each with its reason. Tests scale them down; config may set some."""

from dataclasses import dataclass
from typing import Final

from webhookd.core.model import Millis


@dataclass(frozen=True, slots=True)
class Limits:
    """Spans are milliseconds, sizes are bytes."""

    lookups: int = 32
    """Name lookups under way at once: each holds a thread, for long if the resolver is dead."""
    zone_lookups: int = 4
    """Of these, for names of one zone: its dead name servers leave threads for the others."""
    lookup_time: Millis = 5_000
    """How long an attempt waits for a name; the thread may take longer, and holds its place."""
    cache_time: Millis = 10_000
    """How long an answer is used again. Short: partners move by changing their names."""
    cache_names: int = 4_096
    stale_time: Millis = 3_600_000
    """How long an answer that is older still serves while no newer one can be had: a resolver that
    is down or busy with dead zones must not cut off those who were well a moment ago."""
    stale_wait: Millis = 500
    """How long a newer answer is waited for where there is an old one."""
    stagger: Millis = 250
    """Head start of one address before the next is tried beside it (RFC 8305)."""
    addresses: int = 8
    """Addresses of one name that are tried."""
    head: int = 65_536
    """All heads of an answer together, 1xx ones too."""
    fields: int = 1_000
    """Header fields of an answer: each costs more than its bytes."""
    status_line: int = 8_192
    interims: int = 8
    """1xx answers before the real one."""
    body: int = 65_536
    """Bytes of a body, as they come over the wire, that are read before it is cut."""
    body_time: Millis = 2_000
    """How long a body is waited for once its head is there: it changes little."""
    excerpt: int = 1_024
    """Bytes of a body that are kept."""
    idle: Millis = 5_000
    """How long a connection is kept: longer, and servers close it just as it is used again."""


DEFAULT_LIMITS: Final = Limits()
