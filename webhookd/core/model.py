"""The values that every layer speaks of. Frozen, complete when made, free of behaviour.

Two conventions hold everywhere:

- A moment is an `int`: milliseconds since 1970-01-01T00:00:00Z (`Millis`). Text is for the edges:
  `webhookd.core.times` turns one into the other. A span is an `int` of milliseconds too.
- Absent text is `''`, never `None`: so it is stored, so it compares, and views show it as NULL.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, NewType

Millis = int
"""Milliseconds: since the epoch (UTC) where it names a moment, else a span."""

SubscriptionKey = NewType("SubscriptionKey", int)
"""A subscription's row number in the file; never shown to people."""
SubscriptionId = NewType("SubscriptionId", str)
"""`wh_` and 22 url-safe characters: a subscription's name for the outside world."""
DeliveryId = NewType("DeliveryId", int)
"""A delivery's number: the sequence that it was created at, so it is never used twice."""
Sequence = NewType("Sequence", int)
"""A place in a feed, from the file's one counter."""


class DeliveryState(StrEnum):
    """Where a delivery stands. There is no state for "in flight": see `webhookd.core.delivery`."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Reason(StrEnum):
    """Why a delivery ended other than by being delivered. A closed list, part of the feed."""

    EXHAUSTED = "exhausted"
    PERMANENT_STATUS = "permanent_status"
    GONE = "gone"
    EXPIRED = "expired"
    UNRENDERABLE = "unrenderable"
    OPERATOR = "operator"
    BACKLOG_SKIPPED = "backlog_skipped"
    NEWEST_ONLY = "newest_only"
    COALESCED = "coalesced"
    SUBSCRIPTION_REMOVED = "subscription_removed"


class SubscriptionState(StrEnum):
    """Whether a subscription's deliveries are sent (`enabled`) or only accrue (the others)."""

    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


class Ordering(StrEnum):
    """What a pending delivery waits for: the earlier ones of its aggregate, of all, or nothing."""

    AGGREGATE = "aggregate"
    SUBSCRIPTION = "subscription"
    NONE = "none"


class Event(NamedTuple):
    """One outbox row as webhookd keeps it: its own copy, never changed again."""

    sequence: Sequence
    outbox_id: int
    event_id: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    tenant: str
    payload: bytes | None
    """The host's JSON, byte for byte as it was written; None for an ID-only event."""
    occurred_at: str
    """UTC text with milliseconds: it goes into bodies, so its bytes are fixed at ingest."""
    aggregate_type_made: bool = False
    """The row had no aggregate type: it was made of the event type, or there is none."""


