"""What a subscription's TLS and proxy keys refer to: looked at where a person can still mend it."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from webhookd.cli.output import complain
from webhookd.config.references import SecretMissing
from webhookd.core import policy as policies
from webhookd.core.findings import Finding, Level
from webhookd.core.profiles import Known, Profile
from webhookd.core.storage import StoredSubscription
from webhookd.errors import ConfigError

KEYS: Final = frozenset({"tls_ca", "tls_client_cert", "tls_pin", "proxy"})
"""Keys of the policy by which a receiver is connected to otherwise."""


def look_up(policy: Mapping[str, Any], profile: Profile, place: str = "") -> None:
    """Whether what a policy refers to can be used; says on stderr what is not there yet.

    Args:
        policy: what a subscription has of its own.
        profile: its own, which may refer to something too.
        place: what stands before each line: the block of a configuration, like `config.toml: x`.

    Raises:
        ConfigError: something is there, and cannot be used.
    """
    where = f"{place}: " if place else ""
    try:
        _use(policy, profile)
    except SecretMissing as error:
        complain(f"warning: {where}{error}; until it is there, nothing is sent")
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None


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
    in_force = policies.apply(profile.policy, policy)
    if policies.has_terms(in_force):
        from webhookd.daemon.roster import terms_of  # costs what TLS costs, and few have terms

        terms_of(in_force, os.environ)
