"""`webhookd events explain` and `retry-rejected`: where is it, and why; and what is to be done."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from webhookd.cli import telling
from webhookd.cli.context import App, pass_app
from webhookd.cli.output import complain, document, fields, json_option, lines, say, table
from webhookd.cli.types import HIGHEST, Whole
from webhookd.config.catalog import validation
from webhookd.core.explaining import Why
from webhookd.core.text import counted
from webhookd.errors import EXIT_OK, EXIT_WRONG, UsageError, WebhookdError
from webhookd.store import explain as explaining
from webhookd.store import keys
from webhookd.store.rejected import Retried, Retry
from webhookd.store.transaction import Session

OUTBOX_ID: Final = Whole(-HIGHEST - 1, HIGHEST)
"""A host may use any number, below 0 too."""
_KEY_HELP: Final = "The same by the host's own key, where that is no growing integer."
LISTED: Final = 20
"""Rows that are named one by one; of more, the JSON has them all."""

ATTEMPTS: Final = {
    "number": "ATTEMPT",
    "started_at": "STARTED AT",
    "duration_ms": "MS",
    "status": "STATUS",
    "error": "ERROR",
}
HEADER: Final = (
    *("event_id", "sequence", "outbox_id", "event_type", "aggregate_type", "aggregate_id"),
    *("tenant", "occurred_at", "ingested_at"),
)


@click.command()
@click.argument("event", metavar="EVENT_ID|SEQUENCE", required=False)
@click.option(
    "--outbox-id", type=OUTBOX_ID, metavar="ID", help="Ask for an outbox row, rejected or not."
)
@click.option("--outbox-key", metavar="KEY", help=_KEY_HELP)
@json_option
@pass_app
def explain(
    app: App, event: str | None, outbox_id: int | None, outbox_key: str | None, as_json: bool
) -> None:
    """Say which subscriptions an event was for, which not and why, and what became of it.

    Each delivery is shown with every attempt, and with what it waits for, if it waits. With
    --outbox-id or --outbox-key: what became of a row, and if it was rejected, why.
    """
    if [event, outbox_id, outbox_key].count(None) != 2:
        raise UsageError(
            "explain: name one event, by event id or sequence, or one --outbox-id or --outbox-key"
        )
    with app.session(write=False) as session:
        if event is not None:
            found = explaining.event(session, event, app.now())
        else:
            outbox = app.readable.outbox
            rules = explaining.Rules(outbox.default_tenant, outbox.max_payload, validation(outbox))
            if outbox_id is not None:
                found = explaining.outbox_row(session, outbox_id, rules, app.now())
            else:
                found = explaining.keyed_row(session, outbox_key or "", rules, app.now())
    if as_json:
        document(found)
    else:
        lines(*(_row(found) if event is None else _event(found)))


def _event(found: dict[str, Any]) -> Iterator[str]:
    yield from fields({name: found[name] for name in HEADER})
    subscriptions = found["subscriptions"]
    matched = [one for one in subscriptions if one["matched"]]
    lost = [one for one in subscriptions if one["why"] == Why.MAY_BE_PRUNED]
    others = [one for one in subscriptions if not (one["matched"] or one in lost)]
    yield ""
    yield f"matched {len(matched)} of {counted(len(subscriptions), 'subscription')}" + (
        f"; of {len(lost)} nothing is kept" if lost else ""
    )
    for one in matched:
        yield ""
        yield from _matched(one)
    yield from _listed("kept no longer ([retention]):", lost)
    yield from _listed("not for:", others)


def _listed(heading: str, subscriptions: list[dict[str, Any]]) -> Iterator[str]:
    if subscriptions:
        yield ""
        yield heading
        width = max(len(one["subscription_name"]) for one in subscriptions)
        for one in subscriptions:
            yield f"  {one['subscription_name']:<{width}}  {one['why_text']}"


def _matched(one: dict[str, Any]) -> Iterator[str]:
    delivery = one["delivery"]
    state = one["state"] if one["removed_at"] is None else f"removed at {one['removed_at']}"
    yield f"{one['subscription_name']} ({state}): {one['why_text']}"
    yield f"  delivery {delivery['delivery_id']} {telling.standing(delivery)}"
    yield from (f"  {line}" for line in telling.prospects(delivery))
    pruned = delivery["attempts"] - len(delivery["attempts_made"])
    if pruned > 0:
        yield f"  {counted(pruned, 'attempt')} of them kept no longer (retention.attempts)"
    if delivery["attempts_made"]:
        rows = ([attempt[key] for key in ATTEMPTS] for attempt in delivery["attempts_made"])
        yield from (f"  {line}" for line in table(tuple(ATTEMPTS.values()), rows))
    removed = one["removed_at"] is not None
    yield from (f"  {line}" for line in telling.remedy(delivery, removed=removed))


def _row(found: dict[str, Any]) -> Iterator[str]:
    number, standing = found["outbox_id"], found["standing"]
    row = f"outbox row {_named(number, found['outbox_key'])}"
    if number is None:
        row = f"the outbox row with the key {found['outbox_key']}"
    if standing == "event":
        yield from _event(found["event"])
    elif standing == "rejected":
        rejected = found["rejected"]
        said = f"{rejected['reason']}: {rejected['detail']}"
        yield f"{row} was rejected at {rejected['rejected_at']}: {said}"
        yield _rejected_now(found)
    elif standing == "waiting":
        yield f"{row} has not been taken in yet: {_waits(found)}"
        wrong = found["would_be_rejected"]
        if wrong is not None:
            yield f"as it is now it will be rejected: {wrong['reason']}: {wrong['detail']}"
    else:
        yield (
            f"{row} is done with, and there is no event of it: it was there before "
            "ingest began, its event (or its rejection) was kept no longer (see [retention]), or it"
            " was rejected and taken off the list (--forget-gone)"
        )


def _rejected_now(found: dict[str, Any]) -> str:
    if not found["in_outbox"]:
        number = _as_argument(found["outbox_id"])
        return (
            "the host has deleted it: to have its event, insert a mended row; "
            f"`webhookd events retry-rejected --forget-gone {number}` takes it off the list"
        )
    wrong = found["would_be_rejected"]
    retry = f"`webhookd events retry-rejected {_as_argument(found['outbox_id'])}`"
    if wrong is None:
        return f"as it is now it would become an event: {retry} takes it in"
    same = wrong["detail"] == found["rejected"]["detail"]
    why = "" if same else f": {wrong['reason']}: {wrong['detail']}"
    return f"as it is now it would be rejected again{why}; once it is mended {retry} takes it in"


def _waits(found: dict[str, Any]) -> str:
    if not found["daemon_running"]:
        return "the daemon does not run; start it with `webhookd run` or systemctl"
    if found["below_cursor"]:
        return "rows above it were taken in before; the next sweep finds it, within ten minutes"
    return "the daemon takes it in when its turn comes (`webhookd status` shows how far it is)"


def _as_argument(number: int) -> str:
    return f"-- {number}" if number < 0 else str(number)


@click.command("retry-rejected")
@click.argument("outbox_id", metavar="[OUTBOX_ID...]", type=OUTBOX_ID, nargs=-1)
@click.option("--outbox-key", metavar="KEY", multiple=True, help=_KEY_HELP)
@click.option("--all", "everything", is_flag=True, help="Every row that is rejected.")
@click.option(
    "--forget-gone", is_flag=True, help="Take those off the list that the host has deleted."
)
@json_option
@pass_app
def retry_rejected(
    app: App,
    outbox_id: tuple[int, ...],
    outbox_key: tuple[str, ...],
    everything: bool,
    forget_gone: bool,
    as_json: bool,
) -> int:
    """Ingest rejected rows again, once the host has mended them.

    Each is read anew and judged as ingest does. What becomes an event is one of now: it comes
    after all that was taken in meanwhile. What is still bad stays rejected, with its new reason;
    what the host has deleted too, unless --forget-gone.

    Exit code 1: not one of them could be taken in (or off the list), or one that was named is not
    among the rejected. With --all and none rejected it is 0.
    """
    if bool(outbox_id or outbox_key) == everything:
        raise UsageError(
            "retry-rejected: name outbox ids or keys, or --all for every rejected row; "
            "`webhookd events list --rejected` shows them"
        )
    done: list[Retried] = []
    names: dict[int, str] = {}
    try:
        with app.session(write=True) as session:
            with session.read() as connection:
                asked = [*outbox_id, *(keys.find(connection, one) for one in outbox_key)]
            retry = _retry(app, session, forget_gone=forget_gone)
            for one in retry.all() if everything else retry.these(asked):
                done.append(one)  # what is done is told, even if the next fails
                with session.read() as connection:
                    names |= keys.named(connection, _told_of(one))
    except WebhookdError:
        if done:
            _tell(_sums(done, names, everything), as_json=as_json)
        raise
    found = _sums(done, names, everything)
    _tell(found, as_json=as_json)
    if everything and not done:
        say("no row is rejected")
    for number in found["unknown"]:
        explained = f"`webhookd events explain --outbox-id {number}` says what became of it"
        complain(f"outbox row {number} is not among the rejected ones; {explained}")
    nothing_came_of_it = (found["rejected"] or found["gone"]) and not (
        found["events"] or found["forgotten"]
    )
    return EXIT_WRONG if found["unknown"] or nothing_came_of_it else EXIT_OK


def _retry(app: App, session: Session, *, forget_gone: bool) -> Retry:
    outbox = app.settings.outbox
    return Retry(
        session,
        default_tenant=outbox.default_tenant,
        max_payload=outbox.max_payload,
        ids_never_reused=outbox.ids == "never-reused",
        forget_gone=forget_gone,
        clock=app.now,
        validation=validation(outbox),
    )


def _told_of(one: Retried) -> Iterator[int]:
    """The rows that are named one by one."""
    yield from (row.outbox_id for row in one.rejected)
    yield from (row.outbox_id for row in one.doubted)
    yield from (*one.gone, *one.forgotten, *one.guessed_times)


def _sums(done: list[Retried], names: dict[int, str], everything: bool) -> dict[str, Any]:
    """All transactions as one document; ids and rows in ascending order.

    `names` are the keys of rows that the host knows by one.
    """

    def row(number: int, **said: str) -> dict[str, Any]:
        return {"outbox_id": number, "outbox_key": names.get(number), **said}

    return {
        "events": [number for one in done for number in one.events],
        "deliveries": sum(one.deliveries for one in done),
        "rejected": [
            row(bad.outbox_id, reason=bad.reason, detail=bad.detail)
            for one in done
            for bad in one.rejected
        ],
        "gone": [number for one in done for number in one.gone],
        "forgotten": [number for one in done for number in one.forgotten],
        # With --all nobody asked for that row: somebody else was faster.
        "unknown": [] if everything else [number for one in done for number in one.unknown],
        "guessed_times": [number for one in done for number in one.guessed_times],
        "doubted": [row(odd.outbox_id, detail=odd.detail) for one in done for odd in one.doubted],
        "outbox_keys": {str(number): names[number] for number in sorted(names)},
    }


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        document(found)
    else:
        lines(*_outcome(found))


def _outcome(found: dict[str, Any]) -> Iterator[str]:
    events, rejected, gone = found["events"], found["rejected"], found["gone"]
    doubted, names = found["doubted"], found["outbox_keys"]
    if events:
        verb = "is an event" if len(events) == 1 else "are events"
        owed = counted(found["deliveries"], "delivery", "deliveries")
        yield f"{counted(len(events), 'row')} {verb} now, with {owed} owed"
    if found["guessed_times"]:
        guessed = _ids(found["guessed_times"], names)
        yield f"no moment in occurred_at, so it is the time of now: {guessed}"
    if doubted:
        yield f"{counted(len(doubted), 'payload')} not as the catalogue says, sent all the same:"
        yield from _details(doubted, "`webhookd events show` says it of each")
    if rejected:
        reasons = Counter(row["reason"] for row in rejected)
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        verb = "is" if len(rejected) == 1 else "are"
        yield f"{counted(len(rejected), 'row')} {verb} rejected still: {said}"
        yield from _details(rejected, "`webhookd events list --rejected`")
    if gone:
        verb = "row is" if len(gone) == 1 else "rows are"
        stays = "stays" if len(gone) == 1 else "stay"
        yield (
            f"{len(gone)} {verb} no longer in the outbox and {stays} rejected: "
            f"{_ids(gone, names)}; --forget-gone takes such off the list"
        )
    if found["forgotten"]:
        forgotten = found["forgotten"]
        verb = "row is" if len(forgotten) == 1 else "rows are"
        yield (
            f"{len(forgotten)} {verb} no longer in the outbox and off the list now: "
            f"{_ids(forgotten, names)}"
        )


def _details(rows: list[dict[str, Any]], more: str) -> Iterator[str]:
    for row in rows[:LISTED]:
        reason = f"{row['reason']}: " if "reason" in row else ""
        yield f"  {_named(row['outbox_id'], row['outbox_key'])}  {reason}{row['detail']}"
    if len(rows) > LISTED:
        yield f"  and {len(rows) - LISTED} more: {more}"


def _named(number: int, key: str | None) -> str:
    """A row as people know it."""
    return str(number) if key is None else f"{number} (key {key})"


def _ids(numbers: list[int], names: dict[str, str]) -> str:
    more = len(numbers) - LISTED
    shown = ", ".join(_named(one, names.get(str(one))) for one in numbers[:LISTED])
    return f"{shown} and {more} more" if more > 0 else shown
