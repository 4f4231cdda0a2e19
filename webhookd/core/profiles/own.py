"""Profiles of one's own: a built-in one with some of its keys changed, judged whole."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from webhookd.core import headers as http
from webhookd.core import policy, secrets
from webhookd.core.model import Policy
from webhookd.core.profiles import templates
from webhookd.core.profiles.known import Known
from webhookd.core.profiles.profile import Headers, Profile
from webhookd.core.profiles.templates import FIELDS, HEADER_FIELDS, PAYLOAD, Members
from webhookd.core.signing import Algorithm, Encoding, Key, Scheme
from webhookd.core.text import printable

KEYS: Final = (
    *("base", "envelope", "headers", "signature_header", "encoding", "prefix", "signed"),
    *("layout", "secret", "user_agent", "methods"),
)
"""Every key beside those of the policy, which are the keys of `policy.PARSERS`."""
MOST: Final = 100
"""Members of a body, and headers of a request."""
LONGEST: Final = 300
"""Characters of a text."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_MEMBER: Final = re.compile(r"\s*(.*\S)\s*=\s*(\w+)\s*")
_METHODS: Final = ("POST", "PUT", "PATCH")
_BODIES: Final = ("event", PAYLOAD)
_SECRETS: Final[Mapping[str, Callable[[str], bytes]]] = MappingProxyType(
    {"utf8": partial(secrets.check_utf8, prefix=""), "base64": secrets.check_base64}
)


class Wrong(ValueError):
    """A key that cannot be as it was given. Its text is one line."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        """`''`: the profile as a whole."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What was written of a profile, key by key."""

    values: Mapping[str, object]

    def read(self, key: str, reader: Callable[[object], Any], otherwise: Any = None) -> Any:
        """The key's value as `reader` has it, or `otherwise` where it is left out. Raises Wrong."""
        if key not in self.values:
            return otherwise
        try:
            return reader(self.values[key])
        except ValueError as error:
            raise Wrong(key, str(error)) from None


def make(name: str, written: Mapping[str, object], built_in: Known) -> Profile:
    """The profile of that name.

    Raises:
        Wrong: the first key that will not do.
    """
    if not _NAME.fullmatch(name):
        raise Wrong("", "a profile's name is 1 to 40 of a-z 0-9 - _, the first no - and no _")
    if name in built_in.by_name:
        raise Wrong("", "is the name of a built-in profile; take another one")
    for key in written:
        if key not in KEYS and key not in policy.PARSERS:
            raise Wrong(key, _unknown(key))
    given = _Given(written)
    if "base" not in written:
        raise Wrong("base", f"is missing; name what it begins with: {', '.join(built_in.by_name)}")
    base: Profile = given.read("base", partial(_base, built_in))
    body: str | Members = given.read("envelope", partial(_envelope, base), _BODIES[0])
    headers: Headers | None = given.read("headers", partial(_headers, base))
    scheme = _scheme(given, base, headers)
    _check_readable(scheme)
    own = base.own_headers if headers is None else frozenset(key.lower() for key, _ in headers)
    if scheme.header.lower() in own:
        raise Wrong("headers", f"{scheme.header} is the signature's header; leave it out here")
    return replace(
        base,
        name=name,
        own=True,
        policy=_policy(given, base),
        methods=given.read("methods", _methods, base.methods),
        scheme=scheme,
        render=partial(templates.render, base.render, body, headers),
        check_secret=partial(
            _check_secret, given.read("secret", _secret, base.check_secret), scheme
        ),
        own_headers=own,
        private_headers=frozenset(
            key.lower() for key, template in headers or () if templates.outside(template)
        ),
        user_agent=given.read("user_agent", _value, base.user_agent),
        body_id=_body_id(body, base),
    )


