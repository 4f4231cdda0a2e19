"""`[cloudevents]` and `[profiles.NAME]`: the profiles as a configuration has them."""

from collections.abc import Mapping

from webhookd.config.faults import line, shown
from webhookd.core.profiles import BUILT_IN, Known, Profile, cloudevents, own
from webhookd.errors import ConfigError

KEY = "profiles"


def source(value: object) -> str:
    """The `source` of CloudEvents. Raises ValueError."""
    if not isinstance(value, str):
        fault = f'is text: write it in quotes, like "/erp", not {shown(value)}'
        raise ValueError(fault)  # noqa: TRY004 - an operator's text
    return cloudevents.check_source(value)


def tables(value: object) -> dict[str, dict[str, object]]:
    """What stands under `profiles`. Raises ValueError."""
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        raise ValueError("holds tables: write [profiles.NAME] above the keys of each")
    return value


def read(written: Mapping[str, Mapping[str, object]], source: str, place: str) -> Known:
    """The built-in profiles and one's own.

    Args:
        written: `tables` of the file.
        source: of CloudEvents; `''` for the default.
        place: the file, for errors; `''` where none is read.

    Raises:
        ConfigError: the first profile that cannot be.
    """
    known = BUILT_IN
    # A body has its members in the order in which a table names them, so that order counts.
    said = {
        name: {key: repr(value) for key, value in keys.items()} for name, keys in written.items()
    }
    if source not in ("", cloudevents.SOURCE):
        made = cloudevents.make(source)
        known = known.with_these({made.name: made}, place)
        said[made.name] = {"source": repr(source)}
    found: dict[str, Profile] = {}
    for name, keys in written.items():
        try:
            found[name] = own.make(name, keys, known)
        except own.Wrong as error:
            where = ".".join(part for part in (KEY, name, error.key) if part)
            raise ConfigError(line(place, where, str(error))) from None
    return known.with_these(found, place, said)
