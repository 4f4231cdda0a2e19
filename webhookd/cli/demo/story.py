"""The demo from its first step to its last: what is done, what is said, what is noted down."""

import json
import shlex
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from webhookd.cli.demo import script
from webhookd.cli.demo.checks import Arrival, Check, Evidence, judge
from webhookd.cli.demo.console import Console
from webhookd.cli.demo.partners import Partner
from webhookd.cli.demo.script import EUDR, WAREHOUSE, Change, Happening
from webhookd.cli.demo.stage import CONFIG, Broken, Erp, Stage
from webhookd.cli.output import table

DEADLINE: Final = 60.0
"""Seconds for all of it: several times what it takes on a slow machine."""
LOG_SHOWN: Final = 20
"""Lines of the daemon's log that are kept for a person when something failed."""
FAIL_EACH: Final = 3
"""Every so many requests the partner that fails now and then answers 500."""
REFUSALS: Final = 2
"""Attempts that the partner that is down must have missed before it comes back."""


@dataclass(slots=True)
class Outcome:
    """What the demo came to."""

    evidence: Evidence | None = None
    """None where it did not get to its end."""
    checks: list[Check] = field(default_factory=list)
    broken: str = ""
    """Why it did not get to its end, in one line."""
    signal: int = 0
    """The signal that ended it."""
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)
    """The end of the daemon's log."""

    @property
    def ok(self) -> bool:
        """Whether it got to its end and every check held."""
        return bool(self.checks) and not self.broken and all(one.held for one in self.checks)


def run(home: Path, console: Console, deadline: float = DEADLINE) -> Outcome:
    """Play it in the directory `home`. All its processes have ended when it returns."""
    started = time.monotonic()
    outcome = trio.run(_run, home, console, deadline)
    outcome.seconds = time.monotonic() - started
    if outcome.evidence is not None:
        outcome.checks = judge(outcome.evidence)
    return outcome


async def _run(home: Path, console: Console, deadline: float) -> Outcome:
    outcome = Outcome()
    stage = Stage(home, console)

    async def obey(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            outcome.signal = number
            scope.cancel()

    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals,
        trio.move_on_after(deadline) as limit,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, signals, nursery.cancel_scope)
            try:
                outcome.evidence = await Story(stage, nursery).play()
            except Broken as broken:
                outcome.broken = f"{console.at}: {broken}"
            nursery.cancel_scope.cancel()
    if limit.cancelled_caught:
        awaited = f"; waited for {stage.waits_for}" if stage.waits_for else ""
        outcome.broken = f"{console.at}: the whole was not done within {deadline:g} s{awaited}"
    outcome.log = stage.last_words(LOG_SHOWN)
    return outcome


