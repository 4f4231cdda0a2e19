"""Defects of the rules that disable, hold back, probe and end, and of how time is kept to."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.simulation.planting import defect, instead
from webhookd.core import health, outcomes
from webhookd.core.delivery import Happening, Move
from webhookd.core.health import Health, Opening
from webhookd.core.model import Fault, FaultKind, Reason
from webhookd.daemon import pace
from webhookd.daemon.outage import Outage
from webhookd.store import checkup, coalesce, enabling, record, upkeep
from webhookd.store.book import Book
from webhookd.store.sqlite import SqliteStore


@defect
def gone_ends_the_delivery(stack: ExitStack) -> None:
    """A 410 that disables takes the delivery along, which is to stay owed."""

    def make(right: Any) -> Any:
        def judge(result: Any, policy: Any, **rest: Any) -> Move:
            found: Move = right(result, policy, **rest)
            if found.status == outcomes.GONE and policy.gone_disables:
                return found._replace(happening=Happening.FAILED, reason=Reason.GONE, retry_at=None)
            return found

        return judge

    instead(stack, outcomes, "judge", make)


@defect
def disabled_drops_the_backlog(stack: ExitStack) -> None:
    """What a subscription is owed ends with the commit that disables it."""

    def make(right: Any) -> Any:
        def record(self: SqliteStore, records: Any, now: int) -> Any:
            done = right(self, records, now)
            for notice in done.notices:
                if notice.rule is not None:
                    self._writer.execute(
                        "UPDATE webhookd_deliveries SET state = 'failed', reason = 'gone',"
                        " due_at = NULL, finished_at = created_at"
                        " WHERE subscription = ? AND state = 'pending'",
                        (notice.subscription,),
                    )
            return done

        return record

    instead(stack, SqliteStore, "record", make)


@defect
def enabling_forgets_the_order(stack: ExitStack) -> None:
    """Whatever is pending when a subscription is enabled is due at once."""

    def make(right: Any) -> Any:
        def enable(transaction: Any, key: Any, **rest: Any) -> Any:
            transaction.connection.execute(
                "UPDATE webhookd_deliveries SET due_at = created_at WHERE subscription = ?"
                " AND state = 'pending' AND due_at IS NULL",
                (key,),
            )
            return right(transaction, key, **rest)

        return enable

    instead(stack, enabling, "enable", make)


@defect
def failures_never_disable(stack: ExitStack) -> None:
    """Deliveries in a row that failed are not counted."""
    stack.enter_context(patch.object(health, "_COUNTED", frozenset()))


@defect
def hold_forgotten_at_a_restart(stack: ExitStack) -> None:
    """Until when a receiver wants to be left alone is not kept in the file."""

    def make(right: Any) -> Any:
        def write(connection: Any, key: Any, found: Health) -> None:
            right(connection, key, replace(found, held_until=None))

        return write

    instead(stack, checkup, "write", make)


@defect
def hold_not_obeyed(stack: ExitStack) -> None:
    """A `Retry-After` counts for its delivery alone."""
    instead(stack, Health, "holds", lambda _: lambda self, now, policy: None)


@defect
def probed_with_all_at_once(stack: ExitStack) -> None:
    """A failing subscription is sent as much as a healthy one."""
    instead(stack, Opening, "limit", lambda _: lambda self, policy: policy.concurrency)


@defect
def wide_open_after_one_success(stack: ExitStack) -> None:
    """The first success opens it as wide as the policy allows."""

    def make(right: Any) -> Any:
        def after(self: Opening, found: Health, *, succeeded: bool, policy: Any) -> Opening:
            opened: Opening = right(self, found, succeeded=succeeded, policy=policy)
            return health.OPEN if succeeded else opened

        return after

    instead(stack, Opening, "after", make)


@defect
def age_counts_from_what_happened(stack: ExitStack) -> None:
    """What happened long ago is too old as it is taken in."""
    owed = (
        " FROM webhookd_deliveries AS d JOIN webhookd_events AS e ON e.sequence = d.event"
        " WHERE d.subscription = ? AND d.state = 'pending'"
    )
    expired = f"SELECT d.id{owed} AND e.occurred_at <= ? ORDER BY d.id LIMIT ?"
    since = f"SELECT e.occurred_at{owed} ORDER BY e.occurred_at LIMIT 1"
    instead(stack, upkeep, "EXPIRED", lambda _: expired)
    instead(stack, upkeep, "OWED_SINCE", lambda _: since)


@defect
def expired_head_blocks_its_line(stack: ExitStack) -> None:
    """What expires does not let the next one go."""

    def make(right: Any) -> Any:
        def apply(self: Book, row: Any, happened: Move, **rest: Any) -> Any:
            if happened.reason is not Reason.EXPIRED:
                return right(self, row, happened, **rest)
            with patch.object(Book, "_step_up", lambda *_: None):
                return right(self, row, happened, **rest)

        return apply

    instead(stack, Book, "apply", make)


@defect
def nothing_expires(stack: ExitStack) -> None:
    """Nobody looks how old things are but the lane that sends them."""
    instead(stack, SqliteStore, "owed_since", lambda _: lambda *_: None)


@defect
def passed_too_soon(stack: ExitStack) -> None:
    """A head is passed as soon as it has failed once."""

    def make(right: Any) -> Any:
        def apply(self: Book, row: Any, happened: Move, **rest: Any) -> Any:
            after = right(self, row, happened, **rest)
            head = rest.get("max_block") and after.due_at is not None and row.order_key
            failed = happened.happening is Happening.RETRY and happened.attempted_at is not None
            if head and failed:
                self.leave_line(self.read(row.id))
            return after

        return apply

    instead(stack, Book, "apply", make)


@defect
def nobody_is_passed(stack: ExitStack) -> None:
    """A head holds up its line for ever."""
    instead(stack, SqliteStore, "next_pass", lambda _: lambda self: None)


@defect
def coalesced_though_attempted(stack: ExitStack) -> None:
    """What was attempted gives way to a newer one too."""
    found = coalesce.UNSENT.replace(" AND d.attempts = 0", "").replace(
        " INDEXED BY webhookd_deliveries_unsent", ""
    )
    stack.enter_context(patch.object(coalesce, "UNSENT", found))


@defect
def newest_gives_way(stack: ExitStack) -> None:
    """Of those that coalesce the oldest stays."""
    found = coalesce.UNSENT.replace("d.event DESC", "d.event")
    stack.enter_context(patch.object(coalesce, "UNSENT", found))


@defect
def faults_of_this_machine_count(stack: ExitStack) -> None:
    """Nobody asks whether it is this machine that cannot reach anyone."""

    async def judge(self: Outage, host: str, result: Any) -> Any:
        if isinstance(result, Fault) and result.kind is FaultKind.LOCAL:
            return replace(result, kind=FaultKind.UNREACHABLE)
        return result

    stack.enter_context(patch.object(Outage, "judge", judge))


@defect
def rate_not_kept(stack: ExitStack) -> None:
    """Every lane begins with a full bucket at each attempt."""
    instead(stack, pace.Brakes, "spend", lambda _: lambda *_: None)


@defect
def no_way_back_from_a_jump(stack: ExitStack) -> None:
    """What a clock that was ahead has put off is not brought forward."""
    instead(stack, SqliteStore, "latest_due", lambda _: lambda *_: None)


@defect
def disabling_not_told(stack: ExitStack) -> None:
    """Nobody hears of a subscription that was disabled."""

    def make(right: Any) -> Any:
        def told(connection: Any, file: Any, terms: Any, notices: Any, now: int) -> Any:
            kept = [notice for notice in notices if notice.rule is None]
            return right(connection, file, terms, kept, now)

        return told

    instead(stack, record.announce, "health", make)
