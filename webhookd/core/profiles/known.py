"""The profiles that a process knows: a value that is made once and handed to whoever needs it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from webhookd.core.profiles.profile import Profile


@dataclass(frozen=True, slots=True)
class Known:
    """Profiles by name: those that are built in, and one's own of a configuration."""

    by_name: Mapping[str, Profile] = field(repr=False)
    source: str = field(default="", compare=False)
    """The configuration that was read, for people; `''` where none was."""
    written: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )
    """What that says of each profile that it makes or changes, by name and key, each value as text
    that differs where the value does, be it in order alone. Two configurations that say the same
    make profiles that do the same, though these are not equal: they hold functions. The value of a
    header may be a secret, so it is in no `repr`."""

    @staticmethod
    def of(*profiles: Profile) -> "Known":
        """These, in their order."""
        return Known(MappingProxyType({profile.name: profile for profile in profiles}))

    def __iter__(self) -> Iterator[Profile]:
        return iter(self.by_name.values())

    def with_these(
        self,
        profiles: Mapping[str, Profile],
        source: str,
        written: Mapping[str, Mapping[str, str]] | None = None,
    ) -> "Known":
        """These too, in place of what has the same name."""
        said = self.written if written is None else MappingProxyType(dict(written))
        return Known(MappingProxyType({**self.by_name, **profiles}), source, said)

    def differs(self, other: "Known") -> bool:
        """Whether the same subscription may be sent something else by the other."""
        return self.written != other.written

    def get(self, name: str) -> Profile:
        """The profile of that name.

        Raises:
            ValueError: there is none. One line with the nearest name, with all of them, and
                with where one of one's own would be.
        """
        profile = self.by_name.get(name)
        if profile is not None:
            return profile
        near = get_close_matches(name, self.by_name, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        hint += f"there are: {', '.join(self.by_name)}"
        place = self.source or "a file named by --config"
        raise ValueError(f"no profile {name!r}; {hint} (one's own are [profiles.NAME] in {place})")