class Story:
    """The steps. Each one says what it does, does it, and waits until it has come about."""

    def __init__(self, stage: Stage, nursery: trio.Nursery) -> None:
        self._stage = stage
        self._nursery = nursery
        self._console = stage.console
        self._arrivals: list[Arrival] = []
        self._committed: dict[int, Happening] = {}
        console, memory = stage.console, self._arrivals
        self._warehouse = Partner(WAREHOUSE, "standard", "/in", console, memory, FAIL_EACH)
        self._eudr = Partner(EUDR, "ntropy", "/events", console, memory)

    async def play(self) -> Evidence:
        """All of it.

        Raises:
            Broken: it cannot go on.
        """
        async with Erp.open(self._stage.home, self._nursery) as erp:
            await self._prepare(erp)
            await self._subscribe()
            await self._start()
            await self._first(erp)
            await self._undone(erp)
            await self._busy(erp)
            await self._outage(erp)
            pages = await self._results(erp)
            changes = await self._changes(erp)
            exit_codes = await self._status()
            return Evidence(
                committed=self._committed,
                arrivals=self._arrivals,
                events=await erp.query(script.POLL_EVENTS, cursor=0, limit=script.ALL),
                pages=pages,
                changes=changes,
                traces=await self._traces(erp),
                exit_codes=exit_codes,
            )

    async def _prepare(self, erp: Erp) -> None:
        await self._step("An ERP with its SQLite file")
        self._console.say(
            f"It is a program of its own (pid {erp.pid}), with the SQLite {erp.sqlite} of its own.",
            "webhookd adds the outbox and its own tables to the file:",
        )
        await erp.transaction(script.TABLES)
        (self._stage.home / "config.toml").write_text(CONFIG, encoding="utf-8")
        self._console.say(*(await self._stage.webhookd("init", "--existing")).printed.splitlines())

    async def _subscribe(self) -> None:
        await self._step("Two partners subscribe")
        for partner in (self._warehouse, self._eudr):
            url = await self._nursery.start(partner.exist)
            words = ["subscriptions", "add", url, "--name", partner.name]
            words += [*script.SUBSCRIBED[partner.name], "--retry-delays"]
            done = await self._stage.webhookd(
                *words,
                ",".join(script.DELAYS),
                "--json",
                shown=f"{shlex.join(words)} {script.SHOWN_DELAYS}",
            )
            partner.secret = json.loads(done.printed)["secret"]
        self._warehouse.up.set()
        self._console.say(
            "Each partner was given its secret, and verifies each signature with it.",
            f"{WAREHOUSE} answers every third request with 500.",
            f"{EUDR} is down: its port is closed.",
        )

    async def _start(self) -> None:
        await self._step("The daemon starts")
        pid = await self._stage.start_daemon(self._nursery)
        self._console.say(f"It is ready, with pid {pid}.")

    async def _first(self, erp: Erp) -> None:
        await self._step("The ERP changes its data and writes its outbox, in one transaction")
        self._show_sql(script.FIRST, "COMMIT")
        await self._commit(erp, script.FIRST)
        await self._until_accepted(WAREHOUSE)

    async def _undone(self, erp: Erp) -> None:
        await self._step("A transaction that is rolled back sends nothing")
        self._show_sql(script.UNDONE, "ROLLBACK")
        await erp.transaction(script.UNDONE.statements, commit=False)

    async def _busy(self, erp: Erp) -> None:
        await self._step(f"{len(script.BUSY)} more transactions; a 500 is tried again")
        for change in script.BUSY:
            said = (f"{one.event_type} {one.aggregate_id}" for one in change.happenings)
            self._console.say(f"COMMIT: {change.happenings[0].tenant}: {', '.join(said)}")
            await self._commit(erp, change)
        await self._until_accepted(WAREHOUSE)

    async def _outage(self, erp: Erp) -> None:
        await self._step(f"{EUDR} was down all the while, and comes back")
        await self._stage.until(
            partial(self._was_refused, erp), f"{REFUSALS} attempts at {EUDR} to be refused"
        )
        waiting = [row for row in await self._all_results(erp) if row["state"] == "pending"]
        attempts = sum(row["attempts"] for row in waiting)
        faults = {row["last_error"] for row in waiting if row["last_error"]}
        self._console.say(
            f"{len(waiting)} deliveries are owed to it, {attempts} attempts were made"
            f" ({'; '.join(sorted(faults))}).",
            f"{WAREHOUSE} has all that was for it. {EUDR} opens its port:",
        )
        self._eudr.up.set()
        await self._until_accepted(EUDR)
        await self._stage.until(partial(self._is_finished, erp), "every outcome to be recorded")

    async def _results(self, erp: Erp) -> list[list[dict[str, Any]]]:
        await self._step("The ERP polls what became of each delivery")
        pages: list[list[dict[str, Any]]] = []
        cursor = 0
        while True:
            rows = await erp.query(script.POLL_RESULTS, cursor=cursor, limit=script.PAGE)
            self._console.say(_filled(script.POLL_RESULTS, cursor, script.PAGE))
            pages.append(rows)
            self._table(
                rows,
                "sequence",
                "subscription_name",
                "event_type",
                "aggregate_id",
                "state",
                "attempts",
                "last_status",
            )
            if len(rows) < script.PAGE:
                return pages
            self._console.say("")
            cursor = rows[-1]["sequence"]

    async def _changes(self, erp: Erp) -> list[dict[str, Any]]:
        await self._step("It polls what has changed, too: IDs only, each at its newest")
        rows = await erp.query(script.POLL_CHANGES, cursor=0, limit=script.ALL)
        self._console.say(_filled(script.POLL_CHANGES, 0, script.ALL))
        self._table(rows, "sequence", "tenant", "aggregate_type", "aggregate_id", "event_type")
        return rows

    async def _status(self) -> dict[str, int]:
        await self._step("How is it doing? Then the daemon is stopped")
        status = await self._stage.webhookd("status", codes=())
        self._console.say(*status.printed.splitlines(), f"(exit code {status.code})")
        code = await self._stage.stop_daemon()
        self._console.say(f"The daemon ended with exit code {code}.")
        return {"status": status.code, "daemon": code}

    async def _step(self, title: str) -> None:
        await trio.sleep(self._console.pause)
        self._console.step(title)

    def _show_sql(self, change: Change, end: str) -> None:
        statements = [
            statement.replace(" VALUES", "\n  VALUES", 1) for statement in change.statements
        ]
        for line in "\n".join(("BEGIN", *statements, end)).splitlines():
            last = not line.startswith("INSERT")
            self._console.say(line + ";" * last)

    async def _commit(self, erp: Erp, change: Change) -> None:
        ids = await erp.transaction(change.statements)
        self._committed.update(zip(ids[1:], change.happenings, strict=True))

    async def _until_accepted(self, partner: str) -> None:
        """Wait until a partner has accepted as many events as were committed for it."""
        owed = sum(partner in said.to for said in self._committed.values())

        def happened() -> bool:
            of_partner = (one for one in self._arrivals if one.partner == partner and one.accepted)
            return len({one.event_id for one in of_partner}) >= owed

        await self._stage.until(happened, f"{owed} events to be accepted by {partner}")

    async def _was_refused(self, erp: Erp) -> bool:
        rows = await self._all_results(erp)
        of_eudr = [row["attempts"] for row in rows if row["subscription_name"] == EUDR]
        others = {row["state"] for row in rows if row["subscription_name"] != EUDR}
        return max(of_eudr, default=0) >= REFUSALS and others == {"delivered"}

    async def _is_finished(self, erp: Erp) -> bool:
        return all(row["state"] != "pending" for row in await self._all_results(erp))

    async def _all_results(self, erp: Erp) -> list[dict[str, Any]]:
        return await erp.query(script.POLL_RESULTS, cursor=0, limit=script.ALL)

    async def _traces(self, erp: Erp) -> int:
        found = 0
        for said in script.UNDONE.happenings:
            (row,) = await erp.query(script.TRACES, id=said.aggregate_id)
            found += row["traces"]
        return found

    def _table(self, rows: Sequence[dict[str, Any]], *columns: str) -> None:
        headings = [column.removesuffix("_name").replace("_", " ").upper() for column in columns]
        self._console.say(*table(headings, ([row[name] for name in columns] for row in rows)))


def _filled(sql: str, cursor: int, limit: int) -> str:
    return sql.replace(":cursor", str(cursor)).replace(":limit", str(limit))
