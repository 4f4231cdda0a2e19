"""The operators: commands on sessions of their own, at random moments.

Each command is one function in `COMMANDS`, run in one writing transaction as the CLI does; it
returns what the model is to believe once that is committed. A new command is one more row.
"""

import base64
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation import bulk_commands
from tests.simulation.facts import PENDING, Delivery, History, Sub, new_secret
from tests.simulation.policies import ORDERINGS, draw
from tests.simulation.source import Source
from webhookd.core.model import SubscriptionId, SubscriptionState
from webhookd.errors import NotFound, Refused, StoreBusy
from webhookd.store import deliveries, subscriptions
from webhookd.store.transaction import Session, Transaction

if TYPE_CHECKING:
    from tests.simulation.network import Request
    from tests.simulation.world import World

PATIENCE: Final = 30.0
"""Seconds that a command waits for the write lock."""

AT_ANSWERED: Final = 0.4
"""How often one that butts in is about a delivery that was answered just now."""

Effect = tuple[Source, Callable[[], None]]


class Operators:
    """Whoever types commands."""

    def __init__(self, world: "World", dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.healed = False
        self._names = 0
        self._last: Command = Operators.add
        self._about: Delivery | None = None
        """What the last command on a delivery was about."""
        self._aim: Delivery | None = None
        """What the next one has to be about."""

    async def run(self) -> None:
        """Command now and then, until the world is to heal."""
        dice = self.dice
        kind = self.world.kind
        pace = dice.choice(kind.command_paces)
        for _ in range(dice.randint(*kind.commands)):
            await trio.sleep(dice.expovariate(1 / pace))
            if self.healed:
                break
            await self.command(self._choose_command())

    def butt_in(self, answered: "Sequence[Request]") -> None:
        """One command at this very moment, if the lock is free; often about what was answered, and
        is on its way into the file.
        """
        if self.healed or self.world.disk_is_full:
            return
        work = self._choose_command()
        if answered and self.dice.random() < AT_ANSWERED:
            self._aim = self.world.model.keeping.find(self.dice.choice(answered).delivery)
            work = self.dice.choice((Operators.cancel, Operators.retry))
        with suppress(StoreBusy):
            self.do(work)
        self._aim = None

    def _choose_command(self) -> "Command":
        odds = {name: weight for name, (weight, _) in COMMANDS.items()} | self.world.kind.weights
        if self.world.model.keeping.is_short:
            odds |= bulk_commands.WHERE_LITTLE_IS_KEPT
        # People come back to what they have just done.
        if self.dice.random() > 0.3:
            self._last = COMMANDS[self.dice.choices(tuple(odds), tuple(odds.values()))[0]][1]
        return self._last

    async def command(self, work: "Command") -> None:
        """One command, with patience for the lock."""
        until = trio.current_time() + PATIENCE
        while trio.current_time() < until and not self.world.disk_is_full:
            try:
                self.do(work)
            except StoreBusy:
                await trio.sleep(self.dice.uniform(0.001, 0.5))
            else:
                return

    def do(self, work: "Command") -> None:
        """One command, at once. Raises StoreBusy."""
        with _session(self.world) as session:
            try:
                with session.write() as transaction:
                    effect = work(self, transaction)
            except (NotFound, Refused):
                return
            if effect is not None:
                source, happen = effect
                happen()
                self.world.committed(source, session.connection)

    def any_sub(self) -> Sub | None:
        """One that is not removed."""
        there = [sub for sub in self.world.model.subs.values() if sub.removed_at is None]
        return self.dice.choice(there) if there else None

    def any_delivery(self) -> Delivery | None:
        """One in any state, more often one that waits to be sent, or one of the latest."""
        if self._aim is not None:
            return self._aim
        if not self.world.model.deliveries:
            return None
        found = self._at_windows() if self.dice.random() < self.world.kind.at_windows else []
        if found:
            self._about = self.dice.choice(found)
        elif self._about is None or self.dice.random() > 0.3:
            self._about = self._choose()
        return self._about  # perhaps that of the last command: a second thought

    def _choose(self) -> Delivery:
        model = self.world.model
        every = list(model.deliveries.values())
        if model.open and self.dice.random() < 0.3:
            return model.keeping.find(self.dice.choice(model.open).delivery)
        waiting = [one for line in model.lines.values() for one in line.values()]
        if waiting and self.dice.random() < 0.4:
            return self.dice.choice(waiting)
        return self.dice.choice(every[-10:] if self.dice.random() < 0.6 else every)

    def _at_windows(self) -> list[Delivery]:
        """What a lane may have read; for a retry what would go before that."""
        lines = self.world.model.lines
        heads = {name: min(line.values(), key=_id) for name, line in lines.items() if name and line}
        if self._last is Operators.retry:
            before = [
                one
                for one in self.world.model.deliveries.values()
                if one.state != PENDING and one.line in heads
            ]
            # Rather before one that has been tried, and waits for its next try.
            tried = [one for one in before if heads[one.line].tries]
            return tried if self.dice.random() < 0.5 else before
        begun = {request.delivery for request in self.world.model.open}
        free = [*heads.values(), *lines.get((), {}).values()]
        free = sorted((one for one in free if one.id not in begun), key=_id)
        if self.dice.random() < 0.5:
            return free
        # Rather one that waits for its turn already: the first of all that is owed to one.
        return list({one.sub.key: one for one in reversed(free)}.values())

    def policy(self) -> dict[str, Any]:
        """What may be edited at any time."""
        return draw(self.dice, self.world.kind)

    def url(self, name: str) -> str:
        """Another one for a subscription; its host says whose it is."""
        return f"https://{name}.example/{self.dice.randrange(1_000)}"

    def secret(self) -> tuple[subscriptions.NewSecret, bytes]:
        """A new one, as it is written and as it signs."""
        key = self.dice.randbytes(32)
        return subscriptions.NewSecret("whsec_" + base64.b64encode(key).decode(), False), key

    # The commands.

    def add(self, transaction: Transaction) -> Effect | None:
        """A new subscription."""
        dice, now = self.dice, trio.current_time()
        self._names += 1
        name, policy = f"s{self._names}", self.policy() | {"ordering": dice.choice(ORDERINGS)}
        secret, key = self.secret()
        new = subscriptions.NewSubscription(
            id=SubscriptionId("wh_" + name.ljust(22, "_")),
            name=name,
            url=self.url(name),
            events=dice.choice(self.world.kind.patterns),
            tenant=dice.choice(self.world.kind.sub_tenants),
            profile="standard",
            mode="",
            method="POST",
            headers=(),
            policy=policy,
            managed_by="cli",
        )
        stored = subscriptions.add(transaction, new, [secret], self.world.clock.now())
        sub = Sub(
            key=stored.key,
            name=name,
            tenant=new.tenant,
            patterns=new.events,
            url=History(new.url, now),
            policy=History(policy, now),
            state=History("enabled", now),
            secrets=[new_secret(now, key)],
        )
        model = self.world.model
        return Source("operator", f"add {name}"), lambda: model.subs.update({sub.key: sub})

    def remove(self, transaction: Transaction) -> Effect | None:
        """Remove a subscription; what it is owed is cancelled afterwards."""
        sub = self.any_sub()
        if sub is None:
            return None
        subscriptions.remove(transaction, _key(sub), self.world.clock.now())
        now = trio.current_time()
        source = Source("operator", f"remove {sub.name}", removed=sub.key)
        return source, lambda: setattr(sub, "removed_at", now)

    def cancel_removed(self, transaction: Transaction) -> Effect | None:
        """The other half of `remove`, or the first batches of it."""
        removed = [
            one.sub.key
            for one in self.world.model.deliveries.values()
            if one.pending and one.sub.removed_at is not None
        ]
        if not removed:
            return None
        deliveries.cancel_removed(transaction, self.world.clock.now())
        return Source("operator", "cancel removed", removed=min(removed)), lambda: None

    def set_state(self, transaction: Transaction) -> Effect | None:
        """Pause, disable, enable."""
        sub = self.any_sub()
        if sub is None:
            return None
        state = self.dice.choice(("enabled", "enabled", "paused", "disabled"))
        return self._state(transaction, sub, state)

    def enable_all(self, transaction: Transaction) -> Effect | None:
        """Enable one of those that are not; None when all are."""
        for sub in self.world.model.subs.values():
            if sub.removed_at is None and sub.state.now != "enabled":
                return self._state(transaction, sub, "enabled")
        return None

    def _state(self, transaction: Transaction, sub: Sub, state: str) -> Effect:
        reason = "" if state == "enabled" else "operator"
        wall = self.world.clock.now()
        subscriptions.set_state(transaction, _key(sub), SubscriptionState(state), reason, wall)
        now = trio.current_time()

        def happen() -> None:
            sub.state.set(state, now)
            if state == "enabled":
                self.enabled(sub)

        return Source("operator", f"{state} {sub.name}"), happen

    def enabled(self, sub: Sub) -> None:
        """The rules count anew, and nothing is held back."""
        sub.enabled_at = trio.current_time()
        sub.health.enabled()

    def edit_policy(self, transaction: Transaction) -> Effect | None:
        """Other delays, another timeout, another concurrency."""
        sub = self.any_sub()
        if sub is None:
            return None
        policy = self.policy() | {"ordering": sub.policy.now["ordering"]}
        return self._edit(transaction, sub, policy)

    def edit_ordering(self, transaction: Transaction) -> Effect | None:
        """Another ordering: what is owed is put into other lines."""
        sub = self.any_sub()
        if sub is None:
            return None
        policy = sub.policy.now | {"ordering": self.dice.choice(ORDERINGS)}
        return self._edit(transaction, sub, policy)

    def _edit(self, transaction: Transaction, sub: Sub, policy: dict[str, Any]) -> Effect:
        now, wall = trio.current_time(), self.world.clock.now()
        given = subscriptions.update(transaction, _key(sub), {"policy": policy}, wall)

        def happen() -> None:
            before = sub.policy.now
            sub.policy.set(policy, now)
            self.world.model.instructed.give(given, "realign", sub)
            if policy["ordering"] != before["ordering"]:
                self.world.model.reorder(sub)

        return Source("operator", f"edit {sub.name} ({policy['ordering']})"), happen

    def edit_url(self, transaction: Transaction) -> Effect | None:
        """Another URL."""
        sub = self.any_sub()
        if sub is None:
            return None
        url, now = self.url(sub.name), trio.current_time()
        subscriptions.update(transaction, _key(sub), {"url": url})
        return Source("operator", f"move {sub.name}"), lambda: sub.url.set(url, now)

    def edit_events(self, transaction: Transaction) -> Effect | None:
        """Other patterns: they count from the next row that is taken in."""
        sub = self.any_sub()
        if sub is None:
            return None
        patterns = self.dice.choice(self.world.kind.patterns)
        subscriptions.update(transaction, _key(sub), {"events": patterns})

        def happen() -> None:
            sub.patterns = patterns
            sub.pattern_edits += 1

        return Source("operator", f"other events for {sub.name}"), happen

    def rotate(self, transaction: Transaction) -> Effect | None:
        """A new secret."""
        sub = self.any_sub()
        if sub is None:
            return None
        secret, key = self.secret()
        overlap, now = self.dice.choice((0, 2_000, 3_600_000)), trio.current_time()
        wall = self.world.clock.now()
        subscriptions.rotate(transaction, _key(sub), secret, overlap, wall)

        def happen() -> None:
            sub.replace_secrets(now, wall + overlap if overlap else -math.inf)
            sub.secrets.append(new_secret(now, key))

        return Source("operator", f"rotate {sub.name}"), happen

    def hide_secret(self, transaction: Transaction) -> Effect | None:
        """A secret that is kept elsewhere and cannot be found yet: nothing may go unsigned."""
        sub = self.any_sub()
        if sub is None or sub.missing:
            return None
        new, key = self.secret()
        now, name = trio.current_time(), f"WEBHOOKD_SIMULATED_{len(self.world.hidden)}"
        reference = subscriptions.NewSecret(f"env:{name}", is_reference=True)
        subscriptions.rotate(transaction, _key(sub), reference, 0, self.world.clock.now())

        def hide() -> None:
            sub.replace_secrets(now, -math.inf)
            sub.secrets.append(new_secret(now, key, hidden=True))
            sub.missing = name
            self.world.hidden[name] = sub, new.value

        return Source("operator", f"hide the secret of {sub.name}"), hide

    def activate(self, transaction: Transaction) -> Effect | None:
        """Let the newest secret sign alone."""
        sub = self.any_sub()
        if sub is None:
            return None
        subscriptions.activate(transaction, _key(sub))
        now = trio.current_time()

        def happen() -> None:
            newest = sub.secrets.pop()
            sub.replace_secrets(now, -math.inf)
            sub.secrets.append(newest)

        return Source("operator", f"activate {sub.name}"), happen

    def cancel(self, transaction: Transaction) -> Effect | None:
        """Take one delivery back."""
        one = self.any_delivery()
        if one is None:
            return None
        deliveries.cancel(transaction, one.id, self.world.clock.now())
        return Source("operator", f"cancel {one.id}", cancelled=one.id), lambda: None

    def retry(self, transaction: Transaction) -> Effect | None:
        """Re-open one delivery, or hasten it."""
        one = self.any_delivery()
        if one is None:
            return None
        deliveries.retry(transaction, one.id, self.world.clock.now())
        now = trio.current_time()

        def happen() -> None:
            one.touched_at, one.not_before = now, ""

        return Source("operator", f"retry {one.id}", retried=one.id), happen


def _id(one: Delivery) -> int:
    return one.id


def _key(sub: Sub) -> Any:
    return sub.key


@contextmanager
def _session(world: "World") -> Iterator[Session]:
    """A session whose waiting is done in virtual time, by its caller."""
    with Session(world.path, write=True) as session:
        session.connection.execute("PRAGMA busy_timeout = 0")
        session.connection.execute("PRAGMA wal_autocheckpoint = 0")
        yield session


Command = Callable[[Operators, Transaction], Effect | None]
COMMANDS: Final[dict[str, tuple[int, Command]]] = {
    "add": (2, Operators.add),
    "remove": (2, Operators.remove),
    "cancel removed": (2, Operators.cancel_removed),
    "set state": (6, Operators.set_state),
    "edit policy": (3, Operators.edit_policy),
    "edit ordering": (2, Operators.edit_ordering),
    "edit url": (3, Operators.edit_url),
    "edit events": (2, Operators.edit_events),
    "rotate": (2, Operators.rotate),
    "hide secret": (1, Operators.hide_secret),
    "activate": (1, Operators.activate),
    "enable": (4, bulk_commands.enable),
    "replay": (3, bulk_commands.order_replay),
    "take a step": (5, bulk_commands.take_a_step),
    "cancel": (5, Operators.cancel),
    "retry": (12, Operators.retry),
    "prune": (0, bulk_commands.prune),
    "erase": (0, bulk_commands.erase_some),
}
"""What operators do, and how often."""
