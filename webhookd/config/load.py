"""Reads `config.toml`. A file is taken whole or refused with one line: place, fault, remedy."""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from webhookd.config import columns, profiles
from webhookd.config.faults import advice, line, shown, unquoted
from webhookd.config.settings import SUBSCRIPTIONS, SYSTEMS, Delivery, Log, Settings, Status
from webhookd.core import proxies
from webhookd.core.egress import EgressPolicy, parse_policy
from webhookd.core.model import Millis, Proxy
from webhookd.core.retention import Retention, Span
from webhookd.core.text import printable
from webhookd.core.times import format_duration, parse_duration
from webhookd.errors import ConfigError

if TYPE_CHECKING:
    from webhookd.core.declaration import Declared

Reader = Callable[[object], Any]
"""Makes a setting of a TOML value, or raises ValueError with the fault and the remedy."""

VARIABLE: Final = "WEBHOOKD_CONFIG"
"""The environment's variable that names the file where `--config` does not."""
LARGEST_PAYLOAD: Final = 1_000_000_000
"""Bytes: SQLite's own limit for a text."""
MOST_IN_FLIGHT: Final = 10_000
"""Attempts at once: each holds a socket, and one process has only so many."""
MOST_UNRECORDED: Final = 1_000_000
MOST_FAILED: Final = 1_000_000_000
"""Outcomes in memory: at about 1 KiB each, as much as a small machine has."""
LEAST_KEPT: Final[Millis] = 300_000
"""Longer than any attempt takes: nothing is taken away while its request is under way."""
LONGEST_TENANT: Final = 512
"""Characters, as for a tenant in the outbox."""

_UNITS: Final = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?(|B|KiB|MiB|GiB)")


def load(
    path: Path | None,
    *,
    database: str | None,
    environ: Mapping[str, str],
    named_by: str = "--config",
) -> Settings:
    """The settings of the file at `path`, or the defaults where there is none.

    A relative `database` in the file starts from the file's directory; the argument `database`
    wins over it and starts from the working directory. `environ` is only looked at for a misspelt
    variable when no database is named at all. `named_by` is what named the file: the option, or
    `VARIABLE`.

    Raises:
        ConfigError: the first fault that is found.
    """
    document = {} if path is None else _parse(path, named_by)
    place = "" if path is None else str(path)
    found = _read(document, _KEYS, place, "")
    if database == "":
        raise ConfigError("--database: is empty; name the SQLite file")
    if database is not None:
        found["database"] = Path(database)
    elif path is not None and "database" in found:
        found["database"] = path.parent / found["database"]
    else:
        raise ConfigError(_no_database(place, environ))
    for name, make in _TABLES.items():
        if name in found:
            found[name] = make(**found[name])
    if "retention" in found:
        _check_retention(found["retention"], place)
    found["egress"] = _policy(found.get("egress", {}), place)
    found[profiles.KEY] = profiles.read(
        found.get(profiles.KEY, {}), found.pop("cloudevents", {}).get("source", ""), place
    )
    if path is not None:
        found[SUBSCRIPTIONS] = _declared(found, place)
    return Settings(**found)


def _parse(path: Path, named_by: str) -> dict[str, object]:
    try:
        data = path.read_bytes()
    except OSError as error:
        fault = f"cannot be read: {error.strerror or type(error).__name__}"
        way_out = (
            f"{VARIABLE} names it: set it right, or `unset {VARIABLE}` and give --database PATH"
            if named_by == VARIABLE
            else "see --config"
        )
        raise ConfigError(line(str(path), "", f"{fault}; {way_out}")) from error
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        fault = f"line {number}: not UTF-8; save the file as UTF-8"
    except tomllib.TOMLDecodeError as error:
        remedy = unquoted(data.decode("utf-8"), str(error))
        fault = f"not valid TOML: {error}{remedy}"
    except RecursionError:
        fault = "nested too deeply; no key takes more than a list"
    raise ConfigError(line(str(path), "", fault))


