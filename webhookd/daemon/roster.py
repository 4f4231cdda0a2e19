"""Who is to be delivered to: subscriptions with their secrets resolved and their requests ready.

What cannot be resolved is held back, with the reason, and looked at again: never sent unsigned.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from webhookd.config.references import resolve
from webhookd.config.terms import resolve_terms
from webhookd.core import policy, urls
from webhookd.core.model import PLAIN, Millis, Policy, Secret, Subscription, Terms
from webhookd.core.profiles import Known
from webhookd.core.request import Renderer
from webhookd.core.storage import StoredSubscription
from webhookd.errors import ConfigError
from webhookd.http.tls import context_for


@dataclass(frozen=True, slots=True)
class Member:
    """A subscription that can be delivered to."""

    subscription: Subscription
    renderer: Renderer
    terms: Terms = PLAIN
    """On which its receiver is connected to."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A subscription that cannot be delivered to as it is, and why."""

    name: str
    problem: str
    policy: Policy | None
    """What time does to what it is owed goes by it; None where it is of a newer program."""


def enroll(
    stored: StoredSubscription, known: Known, environ: Mapping[str, str], now: Millis
) -> Member | HeldBack:
    """Resolve and check one subscription. Reads files, so not on the hot path."""
    try:
        profile = known.get(stored.profile)
        secrets = tuple(
            Secret(
                resolve(secret.value, environ) if secret.is_reference else secret.value,
                secret.expires_at,
            )
            for secret in stored.secrets
            if secret.expires_at is None or secret.expires_at > now
        )
        if profile.requires_secret and not secrets:
            problem = f"profile {profile.name} signs every request: set a secret"
            return HeldBack(stored.name, problem, _policy(stored, known))
        if stored.secrets and not secrets:
            problem = "every secret has expired: rotate in a new one"
            return HeldBack(stored.name, problem, _policy(stored, known))
        subscription = Subscription(
            key=stored.key,
            id=stored.id,
            name=stored.name,
            url=urls.parse(stored.url),
            events=stored.events,
            tenant=stored.tenant,
            profile=stored.profile,
            mode=stored.mode,
            method=stored.method,
            state=stored.state,
            state_reason=stored.state_reason,
            headers=stored.headers,
            secrets=secrets,
            policy=policy.apply(profile.policy, stored.policy),
            created_at=stored.created_at,
            unsigned=not stored.secrets,
        )
        terms = terms_of(subscription.policy, environ)
        return Member(subscription, Renderer(profile, subscription), terms)
    except (ConfigError, ValueError) as error:
        return HeldBack(stored.name, str(error), _policy(stored, known))


def terms_of(in_force: Policy, environ: Mapping[str, str]) -> Terms:
    """On what terms its receiver is connected to, whoever asks: all that sends goes by them.

    Raises:
        SecretMissing: what a reference names is not there now.
        ConfigError: it is there, and cannot be used. One line that names the key, no secret.
    """
    terms = resolve_terms(in_force, environ)
    if terms.ca or terms.identity:
        try:
            context_for(terms)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return terms


def _policy(stored: StoredSubscription, known: Known) -> Policy | None:
    try:
        return policy.apply(known.get(stored.profile).policy, stored.policy)
    except ValueError:
        return None


def refers(stored: StoredSubscription, known: Known) -> bool:
    """Whether something of it is kept outside the file, and may be another one by now."""
    if any(secret.is_reference for secret in stored.secrets):
        return True
    in_force = _policy(stored, known)  # a profile of one's own may refer to something too
    return in_force is not None and policy.refers(in_force)
