"""The URL of an HTTP proxy: the one kind of URL that may hold a user name and a password."""

from base64 import b64encode
from typing import Final
from urllib.parse import unquote

from webhookd.core.model import Proxy, Terms
from webhookd.core.urls import UrlError
from webhookd.core.urls import parse as parse_url

OFF: Final = "off"
"""As a subscription's `proxy`: none, not even everyone's."""

_SCHEMES: Final = ("http", "https")


def on_the_way(terms: Terms, everyones: Proxy | None) -> Proxy | None:
    """The proxy on the way for whoever has these terms; `everyones` is of who has none."""
    return None if terms.direct else terms.proxy or everyones


def parse(text: str) -> Proxy:
    """The proxy that `http://[USER:PASSWORD@]HOST[:PORT]` (or https) names.

    Raises:
        ValueError: it names none. One line, without any part of `text`, which may hold a secret.
    """
    scheme, found, rest = text.partition("://")
    if not found or scheme.lower() not in _SCHEMES:
        raise ValueError("takes a proxy's URL, like http://proxy.example:3128")
    authority, slash, path = rest.partition("/")
    userinfo, _, place = authority.rpartition("@")
    if path or "@" in userinfo:
        raise ValueError(
            "takes a proxy's URL without a path; in its user name and password write @ and / as "
            "%40 and %2F"
        )
    try:
        url = parse_url(f"{scheme}://{place}{slash}")
    except UrlError as error:
        raise ValueError(str(error)) from None
    if url.target != "/":
        raise ValueError("takes a proxy's URL without a query")
    user, password = (unquote(part) for part in _split(userinfo))
    if ":" in user or not (user + password).isprintable():
        raise ValueError("the proxy's user name or password has characters that cannot be sent")
    return Proxy(url.scheme, url.host, url.port, user, password)


def confidential(proxy: Proxy) -> tuple[str, ...]:
    """What of a proxy's must not be kept when somebody echoes it: see `webhookd.core.redact`."""
    pair = f"{proxy.user}:{proxy.password}"
    return (proxy.password, pair, b64encode(pair.encode()).decode())


def _split(userinfo: str) -> tuple[str, str]:
    user, _, password = userinfo.partition(":")
    return user, password