def _unknown(key: str) -> str:
    every = (*KEYS, *sorted(policy.PARSERS))
    near = get_close_matches(key, every, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; {', '.join(every)}"


def _body_id(body: str | Members, base: Profile) -> str:
    if isinstance(body, tuple):
        return next((key for key, name in body if name == "id"), "")
    return base.body_id if body == _BODIES[0] else ""


def _policy(given: _Given, base: Profile) -> Policy:
    own: dict[str, object] = {}
    for key in policy.PARSERS:
        if key in given.values:
            if key in base.fixed:
                raise Wrong(key, f"cannot be changed: {base.fixed[key]}")
            own[key] = given.read(key, partial(policy.parse, key))
    return policy.apply(base.policy, own)


# --- single values


def _shown(value: object) -> str:
    return printable(repr(value), 80)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is text: write it in quotes, not {_shown(value)}")  # noqa: TRY004 - an operator's text
    if len(value) > LONGEST:
        raise ValueError(f"is at most {LONGEST} characters")
    return value


def _value(value: object) -> str:
    text = _text(value)
    if not http.is_value(text):
        raise ValueError("is visible ASCII, with spaces only inside it")
    return text


def _choice(choices: Sequence[str], value: object) -> str:
    text = _text(value)
    if text not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"is {listed}, not {_shown(value)}")
    return text


def _base(built_in: Known, value: object) -> Profile:
    return built_in.by_name[_choice(tuple(built_in.by_name), value)]


