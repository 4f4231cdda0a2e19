"""Nothing that could go waits: what a lost wake-up, a leak or a neighbour would hold up.

The auditor looks around about once a second. Where nothing stands in the way (the file is free and
writable, the clock has not jumped, there is room for one more attempt), rows are taken in and due
deliveries attempted within `Life.prompt` seconds, whatever other subscriptions go through.
"""

import random
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import Delivery, iso, millis
from tests.simulation.sending import held_until
from tests.simulation.wellness import longest_wait
from webhookd.daemon import alarms, supervisor, upkeep
from webhookd.daemon import clock as daemons

if TYPE_CHECKING:
    from tests.simulation.facts import Sub
    from tests.simulation.machine import Life
    from tests.simulation.world import World

ENOUGH: Final = 12
"""Places with which a hanging receiver can hold nobody up for longer than `machine.A_QUEUE`."""
A_LONG_OUTAGE: Final = 65.0
"""Seconds for which a subscription waits after a fault of this machine, at the most."""
A_BREATH: Final = 2.0
"""Seconds: a little more than one of the waits below."""


class Auditor:
    """Looks whether things move."""

    def __init__(self, world: "World", dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self._clear_from = self._rows_from = 0.0
        self._put_off_at = float("-inf")
        """When anything was last due later than it can be, by a clock that was ahead."""
        self._instructions: tuple[float, list[dict[str, Any]]] = (0.0, [])

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await trio.sleep(self._dice.uniform(0.3, 1.2))
            self._look()

    def _look(self) -> None:
        world, now = self._world, trio.current_time()
        if world.host.holds_lock or world.disk_is_full or world.read_trouble:
            self._clear_from = now
        if world.outbox_is_away:
            self._rows_from = now
        if self._is_put_off():
            self._put_off_at = now
        life = world.machine.life
        if life is None or life.dead or life.daemon is None or life.daemon.stop_asked:
            return
        if life.ending == "drains":
            return  # it does not wait for what comes after it began
        unrecorded = {
            one.delivery
            for one in life.requests
            if one in world.model.open or (one.result is not None and not one.recorded)
        }
        if self._is_full(life, len(unrecorded)):
            self._clear_from = now
        self._clear_from = max(self._clear_from, world.limits_changed_at)
        prompt = life.prompt
        clear_from = max(self._clear_from, life.born)
        if world.clock.jumped_at >= life.born:
            clear_from = max(clear_from, world.clock.jumped_at + _after_a_jump() - prompt)
        if now - clear_from < prompt:
            return
        rows_from = max(clear_from, self._rows_from, world.model.ingested_at)
        self._check_rows(now - prompt, rows_from)
        self._check_deliveries(life, now - prompt, unrecorded)
        self._check_records(life, now - prompt)
        self._check_instructions(now - prompt - A_BREATH)
        self._check_ages(life, unrecorded)

    def _is_full(self, life: "Life", unrecorded: int) -> bool:
        """Whether all subscriptions together are as far as the daemon's limits let them.

        With places for each of them nobody's waiting for an answer is an excuse for the others.
        """
        limits = self._world.settings.delivery
        flying = sum(one.life is life for one in self._world.model.open)
        few = limits.max_in_flight < ENOUGH
        return (few and flying >= limits.max_in_flight) or unrecorded >= limits.max_unrecorded

    def _check_rows(self, recent: float, moved_at: float) -> None:
        model = self._world.model
        rows = [row for row in model.waiting.values() if not row.low and row.at < recent]
        if rows and moved_at < recent:
            model.wrong("G1", f"row {rows[0].id} waits since {rows[0].at:.3f}, and nothing moves")

    def _check_records(self, life: "Life", recent: float) -> None:
        """What was answered gets into the file, one after the other."""
        ended = [one for one in life.unrecorded if not one.may_be_ours]
        late = [one for one in ended if one.ended < recent]
        if late and life.recorded_at < recent:
            self._world.model.wrong("G3", f"{late[0]} ended at {late[0].ended:.3f}: no record yet")

    def _check_instructions(self, recent: float) -> None:
        """What was instructed comes further, whoever takes its steps."""
        now, model = trio.current_time(), self._world.model
        rows = model.mirror.table("SELECT * FROM webhookd_instructions WHERE done_at IS NULL")
        if not rows or rows != self._instructions[1]:
            self._instructions = now, rows
        elif self._instructions[0] < recent:
            model.wrong("G2", f"nobody goes on with {rows[0]}")

    def _check_ages(self, life: "Life", unrecorded: set[int]) -> None:
        """What has become too old has ended; a head that held up its line too long was passed."""
        world, model, prompt = self._world, self._world.model, life.prompt_upkeep
        recent = trio.current_time() - prompt
        wall = world.clock.now() - round((prompt + upkeep.EVERY + A_BREATH) * 1000)
        settled = max(recent - upkeep.EVERY - A_BREATH, 0.0)
        begun = max(life.born, world.clock.jumped_at + daemons.DOUBT + _after_a_jump())
        # One after the other, in small batches; what is put off is brought forward before.
        if max(begun, model.expired_at, self._put_off_at) > settled:
            return
        for one in [one for line in model.lines.values() for one in line.values()]:
            sub = one.sub
            known = sub.removed_at is None and not sub.missing and sub.found_at + _again() < recent
            if not known or one.id in unrecorded or len(sub.policy.since(settled)) > 1:
                continue
            policy = sub.policy.now
            if policy["max_age"] and wall - millis(one.since) > policy["max_age"]:
                model.wrong("G2", f"{one} is too old, and still pending")
            recorded_at = max((each.recorded_at for each in one.requests), default=0.0)
            held_up = policy["max_block"] and one.failing_since and not one.passed and one.line
            if held_up and recorded_at < settled and sub.policy.since(recorded_at) == [policy]:
                head = model.mirror.due_at(one.id) is not None
                if head and wall - one.failing_since > policy["max_block"] and one.not_before:
                    if self._stood_behind(one, recorded_at):
                        continue  # only its next failed attempt tells
                    model.wrong("G4", f"{one} fails since {one.failing_since}, and is not passed")

    def _stood_behind(self, one: Delivery, since: float) -> bool:
        """Whether another one of its line was put before it since then."""
        model = self._world.model
        every = (*model.deliveries.values(), *model.keeping.deliveries.values())
        # One that was passed has left the line.
        mine = [other for other in every if other.sub is one.sub and other.before(one)]
        return any(
            other.reopened_at >= since and (other.passed or other.line == one.line)
            for other in mine
        )

    def _is_put_off(self) -> bool:
        """Whether the clock went back, and something is still due later than it can be."""
        world, wall = self._world, self._world.clock.now()
        if world.clock.went_back_at == float("-inf"):
            return False
        rows = world.model.mirror.table(
            "SELECT subscription, due_at, retry_at FROM webhookd_deliveries WHERE due_at > ?",
            iso(wall),
        )
        for row in rows:
            wait = longest_wait(world.model.subs[row["subscription"]].policy.now)
            if row["retry_at"] is None or row["due_at"] > iso(wall + wait):
                return True
        return False

    def _check_deliveries(self, life: "Life", recent: float, unrecorded: set[int]) -> None:
        world, model = self._world, self._world.model
        busy = {one.who for one in model.open if one.life is life}
        busy |= {one.who for one in life.requests if max(one.began, one.ended) >= recent}
        # Until the file has an outcome its line is closed; how long that may take, others judge.
        busy |= {one.who for one in life.unrecorded}
        held = {sub.name for sub in model.subs.values() if self._is_held(sub, recent)}
        due = model.mirror.table(
            "SELECT id FROM webhookd_deliveries WHERE due_at IS NOT NULL AND due_at <= ?",
            iso(world.clock.now() - round(life.prompt * 1000)),
        )
        for row in due:
            one = model.deliveries[row["id"]]
            sub = one.sub
            enabled = sub.removed_at is None and sub.state.since(recent) == ["enabled"]
            enabled &= not sub.missing and max(sub.found_at, life.crashed_at) + _again() < recent
            enabled &= sub.name not in held
            enabled &= life.machine_fault_at + A_LONG_OUTAGE < recent
            # The look for a missing secret is set by the wall clock, and goes back with it.
            enabled &= sub.found_at < 0 or world.clock.went_back_at < life.born
            # What is too old is sent no more; that it ends is checked with the ages.
            age, limits = world.clock.now() - millis(one.since), sub.policy.since(recent)
            enabled &= not any(0 < policy["max_age"] < age for policy in limits)
            # What cannot be rendered is no request, but its end waits for the file like others.
            erased = one.event.sequence in model.keeping.erased
            enabled &= not erased or life.recorded_at < recent
            if enabled and sub.name not in busy and one.id not in unrecorded:
                model.wrong("G5", f"{one} has been due for long, and nothing is sent to {sub.name}")
                return

    def _is_held(self, sub: "Sub", recent: float) -> bool:
        """Whether it is, or a moment ago was, to be left alone, or being instructed."""
        model, wall = self._world.model, self._world.clock.now()
        life = model.world.machine.life
        until = held_until(life, sub) if life else 0
        moved_at = max(sub.instructed_at, sub.enabled_at, sub.moved_at)
        if model.instructed.of(sub) or moved_at >= recent:
            return True
        if sub.health.failing:
            return True  # it is asked now and then; in the end it drains all the same
        return until + round((trio.current_time() - recent) * 1000) > wall


def _again() -> float:
    """Seconds after which a subscription without a secret, or whose lane met a bug, is tried."""
    return max(supervisor.LOOK_AGAIN / 1000, supervisor.LONGEST_RESTART) + A_BREATH


def _after_a_jump() -> float:
    """Seconds after which the clock is looked at again, at the latest, after a jump."""
    return alarms.LONGEST_WAIT + A_BREATH
