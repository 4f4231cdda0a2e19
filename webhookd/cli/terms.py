"""What a subscription's TLS and proxy keys refer to: looked at where a person can still mend it."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from webhookd.cli.output import complain
from webhookd.config.references import SecretMissing
from webhookd.config.terms import resolve_terms
from webhookd.core import policy as policies
from webhookd.core.findings import Finding, Level
from webhookd.core.profiles import Known, Profile
from webhookd.core.storage import StoredSubscription
from webhookd.errors import ConfigError


def look_up(policy: Mapping[str, Any], profile: Profile) -> None:
    """Whether what a policy refers to can be used; says on stderr what is not there yet.

    Raises:
        ConfigError: something is there, and cannot be used.
    """
    try:
        _use(policy, profile)
    except SecretMissing as error:
        complain(f"warning: {error}; until it is there, nothing is sent")


def findings(stored: Iterable[StoredSubscription], known: Known) -> list[Finding]:
    """What is wrong with that of each subscription."""
    found = []
    for one in stored:
        place = f"subscription {one.name}"
        try:
            _use(one.policy, known.get(one.profile))
        except SecretMissing as error:
            found.append(Finding(Level.WARNING, place, f"{error}; the daemon may see it"))
        except ConfigError as error:
            found.append(Finding(Level.FAULT, place, str(error)))
        except ValueError:
            continue  # a profile or a policy that is a finding of its own
    return found


def _use(policy: Mapping[str, Any], profile: Profile) -> None:
    from webhookd.http.tls import context_for  # costs what TLS costs, and few have terms

    in_force = policies.apply(profile.policy, policy)
    terms = resolve_terms(in_force, os.environ)
    if not (terms.ca or terms.identity):
        return
    try:
        context_for(terms)
    except ValueError as error:
        raise ConfigError(str(error)) from None
