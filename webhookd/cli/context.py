"""What every command works with: the settings, the file, the clock."""

import os
import time
from functools import cached_property
from pathlib import Path

import click

from webhookd.cli.output import complain
from webhookd.config.load import load
from webhookd.config.salvage import salvage
from webhookd.config.settings import Settings
from webhookd.core.declaration import Declared
from webhookd.core.model import Millis
from webhookd.errors import ConfigError, DatabaseError
from webhookd.store.transaction import Session, open_session


class App:
    """One command's view of its surroundings; nothing is read before it is asked for."""

    def __init__(
        self, config: Path | None, database: str | None, *, named_by: str = "--config"
    ) -> None:
        self.config = config
        """The file that was named; None for none: then all is as it is by default."""
        self._named_by = named_by
        self._database = database
        self.fault = ""
        """What is wrong with the configuration, once `readable` has gone on without it."""

    @cached_property
    def settings(self) -> Settings:
        """The configuration. Raises ConfigError."""
        return self.read()

    @cached_property
    def readable(self) -> Settings:
        """The configuration for a command that needs nothing of it but the file's place.

        Where the file is refused it is the defaults, with what can be read of `database`, and
        `fault` is the line that says why.

        Raises:
            ConfigError: not even the database is known.
        """
        try:
            return self.settings
        except ConfigError as error:
            if self.config is None or self._database == "":
                raise
            found = salvage(self.config, self._database)
            if found is None:
                named = "`webhookd --database PATH COMMAND` goes on with the file all the same"
                raise ConfigError(f"{error}; {named}") from error
            self.fault = str(error)
            return self._fit(found)

    def read(self) -> Settings:
        """The configuration as its file has it now. Raises ConfigError."""
        return self._fit(
            load(
                self.config,
                database=self._database,
                environ=os.environ,
                named_by=self._named_by,
            )
        )

    def _fit(self, settings: Settings) -> Settings:
        """Pass the settings on if their database can be named. Raises ConfigError."""
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

    def session(self, *, write: bool, urgent: bool = False, tell: bool = True) -> Session:
        """The file, opened; to look at it the configuration need not be without fault.

        Args:
            write: whether it is to be changed.
            urgent: to change it neither: nothing but the file decides what the command does.
            tell: whether a fault of the configuration is said on stderr.

        Raises:
            ConfigError: the configuration is unfit.
            DatabaseError: the file is.
        """
        if write and not urgent:
            settings = self.settings
            columns = settings.outbox.columns
            return open_session(
                settings.database, write=True, profiles=settings.profiles, columns=columns
            )
        database, profiles = self.readable.database, self.readable.profiles
        columns = self.readable.outbox.columns
        if self.fault and tell:
            complain(f"warning: {self.fault}; going on with {database} all the same")
        try:
            return open_session(database, write=write, profiles=profiles, columns=columns)
        except DatabaseError as error:
            if self._is_there(database) or self._database is not None:
                raise
            # A daemon goes on with the file that it was started on, whatever is written since.
            raise DatabaseError(
                f"{error}; {self.config} names it: a daemon that was started on another file is "
                "seen with --database"
            ) from error

    def _is_there(self, database: Path) -> bool:
        try:
            return database.exists()
        except OSError:
            return True

    def now(self) -> Millis:
        """The time, as rows have it."""
        return time.time_ns() // 1_000_000


pass_app = click.make_pass_decorator(App)
