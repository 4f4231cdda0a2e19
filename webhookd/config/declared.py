"""`[[subscriptions]]`: every block judged by the functions that judge `subscriptions add`.

A secret stands here as a reference only. What the reference leads to is not looked at when the
file is read: the reader may be another user than the daemon, or `status` on a bad day. A relative
path in it starts from the file's directory, as that of `database` does; a bare name is a credential
of systemd's, which only the daemon sees.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from webhookd.config.faults import advice, line, shown
from webhookd.config.references import SecretMissing, is_reference, resolve
from webhookd.config.settings import SUBSCRIPTIONS
from webhookd.core import registration
from webhookd.core.declaration import Declared
from webhookd.core.egress import EgressPolicy
from webhookd.core.policy import PARSERS
from webhookd.core.profiles import Headers, Known, Profile
from webhookd.core.registration import Unfit, Wanted
from webhookd.errors import ConfigError

FIELDS: Final = (
    *("name", "url", "events", "tenant", "profile", "mode"),
    *("method", "headers", "secret"),
)
"""The keys of a block beside those of the policy, which are the keys of `PARSERS`."""

MOST_FAULTS: Final = 5
"""Blocks whose fault is told; whoever has mended these is told the next."""

_NEEDED: Final = {
    "name": 'is missing; give each block one: name = "acme"',
    "url": 'is missing; say where it is delivered to: url = "https://..."',
}


def read(value: object, source: str, egress: EgressPolicy, known: Known) -> tuple[Declared, ...]:
    """The declared subscriptions, in their order.

    Args:
        value: what the file has under `SUBSCRIPTIONS`.
        source: the file, for errors; blocks in it are counted from 1.
        egress: by which their URLs are judged.
        known: the profiles that a block may name: the same file's own among them.

    Raises:
        ConfigError: the first fault of each block; no value that may be a secret is in it.
    """
    if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
        fault = f"is a list of tables: write [[{SUBSCRIPTIONS}]] above the keys of each"
        raise ConfigError(line(source, SUBSCRIPTIONS, fault))
    found: dict[str, Declared] = {}
    faults: list[str] = []
    for number, block in enumerate(value, 1):
        try:
            one = _block(block, source, f"{SUBSCRIPTIONS}[{number}]", egress, known)
        except ConfigError as error:
            faults.append(str(error))
            continue
        if one.name in found:
            other = found[one.name].place.rpartition(": ")[2]
            fault = f"{shown(one.name)} is the name of {other} already; give each its own"
            faults.append(line(source, f"{SUBSCRIPTIONS}[{number}].name", fault))
        else:
            found[one.name] = one
    if faults:
        raise ConfigError(_together(faults, source))
    return tuple(found.values())


def _together(faults: list[str], source: str) -> str:
    """The first fault of each block in one line, which names the file once."""
    others = [fault.removeprefix(f"{source}: ") for fault in faults[1:MOST_FAULTS]]
    more = len(faults) - MOST_FAULTS
    return "; also ".join([faults[0], *others, *([f"{more} more"] if more > 0 else [])])


def look_up(one: Declared, environ: Mapping[str, str]) -> str:
    """Whether the secret can be used by this process: `''`, or in one line that it is missing.

    Raises:
        ConfigError: there is something, and it is unfit.
    """
    if not one.secret:
        return ""
    place = f"{one.place}.secret"
    try:
        text = resolve(one.secret, environ)
    except SecretMissing as error:
        bare = one.secret.removeprefix("file:")
        beside = "" if "/" in bare or bare == one.secret else _BESIDE.format(bare)
        return f"{place}: {error}{beside}"
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    try:
        registration.secret(text, one.definition.profile)
    except Unfit as error:
        raise ConfigError(line(place, one.secret, error.reason)) from None
    return ""


def _block(
    block: Mapping[str, object], source: str, key: str, egress: EgressPolicy, known: Known
) -> Declared:
    keys = (*FIELDS, *PARSERS)
    name = block.get("name")
    of_whom = f" (in the block of {shown(name)})" if isinstance(name, str) and name else ""
    for unknown in block:
        if unknown not in keys:
            fault = f"unknown key; {advice(unknown, keys)}{of_whom}"
            raise ConfigError(line(source, f"{key}.{unknown}", fault))
    try:
        return _judged(block, source, key, egress, known)
    except Unfit as error:
        where = f"{key}.{error.field}"
        raise ConfigError(line(source, where, f"{error.reason}{of_whom}")) from None


def _judged(
    block: Mapping[str, object], source: str, key: str, egress: EgressPolicy, known: Known
) -> Declared:
    """Raises Unfit."""
    for field, fault in _NEEDED.items():
        if field not in block:
            raise Unfit(field, fault)
    name = registration.name(_text(block, "name", ""))
    wanted = Wanted(
        url=_text(block, "url", ""),
        events=_events(block.get("events", ["*"])),
        tenant=_text(block, "tenant", ""),
        profile=_text(block, "profile", "standard"),
        mode=_text(block, "mode", ""),
        method=_text(block, "method", ""),
        headers=_headers(block.get("headers", {})),
        policy={key: _plain(key, value) for key, value in block.items() if key in PARSERS},
    )
    definition = registration.judge(wanted, egress, known)
    place = f"{source}: {key}" if source else key
    secret = _secret(block, definition.profile, Path(source).parent)
    return Declared(place, name, definition, secret)


def _text(block: Mapping[str, object], field: str, default: str) -> str:
    value = block.get(field, default)
    if isinstance(value, str):
        return value
    raise Unfit(field, "is text: write it in quotes")


def _events(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(pattern, str) for pattern in value):
        return value
    raise Unfit("events", 'is a list of patterns: ["supplier.*", "order.created"]')


def _headers(value: object) -> Headers:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return tuple(value.items())
    raise Unfit("headers", 'is a table of texts: headers = { X-Key = "abc" }')


def _plain(key: str, value: object) -> object:
    """A value of the policy, which the keys' own parsers take: one, or a list of them."""
    parts = value if isinstance(value, list) else [value]
    if all(isinstance(part, str | int | float) for part in parts):
        return value
    raise Unfit(key, "is text, a number, true or false, or a list of texts or numbers")


def _secret(block: Mapping[str, object], profile: Profile, home: Path) -> str:
    """The reference, with a path that begins at the root; `home` is the file's directory."""
    if "secret" not in block:
        if profile.requires_secret:
            fault = f"is missing: profile {profile.name} signs every request; {_REFERENCES}"
            raise Unfit("secret", fault)
        return ""
    value = block["secret"]
    if isinstance(value, str) and is_reference(value) and value.partition(":")[2]:
        kind, _, name = value.partition(":")
        if kind == "file" and "/" in name:
            return f"file:{(home / name).absolute()}"
        return value
    raise Unfit("secret", f"takes no secret itself, only a reference to one; {_REFERENCES}")


_REFERENCES: Final = "write env:NAME or file:PATH"
_BESIDE: Final = "; one beside the configuration is file:./{}"