@dataclass(frozen=True, slots=True)
class Url:
    """A URL that `webhookd.core.urls.parse` has judged: every part is ready to dial or to send."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lower-case A-label, IPv4 text, or IPv6 text without brackets."""
    port: int
    target: str = field(repr=False)
    """Path and query as they stand in the request line; at least `/`."""

    @property
    def netloc(self) -> str:
        """Host and port as the `Host` header has them (the default port left out)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URL; its query may hold a secret: show `shown` to people."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def shown(self) -> str:
        """Origin and path, with the query masked: what logs and `status` may say."""
        path, question, _ = self.target.partition("?")
        return f"{self.scheme}://{self.netloc}{path}{'?***' if question else ''}"


@dataclass(frozen=True, slots=True)
class Secret:
    """One signing secret, resolved. `value` is in no `repr`."""

    value: str = field(repr=False)
    expires_at: Millis | None = None
    """When it stops signing; None for the newest one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a subscription is delivered to: its profile's preset with its own changes applied."""

    timeout: Millis
    """The one deadline over a whole attempt: resolve, connect, TLS, write, head, body."""
    retry_delays: tuple[Millis, ...]
    """The least wait before the 2nd, 3rd ... attempt; after the last, the delivery has failed."""
    jitter: float = 0.0
    """A delay is lengthened by up to this share of itself."""
    ordering: Ordering = Ordering.AGGREGATE
    concurrency: int = 8
    """Attempts under way at once for one subscription."""
    retry_after_max: Millis = 3_600_000
    """The longest wait that a receiver's `Retry-After` can ask for."""
    rate_limit: float = 0.0
    """Attempts a second at most, with a burst of one second's worth; 0 for no limit."""
    max_age: Millis = 0
    """How long after ingest a delivery is still worth sending; 0 for ever."""
    max_block: Millis = 0
    """How long a head that keeps failing may hold up its line; 0 for ever."""
    coalesce: bool = False
    """An ID-only delivery that was not attempted yet gives way to a newer one of its kind."""
    permanent_statuses: tuple[str, ...] = ()
    """Statuses (`404`) and classes of them (`4xx`) that end a delivery at once."""
    gone_disables: bool = False
    """A 410 disables the subscription, and the delivery stays owed."""
    failing_after: int = 5
    """Attempts in a row that speak of ill health, after which it is probed with one at a time."""
    disable_after_failures: int = 0
    """Deliveries in a row that end failed, after which it is disabled; 0 for never."""
    disable_after: Millis = 0
    """How long without a success, after which a failed attempt disables it; 0 for never."""
    send_feed_sequence: bool = False
    """Requests also tell the event's place in the feed of events, which all partners share."""
    tls_ca: str = ""
    """Where the only authorities are whom its receiver's certificate may come from: a reference
    (`file:PATH`, `env:NAME`); `''` for the system's trust store."""
    tls_client_cert: str = ""
    """Where the certificate and key are that webhookd shows to its receiver: a reference."""
    tls_pin: tuple[str, ...] = ()
    """SHA-256 of the certificates, in hexadecimal, one of which its receiver must show."""
    proxy: str = field(default="", repr=False)
    """The proxy on the way to it, a URL or a reference; `off` for none, `''` for everyone's."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that `webhookd.core.proxies.parse` has judged. Credentials are in no `repr`."""

    scheme: str
    """`http` or `https`: how the proxy itself is spoken to."""
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """What logs and `status` may say of it."""
        masked = "***@" if self.user or self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{masked}{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a receiver is connected to: all that the policy refers to, fetched."""

    ca: str = field(default="", repr=False)
    """Certificates (PEM) of the only authorities to trust; `''` for the system's."""
    identity: str = field(default="", repr=False)
    """Certificate, chain and key (PEM) to show when asked; `''` for none."""
    pins: tuple[str, ...] = ()
    """SHA-256 of the certificates (DER), lower-case hexadecimal, one of which must be shown."""
    proxy: Proxy | None = None
    """Its own proxy; None for everyone's, if there is one."""
    direct: bool = False
    """No proxy at all, not even everyone's."""


PLAIN: Final = Terms()
"""The system's trust store, no certificate of our own, everyone's proxy."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one partner wants, as the daemon needs it to deliver."""

    key: SubscriptionKey
    id: SubscriptionId
    name: str
    url: Url
    events: tuple[str, ...]
    tenant: str
    profile: str
    mode: str
    method: str
    state: SubscriptionState
    state_reason: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    secrets: tuple[Secret, ...]
    """All that are still valid, newest first."""
    policy: Policy
    created_at: str
    unsigned: bool = False
    """No secret was ever set. Only then, and where the profile does without, may a request go
    unsigned: secrets that are empty for any other reason hold the subscription back."""


class FaultKind(StrEnum):
    """Why an attempt ended without a status from the receiver."""

    DNS = "dns"
    BLOCKED = "blocked"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    CLOSED = "closed"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROXY = "proxy"
    """The proxy on the way cannot be reached or refuses to go on; of the receiver it says nothing
    for certain."""
    PROTOCOL = "protocol"
    LOCAL = "local"
    """This machine's fault (no descriptors, no network), not the receiver's."""
    INTERNAL = "internal_error"
    """A bug of ours met while attempting: recorded, so that nothing is lost silently."""


class Phase(StrEnum):
    """How far an exchange had come."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    HEAD = "head"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete status line and headers from the receiver, whatever the status says."""

    status: int
    retry_after: str = ""
    """The `Retry-After` header as received; `''` when there was none."""
    location: str = ""
    """The `Location` header as received; only ever shown, never followed."""
    excerpt: bytes = b""
    """The first bytes of the body."""
    note: str = ""
    """What was odd about an answer that still counts: "body cut at 64 KiB"."""
    date: str = field(default="", compare=False)
    """The `Date` header as received: what the receiver's clock says; `''` when there was none."""


@dataclass(frozen=True, slots=True)
class Fault:
    """No answer. `detail` is one printable line for a person; it never holds a secret."""

    kind: FaultKind
    detail: str
    phase: Phase
    may_be_ours: bool = False
    """A fault that looks the same whether the endpoint or this machine's own network is down."""


Result = Answer | Fault
"""What one exchange came to; the sender never raises for the outside's sake."""
