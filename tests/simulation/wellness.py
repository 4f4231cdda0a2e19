"""The health of subscriptions, reckoned anew from what their requests brought.

What is in the file must be what recorded attempts say, one after the other; what follows from it (a
rule that disables, what is told of it) must be in the same commit.
"""

import json
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import OWN, PENDING, Delivery, Event, Sub, iso, millis
from tests.simulation.network import Request
from webhookd.core.model import Answer, Fault, FaultKind
from webhookd.daemon import upkeep

if TYPE_CHECKING:
    from tests.simulation.model import Model

ILL: Final = frozenset({408, 425, 429})
THROTTLES: Final = frozenset({429, 502, 503, 504})
COUNTED: Final = frozenset({"exhausted", "permanent_status", "gone"})
NOTICED_WITHIN: Final = 20.0
"""Seconds after a jump of the clock within which moments are moved along with it."""
WITNESS_WAIT: Final = 2_100
"""Milliseconds that a fault which may be this machine's own is thought over."""


def is_ill(result: Answer | Fault) -> bool:
    """Whether it speaks of an endpoint in trouble."""
    if isinstance(result, Fault):
        return result.kind not in (FaultKind.LOCAL, FaultKind.INTERNAL, FaultKind.BLOCKED)
    return result.status in ILL or result.status >= 500


def wish_of(result: Answer | Fault, policy: dict[str, Any]) -> int | None:
    """How long its receiver asks to be left alone, as far as it is heard, in ms."""
    if isinstance(result, Fault) or result.status not in THROTTLES:
        return None
    if not result.retry_after.isdigit() or not int(result.retry_after):
        return None
    return min(int(result.retry_after) * 1000, int(policy["retry_after_max"]))


def longest_wait(policy: dict[str, Any]) -> int:
    """The longest wait that a policy can ask for, in milliseconds."""
    delays = [int(delay * (1 + policy["jitter"])) for delay in policy["retry_delays"]]
    return max(policy["retry_after_max"], *delays, 0)


