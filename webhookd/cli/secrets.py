"""Signing secrets on the command line: given, referred to, or made here."""

import os
import sys
from dataclasses import dataclass, field
from typing import Final

from webhookd.cli.output import complain
from webhookd.config.references import SecretMissing, is_reference, resolve
from webhookd.core import registration, secrets
from webhookd.core.profiles import Profile
from webhookd.errors import ConfigError, UsageError
from webhookd.store.subscriptions import NewSecret

LARGEST: Final = 65_536
"""Characters of a secret read from standard input: more is another file than was meant."""

HELP: Final = (
    "The signing secret: - reads it from standard input; env:NAME and file:PATH are looked up "
    "where the daemon runs and are never stored."
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A secret to be written, and what may be shown of it."""

    new: NewSecret = field(repr=False)
    shown: str | None = field(repr=False)
    """The secret where it was made here just now, a reference as it is; None for a given one."""
    made: bool = False
    public: str = ""
    """The key that the receiver verifies with, where it is another one."""


def choose(given: str | None, profile: Profile) -> Chosen:
    """The secret that `--secret` asks for; a new one where it is absent.

    Raises:
        UsageError: it has not the form that the profile takes.
        ConfigError: a reference that leads to something unusable.
    """
    if given is None:
        made = secrets.make(os.urandom(secrets.MADE_BYTES))
        return Chosen(NewSecret(made, is_reference=False), made, made=True)
    if is_reference(given):
        _look_up(given, profile)
        return Chosen(NewSecret(given, is_reference=True), given)
    text = _checked(literal(given), profile)
    return Chosen(NewSecret(text, is_reference=False), None, public=public_key(text))


def literal(given: str) -> str:
    """A secret that is written out, or `-` for standard input, without one final newline."""
    if given != "-":
        complain(
            "warning: a secret on the command line can be seen in the process list; "
            "--secret - reads it from standard input"
        )
        return given
    text = sys.stdin.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise UsageError(f"--secret -: over {LARGEST} characters on standard input")
    return text.removesuffix("\n").removesuffix("\r")


def _checked(text: str, profile: Profile) -> str:
    try:
        return registration.secret(text, profile)
    except registration.Unfit as error:
        raise UsageError(f"--secret: {error.reason}") from None


def _look_up(reference: str, profile: Profile) -> None:
    try:
        text = resolve(reference, os.environ)
    except SecretMissing as error:
        complain(f"warning: {error}; until it is there, nothing is sent")
        return
    try:
        registration.secret(text, profile)
    except registration.Unfit as error:
        raise ConfigError(f"{reference}: {error.reason}") from None


def public_key(secret: str) -> str:
    """What the receiver verifies with, where that is not the secret itself; else `''`."""
    if not secret.startswith(secrets.PRIVATE_PREFIX):
        return ""
    try:
        return secrets.public_half(secret)
    except ValueError:  # the package for it has gone: `check` says so
        return ""
