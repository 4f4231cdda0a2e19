"""Judges each request as it begins: is it owed, is it its turn, does it say what it should?

Each promise is one function in `PROMISES`; a new one is one more row. What an operator changed
counts from `Case.recent` on: until then either side of the change is right.
"""

import base64
import hmac
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from tests.simulation.facts import Delivery, Sub, iso, millis
from tests.simulation.network import Request, is_ours
from tests.simulation.wellness import is_ill, longest_wait, wish_of

if TYPE_CHECKING:
    from tests.simulation.machine import Life
    from tests.simulation.model import Model


A_WHILE: Final = 60.0
"""Seconds for which one that has its place may wait for all else that it needs."""


@dataclass(frozen=True)
class Case:
    """One request, and what the model knows of it."""

    model: "Model"
    request: Request
    known: Delivery
    sub: Sub
    recent: float
    """The moment before which every operator's change must have reached the lane."""

    @property
    def policies(self) -> list[dict[str, Any]]:
        """Those that may be in force."""
        return self.sub.policy.since(self.recent)

    @property
    def reordered(self) -> bool:
        """Whether its line may still be the old one."""
        return len({one["ordering"] for one in self.policies}) > 1

    @property
    def ours(self) -> list[Request]:
        """What this life of the daemon has under way or has not recorded yet."""
        life = self.request.life
        # What may be this machine's own fault may never be recorded at all.
        ended = [one for one in life.unrecorded if not one.may_be_ours]
        return [*(one for one in self.model.open if one.life is life), *ended]


def judge(model: "Model", request: Request) -> None:
    """A request begins."""
    sub = model.sub(request.who)
    event = model.keeping.owed_for(request.headers["webhook-id"])
    place = None if sub is None or event is None else (event.sequence, sub.key)
    known = None if place is None else model.owed.get(place) or model.keeping.owed.get(place)
    if known is None or sub is None:
        model.wrong("G1", f"{request} is of nothing that is owed: {request.headers}")
        return
    request.delivery, request.line = known.id, known.line
    case = Case(model, request, known, sub, trio.current_time() - request.life.grace)
    for promise in PROMISES:
        for guarantee, text in promise(case):
            model.wrong(guarantee, f"{request}: {text}")
    known.requests.append(request)
    model.open.append(request)


Wrong = Iterator[tuple[str, str]]
"""Which guarantee is broken, and how."""


def numbered(case: Case) -> Wrong:
    """It says which delivery it is, and which attempt."""
    request, known = case.request, case.known
    if int(request.headers["webhookd-sequence"]) != known.number:
        yield "G3", f"has another number than {known.number}"
    if request.attempt != known.attempts + 1:
        yield "G3", f"{known} has {known.attempts} attempts in the file"


def owed(case: Case) -> Wrong:
    """It is not finished, and nobody has taken it back."""
    known, removed_at = case.known, case.sub.removed_at
    changed_at = max(known.touched_at, removed_at or float("-inf"))
    # A lane judges the age of what it has read by the clock, and that may have gone back.
    young_again = known.reason == "expired" and case.model.world.clock.went_back_at >= changed_at
    if not known.pending and changed_at < case.recent and not young_again:
        yield "G3", f"{known} is {known.state} already, since {changed_at:.3f}"
    if removed_at is not None and removed_at < case.recent:
        yield "G2", "removed long ago"


def wanted(case: Case) -> Wrong:
    """Its subscription is enabled, and is there; the daemon has not been asked to stop."""
    request, sub = case.request, case.sub
    if "enabled" not in sub.state.since(case.recent):
        yield "G2", f"{sub.name} is {sub.state.now}"
    for given in case.model.instructed.of(sub):
        if given.at < case.recent:
            yield "G2", f"{given.kind} is under way since {given.at:.3f}"
    if request.url not in sub.url.since(case.recent):
        yield "G2", f"went to {request.url}, not {sub.url.now}"
    if request.began > request.life.stop_asked_at:
        yield "E1", f"begun after the daemon was to stop at {request.life.stop_asked_at:.3f}"


def in_order(case: Case) -> Wrong:
    """Nothing stands before it in its line."""
    known = case.known
    if not known.line:
        return
    line = case.model.lines.get(known.line, {}).values()
    ahead = [one for one in line if one.before(known) and one.reopened_at < case.recent]
    if ahead and not case.reordered:
        yield "G4", f"{ahead[0]} stands before it"


def alone(case: Case) -> Wrong:
    """Nothing of its line is under way, or answered and not in the file yet."""
    known = case.known
    for one in case.ours:
        if one.delivery == known.id:
            yield "G4", f"it is under way already: {one}"
        elif known.line and one.line and one.who == case.sub.name and not case.reordered:
            # Where it stands now counts too: its ordering may have been changed since it began.
            now = case.sub.line_of(case.model.keeping.find(one.delivery).event)
            if known.line in (one.line, now):
                yield "G4", f"its line is closed by {one}"


