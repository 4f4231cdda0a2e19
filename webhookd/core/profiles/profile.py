"""What a profile is: one partner format as a value, made of data and a few pure functions.

A new format is a module beside this one that makes a `Profile`; nothing here knows any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from webhookd.core.model import Event, Policy, Subscription
from webhookd.core.signing import Key, Scheme

NOTHING_FIXED: Final[Mapping[str, str]] = MappingProxyType({})

Headers = tuple[tuple[str, str], ...]
"""Names in the case that they are sent in, with their values, in order."""


class Unrenderable(ValueError):
    """The format cannot say this event, now or ever: its text is one line that says why."""


TIMESTAMP: Final = "\0timestamp\0"
"""Stands in a header's value for what differs at each attempt. No value can hold it itself."""


class Content(NamedTuple):
    """What a profile makes of an event: the same at every attempt."""

    content_type: str
    body: bytes
    headers: Headers = ()
    """The format's own headers, without its signature and the ones that every format has.

    `TIMESTAMP` in a value becomes the attempt's unix seconds.
    """


@dataclass(frozen=True, slots=True)
class Profile:
    """A wire format, its signature and the policy that goes with it by default."""

    name: str
    policy: Policy
    """The preset; a subscription's own settings are laid over it."""
    methods: tuple[str, ...]
    """The request methods that a subscription may choose from; the first is the default."""
    requires_secret: bool
    """Whether nothing may be sent without a signature. Without it, a secret still signs."""
    scheme: Scheme
    render: Callable[[Subscription, Event, int], Content] = field(repr=False)
    """The content for a subscription's event, given the delivery's number within the subscription.

    Raises `Unrenderable`.
    """
    check_secret: Callable[[str], Key]
    """The key that a secret's text stands for, for ever.

    Raises ValueError: one line, without the secret.
    """
    check_events: Callable[[Sequence[str]], None]
    """Whether a subscription may have these patterns, each of them well-formed.

    Raises ValueError: one line that names the pattern and what to do instead.
    """
    own_headers: frozenset[str] = frozenset()
    """The names, in lower case, of what `render` can set: a user's header never replaces one."""
    private_headers: frozenset[str] = frozenset()
    """Those of `own_headers` with a text of a configuration in them, which may be a secret."""
    user_agent: str = ""
    """What the format prescribes; `''` for webhookd's own."""
    modes: tuple[str, ...] = ()
    """Variants of the format that a subscription chooses from for good; the first is the default.
    None: it has no variants."""
    own: bool = False
    """Whether a configuration made it: it may be another one tomorrow, or gone."""
    requires_tenant: bool = False
    """Whether a subscription must be one tenant's."""
    fixed: Mapping[str, str] = field(default_factory=lambda: NOTHING_FIXED)
    """Keys of the policy that no subscription may change, and why, in one line each."""
    id_only: bool = False
    """Whether the format never sends any of an event's content, whatever the row says."""
    body_id: str = ""
    """The key of the body, a JSON object, that repeats the event id; `''` where none does."""
    echoes: frozenset[str] = frozenset()
    """Headers, in lower case, that a handshake may give a subscription of this format."""
