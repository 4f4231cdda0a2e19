"""The complete request of an attempt: every byte that goes out is put together here.

Header names and values are joined to bytes as they are, so nothing may come in that could end a
line: a user's headers are judged when they are set (`check_header`) and again when a `Renderer` is
made; what an event brings along is judged at every attempt.
"""

import re
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_plus

from webhookd import __version__
from webhookd.core import headers as http
from webhookd.core.model import Event, Millis, Subscription, Url
from webhookd.core.profiles import Headers, Profile, Unrenderable
from webhookd.core.profiles.profile import TIMESTAMP
from webhookd.core.signing import MissingSecret, live

USER_AGENT: Final = f"webhookd/{__version__}"

_VISIBLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, complete. Its `repr` leaves out whatever may hold a secret."""

    method: str
    url: Url = field(repr=False)
    headers: Headers = field(repr=False)
    """All of them, in order, `Host` and `Content-Length` too."""
    body: bytes = field(repr=False)

    def wire(self) -> bytes:
        """Head and body as HTTP/1.1 sends them, ready for one write."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers]
        head = f"{self.method} {self.url.target} HTTP/1.1\r\n{''.join(lines)}\r\n"
        return head.encode("ascii") + self.body

    @property
    def body_hash(self) -> bytes:
        """SHA-256 of the body: by it a later attempt is seen to carry other bytes."""
        return sha256(self.body).digest()


def check_header(name: str, value: str, profile: Profile, *, granted: bool = False) -> None:
    """Whether a subscription of that profile may have this header.

    What the profile sets is refused; `User-Agent` may be replaced. With `granted`, what only a
    handshake can have given it is let in too.

    Raises:
        ValueError: it may not. One line, without the value, which may be a secret.
    """
    if not http.is_name(name):
        raise ValueError("a header's name has characters that no name can have")
    lowered = name.lower()
    refusal = http.refusal(name)
    if lowered in profile.own_headers or lowered == profile.scheme.header.lower():
        refusal = "webhookd sets it itself"
    if refusal and not (granted and lowered in profile.echoes):
        raise ValueError(f"header {name}: {refusal}; leave it out")
    if not http.is_value(value):
        raise ValueError(
            f"header {name}: its value must be visible ASCII, with spaces only inside it"
        )


def agent(profile: Profile, own: Headers) -> str:
    """The `User-Agent` of a subscription of that profile with these headers of its own."""
    given = (value for name, value in own if name.lower() == "user-agent")
    return next(given, profile.user_agent or USER_AGENT)


class Renderer:
    """Makes the requests of one subscription. What never differs between them is made once.

    A subscription that was changed needs a new one.
    """

    __slots__ = ("_accept", "_agent", "_host", "_keys", "_profile", "_subscription", "_user")

    def __init__(self, profile: Profile, subscription: Subscription) -> None:
        """Judge all that the subscription brings along.

        Raises:
            ValueError: its method, URL, a header or a secret cannot be used. One line, no secret.
        """
        if subscription.method not in profile.methods:
            raise ValueError(
                f"method {subscription.method!r}: profile {profile.name} takes"
                f" {' or '.join(profile.methods)}"
            )
        url = subscription.url
        if not _VISIBLE.fullmatch(url.target) or not _VISIBLE.fullmatch(url.netloc):
            raise ValueError("url: has characters that a request cannot carry; percent-encode them")
        user = _judged(profile, subscription)
        user.pop("user-agent", None)
        self._profile = profile
        self._subscription = subscription
        self._host = ("Host", url.netloc)
        self._agent = ("User-Agent", agent(profile, subscription.headers))
        self._accept = ("Accept-Encoding", "identity")
        self._user = tuple(user.values())
        self._keys = tuple(
            replace(profile.check_secret(secret.value), expires_at=secret.expires_at)
            for secret in subscription.secrets
        )

    def render(self, event: Event, *, number: int, attempt: int, now: Millis) -> Request:
        """The request of the delivery's `attempt`th attempt (1, 2, ...), begun at `now`.

        `number` is the delivery's own within its subscription. The body depends on neither the
        attempt nor `now`.

        Raises:
            Unrenderable: the profile cannot say this event, now or ever.
            MissingSecret: nothing may be sent until there is a live secret.
        """
        profile, subscription = self._profile, self._subscription
        keys = live(self._keys, now)
        if not keys and (profile.requires_secret or not subscription.unsigned):
            raise MissingSecret(
                f"profile {profile.name} signs every request: set a secret"
                if profile.requires_secret
                else "it has a secret, which is not there: nothing goes unsigned"
            )
        content = profile.render(subscription, event, number)
        body = content.body
        timestamp = str(now // 1000)
        identity = ("webhook-id", event.event_id)
        own = [(name, value.replace(TIMESTAMP, timestamp)) for name, value in content.headers]
        for name, value in (identity, *own):
            if not http.is_value(value):
                raise Unrenderable(f"header {name} cannot carry what the event has for it")
        signature: Headers = ()
        if keys:
            scheme = profile.scheme
            signature = ((scheme.header, scheme.sign(keys, event.event_id, timestamp, body)),)
        headers = (
            self._host,
            ("Content-Type", content.content_type),
            ("Content-Length", str(len(body))),
            self._agent,
            self._accept,
            identity,
            ("webhook-timestamp", timestamp),
            *signature,
            ("webhookd-sequence", str(number)),
            ("webhookd-attempt", str(attempt)),
            *self._place(event),
            *own,
            *self._user,
        )
        return Request(subscription.method, subscription.url, headers, body)

    def _place(self, event: Event) -> Headers:
        if not self._subscription.policy.send_feed_sequence:
            return ()
        return (("webhookd-feed-sequence", str(event.sequence)),)

    def confidential(self, request: Request) -> set[str]:
        """What of a request must not be kept when the receiver echoes it: see `core.redact`.

        Whole values and their parts (a token after `Bearer`, one value of a query), as they are
        and as JSON may write them.
        """
        ours = self._profile.private_headers | {self._profile.scheme.header.lower()}
        _, _, query = request.url.target.partition("?")
        held = [secret.value for secret in self._subscription.secrets]
        whole = [
            *held,
            *(value.partition("_")[2] for value in held if value.startswith(("whsec_", "whsk_"))),
            *(value for _, value in self._user),
            *(value for name, value in request.headers if name.lower() in ours),
            query,
            *(unquote_plus(pair.partition("=")[2]) for pair in query.split("&")),
            *(pair.partition("=")[2] for pair in query.split("&")),
        ]
        parts = {part for value in whole for part in (value, *value.split())}
        return parts | {part.replace("/", "\\/") for part in parts}


def _judged(profile: Profile, subscription: Subscription) -> dict[str, tuple[str, str]]:
    """The user's headers by lower-case name, in order."""
    judged: dict[str, tuple[str, str]] = {}
    for name, value in subscription.headers:
        check_header(name, value, profile, granted=True)
        if name.lower() in judged:
            raise ValueError(f"header {name}: is there twice; leave one out")
        judged[name.lower()] = (name, value)
    return judged