def due(case: Case) -> Wrong:
    """Its time has come; what was read before the wall clock went back is still sent."""
    known, model = case.known, case.model
    due_at = model.mirror.due_at(known.id)
    too_soon = due_at is None or due_at > iso(model.world.clock.highest)
    overtaken = any(
        one.before(known) and one.reopened_at >= case.recent
        for one in model.lines.get(known.line, {}).values()
    )
    # Another ordering may be carried out before the lane has heard of it.
    overtaken |= due_at is None and case.reordered
    if too_soon and known.pending and not overtaken and known.touched_at < case.recent:
        yield "G4", f"sent before it was due at {due_at}"
    failed_at, ahead = known.not_before_of
    waited = (trio.current_time() - failed_at) * 1000
    # A clock that went back since shortens a wait in wall time, never in time that has passed; and
    # at a start or a jump nothing waits longer than any delay of its policy, as it is by then.
    ahead = min(ahead, *(longest_wait(one) for one in case.sub.policy.since(failed_at)))
    clock, life = model.world.clock, case.request.life
    if clock.jumped_at >= max(life.born, failed_at - A_WHILE):
        ahead -= round(life.prompt * 1000)  # as of the moment at which the jump was noticed
    # What was brought forward while the clock was behind comes due as it leaps ahead again.
    leapt = clock.jumped_at > clock.went_back_at >= failed_at
    if known.not_before > iso(clock.highest) and waited < ahead and not leapt:
        yield "G3", f"sent before its next try could be, at {known.not_before}"


def young(case: Case) -> Wrong:
    """It is not older than it may become."""
    world, age = case.model.world, case.request.wall - millis(case.known.since)
    if world.in_doubt(case.request.life):
        return  # by a clock that may be put right yet nothing ends
    if all(one["max_age"] and age >= one["max_age"] for one in case.policies):
        yield "G2", f"it is {age} ms old, and may be {case.sub.policy.now['max_age']}"


def let_be(case: Case) -> Wrong:
    """Its receiver has not asked to be left alone, nor said that it is gone."""
    request, sub = case.request, case.sub
    until = held_until(request.life, sub)
    if all(0 < until - request.wall <= one["retry_after_max"] for one in case.policies):
        yield "G3", f"{sub.name} is to be left alone until {iso(until)}"
    for one in request.life.unrecorded:
        gone = one.who == sub.name and getattr(one.result, "status", None) == 410
        if gone and all(policy["gone_disables"] for policy in one.extra["policies"]):
            yield "G3", f"{one} has said that it is gone"


def within_its_rate(case: Case) -> Wrong:
    """No more are sent in any time than the rate allows, with one second's worth at once."""
    request, sub, now = case.request, case.sub, trio.current_time()
    rates = {one["rate_limit"] for one in case.policies}
    if len(rates) > 1 or rates == {0.0}:
        request.life.buckets.pop(sub.key, None)
        return
    (rate,) = rates
    full = max(1.0, rate)
    tokens, at = request.life.buckets.get(sub.key, (full, now))
    tokens = min(full, tokens + (now - at) * rate) - 1.0
    request.life.buckets[sub.key] = tokens, now
    if tokens < -1e-6:
        yield "G5", f"over the rate of {rate}/s"


def bounded(case: Case) -> Wrong:
    """No more are under way than may be, and none for longer than it may be."""
    request = case.request
    some = case.model.world.limits.since(max(trio.current_time() - A_WHILE, request.life.born))
    most_per_host = max(one.max_per_host for one in some)
    most_unrecorded = max(one.max_unrecorded for one in some)
    alive = [one for one in case.model.open if one.life is request.life]
    mine = [one for one in alive if one.who == request.who]
    since = min((one.began - request.life.grace for one in mine), default=case.recent)
    limit = max(policy["concurrency"] for policy in case.sub.policy.since(since))
    if len(mine) >= limit:
        yield "G5", f"{len(mine)} are in flight, and {limit} allowed"
    if len(alive) >= max(one.max_in_flight for one in some):
        yield "G7", f"{len(alive)} are in flight"
    if len(mine) >= most_per_host:
        yield "G5", f"{len(mine)} are in flight to one host"
    if len(case.ours) >= most_unrecorded:
        yield "G7", f"{len(case.ours)} are in flight or unrecorded"
    allowed = {policy["timeout"] for policy in case.sub.policy.since(case.recent)}
    if request.timeout not in allowed:
        yield "G7", f"may take {request.timeout} ms, not {allowed}"


def carefully(case: Case) -> Wrong:
    """One at a time while its endpoint fails; then 2, 4, 8 ... from success to success."""
    request, sub = case.request, case.sub
    life = request.life
    mine = [one for one in case.model.open if one.life is life and one.who == request.who]
    if not mine and not any(one.who == sub.name for one in life.unrecorded):
        life.rooms.pop(sub.key, None)  # its lane may have ended, and another one begun
    if mine and is_failing(life, sub, case.recent):
        yield "G5", f"it is failing, and {mine[0]} is under way"
    elif len(mine) >= life.rooms.get(sub.key, math.inf):
        yield "G5", f"{len(mine)} are under way, and there was room for {life.rooms[sub.key]}"


