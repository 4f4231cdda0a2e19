"""What a policy refers to for the way to its receiver: files of certificates, and its proxy."""

import sys
from collections.abc import Callable, Mapping
from typing import Final

from webhookd.config.references import SecretMissing, resolve
from webhookd.core import proxies
from webhookd.core.model import PLAIN, Policy, Terms
from webhookd.core.policy import has_terms, is_reference
from webhookd.errors import ConfigError

_SECRET: Final = {"tls_ca": False, "tls_client_cert": True, "proxy": True}
"""Whether others must not be able to read what the key refers to."""


def resolve_terms(policy: Policy, environ: Mapping[str, str]) -> Terms:
    """The terms of a policy, with what it refers to read.

    Whether certificates are any good is not looked at: see `webhookd.http.tls.context_for`.

    Raises:
        SecretMissing: what a reference names is not there now.
        ConfigError: it is there, and cannot be used. One line that names the key, no secret.
    """
    if not has_terms(policy):
        return PLAIN

    def read(key: str, reference: str) -> str:
        return _named(key, lambda: resolve(reference, environ, secret=_SECRET[key]))

    proxy = None
    direct = policy.proxy == proxies.OFF
    if policy.proxy and not direct:
        text = read("proxy", policy.proxy) if is_reference(policy.proxy) else policy.proxy
        try:
            proxy = proxies.parse(text)
        except ValueError as error:
            raise ConfigError(f"proxy: {error}") from None
    return Terms(
        # Many may name one authority; its text is kept once.
        ca=sys.intern(read("tls_ca", policy.tls_ca)) if policy.tls_ca else "",
        identity=read("tls_client_cert", policy.tls_client_cert) if policy.tls_client_cert else "",
        pins=policy.tls_pin,
        proxy=proxy,
        direct=direct,
    )


def _named(key: str, work: Callable[[], str]) -> str:
    try:
        return work()
    except SecretMissing as error:
        raise SecretMissing(f"{key}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
