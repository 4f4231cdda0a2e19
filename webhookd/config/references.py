"""Secrets that are kept outside the database: `env:NAME` and `file:PATH`.

The value of a secret is in no exception raised here, nor in one that such an exception hangs on.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from webhookd.core.text import printable
from webhookd.errors import ConfigError

LARGEST: Final = 65_536
"""Bytes of a secret: a file that is larger is another file than was meant."""

_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
_GROUP: Final = stat.S_IRGRP | stat.S_IWGRP


class SecretMissing(ConfigError):
    """What the reference names is not there now. It may come: whoever needs it waits."""


def is_reference(text: str) -> bool:
    """Whether `text` names a secret instead of being one."""
    return text.startswith(("env:", "file:"))


def resolve(reference: str, environ: Mapping[str, str], *, secret: bool = True) -> str:
    """The secret that `reference` names, without its one final newline.

    A relative `file:` starts from `$CREDENTIALS_DIRECTORY`, which systemd sets for a service.
    What is no secret may be read by anybody.

    Raises:
        SecretMissing: there is no such variable or file, or no such directory to start from.
        ConfigError: it is empty, no UTF-8 text, too large, or a file that too many can read.
    """
    kind, _, name = reference.partition(":")
    if kind not in ("env", "file") or not name:
        raise ConfigError(f"{_shown(reference)}: no reference; write env:NAME or file:PATH")
    data = _variable(name, environ) if kind == "env" else _file(name, environ, secret=secret)
    if len(data) > LARGEST:
        raise ConfigError(f"{_shown(reference)}: over {LARGEST} bytes; name the secret itself")
    text = _decoded(data)
    if text is None:
        raise ConfigError(f"{_shown(reference)}: not UTF-8 text; write the secret as text")
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise ConfigError(f"{_shown(reference)}: empty; put the secret there")
    return text


def _variable(name: str, environ: Mapping[str, str]) -> bytes:
    if name not in environ:
        raise SecretMissing(
            f"{_shown(f'env:{name}')}: no such environment variable; set it where webhookd starts"
        )
    # What is no UTF-8 is found out when it is decoded, where the fault can be told without it.
    return environ[name].encode("utf-8", "surrogatepass")


def _file(name: str, environ: Mapping[str, str], *, secret: bool) -> bytes:
    path = Path(name)
    credentials = environ.get("CREDENTIALS_DIRECTORY", "")
    if not path.is_absolute():
        if not credentials:
            raise SecretMissing(
                f"{_shown(f'file:{name}')}: relative, and CREDENTIALS_DIRECTORY is not set;"
                " write an absolute path, or LoadCredential= in the service"
            )
        path = Path(credentials) / path
    shown = f"file:{path}"
    try:
        # Without O_NONBLOCK a named pipe would keep us waiting for a writer.
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SecretMissing(f"{_shown(shown)}: no such file; put the secret there") from error
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or "no path"
        raise ConfigError(
            f"{_shown(shown)}: cannot be read: {fault}; see its permissions"
        ) from error
    try:
        mode = os.fstat(opened).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{_shown(shown)}: not a regular file; put the secret into one")
        # systemd guards its directory itself, and shows its access list as the group's bits.
        ours = credentials and path.resolve().is_relative_to(Path(credentials).resolve())
        if secret and mode & (_OTHERS if ours else _OTHERS | _GROUP):
            raise ConfigError(
                f"{_shown(shown)}: mode {stat.S_IMODE(mode):04o} lets others at it; chmod 600 it"
            )
        return os.read(opened, LARGEST + 1)
    finally:
        os.close(opened)


def _decoded(data: bytes) -> str | None:
    # An exception that left this function would carry the bytes along.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _shown(text: str) -> str:
    return printable(text, 300)