def _methods(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(one not in _METHODS for one in value):
        raise ValueError(f'is a list of {", ".join(_METHODS)}: ["PUT"], not {_shown(value)}')
    return tuple(dict.fromkeys(value))


def _template(known: Sequence[str], value: object) -> str:
    """Visible ASCII with placeholders of those names, and no other braces."""
    text = _text(value)
    around = templates.outside(text)
    fields = templates.fields_of(text)
    if "{" in around or "}" in around or any(name not in known for name in fields):
        listed = " ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"knows {listed}, and no other braces")
    if not http.is_value(templates.outside(text.replace("}", "}-"))):
        raise ValueError("is visible ASCII, with spaces only inside it")
    return text


# --- body and headers


def _envelope(base: Profile, value: object) -> str | Members:
    """The body: a word, or its members in their order, as a list of `key = field` or a table."""
    if base.modes:
        raise ValueError(f"cannot be changed with base {base.name}, whose format it is")
    if isinstance(value, str):
        body: str | Members = _choice(_BODIES, value)
    elif isinstance(value, dict):
        body = tuple((key, _field(name)) for key, name in value.items())
    elif isinstance(value, list):
        body = tuple(_member(one) for one in value)
    else:
        body = ()
    if not body or len(body) > MOST:
        raise ValueError(f'is "event", "payload" or a list of members: ["id = id"], at most {MOST}')
    if isinstance(body, tuple) and len(dict(body)) < len(body):
        raise ValueError("has a key twice; leave one out")
    if isinstance(body, tuple) and "" in dict(body):
        raise ValueError("has a member without a name; name it")
    fields = (body,) if isinstance(body, str) else dict(body).values()
    if base.id_only and PAYLOAD in fields:
        raise ValueError(f"cannot hold the payload: base {base.name} never sends any content")
    return body


def _member(value: object) -> tuple[str, str]:
    found = _MEMBER.fullmatch(_text(value))
    if found is None:
        raise ValueError(f'has members like "key = field", not {_shown(value)}')
    return found[1], _field(found[2])


def _field(value: object) -> str:
    if not isinstance(value, str) or value not in (*FIELDS, PAYLOAD):
        raise ValueError(f"knows the fields {', '.join((*FIELDS, PAYLOAD))}, not {_shown(value)}")
    return value


def _headers(base: Profile, value: object) -> Headers:
    if base.modes:
        raise ValueError(f"cannot be changed with base {base.name}, whose format they are")
    if not isinstance(value, dict) or len(value) > MOST:
        raise ValueError(
            f'is a table of names and values: {{ X-Topic = "{{type}}" }}, at most {MOST}'
        )
    found: dict[str, tuple[str, str]] = {}
    for name, text in value.items():
        key = _header(name)
        if key.lower() in found:
            raise ValueError(f"{key} is there twice; leave one out")
        try:
            found[key.lower()] = (key, _template(HEADER_FIELDS, text))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return tuple(found.values())


def _header(value: object) -> str:
    text = _text(value)
    if not http.is_name(text):
        raise ValueError(f"{_shown(text)} is no header's name: letters, digits and hyphens")
    refusal = http.refusal(text)
    if refusal:
        raise ValueError(f"{text}: {refusal}; name another one")
    if text.lower() == "user-agent":
        raise ValueError("User-Agent has a key of its own: user_agent")
    return text


# --- the signature


def _scheme(given: _Given, base: Profile, headers: Headers | None) -> Scheme:
    encoding = given.read("encoding", partial(_choice, tuple(Encoding)))
    prefix = given.read("prefix", _prefix)
    signed = given.read("signed", _signed)
    layout = given.read("layout", _layout)
    header = given.read("signature_header", _header, base.scheme.header)
    scheme = replace(base.scheme, header=header)
    # A receiver finds the time and the id where this format has them, if it says so.
    for name, template in headers or ():
        if template == "{timestamp}":
            scheme = replace(scheme, timestamp_header=name)
        elif template == "{id}":
            scheme = replace(scheme, id_header=name)
    if encoding is prefix is signed is layout is None:
        return scheme
    scheme = replace(
        scheme,
        encoding=scheme.encoding if encoding is None else Encoding(encoding),
        prefix=scheme.prefix if prefix is None else prefix,
        signed=signed or scheme.signed,
        ed25519_prefix="",  # that one has the standard's own form, and no other
    )
    if layout is None:
        return scheme
    return replace(
        scheme,
        carries_list=False,
        write=partial(templates.write, layout),
        read=templates.reader(layout),
    )


def _check_readable(scheme: Scheme) -> None:
    """Whether a receiver can take the signatures apart again. Raises Wrong."""
    made = [f"{scheme.prefix}{one}" for one in ("0a", "1b")]
    offered = made if scheme.carries_list else made[:1]
    if list(scheme.read(scheme.write(offered, "1")).signatures) != offered:
        raise Wrong("prefix", "has what divides a list's signatures; name a layout, or another one")


def _prefix(value: object) -> str:
    text = _text(value)
    if text and (not http.is_value(text) or " " in text):
        raise ValueError("is visible ASCII without spaces")
    return text


def _signed(value: object) -> str:
    text = _template(("id", "timestamp", "body"), value)
    if not text.endswith("{body}") or text.count("{body}") != 1:
        raise ValueError('has {body} once, at its end: "{body}", "{timestamp}.{body}"')
    return text


def _layout(value: object) -> str:
    text = _template(("signature", "timestamp"), value)
    if text.count("{signature}") != 1 or text.count("{timestamp}") > 1 or "}{" in text:
        raise ValueError('has {signature} once, and may have {timestamp}: "t={timestamp},v1=..."')
    return text


def _secret(value: object) -> Callable[[str], Key]:
    # Whoever writes the secret itself here must not find it in a log.
    if not isinstance(value, str) or value not in _SECRETS:
        listed = " or ".join(f'"{form}"' for form in _SECRETS)
        raise ValueError(f"is the form of a secret, {listed}; the secret is the subscription's")
    return partial(_key, _SECRETS[value])


def _key(check: Callable[[str], bytes], text: str) -> Key:
    return Key(check(text))


def _check_secret(check: Callable[[str], Key], scheme: Scheme, text: str) -> Key:
    key = check(text)
    if key.algorithm is not Algorithm.HMAC and not scheme.ed25519_prefix:
        raise ValueError("the secret is an Ed25519 key, and this profile signs with HMAC-SHA256")
    return key
