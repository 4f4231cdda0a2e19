"""The profiles by name. Each is one module, and one line here."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from webhookd.core.profiles import ntropy, standard
from webhookd.core.profiles.profile import Content, Headers, Profile, Unrenderable

__all__ = ["PROFILES", "Content", "Headers", "Profile", "Unrenderable", "get"]

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {profile.name: profile for profile in (standard.PROFILE, ntropy.PROFILE)}
)


def get(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none. One line with the nearest name, or with all of them.
    """
    profile = PROFILES.get(name)
    if profile is not None:
        return profile
    near = get_close_matches(name, PROFILES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(PROFILES)}"
    raise ValueError(f"no profile {name!r}; {hint}")
