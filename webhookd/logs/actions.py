"""The closed list of what the daemon logs, and the one function that logs it."""

import logging
from enum import StrEnum, unique
from typing import Final

LOGGER: Final = "webhookd"

Field = str | int | float | bool | None | list[str] | list[int] | dict[str, int]
"""What a line can say of one thing. No secret, no whole URL: `Url.shown` is for logs."""

_logger = logging.getLogger(LOGGER)


@unique
class Action(StrEnum):
    """What a line is about. Part of what operators rely on: names stay, the list only grows."""

    DAEMON_STARTED = "daemon.started"
    """The process is up and holds the lock; nothing is sent yet."""
    DAEMON_READY = "daemon.ready"
    """The file was read for the first time, and it delivers; what waits in the outbox, however
    much, is taken in from then on."""
    DAEMON_STOPPING = "daemon.stopping"
    """No new attempts; those under way have `shutdown_grace` to finish."""
    DAEMON_STOPPED = "daemon.stopped"
    DAEMON_FAILED = "daemon.failed"
    """It ends because it must: the line says why, the exit code says which kind."""

    DAEMON_STUCK = "daemon.stuck"
    """A part of it makes no progress and waits for nobody: the watchdog is no longer fed."""
    DAEMON_TURNS = "daemon.turns"
    """What was stuck goes on after all."""
    DAEMON_TASKS = "daemon.tasks"
    """Where one task is: asked for by SIGUSR1, or told because something is stuck."""

    CONFIG_APPLIED = "config.applied"
    """What the configuration changed: in the subscriptions at the start, in all at a reload."""
    CONFIG_REFUSED = "config.refused"
    """At a reload it was found unfit: nothing changed, and the one before stays in force."""
    CONFIG_ABSENT = "config.absent"
    """A reload was asked for, and there is no file to read."""

    INGEST_BATCH = "ingest.batch"
    INGEST_REJECTED = "ingest.rejected"
    """A row that could not become an event."""
    INGEST_TIME_GUESSED = "ingest.time_guessed"
    """An `occurred_at` that could not be read: the time of ingest stands in."""
    INGEST_DOUBTED = "ingest.doubted"
    """A row that became an event although its payload is not made as its type's catalogue says."""
    INGEST_STOPPED = "ingest.stopped"
    """The outbox is not as it was agreed; what is owed already goes on."""
    INGEST_RESUMED = "ingest.resumed"
    OUTBOX_UNFIT = "outbox.unfit"
    """Rows are taken in, but a daemon would not start on the table as it is now, and why."""
    OUTBOX_FIT = "outbox.fit"
    CAPTURE_BROKEN = "capture.broken"
    """Changes of a table that is captured go unsaid, or fail: what is wrong, and the remedy."""
    CAPTURE_WHOLE = "capture.whole"
    """All captures are in place again."""
    SWEEP_FOUND = "sweep.found"
    """Rows that appeared below the cursor: ingested, with no promise of order."""

    ATTEMPT = "attempt"
    """THE canonical line: one HTTP request and what came of it."""
    REPEATED = "log.repeated"
    """Failures of one subscription that had no line of their own: the same again, so many times."""
    OUTCOMES_LOST = "attempt.unrecorded"
    """The file stayed locked until the end: these attempts will be made again at the next start."""
    UNRENDERABLE = "delivery.unrenderable"
    """An event that its subscription's profile cannot say: failed without an attempt."""
    BODY_CHANGED = "attempt.body_changed"
    """A delivery's body is another one than at its first attempt."""

    DELIVERY_FAILED = "delivery.failed"
    """A delivery is given up after an attempt, or at its turn because of its age."""
    DELIVERIES_CHANGED = "delivery.changed"
    """An operator retried or cancelled single deliveries (at most so many are named), or took
    rejected rows in: all that is due was read again."""
    DELIVERIES_EXPIRED = "delivery.expired"
    """Deliveries that were owed for longer than `max_age`: failed without a further attempt."""
    LINES_PASSED = "delivery.passed"
    """Heads that kept failing for longer than `max_block`: those behind them go on."""
    MACHINE_FAULT = "machine.fault"
    """This machine cannot reach anyone (no network, no resolver, no sockets): no attempt counts."""
    MACHINE_WELL = "machine.well"
    CLOCK_JUMPED = "clock.jumped"
    """The wall clock was set, or the machine slept: all that waits was looked at again."""
    CLOCK_WRONG = "clock.wrong"
    """Several receivers say that this machine's clock is: they may refuse what it signs."""
    CLOCK_DIFFERS = "clock.differs"
    """One receiver alone says so, and none bears it out: one of the two is wrong."""

    LANE_CRASHED = "lane.crashed"
    LANE_RESTARTED = "lane.restarted"
    SUBSCRIPTION_CHANGED = "subscription.changed"
    """An operator added, edited, paused, enabled or removed it, or changed what it is owed in bulk;
    the daemon obeys that from this line on."""
    SUBSCRIPTION_FAILING = "subscription.failing"
    """Attempts in a row spoke of ill health: it is probed with one request at a time."""
    SUBSCRIPTION_RECOVERED = "subscription.recovered"
    SUBSCRIPTION_DISABLED = "subscription.disabled"
    """By a rule or by a 410; it keeps accruing what is owed."""
    SECRET_MISSING = "secret.missing"  # noqa: S105 - a name of a line
    """A subscription is held back, because it would have to send unsigned."""
    SECRET_FOUND = "secret.found"  # noqa: S105 - a name of a line

    RETENTION_PRUNED = "retention.pruned"
    """What is kept no longer was taken away, by the keys of `[retention]`."""
    RETENTION_STOPPED = "retention.stopped"
    """Rows of the outbox cannot be deleted: something of the host's keeps them."""

    STORE_BUSY = "store.busy"
    """Another connection has held the write lock for long; nothing is lost meanwhile."""
    STORE_FREE = "store.free"
    STORE_UNWRITABLE = "store.unwritable"
    STORE_WRITABLE = "store.writable"
    STORE_UPGRADING = "store.upgrading"
    """The schema is about to be upgraded: the host cannot write until that is done."""
    STORE_WAL_LARGE = "store.wal_large"
    """The write-ahead log has grown, and cannot be emptied or must not be."""
    STORE_LIBRARY = "store.library"
    """The SQLite in use has a known fault that webhookd has to work round."""

    LINES_DROPPED = "log.dropped"
    """So many lines went nowhere, because nobody read them."""
    LIBRARY = "library"
    """A warning from a library; a line of ours never has this action."""


class Record(logging.LogRecord):
    """A log record that carries an action and its fields, apart from logging's own attributes."""

    def __init__(
        self,
        action: Action,
        level: int,
        fields: dict[str, Field],
        error: BaseException | None,
    ) -> None:
        info = None if error is None else (type(error), error, error.__traceback__)
        if not isinstance(action, Action):
            raise TypeError(f"no action that is logged: {action!r}")
        super().__init__(LOGGER, level, "", 0, action.value, None, info)
        self.action = action
        self.fields = fields


def log(action: Action, level: int, *, error: BaseException | None = None, **fields: Field) -> None:
    """Tell one happening: one line, made only if somebody listens at `level`.

    `error` adds its traceback. A field called `time` is lost to the line's own.

    Raises:
        TypeError: `action` is not on the list; nothing else, whatever happens to the line.
    """
    if _logger.isEnabledFor(level):
        _logger.handle(Record(action, level, fields, error))
