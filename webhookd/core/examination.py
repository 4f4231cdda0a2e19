"""What `check` finds wrong with a subscription as it lies in the file."""

from collections.abc import Callable

from webhookd.core import policy, urls
from webhookd.core.egress import EgressPolicy, judge_url
from webhookd.core.findings import Finding, Level
from webhookd.core.model import Millis
from webhookd.core.profiles import Known, Profile
from webhookd.core.registration import remedy
from webhookd.core.request import check_header
from webhookd.core.storage import StoredSubscription
from webhookd.errors import WebhookdError

Resolve = Callable[[str], str | None]
"""The secret that a reference names; raises WebhookdError where it cannot be had.

None: it is not there for whoever looks, and may be for the daemon, whose environment is its own.
"""


def of_subscription(
    stored: StoredSubscription, egress: EgressPolicy, known: Known, resolve: Resolve, now: Millis
) -> list[Finding]:
    """All that is wrong with a subscription as it lies in the file; one `ok` where nothing is."""
    place = f"subscription {stored.name}"
    try:
        profile = known.get(stored.profile)
    except ValueError as error:
        again = "define it again, or install the webhookd that has it"
        return [Finding(Level.FAULT, place, f"{error}; held back until then: {again}")]
    wrong = [*_url(stored, egress), *_own(stored, profile)]
    found = [
        *(Finding(Level.FAULT, place, text) for text in wrong),
        *(Finding(level, place, text) for level, text in _secrets(stored, profile, resolve, now)),
    ]
    return found or [Finding(Level.OK, place, f"{stored.state}, {urls.parse(stored.url).shown}")]


def _url(stored: StoredSubscription, egress: EgressPolicy) -> list[str]:
    again = f"`webhookd subscriptions update {stored.name} --url URL` sets another"
    try:
        url = urls.parse(stored.url)
    except urls.UrlError as error:
        return [f"{error}; {again}"]
    blocked = judge_url(url, egress)
    return [] if blocked is None else [f"{blocked}; {remedy(url, blocked, egress)}"]


def _own(stored: StoredSubscription, profile: Profile) -> list[str]:
    """What is wrong with its own headers, method and policy."""
    wrong = []
    change = f"`webhookd subscriptions update {stored.name}` changes it"
    if stored.method not in profile.methods:
        choice = " or ".join(profile.methods)
        wrong.append(f"method {stored.method}: profile {profile.name} takes {choice}; {change}")
    for name, value in stored.headers:
        try:
            check_header(name, value, profile, granted=True)
        except ValueError as error:
            wrong.append(f"{error}; {change}")
    try:
        policy.apply(profile.policy, stored.policy)
    except ValueError as error:
        wrong.append(f"{error}; {change}")
    return wrong


def _secrets(
    stored: StoredSubscription, profile: Profile, resolve: Resolve, now: Millis
) -> list[tuple[Level, str]]:
    """What is wrong with its secrets that are still valid."""
    rotate = f"`webhookd subscriptions rotate-secret {stored.name}` sets another"
    live = [one for one in stored.secrets if one.expires_at is None or one.expires_at > now]
    if not live and profile.requires_secret:
        signs = f"has no secret, and profile {profile.name} signs every request"
        return [(Level.FAULT, f"{signs}; {rotate}")]
    if not live and stored.secrets:
        return [(Level.FAULT, f"every secret has expired, and nothing goes unsigned; {rotate}")]
    wrong = []
    for one in live:
        try:
            secret = resolve(one.value) if one.is_reference else one.value
            if secret is None:
                unseen = "cannot be seen from here; make sure that it is there for the daemon"
                wrong.append((Level.WARNING, f"secret {one.value}: {unseen}"))
            else:
                profile.check_secret(secret)
        except WebhookdError as error:
            wrong.append((Level.FAULT, f"secret {error}"))
        except ValueError as error:
            named = f"{one.value}: " if one.is_reference else ""
            wrong.append((Level.FAULT, f"{named}{error}; {rotate}"))
    return wrong
