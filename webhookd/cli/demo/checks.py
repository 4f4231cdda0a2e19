"""Whether the demo went as promised: pure functions over what the host and the receivers saw."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from webhookd.cli.demo.script import EUDR, UNDONE, WAREHOUSE, Happening

Row = Mapping[str, Any]
"""A row of a feed, as the host polled it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request at a receiver, and how it was answered."""

    partner: str
    event_id: str
    """`webhook-id`."""
    event_type: str
    """As the body names it; `''` where the body is no event."""
    attempt: int
    flaw: str
    """What is wrong with its signature; `''` for a genuine one."""
    status: int
    body: bytes = field(repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the partner said that it has it."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen from outside of webhookd."""

    committed: Mapping[int, Happening]
    """What the ERP committed, by outbox id, in its order."""
    arrivals: Sequence[Arrival]
    """All requests, in the order in which they came."""
    events: Sequence[Row]
    """`webhook_events`, whole: which event id an outbox row got."""
    pages: Sequence[Sequence[Row]]
    """`webhook_results`, page by page with a cursor."""
    changes: Sequence[Row]
    """`webhook_changes`, whole."""
    traces: int
    """Rows that the rolled back transaction left in the ERP's own tables."""
    exit_codes: Mapping[str, int]
    """`status`: of `webhookd status` once all was delivered; `daemon`: of the daemon at SIGTERM."""

    def owed(self, partner: str) -> list[int]:
        """The outbox ids that a partner must have."""
        return [number for number, said in self.committed.items() if partner in said.to]

    def outbox_ids(self) -> dict[str, int]:
        """The outbox id of each event id."""
        return {row["event_id"]: row["outbox_id"] for row in self.events}


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and whether it was kept."""

    name: str
    promise: str
    fault: str
    """What was found instead, in one line; `''` where it was kept."""

    @property
    def held(self) -> bool:
        """Whether it was kept."""
        return not self.fault


def judge(evidence: Evidence) -> list[Check]:
    """Every check, in the order in which a person reads them."""
    return [Check(name, promise, next(finds(evidence), "")) for name, promise, finds in _CHECKS]


def _arrived(evidence: Evidence) -> Iterator[str]:
    ids = evidence.outbox_ids()
    for partner in (WAREHOUSE, EUDR):
        of_partner = [one for one in evidence.arrivals if one.partner == partner]
        accepted = {ids.get(one.event_id) for one in of_partner if one.accepted}
        owed = set(evidence.owed(partner))
        for number in sorted(owed - accepted):
            yield f"{partner} never accepted {_name(evidence, number)}"
        for one in of_partner:
            number_or_none = ids.get(one.event_id)
            if number_or_none not in owed:
                yield f"{partner} got {one.event_type} ({one.event_id}), which is not for it"


def _unchanged(evidence: Evidence) -> Iterator[str]:
    ids = evidence.outbox_ids()
    for one in evidence.arrivals:
        said = evidence.committed.get(ids.get(one.event_id, 0))
        if said is None or said.payload is None:
            continue
        if not one.body.endswith(b":" + said.payload.encode() + b"}"):
            yield f"{one.partner} got {said.event_type} of {said.aggregate_id} with another payload"


def _genuine(evidence: Evidence) -> Iterator[str]:
    if not evidence.arrivals:
        yield "no request came"
    for one in evidence.arrivals:
        if one.flaw:
            yield f"{one.partner} got {one.event_type} with a bad signature: {one.flaw}"


def _in_order(evidence: Evidence) -> Iterator[str]:
    """No request for an event before the earlier ones of its aggregate were accepted."""
    ids = evidence.outbox_ids()
    accepted: dict[str, set[int]] = {}
    for one in evidence.arrivals:
        number = ids.get(one.event_id)
        said = evidence.committed.get(number) if number is not None else None
        if number is None or said is None:
            continue
        done = accepted.setdefault(one.partner, set())
        for earlier in evidence.owed(one.partner):
            if earlier < number and earlier not in done and _same(evidence, earlier, said):
                yield (
                    f"{one.partner} got {said.event_type} of {said.aggregate_id} before "
                    f"it had accepted {_name(evidence, earlier)}"
                )
        if one.accepted:
            done.add(number)


def _not_rolled_back(evidence: Evidence) -> Iterator[str]:
    for said in UNDONE.happenings:
        if any(said.aggregate_id == row["aggregate_id"] for row in evidence.events):
            yield f"{said.aggregate_id} became an event, though its transaction was rolled back"
        mark = (said.payload or said.aggregate_id).encode()
        if any(mark in one.body for one in evidence.arrivals):
            yield f"{said.event_type} of {said.aggregate_id} was sent, though it was rolled back"
    if evidence.traces:
        yield f"the ERP still has {evidence.traces} rows of the transaction that it rolled back"


def _retried(evidence: Evidence) -> Iterator[str]:
    first: dict[tuple[str, str], Arrival] = {}
    retries = 0
    for one in evidence.arrivals:
        before = first.setdefault((one.partner, one.event_id), one)
        if one.body != before.body:
            yield f"{one.partner} got {one.event_type} with another body at attempt {one.attempt}"
        retries += one is not before and one.attempt > before.attempt
    if not any(one.status >= 500 for one in evidence.arrivals):
        yield "no request was answered with 500"
    if not retries:
        yield "no request came a second time after a 500"


def _isolated(evidence: Evidence) -> Iterator[str]:
    """While one partner was down the other had all that was for it."""
    partners = [one.partner for one in evidence.arrivals]
    if EUDR not in partners:
        yield f"{EUDR} got nothing, although it came back"
        return
    if WAREHOUSE in partners[partners.index(EUDR) :]:
        yield f"{WAREHOUSE} had to wait for {EUDR}"
    heads = [row["attempts"] for row in _rows(evidence) if row["subscription_name"] == EUDR]
    if max(heads, default=0) < 2:
        yield f"nothing was attempted at {EUDR} while it was down"


def _results(evidence: Evidence) -> Iterator[str]:
    rows = _rows(evidence)
    if len(evidence.pages) != 2 or not all(evidence.pages):
        yield f"{len(evidence.pages)} pages, not two"
    if any(before["sequence"] >= after["sequence"] for before, after in pairwise(rows)):
        yield "the sequence does not grow from row to row"
    have = sorted((row["subscription_name"], row["outbox_id"]) for row in rows)
    owed = sorted(
        (partner, number) for partner in (WAREHOUSE, EUDR) for number in evidence.owed(partner)
    )
    if have != owed:
        yield f"{len(have)} rows that are not the {len(owed)} deliveries that were owed"
    for row in rows:
        if row["state"] != "delivered":
            yield f"delivery {row['delivery_id']} is {row['state']}: {row['last_error']}"


def _changes(evidence: Evidence) -> Iterator[str]:
    newest: dict[tuple[str, str, str], str] = {}
    for said in evidence.committed.values():
        newest[_aggregate(said)] = said.event_type
    have: dict[tuple[str, str, str], str] = {}
    for row in evidence.changes:
        key = (row["tenant"], row["aggregate_type"], row["aggregate_id"])
        if key in have:
            yield f"{row['aggregate_id']} stands there twice"
        have[key] = row["event_type"]
    for key, event_type in newest.items():
        if have.get(key) != event_type:
            yield f"{key[2]} stands there with {have.get(key)}, not with {event_type}"
    if len(have) > len(newest):
        yield f"{len(have)} aggregates, but {len(newest)} changed"


def _status(evidence: Evidence) -> Iterator[str]:
    yield from _exit_code(evidence, "status")


def _stopped(evidence: Evidence) -> Iterator[str]:
    yield from _exit_code(evidence, "daemon")


def _exit_code(evidence: Evidence, name: str) -> Iterator[str]:
    code = evidence.exit_codes[name]
    if code:
        yield f"it ended with {code}"


_CHECKS: Final[tuple[tuple[str, str, Callable[[Evidence], Iterator[str]]], ...]] = (
    ("arrived", "every committed event arrived at each matching subscription", _arrived),
    ("payload", "every payload arrived byte for byte as the ERP wrote it", _unchanged),
    ("signatures", "every signature was verified", _genuine),
    ("order", "the order within each aggregate was kept", _in_order),
    ("rollback", "nothing of the rolled back transaction was sent", _not_rolled_back),
    ("retry", "what was answered with 500 came again, with the same bytes", _retried),
    ("isolation", "the partner that was down held up nobody, and lost nothing", _isolated),
    ("results", "two pages of webhook_results tell of every delivery", _results),
    ("changes", "webhook_changes has each aggregate once, at its newest", _changes),
    ("status", "`webhookd status` says that all is well", _status),
    ("daemon", "the daemon stopped cleanly", _stopped),
)


def _rows(evidence: Evidence) -> list[Row]:
    return [row for page in evidence.pages for row in page]


def _aggregate(said: Happening) -> tuple[str, str, str]:
    return said.tenant, said.event_type.partition(".")[0], said.aggregate_id


def _same(evidence: Evidence, earlier: int, said: Happening) -> bool:
    return _aggregate(evidence.committed[earlier]) == _aggregate(said)


def _name(evidence: Evidence, number: int) -> str:
    said = evidence.committed[number]
    return f"{said.event_type} of {said.aggregate_id}"
