"""The daemon's process: the lock, the file, the logs, and what it leaves behind when it ends."""

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio

from webhookd import __version__
from webhookd.config.catalog import validation
from webhookd.config.settings import Settings
from webhookd.core.times import to_text
from webhookd.daemon import signals
from webhookd.daemon.attempt import LINGER
from webhookd.daemon.clock import SystemClock
from webhookd.daemon.daemon import Daemon
from webhookd.daemon.heartbeat import beat
from webhookd.daemon.inotify import Watch
from webhookd.daemon.notify import Notifier
from webhookd.daemon.reload import Load, Reloader
from webhookd.daemon.service import Service
from webhookd.daemon.storage import AsyncStore, keep_thread
from webhookd.errors import EXIT_BUG, EXIT_OK, DatabaseError, WebhookdError
from webhookd.http.channel import Sender as HttpSender
from webhookd.logs.actions import Action, log
from webhookd.store import create, lockfile, preflight
from webhookd.store.driver import has_wal_reset_bug, library_version
from webhookd.store.sqlite import SqliteStore, open_checked

DRAIN_LINGER: Final = 0.2
"""Seconds that a connection is kept with nothing to send while draining: the next commit brings
more, and dialling again would cost more than the wait at the end."""

LONGEST_UPGRADE: Final = 3600.0
"""Seconds that a service manager is asked to wait for an upgrade of the schema: seconds a million
deliveries on a disk that is fast."""

SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which a thread that waits for the GIL gets it: the commit's thread, 5 ms else."""


def main(settings: Settings, *, drain: bool, load: Load | None = None) -> int:
    """Run the daemon on this process's main thread; returns the exit code.

    Args:
        settings: the whole configuration.
        drain: deliver what is due now and end, leaving retries that lie ahead.
        load: reads the configuration again at SIGHUP; None where there is no file to read.

    Raises:
        ConfigError: a declared subscription is at odds with one in the file.
        AnotherDaemon: one runs on this file.
        DatabaseError: the file cannot be used, or can no longer.
    """
    signals.answer_no_dump_yet()
    path = preflight.real_path(settings.database)
    preflight.check(path)
    with ExitStack() as stack:
        notifier = Notifier.of(os.environ)
        stack.callback(notifier.close)
        lock = lockfile.LockFile.acquire(path)
        stack.callback(lock.release)
        ahead = create.upgrade_ahead(path)
        if ahead is not None:
            log(Action.STORE_UPGRADING, logging.WARNING, database=str(path), deliveries=ahead)
            notifier.status(f"upgrades the schema, with {ahead} deliveries")
            notifier.needs_longer(LONGEST_UPGRADE)
        store = open_checked(
            path,
            default_tenant=settings.outbox.default_tenant,
            max_payload=settings.outbox.max_payload,
            ids_never_reused=settings.outbox.ids == "never-reused",
            known_mark=lockfile.read(path),
            table=settings.outbox.table,
            columns=settings.outbox.columns,
            profiles=settings.profiles,
            validation=validation(settings.outbox),
        )
        stack.callback(store.close)
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            trio.run(_serve, settings, path, lock, store, drain, load, notifier)
        except BaseExceptionGroup as group:
            return _ended_badly(group)
    return EXIT_OK


def _ended_badly(group: BaseExceptionGroup[BaseException]) -> int:
    """Raise what a person must read; log a bug and return its exit code."""
    expected, others = group.split(WebhookdError)
    if others is not None:
        log(Action.DAEMON_FAILED, logging.CRITICAL, error=others)
        return EXIT_BUG
    error: BaseException = group if expected is None else expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    log(Action.DAEMON_FAILED, logging.CRITICAL, detail=str(error))
    raise error from None


async def _serve(
    settings: Settings,
    path: Path,
    lock: lockfile.LockFile,
    store: SqliteStore,
    drain: bool,
    load: Load | None,
    notifier: Notifier,
) -> None:
    """Everything between the lock and the exit."""
    started = SystemClock().now()
    lock.write(
        pid=os.getpid(),
        version=__version__,
        started_at=to_text(started),
        heartbeat_at=to_text(started),
        problems=[],
        **store.mark(),
    )
    log(
        Action.DAEMON_STARTED,
        logging.INFO,
        version=__version__,
        pid=os.getpid(),
        database=str(path),
        sqlite=library_version(),
        migrations=list(store.applied),
    )
    if has_wal_reset_bug():
        log(
            Action.STORE_LIBRARY,
            logging.WARNING,
            sqlite=library_version(),
            detail="can corrupt a WAL file when a checkpoint meets a write; webhookd does not "
            "checkpoint with it. Install pysqlite3 or SQLite 3.51.3 or newer",
        )
    if store.journal_mode != "wal":
        log(
            Action.STORE_LIBRARY,
            logging.WARNING,
            journal_mode=store.journal_mode,
            detail="the file is not in WAL mode: the host and webhookd hold each other up more",
        )
    watch = Watch.open(path)
    daemon = Daemon(
        settings,
        AsyncStore(store, on_commit=lambda: lock.write(**store.mark())),
        sender=HttpSender(settings.egress),
        clock=SystemClock(),
        hints=watch,
        linger=DRAIN_LINGER if drain else LINGER,
    )
    service = Service.here(daemon, notifier)
    reloader = Reloader(daemon, load, service.reloading)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat, daemon, lock, name="heartbeat")
            nursery.start_soon(keep_thread, name="thread")
            nursery.start_soon(reloader.run, name="reload")
            nursery.start_soon(service.run, name="service")
            with signals.received() as received:
                nursery.start_soon(signals.obey, daemon, reloader.ask, received, name="signals")
                await daemon.run(drain=drain)
            nursery.cancel_scope.cancel()
    finally:
        if watch is not None:
            watch.close()
    if not lock.is_ours():
        raise DatabaseError(
            f"{lock.path}: was removed or replaced while webhookd ran, so another one could start "
            "on the same file; leave it alone, and start webhookd again"
        )
    log(Action.DAEMON_STOPPED, logging.INFO)
