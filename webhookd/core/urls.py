"""The one parser of URLs: what it lets pass can be dialled and written into a request as it stands.

It is strict on purpose. Libraries repair what they are given (they drop tabs, read `0x7f.1` as
127.0.0.1, fold full-width digits), and each repairs differently; a URL that two of them read
differently can be judged as one address and dialled as another. So what is odd is refused, with
the reason, at the moment when a person can still mend it.
"""

import ipaddress
import re
import unicodedata
from typing import Final, NoReturn

from webhookd.core.model import Url

MAX_URL: Final = 8_000
"""Characters: what RFC 9110 asks every server to accept in a request line."""
MAX_HOST: Final = 253
MAX_LABEL: Final = 63
MAX_PORT: Final = 65_535
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_PLAIN = re.compile(r'[!"$-\[\]-~]*')
"""What most are made of: nothing in it is odd."""
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\Z")
"""With the underscore: not a host name by the letter of RFC 952, yet common within companies."""
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
"""A last label that some resolvers read as (part of) an IPv4 number."""
_IDEOGRAPHIC_DOTS = frozenset("\u3002\uff0e\uff61")


class UrlError(ValueError):
    """A URL that is refused. Its text is one line, and repeats no part that may be a secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid url: {reason}")


def parse(text: str) -> Url:
    """The parts of `text`, each ready to dial or to send.

    Raises:
        UrlError: it is not an absolute http or https URL, or something in it is odd. Nothing else
            is raised, whatever `text` holds.
    """
    if len(text) > MAX_URL:
        _refuse(f"it is longer than {MAX_URL} characters")
    _check_characters(text)
    scheme, rest = _split_scheme(text)
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, target = rest[:end], rest[end:]
    if "@" in authority:
        _refuse("it holds a user name or password; send credentials in a header instead")
    host, port = _split_port(authority, DEFAULT_PORTS[scheme])
    if not target.startswith("/"):
        target = f"/{target}"
    return Url(scheme, parse_host(host), port, _encode(target))


def parse_host(text: str) -> str:
    """The normal form of a host: A-labels in lower case, IPv4 text, or IPv6 text without brackets.

    IPv6 is expected in brackets, as it stands in a URL.

    Raises:
        UrlError: it is none of these.
    """
    if text.startswith("["):
        return _ipv6(text)
    if not text:
        _refuse("the host is empty")
    if ":" in text:
        _refuse("the host holds a colon; an IPv6 address needs brackets")
    if "%" in text:
        _refuse("the host holds a percent sign")
    if len(text) > MAX_HOST:
        _refuse(f"the host is longer than {MAX_HOST} characters")
    if _IDEOGRAPHIC_DOTS.intersection(text):
        _refuse("the host holds an ideographic full stop; write an ordinary dot")
    if unicodedata.normalize("NFKC", text) != unicodedata.normalize("NFC", text):
        _refuse("the host holds full-width or other compatibility characters")
    host = ".".join(_label(label) for label in text.split("."))
    if len(host) > MAX_HOST:
        _refuse(f"the host is longer than {MAX_HOST} characters")
    if _NUMBER.match(host.rpartition(".")[2]):
        return _ipv4(host)
    return host


def _refuse(reason: str) -> NoReturn:
    raise UrlError(reason)


def _check_characters(text: str) -> None:
    if _PLAIN.fullmatch(text):
        return
    for character in text:
        if character == "\\":
            _refuse("it holds a backslash")
        if character == "#":
            _refuse("it holds a fragment (#), which is never sent")
        if "!" <= character <= "~":
            continue
        category = unicodedata.category(character)
        if category == "Cc":
            _refuse("it holds a control character")
        if category == "Cs":
            _refuse("it holds half of a surrogate pair")
        if character.isspace():
            _refuse("it holds a space")


def _split_scheme(text: str) -> tuple[str, str]:
    match = _SCHEME.match(text)
    if match is None:
        _refuse("it does not begin with https://")
    scheme = match[1].lower()
    if scheme not in DEFAULT_PORTS:
        _refuse("its scheme is neither https nor http")
    if match[2] is None:
        _refuse(f"{scheme}: is not followed by //")
    return scheme, text[match.end() :]


def _split_port(authority: str, default: int) -> tuple[str, int]:
    bracket = authority.rfind("]")
    if bracket < 0 and authority.startswith("["):
        _refuse("the brackets of the host are not closed")
    colon = authority.find(":", bracket + 1)
    if colon < 0:
        return authority, default
    host, port = authority[:colon], authority[colon + 1 :]
    if ":" in port:
        _refuse("the host holds more than one colon; an IPv6 address needs brackets")
    if not _PORT.match(port) or int(port) > MAX_PORT:
        _refuse(f"the port is not a number from 1 to {MAX_PORT}")
    return host, int(port)


def _ipv6(text: str) -> str:
    if "%" in text:
        _refuse("an IPv6 address with a zone is good on one machine only")
    if not text.endswith("]"):
        _refuse("the brackets of the host are not closed at its end")
    try:
        return str(ipaddress.IPv6Address(text[1:-1]))
    except ValueError:
        _refuse("what stands in brackets is no IPv6 address")


def _ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        _refuse("the host ends in a number and is no plain IPv4 address (four decimal numbers)")


def _label(label: str) -> str:
    """One label as an A-label."""
    if not label:
        _refuse("the host has an empty label")
    lowered = label.lower()
    try:
        if not lowered.isascii() or lowered.startswith("xn--"):
            import idna  # its tables are large, and few hosts need them

            # IDNA 2008, without any mapping of its own: the standard library's codec is IDNA
            # 2003, which leads names with a sharp s or a final sigma to somebody else's domain.
            lowered = idna.alabel(unicodedata.normalize("NFC", lowered)).decode("ascii")
    except UnicodeError:
        _refuse("the host has a label that is no valid international name")
    if len(lowered) > MAX_LABEL:
        _refuse(f"the host has a label of more than {MAX_LABEL} characters")
    if not _LABEL.match(lowered):
        _refuse("the host has a label with characters other than letters, digits, - and _")
    return lowered


def _encode(target: str) -> str:
    """The target with what is not ASCII percent-encoded as UTF-8, the rest as it was written."""
    if target.isascii():
        return target
    return "".join(
        character if character.isascii() else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in target
    )
