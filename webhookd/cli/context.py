"""What every command works with: the settings, the file, the clock."""

import os
import time
from functools import cached_property
from pathlib import Path

import click

from webhookd.config.load import load
from webhookd.config.settings import Settings
from webhookd.core.declaration import Declared
from webhookd.core.model import Millis
from webhookd.errors import ConfigError
from webhookd.store.transaction import Session, open_session


class App:
    """One command's view of its surroundings; nothing is read before it is asked for."""

    def __init__(self, config: Path | None, database: str | None) -> None:
        self.config = config
        """The file that was named; None for none: then all is as it is by default."""
        self._database = database

    @cached_property
    def settings(self) -> Settings:
        """The configuration. Raises ConfigError."""
        return self.read()

    def read(self) -> Settings:
        """The configuration as its file has it now. Raises ConfigError."""
        settings = load(self.config, database=self._database, environ=os.environ)
        try:
            os.fsencode(settings.database).decode()
            str(settings.database).encode()
        except UnicodeError:
            raise ConfigError(
                "database: its path is not UTF-8, or this locale is not; rename the file, or set "
                "LC_ALL=C.UTF-8"
            ) from None
        return settings

    def declared(self, name: str) -> Declared | None:
        """The block of that name in the file that is read. Raises ConfigError."""
        blocks = self.settings.subscriptions or ()
        return next((one for one in blocks if one.name == name), None)

    def session(self, *, write: bool) -> Session:
        """The file, opened. Raises ConfigError or DatabaseError."""
        settings = self.settings
        return open_session(settings.database, write=write, profiles=settings.profiles)

    def now(self) -> Millis:
        """The time, as rows have it."""
        return time.time_ns() // 1_000_000


pass_app = click.make_pass_decorator(App)
