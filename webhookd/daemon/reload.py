"""The configuration, read again while the daemon runs: taken whole or not at all.

Everything that can be refused is judged before anything changes. What lanes work with is exchanged
inside the transaction that writes the subscriptions, just before its commit: nobody sees a
subscription that was enabled for the new egress policy while the old one is still in force.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import partial
from typing import Final, Protocol

import trio

from webhookd.config.declared import look_up
from webhookd.config.settings import Settings
from webhookd.core.declaration import NO_DIFFERENCE, Declared, Difference
from webhookd.core.egress import Names
from webhookd.core.profiles import BUILT_IN
from webhookd.core.retention import Span
from webhookd.core.text import printable
from webhookd.core.times import format_duration
from webhookd.daemon.clock import Clock
from webhookd.daemon.storage import AsyncStore
from webhookd.errors import ConfigError, StoreBusy
from webhookd.logs.actions import Action, log
from webhookd.logs.setup import setup

FIXED: Final = ("table", "columns", "ids", "start")
"""Keys of `[outbox]` by which the file was opened: another value needs another start."""

MOST_NAMES: Final = 50
"""Names of subscriptions that the log's line gives of each kind; the rest is counted."""

_SPANS: Final = frozenset({"shutdown_grace", "max_lag", "max_owed_age"})
"""Keys that are shown as durations."""

_VALUE: Final = 300
"""Characters of a value that the log's line shows."""

Written = Mapping[str, Mapping[str, str]]
"""What a configuration says of profiles: see `webhookd.core.profiles.Known`."""

Load = Callable[[], Settings]
"""Reads the configuration's file. Raises ConfigError."""


class Reloadable(Protocol):
    """A daemon, as far as its configuration goes."""

    settings: Settings
    """In force."""
    refused: str
    """Why the newest configuration is not in force; `''` while it is."""
    begun: trio.Event
    """What was declared at the start is in the file."""
    store: AsyncStore
    clock: Clock

    def use(self, settings: Settings) -> None:
        """Put these in force, as far as that can be done while it runs; nothing is refused."""


async def declare(
    store: AsyncStore,
    clock: Clock,
    declared: Sequence[Declared] | None,
    settle: Callable[[], None] = lambda: None,
) -> Difference:
    """Bring the declared subscriptions into the file, in one transaction if there is a difference.

    Args:
        store: the file; its lock is waited for as in every write.
        clock: for the time of what is added.
        declared: None to leave those in the file as they are.
        settle: called when nothing can be refused any more, before the commit; and again if the
            commit has to be repeated.

    Raises:
        ConfigError: as `webhookd.store.declared.apply`; then nothing has changed.
    """
    if declared is None:
        settle()
        return NO_DIFFERENCE
    try:
        found = store.store.difference(declared)
    except StoreBusy:  # outside WAL mode: the transaction will see
        found = None
    if found is not None and found.is_empty:
        settle()
        return found

    def work() -> Difference:
        done = store.store.apply_declared(declared, clock.now())
        settle()
        return done

    return await store.write(work)


