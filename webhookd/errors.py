"""What can go wrong that is somebody's to mend: one line for a person, one exit code for a script.

Expected outcomes of an attempt (a refused connection, a 500) are data, never exceptions: see
`webhookd.core.model`. A bug is no `WebhookdError`: it crashes and ends with `EXIT_BUG`.
"""

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_WRONG: Final = 1
"""Something that was asked about is wrong: `check` found a fault, an id is unknown ..."""
EXIT_USAGE: Final = 2
EXIT_CONFIG: Final = 3
EXIT_DATABASE: Final = 4
EXIT_ANOTHER_DAEMON: Final = 5
EXIT_NOT_RUNNING: Final = 6
EXIT_FEED_RESET: Final = 7
EXIT_BUG: Final = 70


class WebhookdError(Exception):
    """A condition that a person can mend, in one line: the place, the fault, the remedy."""

    exit_code: ClassVar[int] = EXIT_WRONG


class NotFound(WebhookdError):
    """An id or a name that the file does not know."""


class Refused(WebhookdError):
    """A request that is understood and not allowed: the text says why and what to do instead."""


class UsageError(WebhookdError):
    """A value on the command line that is not what its place takes."""

    exit_code = EXIT_USAGE


class ConfigError(WebhookdError):
    """`config.toml` (or a secret that it refers to) cannot be used as it is."""

    exit_code = EXIT_CONFIG


class DatabaseError(WebhookdError):
    """The file is missing, unusable, foreign, read-only, restored, moved or of a newer schema."""

    exit_code = EXIT_DATABASE


class OutboxUnfit(DatabaseError):
    """The outbox, with this configuration, is one on which no daemon starts."""


class AnotherDaemon(WebhookdError):
    """Another daemon holds the file."""

    exit_code = EXIT_ANOTHER_DAEMON


class FeedReset(WebhookdError):
    """A cursor lies below what retention has taken, or is of another epoch: go on from 0."""

    exit_code = EXIT_FEED_RESET


class StoreBusy(WebhookdError):
    """Another connection holds the write lock; nothing was done: try again."""

    exit_code = EXIT_DATABASE


class StoreUnwritable(WebhookdError):
    """The file cannot be written now (full disk, read-only); nothing was done. It may pass."""

    exit_code = EXIT_DATABASE


class OutboxUnreadable(WebhookdError):
    """The outbox is not as it was agreed (its table or a column is gone): only ingest stops."""

    exit_code = EXIT_DATABASE


class OutboxMissing(OutboxUnreadable):
    """What only takes rows away found no table or column: whoever takes them in tells people."""
