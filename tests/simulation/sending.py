"""Judges each request as it begins: is it owed, is it its turn, does it say what it should?

Each promise is one function in `PROMISES`; a new one is one more row. What an operator changed
counts from `Case.recent` on: until then either side of the change is right.
"""

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from tests.simulation.facts import Delivery, Sub, iso
from tests.simulation.network import Request

if TYPE_CHECKING:
    from tests.simulation.model import Model


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
    def ours(self) -> list[Request]:
        """What this life of the daemon has under way or has not recorded yet."""
        life = self.request.life
        return [*(one for one in self.model.open if one.life is life), *life.unrecorded]


def judge(model: "Model", request: Request) -> None:
    """A request begins."""
    sub = model.sub(request.who)
    event = model.by_event_id.get(request.headers["webhook-id"])
    known = None if sub is None or event is None else model.owed.get((event.sequence, sub.key))
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
    if not known.pending and changed_at < case.recent:
        yield "G3", f"{known} is {known.state} already, since {changed_at:.3f}"
    if removed_at is not None and removed_at < case.recent:
        yield "G2", "removed long ago"


def wanted(case: Case) -> Wrong:
    """Its subscription is enabled, and is there; the daemon has not been asked to stop."""
    request, sub = case.request, case.sub
    if "enabled" not in sub.state.since(case.recent):
        yield "G2", f"{sub.name} is {sub.state.now}"
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
    ahead = [one for one in line if one.id < known.id and one.reopened_at < case.recent]
    if ahead:
        yield "G4", f"{ahead[0]} stands before it"


def alone(case: Case) -> Wrong:
    """Nothing of its line is under way, or answered and not in the file yet."""
    known = case.known
    for one in case.ours:
        if one.delivery == known.id or (known.line and one.line == known.line):
            yield "G4", f"its line is closed by {one}"


def due(case: Case) -> Wrong:
    """Its time has come; what was read before the wall clock went back is still sent."""
    known, model = case.known, case.model
    due_at = model.mirror.due_at(known.id)
    too_soon = due_at is None or due_at > iso(model.world.clock.highest)
    overtaken = any(
        one.id < known.id and one.reopened_at >= case.recent
        for one in model.lines.get(known.line, {}).values()
    )
    if too_soon and known.pending and not overtaken and known.touched_at < case.recent:
        yield "G4", f"sent before it was due at {due_at}"
    if known.not_before > iso(model.world.clock.highest):
        yield "G3", f"sent before its next try could be, at {known.not_before}"


def bounded(case: Case) -> Wrong:
    """No more are under way than may be, and none for longer than it may be."""
    request, limits = case.request, case.model.world.settings.delivery
    alive = [one for one in case.model.open if one.life is request.life]
    mine = [one for one in alive if one.who == request.who]
    since = min((one.began - request.life.grace for one in mine), default=case.recent)
    limit = max(policy["concurrency"] for policy in case.sub.policy.since(since))
    if len(mine) >= limit:
        yield "G5", f"{len(mine)} are in flight, and {limit} allowed"
    if len(alive) >= limits.max_in_flight:
        yield "G7", f"{len(alive)} are in flight"
    if len(case.ours) >= limits.max_unrecorded:
        yield "G7", f"{len(case.ours)} are in flight or unrecorded"
    allowed = {policy["timeout"] for policy in case.sub.policy.since(case.recent)}
    if request.timeout not in allowed:
        yield "G7", f"may take {request.timeout} ms, not {allowed}"


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


def signed(case: Case) -> Wrong:
    """It is signed now, with all secrets that are live and no other."""
    request, sub, recent = case.request, case.sub, case.recent
    stamp = request.headers["webhook-timestamp"]
    if int(stamp) != request.wall // 1000:
        yield "G3", f"says that it is {stamp}, and it is {request.wall}"
    content = f"{case.known.event.event_id}.{stamp}.".encode() + request.body
    given = request.headers.get("webhook-signature", "").split(" ")
    made = {
        key.at: "v1," + base64.b64encode(hmac.digest(key.key, content, "sha256")).decode()
        for key in sub.secrets
    }
    settled = [key for key in sub.secrets if key.at < recent]
    fresh = [key for key in sub.secrets if key.at >= recent]
    if not any(made[key.at] in given for key in (*settled[-1:], *fresh)):
        yield "G3", "not signed with the newest secret"
    for key in settled:
        until = key.until.since(recent)
        if max(until) <= request.wall and made[key.at] in given:
            yield "G11", f"signed with a secret that ended at {until}"
        # One that has ended stays so when the wall clock goes back.
        live = min(until) > case.model.world.clock.highest and not key.hidden
        if live and made[key.at] not in given:
            yield "G3", f"not signed with a secret that is live until {until}"


PROMISES: Final[tuple[Callable[[Case], Wrong], ...]] = (
    numbered,
    owed,
    wanted,
    in_order,
    alone,
    due,
    bounded,
    the_same,
    signed,
)
"""What is promised of every request."""