class Reloader:
    """Reloads when it is asked to, one reload at a time."""

    def __init__(
        self,
        daemon: Reloadable,
        load: Load | None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Without `load` no file was read at the start, so there is none to read again.

        `around` is entered for as long as each reload takes.
        """
        self._daemon = daemon
        self._load = load
        self._around = around
        self._asked = trio.Event()

    def ask(self) -> None:
        """Reload soon; what is asked while a reload is under way is one more after it."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever it is asked for, until cancelled.

        Raises:
            DatabaseError: the file is no longer usable.
        """
        await self._daemon.begun.wait()
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            with self._around():
                await self.reload()

    async def reload(self) -> None:
        """One reload: THE place where it begins and ends, whichever way. It is told in one line."""
        if self._load is None:
            log(Action.CONFIG_ABSENT, logging.INFO, detail="no file was named, so none is read")
            return
        daemon = self._daemon
        try:
            before, difference = await self._take(self._load)
        except ConfigError as error:
            daemon.refused = str(error)
            log(Action.CONFIG_REFUSED, logging.ERROR, detail=str(error))
        else:
            daemon.refused = ""
            tell(list(changes(before, daemon.settings)), difference)

    async def _take(self, load: Load) -> tuple[Settings, Difference]:
        """Read, judge and put in force; returns what was in force before, and what it changed."""
        daemon = self._daemon
        before, new = daemon.settings, load()
        _check_fixed(before, new)
        known = {one.name: one.secret for one in before.subscriptions or ()}
        others = new.profiles.differs(before.profiles)
        for one in new.subscriptions or ():
            of_other_form = others and one.definition.profile.own
            if known.get(one.name) != one.secret or of_other_form:
                look_up(one, os.environ)  # one that is missing may come: it is held back till then

        def settle() -> None:
            if new.log != daemon.settings.log:
                setup(sys.stderr, format=new.log.format, level=new.log.level)
            daemon.use(new)

        difference = await declare(daemon.store, daemon.clock, new.subscriptions, settle)
        return before, difference


def tell(changed: list[str], difference: Difference) -> None:
    """The one line on what a configuration has changed."""
    log(
        Action.CONFIG_APPLIED,
        logging.INFO,
        changed=changed,
        subscriptions_added=_few(difference.added),
        subscriptions_changed=_few(
            [f"{one.name}: {', '.join(one.fields)}" for one in difference.changed]
        ),
        subscriptions_paused=_few(difference.paused),
        subscriptions_resumed=_few(difference.resumed),
        subscriptions_noted=_few(difference.noted),
        subscriptions_unchanged=difference.unchanged,
    )


def changes(before: Settings, after: Settings) -> Iterator[str]:
    """Each key that differs, but for subscriptions: `delivery.max_in_flight: 256 -> 64`."""
    for table in ("outbox", "delivery", "log", "status", "retention"):
        old, new = getattr(before, table), getattr(after, table)
        for name in (field.name for field in fields(old)):
            was, now = getattr(old, name), getattr(new, name)
            if was != now:
                shown = _kept if table == "retention" else partial(_shown, name)
                yield f"{table}.{name}: {shown(was)} -> {shown(now)}"
    yield from _profiles(before.profiles.written, after.profiles.written)
    for name in ("allow", "deny"):
        listed, listed_now = getattr(before.egress, name), getattr(after.egress, name)
        if listed != listed_now:
            yield f"egress.{name}: {_listed(listed)} -> {_listed(listed_now)}"
    proxy, proxy_now = before.egress.proxy, after.egress.proxy
    if proxy != proxy_now:
        was, now = (one.shown if one else "unset" for one in (proxy, proxy_now))
        yield f"egress.proxy: {was} -> {now}"


def _profiles(before: Written, after: Written) -> Iterator[str]:
    """Which profiles differ, and in what; no values, because a header's may be a secret."""
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, {}), after.get(name, {})
        where = name if name in BUILT_IN.by_name else f"profiles.{name}"
        if where == name or (name in before and name in after):
            keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
            yield from (f"{where}.{key}: changed" for key in keys)
        else:
            yield f"{where}: {'added' if name in after else 'removed'}"


def _check_fixed(before: Settings, new: Settings) -> None:
    """Refuse what cannot change while the file is open. Raises ConfigError."""
    place = f"{new.egress.source}: " if new.egress.source else ""
    was, now = (os.path.realpath(settings.database) for settings in (before, new))
    differing = [("database", was, now)] if was != now else []
    for name in FIXED:
        old, wanted = getattr(before.outbox, name), getattr(new.outbox, name)
        if old != wanted:
            differing.append((f"outbox.{name}", _shown(name, old), _shown(name, wanted)))
    if differing:
        key, old, wanted = differing[0]
        raise ConfigError(
            f"{place}{key}: cannot change from {old} to {wanted} while webhookd runs; restart it, "
            "or set the key back"
        )


def _shown(name: str, value: object) -> str:
    if value is None:
        return "off"
    if str(value) == "":
        return "unset"
    if isinstance(value, tuple):
        return printable(f"[{', '.join(value)}]", _VALUE)
    if name in _SPANS and isinstance(value, int):
        return format_duration(value)
    return printable(str(value), _VALUE)


def _kept(span: Span) -> str:
    return "never" if span is None else format_duration(span)


def _listed(names: Names) -> str:
    entries = (
        *sorted(map(str, names.addresses)),
        *map(str, names.ranges),
        *sorted(names.hosts),
        *(f"*{suffix}" for suffix in names.suffixes),
    )
    return printable(f"[{', '.join(entries)}]", _VALUE)


def _few(names: Sequence[str]) -> list[str]:
    if len(names) <= MOST_NAMES:
        return list(names)
    return [*names[:MOST_NAMES], f"and {len(names) - MOST_NAMES} more"]
