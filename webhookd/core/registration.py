"""What a subscription may be: every field as a person gave it, judged before it is written.

The one place for it, whoever asks: the command line, a configuration, a route of an HTTP face.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from webhookd.core import policy as policies
from webhookd.core import urls
from webhookd.core.egress import EgressPolicy, judge_url
from webhookd.core.matching import check_pattern
from webhookd.core.model import Url
from webhookd.core.profiles import Headers, Known, Profile
from webhookd.core.request import check_header
from webhookd.core.rows import MAX_TEXT
from webhookd.core.text import printable

MAX_NAME: Final = 300
"""Characters: a whole host name and a number behind it."""
MAX_EVENTS: Final = 1_000
"""Patterns of one subscription: each may cost a step at the first look at a type."""
MAX_HEADERS: Final = 100
ID_PREFIX: Final = "wh_"
NO_FILE: Final = "a file named by --config or WEBHOOKD_CONFIG"
"""Where a setting can be written while no file is read."""


class Unfit(ValueError):
    """A field that cannot be as it was given. Its text is one line and holds no secret."""

    def __init__(self, field_name: str, reason: str, *, forbidden: bool = False) -> None:
        super().__init__(f"{field_name}: {reason}")
        self.field = field_name
        """`url`, `events` ... or a key of the policy."""
        self.reason = reason
        self.forbidden = forbidden
        """It is well-formed, and the operator's egress policy does not allow it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription as somebody asks for it; nothing is judged yet."""

    url: str = field(repr=False)
    events: Sequence[str] = ("*",)
    tenant: str = ""
    profile: str = "standard"
    mode: str = ""
    """A variant of the profile's; `''`: its first, if it has any."""
    method: str = ""
    """`''`: the profile's first."""
    headers: Headers = field(default=(), repr=False)
    policy: Mapping[str, object] = field(default_factory=dict, repr=False)
    """What is to differ from the profile's preset, as people write it."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A subscription that can be written down: all of it judged, but for name and secrets."""

    url: Url = field(repr=False)
    events: tuple[str, ...]
    tenant: str
    profile: Profile
    mode: str
    method: str
    headers: Headers = field(repr=False)
    policy: dict[str, object] = field(repr=False)
    """As `webhookd.core.policy.apply` takes it."""


def judge(wanted: Wanted, egress: EgressPolicy, known: Known) -> Definition:
    """The subscription that was asked for, whole.

    Raises:
        Unfit: the first field that will not do.
    """
    try:
        profile = known.get(wanted.profile)
    except ValueError as error:
        raise Unfit("profile", str(error)) from None
    return Definition(
        url=url(wanted.url, egress),
        events=events(wanted.events, profile),
        tenant=tenant(wanted.tenant, profile),
        profile=profile,
        mode=mode(wanted.mode, profile),
        method=method(wanted.method, profile),
        headers=headers(wanted.headers, profile),
        policy={**_kept(profile), **policy(wanted.policy, profile)},
    )


def _kept(profile: Profile) -> dict[str, object]:
    """What a subscription keeps of a profile that may change, or go: in which lines it stands.

    Lines that were made by one ordering and go on by another would keep no promise.
    """
    return {"ordering": profile.policy.ordering.value} if profile.own else {}


def url(text: str, egress: EgressPolicy) -> Url:
    """A URL that can be dialled, as far as that is known without resolving its name.

    Raises:
        Unfit: it is no URL, or deliveries to it would be blocked.
    """
    try:
        parsed = urls.parse(text)
    except urls.UrlError as error:
        raise Unfit("url", str(error).removeprefix("invalid url: ")) from None
    blocked = judge_url(parsed, egress)
    if blocked is not None:
        raise Unfit("url", f"{blocked}; {remedy(parsed, blocked, egress)}", forbidden=True)
    return parsed


def remedy(parsed: Url, blocked: str, egress: EgressPolicy) -> str:
    """What an operator can do about a URL that `judge_url` blocks with that reason."""
    place = printable(egress.source, 200) or NO_FILE
    if blocked.endswith("is in deny"):
        return f"if it is meant, take it out of [egress] deny in {place}"
    return f'if it is meant, say [egress] allow = ["{parsed.host}"] in {place}'