def _read(
    table: Mapping[str, object], keys: Mapping[str, Any], place: str, prefix: str
) -> dict[str, Any]:
    """The settings in a table: `keys` has a reader for each key, or the keys of a table in it."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if name not in keys:
            raise ConfigError(line(place, key, f"unknown key; {advice(name, keys)}"))
        inner = keys[name]
        if isinstance(inner, dict):
            if not isinstance(value, dict):
                raise ConfigError(line(place, key, f"is a table: write [{key}] above its keys"))
            found[name] = _read(value, inner, place, f"{key}.")
            continue
        try:
            found[name] = inner(value)
        except ValueError as error:
            raise ConfigError(line(place, key, str(error))) from error
    return found


def _no_database(place: str, environ: Mapping[str, str]) -> str:
    misspelt = sorted(
        name
        for name in environ
        if name != "WEBHOOKD_DATABASE"
        and difflib.get_close_matches(name, ["WEBHOOKD_DATABASE"], cutoff=0.8)
    )
    hint = f" ({misspelt[0]} is set, and is no variable of webhookd)" if misspelt else ""
    where = f"database = PATH in {place}" if place else "database = PATH in a file for --config"
    return printable(
        f"no database is named: give --database PATH, WEBHOOKD_DATABASE or {where}{hint}", 400
    )


def _policy(found: Mapping[str, Any], place: str) -> EgressPolicy:
    try:
        policy = parse_policy(found.get("allow", ()), found.get("deny", ()), found.get("proxy"))
    except ValueError as error:  # it begins with the key and the entry
        fault = f"{error}; name an address, a range or a host"
        raise ConfigError(line(place, "", fault)) from error
    return replace(policy, source=place)


def _declared(found: Mapping[str, Any], place: str) -> tuple["Declared", ...]:
    blocks = found.get(SUBSCRIPTIONS, [])
    if blocks == []:
        return ()
    from webhookd.config import declared  # what judges them is a tenth of `status`

    return declared.read(blocks, place, found["egress"], found[profiles.KEY])


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"is text: write it in quotes, not {shown(value)}")


def _path(value: object) -> str:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError("is empty or no path; name the SQLite file")
    return text


def _table(value: object) -> str:
    text = _text(value)
    if not text or not text.isprintable():
        raise ValueError(f"is the name of a table, not {shown(text)}")
    if text.lower().startswith(("sqlite_", "webhook_", "webhookd_")):
        raise ValueError(
            f"{shown(text)} is not the host's own table; name the table it inserts into"
        )
    return text


def _tenant(value: object) -> str:
    text = _text(value)
    if len(text) > LONGEST_TENANT or any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
        raise ValueError(
            f"is at most {LONGEST_TENANT} characters, none of them a control character"
        )
    return text


def _number(least: int, most: int, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"is a whole number from {least} to {most}, not {shown(value)}")
    return value


def _number_or_off(value: object) -> int | None:
    if value == "off":
        return None
    try:
        return _number(0, MOST_FAILED, value)
    except ValueError as error:
        raise ValueError(f'{error}; or "off"') from error


def _size(value: object) -> int:
    amount = value
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        amount = None if found is None else int(found[1]) * _UNITS[found[2]]
    if (
        isinstance(amount, bool)
        or not isinstance(amount, int)
        or not 1 <= amount <= LARGEST_PAYLOAD
    ):
        raise ValueError(
            f'is bytes, or text with a unit (KiB, MiB): "1MiB", at most {LARGEST_PAYLOAD} bytes,'
            f" not {shown(value)}"
        )
    return amount


def _span(least: Millis, value: object) -> Millis:
    span = parse_duration(value)
    if span < least:
        raise ValueError(f"{format_duration(span)} is too short: at least {format_duration(least)}")
    return span


def _kept(value: object) -> Span:
    if value == "never":
        return None
    try:
        return _span(LEAST_KEPT, value)
    except ValueError as error:
        raise ValueError(f'{error}; or "never", to keep it for ever') from error


def _check_retention(kept: Retention, place: str) -> None:
    """The age of an outbox row is known by its event. Raises ConfigError."""
    if kept.outbox is None or kept.events is None or kept.outbox <= kept.events:
        return
    fault = (
        f"is longer than retention.events ({format_duration(kept.events)}), by which the age of a "
        'row is known; shorten it, lengthen that, or say "never"'
    )
    raise ConfigError(line(place, "retention.outbox", fault))


def _start(value: object) -> str | int:
    if value in ("beginning", "end"):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    raise ValueError(f'is "beginning", "end" or an id of the outbox (a number), not {shown(value)}')


def _choice(choices: tuple[str, ...], value: object) -> str:
    if value not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"is {listed}, not {shown(value)}")
    return str(value)


def _list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f'is a list of texts: ["10.1.0.0/16", "erp.local"], not {shown(value)}')
    return tuple(value)


def _proxy(value: object) -> Proxy | None:
    text = _text(value)
    return proxies.parse(text) if text else None


def _systems(value: object) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(_list(value)))
    for system in found:
        if system not in SYSTEMS:
            raise ValueError(f"{shown(system)} is no system; {advice(system, SYSTEMS)}")
    if not found:
        raise ValueError('names no system; to check no payload say validate = "off"')
    return found


def _later(value: object) -> object:
    """Read by `declared.read`, once it is known where they may lead to, and by which profiles."""
    return value


_TABLES: Final[dict[str, Callable[..., Any]]] = {
    "outbox": columns.outbox,
    "delivery": Delivery,
    "log": Log,
    "status": Status,
    "retention": Retention,
}

_KEYS: Final[dict[str, Any]] = {
    "database": _path,
    "outbox": {
        "table": _table,
        "start": _start,
        "ids": partial(_choice, ("never-reused",)),
        "max_payload": _size,
        "default_tenant": _tenant,
        "validate": partial(_choice, ("off", "warn", "reject")),
        "catalog": _systems,
        "order_column": columns.name,
        "columns": columns.READERS,
    },
    "delivery": {
        "shutdown_grace": partial(_span, 0),
        "max_in_flight": partial(_number, 1, MOST_IN_FLIGHT),
        "max_per_host": partial(_number, 1, MOST_IN_FLIGHT),
        "max_unrecorded": partial(_number, 1, MOST_UNRECORDED),
    },
    "egress": {"allow": _list, "deny": _list, "proxy": _proxy},
    "cloudevents": {"source": profiles.source},
    "profiles": profiles.tables,
    "log": {
        "format": partial(_choice, ("json", "text")),
        "level": partial(_choice, ("debug", "info", "warning", "error")),
    },
    "status": {
        "max_lag": partial(_span, 1),
        "max_owed_age": partial(_span, 1),
        "max_failed": _number_or_off,
    },
    "retention": dict.fromkeys((field.name for field in fields(Retention)), _kept),
    SUBSCRIPTIONS: _later,
}
