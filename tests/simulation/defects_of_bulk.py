"""Defects of bulk changes: what is instructed, and carried out step by step."""

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from tests.simulation.planting import defect, instead
from webhookd.store import backlog, fanout, instructions, newest, realign, replay, subscriptions
from webhookd.store.book import Book
from webhookd.store.instructions import Kind
from webhookd.store.sqlite import SqliteStore


@defect
def half_done_change_is_obeyed(stack: ExitStack) -> None:
    """Lanes run while what they are owed is still being changed."""
    nobody = "SELECT subscription FROM webhookd_instructions WHERE 0"
    stack.enter_context(patch.object(subscriptions, "INSTRUCTED", nobody))


@defect
def ordering_changed_for_new_ones_only(stack: ExitStack) -> None:
    """A changed ordering does not concern what is pending."""
    instead(stack, realign, "give_if_needed", lambda _: lambda *_: None)


@defect
def position_moved_before_its_step(stack: ExitStack) -> None:
    """How far an instruction has come is committed before what it did on the way."""

    def make(right: Any) -> Any:
        def carry_out(self: SqliteStore, now: int) -> Any:
            one = instructions.first(self._writer)
            if one is not None and one.kind is Kind.REPLAY:
                self._writer.execute(
                    "UPDATE webhookd_instructions SET position = position + 2 WHERE key = ?",
                    (one.key,),
                )
                self._writer.execute("COMMIT")
                self._writer.execute("BEGIN IMMEDIATE")
            return right(self, now)

        return carry_out

    instead(stack, SqliteStore, "carry_out", make)


@defect
def nobody_finishes_for_the_dead(stack: ExitStack) -> None:
    """Only the command that gave an instruction carries it out."""

    def make(right: Any) -> Any:
        def first(connection: Any, subscription: Any = None, **rest: Any) -> Any:
            return None if subscription is None else right(connection, subscription, **rest)

        return first

    instead(stack, instructions, "first", make)


@defect
def replayed_one_goes_last(stack: ExitStack) -> None:
    """What is opened again stands behind those of its line that wait."""

    def make(right: Any) -> Any:
        def step_in(self: Book, row: Any, after: Any) -> Any:
            return after if self._head(row) is None else after._replace(due_at=None)

        return step_in

    instead(stack, Book, "_step_in", make)


@defect
def made_one_goes_last(stack: ExitStack) -> None:
    """What a replay makes stands behind those of its line that wait."""
    instead(
        stack,
        fanout.Fanout,
        "_steps_in_behind",
        lambda _: lambda self, key, line, event: self._stands_behind(key, line, event),
    )


@defect
def stale_ones_are_replayed(stack: ExitStack) -> None:
    """A replay looks at no newer ones."""

    def make(right: Any) -> Any:
        def find(self: newest.Newest, aggregate: int, above: int) -> Any:
            return 0 if self.sql == newest.DELIVERED else right(self, aggregate, above)

        return find

    instead(stack, newest.Newest, "find", make)


@defect
def newest_is_skipped_too(stack: ExitStack) -> None:
    """`--newest-only` keeps nothing of an aggregate."""

    def make(right: Any) -> Any:
        def find(self: newest.Newest, aggregate: int, above: int) -> Any:
            return right(self, aggregate, above) if self.sql == newest.DELIVERED else 0

        return find

    instead(stack, newest.Newest, "find", make)


@defect
def skips_what_came_since(stack: ExitStack) -> None:
    """`--skip-backlog` cancels what was taken in after it, too."""

    def make(right: Any) -> Any:
        def give(transaction: Any, kind: Any, key: Any, **rest: Any) -> Any:
            if kind is Kind.SKIP_BACKLOG:
                rest["position"] += 1_000_000
            return right(transaction, kind, key, **rest)

        return give

    instead(stack, instructions, "give", make)


@defect
def erased_is_opened_only_to_fail(stack: ExitStack) -> None:
    """A bulk change opens what was erased, and forgets what became of it."""
    for module in (backlog, replay):
        stack.enter_context(patch.object(module, "sends_payload", lambda *_: False))


@defect
def replay_passes_over_the_missing(stack: ExitStack) -> None:
    """A replay makes no deliveries for events that match only now."""
    instead(stack, replay._Judge, "_matches", lambda _: lambda self, event: False)