def events(patterns: Sequence[str], profile: Profile) -> tuple[str, ...]:
    """Patterns, each once, in their order. Raises Unfit."""
    found = tuple(dict.fromkeys(patterns))
    if not found:
        raise Unfit("events", 'there is no pattern; "*" matches every event')
    if len(found) > MAX_EVENTS:
        raise Unfit("events", f"{len(found)} patterns; {MAX_EVENTS} are allowed")
    try:
        for pattern in found:
            check_pattern(pattern)
        profile.check_events(found)
    except ValueError as error:
        raise Unfit("events", str(error)) from None
    return found


def tenant(text: str, profile: Profile) -> str:
    """A tenant, `''` for none. Raises Unfit."""
    if profile.requires_tenant and not text:
        raise Unfit(
            "tenant", f"profile {profile.name} is for one tenant a subscription; name its id"
        )
    if len(text) > MAX_TEXT or not (text.isprintable() and text == text.strip()):
        raise Unfit("tenant", f"takes at most {MAX_TEXT} printable characters, no blanks around")
    return text


def name(text: str) -> str:
    """A name that a person can type to mean this subscription. Raises Unfit."""
    if not text or len(text) > MAX_NAME or not text.isprintable() or text != text.strip():
        raise Unfit("name", f"takes 1 to {MAX_NAME} printable characters, no blanks around")
    if text.startswith((ID_PREFIX, "-")):
        raise Unfit("name", f"cannot begin with {ID_PREFIX} (so do ids) or - (so do options)")
    return text


def derive_name(host: str, taken: Collection[str]) -> str:
    """A name for a subscription whose maker gave it none: its host, numbered if that is taken."""
    found, number = host, 1
    while found in taken:
        number += 1
        found = f"{host}-{number}"
    return found


def method(text: str, profile: Profile) -> str:
    """A request method of the profile's. Raises Unfit."""
    chosen = text.upper() or profile.methods[0]
    if chosen not in profile.methods:
        choice = " or ".join(profile.methods)
        raise Unfit("method", f"profile {profile.name} takes {choice}, not {printable(text, 20)}")
    return chosen


def mode(text: str, profile: Profile) -> str:
    """A variant of the profile's, `''` where it has none. Raises Unfit."""
    if not profile.modes:
        if text:
            raise Unfit("mode", f"profile {profile.name} has no modes; leave it out")
        return ""
    chosen = text or profile.modes[0]
    if chosen not in profile.modes:
        choice = " or ".join(profile.modes)
        raise Unfit("mode", f"profile {profile.name} takes {choice}, not {printable(text, 20)}")
    return chosen


def headers(pairs: Iterable[tuple[str, str]], profile: Profile) -> Headers:
    """Headers that are added to each request. Raises Unfit; no value is in its text."""
    found: dict[str, tuple[str, str]] = {}
    for key, value in pairs:
        try:
            check_header(key, value, profile)
        except ValueError as error:
            raise Unfit("headers", str(error)) from None
        if key.lower() in found:
            raise Unfit("headers", f"header {key}: is there twice; leave one out")
        found[key.lower()] = (key, value)
    if len(found) > MAX_HEADERS:
        raise Unfit("headers", f"{len(found)} headers; {MAX_HEADERS} are allowed")
    return tuple(found.values())


def policy(written: Mapping[str, object], profile: Profile) -> dict[str, object]:
    """Policy values as `webhookd.core.policy.apply` takes them. Raises Unfit."""
    found: dict[str, object] = {}
    for key, value in written.items():
        if key in profile.fixed:
            raise Unfit(key, f"cannot be changed: {profile.fixed[key]}")
        try:
            found[key] = policies.parse(key, value)
        except ValueError as error:
            raise Unfit(key, str(error)) from None
    return found


def secret(text: str, profile: Profile) -> str:
    """A secret in the form that the profile takes. Raises Unfit; nothing of it is in its text."""
    try:
        profile.check_secret(text)
    except ValueError as error:
        raise Unfit("secret", str(error)) from None
    return text