def is_failing(life: "Life", sub: Sub, recent: float) -> bool:
    """Whether a subscription is failing for certain, by all that this life has heard of it.

    The file tells it by the newest policy, of which its lane need not have known at `recent`.
    """
    if sub.removed_at is not None:
        return False  # nothing that is heard of it goes into the file any more
    if not sub.health.failing:
        life.said_well.discard(sub.key)
    if sub.key in life.said_well:
        return False  # until a success is recorded, which ends it in the file as well
    limits = {policy["failing_after"] for policy in sub.policy.since(recent)}
    ill, failing = sub.health.ill, sub.health.failing
    failing &= len(limits) == 1 or ill >= max(limits)
    for one in life.unrecorded:
        result = one.result
        if one.who != sub.name or result is None or is_ours(result):
            continue
        if one.succeeded:
            ill, failing = 0, False
        else:
            ill += is_ill(result)
            failing |= ill >= max(policy["failing_after"] for policy in one.extra["policies"])
    return failing


def learn(model: "Model", request: Request) -> None:
    """A request has ended: what it says counts for the next one."""
    sub, life, result = model.sub(request.who), request.life, request.result
    if sub is None or result is None:
        return
    policies = request.extra["policies"]
    if request.succeeded:
        recent = trio.current_time() - life.grace
        room = 1 if is_failing(life, sub, recent) else life.rooms.pop(sub.key, None)
        if room is not None and 2 * room < min(one["concurrency"] for one in policies):
            life.rooms[sub.key] = 2 * room


def held_until(life: "Life", sub: Sub) -> int:
    """Until when it is to be left alone for certain, by all that this life has heard; 0: never."""
    until = sub.health.held_until or 0
    for one in life.unrecorded:
        if one.who != sub.name or one.result is None or one.ended < sub.enabled_at:
            continue
        if not one.succeeded:
            wishes = [wish_of(one.result, policy) or 0 for policy in one.extra["policies"]]
            until = max(until, one.ended_wall + min(wishes) if min(wishes) else 0)
    return until


def the_same(case: Case) -> Wrong:
    """The body says what the event says, and is the same at every attempt."""
    known, request = case.known, case.request
    if request.headers["content-length"] != str(len(request.body)):
        yield "G3", f"of {len(request.body)} bytes says {request.headers}"
    if known.body is not None:
        if known.body != request.body:
            yield "G3", "other bytes than before"
        return
    known.body = request.body
    event = known.event
    shown = json.loads(request.body)
    if shown["type"] != event.event_type or shown["timestamp"] != event.occurred_at:
        yield "G3", f"says {shown} of {event}"
    if event.payload is not None and b'"data":' + event.payload not in request.body:
        yield "G3", f"does not carry the payload of {event}"
    if event.payload is None and shown["data"]["aggregate_id"] != (event.aggregate_id or None):
        yield "G3", f"says {shown} of {event}"


def not_erased(case: Case) -> Wrong:
    """What was erased is sent no more."""
    erased_at = case.model.keeping.erased.get(case.known.event.sequence)
    if erased_at is not None and erased_at < case.recent:
        yield "erasure", f"carries a payload that was erased at {erased_at:.3f}"


def signed(case: Case) -> Wrong:
    """It is signed now, with all secrets that are live and no other."""
    request, sub, recent = case.request, case.sub, case.recent
    stamp = request.headers["webhook-timestamp"]
    if int(stamp) != request.wall // 1000:
        yield "G3", f"says that it is {stamp}, and it is {request.wall}"
    content = f"{case.known.event.event_id}.{stamp}.".encode() + request.body
    given = request.headers.get("webhook-signature", "").split(" ")
    made = {
        key: "v1," + base64.b64encode(hmac.digest(key.key, content, "sha256")).decode()
        for key in sub.secrets
    }
    settled = [key for key in sub.secrets if key.at < recent]
    fresh = [key for key in sub.secrets if key.at >= recent]
    if not any(made[key] in given for key in (*settled[-1:], *fresh)):
        yield "G3", "not signed with the newest secret"
    for key in settled:
        until = key.until.since(recent)
        if max(until) <= request.wall and made[key] in given:
            yield "G11", f"signed with a secret that ended at {until}"
        # One that has ended stays so when the wall clock goes back.
        live = min(until) > case.model.world.clock.highest and not key.hidden
        if live and made[key] not in given:
            yield "G3", f"not signed with a secret that is live until {until}"


PROMISES: Final[tuple[Callable[[Case], Wrong], ...]] = (
    numbered,
    owed,
    wanted,
    in_order,
    alone,
    due,
    young,
    let_be,
    within_its_rate,
    bounded,
    carefully,
    the_same,
    not_erased,
    signed,
)
"""What is promised of every request."""