class Wellness:
    """Follows the attempts of one commit, and compares with the file at its end."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._touched: dict[int, Sub] = {}
        self._told: list[tuple[str, str, str | None]] = []
        self._unsure: set[int] = set()
        self._states: dict[int, tuple[str, str]] = {}
        self._soonest: dict[int, int] = {}
        """Of holds that came in this commit: the earliest time at which they may end."""
        self._may_be_free: set[int] = set()
        self._too_soon: dict[int, str] = {}
        """Whom a jump of the clock may have disabled, by its last outcome in this commit."""
        self._in_any_order = False
        """Which of the outcomes of this commit disabled a subscription, only the file can tell."""

    def begin(self, states: dict[int, tuple[str, str]]) -> None:
        """A commit is looked at, which leaves subscriptions in these states (empty: as before)."""
        self._touched, self._told, self._states = {}, [], states
        self._soonest, self._may_be_free, self._in_any_order = {}, set(), False
        self._too_soon = {}

    def note(self, known: Delivery, row: dict[str, Any], request: Request, *, noted: bool) -> None:
        """An attempt was recorded; `known` is as it was before."""
        sub, result = known.sub, request.result
        assert result is not None
        if sub.removed_at is not None:
            return
        self._touched[sub.key] = sub
        health = sub.health
        if request.succeeded:
            if health.failing:
                self._told.append(("recovered", sub.name, None))
            holds = (health.held_until, self._soonest.pop(sub.key, health.held_until))
            last = [one for one in holds if one and self._outlasts(one, sub, request)]
            if last and len(last) < len(holds):
                self._may_be_free.add(sub.key)
            sub.health = type(health)(held_until=max(last, default=None))
            return
        if isinstance(result, Fault) and result.kind is FaultKind.INTERNAL:
            return
        policy, ended = sub.policy.now, request.ended_wall
        health.ill += is_ill(result)
        if not health.failing and health.ill >= policy["failing_after"]:
            health.failing = True
            self._told.append(("failing", sub.name, None))
        if health.no_success_since is None:
            health.no_success_since, health.no_success_at = ended, request.ended
            if request.may_be_ours:
                self._unsure.add(sub.key)
        self._hold(sub, request)
        failed = known.state == PENDING and row["state"] == "failed" and not noted
        if failed and row["reason"] in COUNTED:
            health.failures += 1
            health.streak.append(known)
        rule = self._rule(sub, request)
        if rule and sub.state.now == "enabled":
            sub.state.set("disabled", trio.current_time())
            self._model.world.trace(f"{sub.name} is disabled: {rule}")
            self._told.append(("disabled", sub.name, rule))

    def _hold(self, sub: Sub, request: Request) -> None:
        """The latest time at which it may end; when exactly, the file says."""
        assert request.result is not None
        wishes = [wish_of(request.result, one) for one in request.extra["policies"]]
        until = [request.ended_wall + wish for wish in wishes if wish is not None]
        if until:
            before = sub.health.held_until or 0
            if not self._outlasts(before, sub, request):
                before = 0  # nobody can have asked for that by this clock
            soonest = self._soonest.get(sub.key, before)
            self._soonest[sub.key] = max(soonest, min(until)) if None not in wishes else soonest
            sub.health.held_until = max(before, *until)

    @staticmethod
    def _outlasts(until: int, sub: Sub, request: Request) -> bool:
        """Whether a hold is still one after a success: neither over nor longer than can be."""
        longest: int = sub.policy.now["retry_after_max"]
        return 0 < until - request.ended_wall <= longest

    def _rule(self, sub: Sub, request: Request) -> str | None:
        health, policy = sub.health, sub.policy.now
        if getattr(request.result, "status", None) == 410 and policy["gone_disables"]:
            return "gone"
        if policy["disable_after_failures"] and health.failures >= policy["disable_after_failures"]:
            return "disable_after_failures"
        since = health.no_success_since
        if policy["disable_after"] and since is not None:
            spans = {request.ended_wall - since, request.judged_by - since}
            over = {span >= policy["disable_after"] for span in spans}
            jumped = self._jumped_since(sub)
            if len(over) > 1 or jumped:
                # It was thought over, or the clock has jumped: when it was, only the file can tell.
                over = {self._states.get(sub.key) == ("disabled", "disable_after")}
                self._in_any_order = True
                if over == {True}:
                    self._check_jump(sub, request)
            if over == {True}:
                return "disable_after"
        return None

    def _jumped_since(self, sub: Sub) -> bool:
        """Whether the clock has jumped since it was without success."""
        noticed_at = self._model.world.clock.jumped_at + NOTICED_WITHIN
        return noticed_at >= sub.health.no_success_at

    def _check_jump(self, sub: Sub, request: Request) -> None:
        """A jump of the clock that was noticed disables nobody."""
        jumped_at = self._model.world.clock.jumped_at
        lasted = (request.ended - sub.health.no_success_at) * 1000 + WITNESS_WAIT
        noticed = request.life.born < sub.health.no_success_at
        noticed &= jumped_at + upkeep.EVERY + request.life.prompt < request.ended
        too_soon = noticed and lasted < sub.policy.now["disable_after"]
        # Of several outcomes in one commit the last one lasted longest.
        self._too_soon[sub.key] = (
            f"{sub.name} is disabled after {lasted:.0f} ms" if too_soon else ""
        )

    def end(self, events: list[Event]) -> None:
        """The commit was looked at: does the file say the same?"""
        model = self._model
        for text in filter(None, self._too_soon.values()):
            model.wrong("E4", text)
        for key, (state, reason) in self._states.items():
            sub = model.subs.get(key)
            if sub is None or sub.removed_at is not None:
                continue
            if state != sub.state.now:
                model.wrong("G2", f"{sub.name} is {state} ({reason}), not {sub.state.now}")
                sub.state.set(state, trio.current_time())
        for key, sub in self._touched.items():
            self._compare(key, sub)
        told = []
        for event in events:
            if event.is_own and event.event_type.startswith(f"{OWN}subscription."):
                content = json.loads(event.payload or b"{}")
                change = event.event_type.removeprefix(f"{OWN}subscription.")
                told.append((change, content["subscription_name"], content["reason"]))
        same = sorted if self._in_any_order else list
        if same(told) != same(self._told):
            model.wrong("events", f"told is {told}, and there was {self._told}")

    def _compare(self, key: int, sub: Sub) -> None:
        health = sub.health
        (row,) = self._model.mirror.table(
            "SELECT ill, failing_since, failures, no_success_since, held_until"
            " FROM webhookd_counters WHERE subscription = ?",
            key,
        )
        have = row["ill"], row["failing_since"] is not None, row["failures"]
        want = health.ill, health.failing, health.failures
        if have != want:
            self._model.wrong("health", f"of {sub.name} is {have}, not {want}")
        self._compare_since(sub, row["no_success_since"])
        held, until = row["held_until"], health.held_until
        if held is not None and (until is None or held > iso(until)):
            self._model.wrong("health", f"{sub.name} is held back until {held}, not {until}")
        if held is None and until is not None and key not in self._may_be_free:
            self._model.wrong("health", f"{sub.name} is not held back until {iso(until)}")
        health.held_until = None if held is None else millis(held)

    def _compare_since(self, sub: Sub, text: str | None) -> None:
        health = sub.health
        since = health.no_success_since
        if (text is None) != (since is None):
            self._model.wrong("health", f"{sub.name} is without success since {text}, not {since}")
        if text is None or since is None:
            return
        slack = WITNESS_WAIT if sub.key in self._unsure else 0
        if not since <= millis(text) <= since + slack and not self._jumped_since(sub):
            self._model.wrong("health", f"{sub.name} is without success since {text}, not {since}")
        health.no_success_since = millis(text)
        self._unsure.discard(sub.key)
