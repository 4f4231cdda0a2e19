"""The operators' bulk commands: enable with a word on the backlog, replay, and steps of both.

A command that gives an instruction may die at once, or after a few steps: then the daemon goes on,
or another command does. All take steps of all.
"""

from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import Sub
from tests.simulation.source import Source
from webhookd.core.retention import Work
from webhookd.core.times import from_text
from webhookd.errors import OutboxUnreadable, Refused
from webhookd.store import bulk, enabling, erase, instructions, replay, retention
from webhookd.store.instructions import Kind
from webhookd.store.transaction import Transaction

if TYPE_CHECKING:
    from tests.simulation.operators import Effect, Operators


def enable(operators: "Operators", transaction: Transaction) -> "Effect | None":
    """`enable`, with or without `--skip-backlog`, `--newest-only`, `--retry-failed`."""
    sub = operators.any_sub()
    if sub is None:
        return None
    dice, model = operators.dice, operators.world.model
    backlog = dice.choice((None, Kind.SKIP_BACKLOG, Kind.NEWEST_ONLY))
    retry_failed = dice.random() < 0.5
    wall, now, key = operators.world.clock.now(), trio.current_time(), _key(sub)
    found = enabling.enable(transaction, key, backlog=backlog, retry_failed=retry_failed, now=wall)
    owed = sum(one.pending and one.sub is sub for one in model.deliveries.values())
    if found.owed != owed or (found.streak_since is None) != (not sub.health.streak):
        model.wrong("G2", f"enable finds {found}, and owed are {owed}, {sub.health.streak}")
    kinds = [backlog] if backlog is not None and found.owed else []
    kinds += [Kind.RETRY_FAILED] if retry_failed and found.streak_since is not None else []
    given = dict(zip(found.given, kinds, strict=True))

    def happen() -> None:
        streak = list(sub.health.streak)
        sub.state.set("enabled", now)
        operators.enabled(sub)
        for number, kind in given.items():
            options: dict[str, Any] = {"streak": streak} if kind is Kind.RETRY_FAILED else {}
            model.instructed.give(number, kind.value, sub, **options)

    names = ", ".join(kinds)
    return Source("operator", f"enable {sub.name} ({names})"), happen


def order_replay(operators: "Operators", transaction: Transaction) -> "Effect | None":
    """`replay`, of all or of what failed, with or without what is stale."""
    sub = operators.any_sub()
    dice, world = operators.dice, operators.world
    events = list(world.model.events.values())
    if sub is None or not events:
        return None
    since = from_text(dice.choice(events).ingested_at)
    until = from_text(dice.choice(events).ingested_at) if dice.random() < 0.3 else None
    options = {"failed_only": dice.random() < 0.3, "include_stale": dice.random() < 0.5}
    span = replay.span(transaction.connection, since, until, **options)
    if world.clock.went_back_at == float("-inf"):
        for event in events:
            taken = from_text(event.ingested_at)
            wanted = taken >= since and (until is None or taken < until)
            if wanted != (span.position < event.sequence <= span.last):
                world.violate(f"G2: replay from {since} to {until} is of {span}: {event}")
    number = replay.order(transaction, _key(sub), span, world.clock.now())
    options |= {"position": span.position, "last": span.last}

    def happen() -> None:
        world.model.instructed.give(number, "replay", sub, **options)

    return Source("operator", f"replay {sub.name} {options}"), happen


def take_a_step(operators: "Operators", transaction: Transaction) -> "Effect | None":
    """A step of something that is under way, as the command that gave it takes it."""
    model, now = operators.world.model, operators.world.clock.now()
    if not model.instructed.open:
        return None
    key = operators.dice.choice(list(model.instructed.open))
    one = instructions.find(transaction.connection, key)
    if one is None or operators.dice.random() < 0.3:
        bulk.carry_out(transaction, now)
    else:
        bulk._carry_out_of(transaction, one.subscription, now)
    return Source("operator", "a step", carries=True), lambda: None


def prune(operators: "Operators", transaction: Transaction) -> "Effect | None":
    """`prune`, or the first batches of it."""
    world = operators.world
    left, now = operators.dice.choice((1, 3, 1_000)), world.clock.now()
    for work in Work:
        more = left > 0
        while more and left > 0:
            left -= 1
            try:
                more = retention.prune(transaction, work, world.settings.retention, now).more
            except OutboxUnreadable as error:
                raise Refused("the outbox is away") from error
    return Source("operator", "prune", prunes=True), lambda: None


def erase_some(operators: "Operators", transaction: Transaction) -> "Effect | None":
    """A transaction of `events erase`."""
    model, dice = operators.world.model, operators.dice
    with_payload = [event for event in model.events.values() if event.payload and not event.is_own]
    if not with_payload or operators.world.outbox_is_away:
        return None
    last = dice.choice(with_payload).sequence
    walk = erase._Walk(erase.ALL, last, position=dice.choice((0, last - 1)))
    first, wanted = walk.position, erase.Wanted(include_pending=dice.random() < 0.5)
    erase._page(walk, transaction.connection, wanted, erase._Blank(transaction))
    pending = {one.event.sequence for one in model.deliveries.values() if one.pending}
    erased = [
        event.sequence
        for event in with_payload
        if first < event.sequence <= walk.position
        and (wanted.include_pending or event.sequence not in pending)
    ]
    now = trio.current_time()

    def happen() -> None:
        for sequence in erased:
            model.keeping.erased.setdefault(sequence, now)

    return Source("operator", f"erase {erased}"), happen


WHERE_LITTLE_IS_KEPT: Final = {"prune": 6, "erase": 6}
"""How often these commands are given in a world with short spans."""


def _key(sub: Sub) -> Any:
    return sub.key
