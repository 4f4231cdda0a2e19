"""What is judged of the file as a whole: at every death of the daemon, and at the end."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from tests.simulation.facts import PENDING, iso
from tests.simulation.feeds import check_feeds
from tests.simulation.network import is_ours

if TYPE_CHECKING:
    from tests.simulation.model import Model

STATES = ("pending", "delivered", "failed", "cancelled", "superseded")


def check_file(model: "Model") -> None:
    """What holds at any moment between two transactions."""
    look = model.mirror
    damage = look.table("PRAGMA integrity_check")[0]["integrity_check"]
    if damage != "ok":
        model.wrong("file", f"integrity_check: {damage}")
    check_lines(model)
    _check_counters(model)
    for table in ("webhookd_events", "webhookd_deliveries"):
        highest = look.table(f"SELECT coalesce(max(sequence), 0) AS n FROM {table}")[0]["n"]
        if highest > look.sequence:
            model.wrong("G6", f"{table} has sequence {highest}, the counter is at {look.sequence}")


def check_lines(model: "Model") -> None:
    """`due_at` is set exactly at the heads of lines."""
    rows = model.mirror.table(
        "SELECT id, subscription, order_key, due_at FROM webhookd_deliveries"
        " WHERE state = 'pending' ORDER BY event"
    )
    pending = {one.id for one in model.deliveries.values() if one.pending}
    if pending != {row["id"] for row in rows}:
        model.wrong("G2", "what is pending in the file is not what was seen to be")
        return
    seen: dict[Any, Any] = {}
    for row in rows:
        known = model.deliveries[row["id"]]
        named = (row["subscription"], row["order_key"]) if row["order_key"] else ()
        changing = any(one.kind == "realign" for one in model.instructed.of(known.sub))
        line = named if changing or known.sub.removed_at is not None else known.line
        head = line == () or line not in seen
        if seen.setdefault(line, named) != named or (line == ()) != (named == ()):
            model.wrong("G4", f"{known} stands in line {named}, the one before it in {seen[line]}")
        if head != (row["due_at"] is not None):
            model.wrong("G4", f"{known} has due_at {row['due_at']}, head of its line: {head}")


def _check_counters(model: "Model") -> None:
    counted: dict[int, Counter[str]] = defaultdict(Counter)
    for one in model.deliveries.values():
        counted[one.sub.key][one.state] += 1
    for row in model.mirror.table("SELECT * FROM webhookd_counters"):
        key = row["subscription"]
        have = {state: row[state] for state in STATES}
        want = {state: counted[key][state] for state in STATES}
        if have != want or row["numbers"] != model.keeping.numbers(key):
            model.wrong("counters", f"of {key} say {row}, counted {want}")
    rejected = model.mirror.table(
        "SELECT rejected, (SELECT count(*) FROM webhookd_rejected) AS real FROM webhookd_file"
    )[0]
    if rejected["rejected"] != rejected["real"]:
        model.wrong("counters", f"rejected: {rejected}")


def check_end(model: "Model", *, swept: bool) -> None:
    """What holds once all is healed and time has gone by.

    Args:
        model: of a world in which nothing happens any more.
        swept: the sweep has been round since the last row.
    """
    for row in model.waiting.values():
        if swept or not row.low:
            model.wrong("G1", f"row {row.id} was never taken in")
    for given in model.instructed.open.values():
        model.wrong("G2", f"{given.kind} for {given.sub.name} is not done")
    for one in model.deliveries.values():
        sub = one.sub
        sent = sub.state.now == "enabled" and not (one.event.is_own and one.too_late)
        if one.pending and (sub.removed_at is not None or sent):
            model.wrong("G2", f"{one} is still pending ({sub.state.now})")
        if one.state == "delivered" and not any(request.succeeded for request in one.requests):
            model.wrong("G2", f"{one} is delivered, and nobody has accepted it")
    check_requests(model)
    _check_attempts(model)
    check_feeds(model)
    check_file(model)


def check_requests(model: "Model") -> None:
    """An answer that is not in the file needs an excuse: its daemon died before it was recorded."""
    for request in model.requests:
        owed = request.result is not None and not is_ours(request.result)
        lost = model.keeping.is_lost(request)
        if owed and not request.recorded and not request.life.excused and not lost:
            model.wrong("G3", f"{request} was answered ({request.result}), and not recorded")


def _check_attempts(model: "Model") -> None:
    """`webhookd_attempts` is what was recorded, neither more nor less."""
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in model.mirror.table("SELECT * FROM webhookd_attempts ORDER BY delivery, number"):
        rows[row["delivery"]].append(row)
    for one in model.deliveries.values():
        made = rows[one.id]
        recorded = {request.attempt: request for request in one.requests if request.recorded}
        if sorted(recorded) != list(range(1, one.attempts + 1)):
            model.wrong("G3", f"{one}: {one.attempts} attempts, and {recorded} were made")
        there = {row["number"] for row in made}
        lacking = [recorded[number] for number in recorded.keys() - there]
        lacking = [request for request in lacking if not model.keeping.may_lack(one, request)]
        if lacking or there - recorded.keys():
            model.wrong("G3", f"{one}: kept {made}, made {sorted(recorded)}")
            continue
        for row in made:
            request = recorded[row["number"]]
            kept = row["status"], row["started_at"], row["duration_ms"], not row["error_class"]
            status = getattr(request.result, "status", None)
            took = round((request.ended - request.began) * 1000)
            if kept != (status, iso(request.wall), took, request.succeeded):
                model.wrong("G3", f"{one}: kept {row}, but {request} brought {request.result}")


def still_owed(model: "Model") -> bool:
    """Whether something has yet to be taken in or sent before the world is at rest."""
    if any(not row.low for row in model.waiting.values()) or model.instructed.open:
        return True
    return any(
        one.state == PENDING and (one.sub.removed_at is not None or one.sub.state.now == "enabled")
        for one in model.deliveries.values()
    )
