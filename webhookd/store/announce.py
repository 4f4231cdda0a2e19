"""webhookd's own events (`webhookd. ...`): told to those who ask for them by name.

They stand among the events and never in the feed of changes, for they are about no aggregate of the
host's. Whom an event is about is not told of it: an endpoint that is down would only be owed more.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from webhookd.core import rows
from webhookd.core.model import Millis, SubscriptionKey
from webhookd.core.rows import OWN_TYPES
from webhookd.core.storage import Notice, Step
from webhookd.core.times import to_text
from webhookd.store.driver import Connection
from webhookd.store.fanout import Fanout
from webhookd.store.file import FileRow
from webhookd.store.recipients import Terms

SUBSCRIPTION: Final = f"{OWN_TYPES}subscription"
REJECTED: Final = f"{OWN_TYPES}events.rejected"


def health(
    connection: Connection,
    file: FileRow,
    terms: Terms,
    notices: Iterable[Notice],
    now: Millis,
) -> tuple[FileRow, frozenset[SubscriptionKey]]:
    """Make events of what changed in the health of subscriptions.

    Returns:
        The file's row with its counter moved, and the subscriptions that have something new due.
    """
    fanout = Fanout(connection, terms, file.sequence, to_text(now))
    for notice in notices:
        about = terms.recipients[notice.subscription]
        last_status, last_error = connection.execute(
            "SELECT last_status, last_error FROM webhookd_counters WHERE subscription = ?",
            (notice.subscription,),
        ).fetchone()
        content: dict[str, object] = {
            "subscription_id": about.id,
            "subscription_name": about.name,
            "reason": notice.rule,
            "last_status": last_status,
            "last_error": last_error or None,
        }
        draft = _draft(fanout, file, f"{SUBSCRIPTION}.{notice.change}", about.id, content, now)
        those = [key for key in _those_who_ask(terms, draft) if key != notice.subscription]
        fanout.own_event(draft, those, notice.subscription)
    return replace(file, sequence=fanout.close()), frozenset(fanout.ready)


def rejected(
    connection: Connection, file: FileRow, terms: Terms, now: Millis
) -> tuple[FileRow, Step]:
    """Make one event of all rows that were rejected since the last one."""
    if not file.unannounced:
        return file, Step(0)
    fanout = Fanout(connection, terms, file.sequence, to_text(now))
    content: dict[str, object] = {"rejected": file.unannounced, "rejected_now": file.rejected}
    draft = _draft(fanout, file, REJECTED, "", content, now)
    fanout.own_event(draft, _those_who_ask(terms, draft), None)
    after = replace(file, sequence=fanout.close(), unannounced=0)
    return after, Step(fanout.deliveries, frozenset(fanout.ready))


def _those_who_ask(terms: Terms, draft: rows.Draft) -> tuple[SubscriptionKey, ...]:
    return terms.matcher.match(draft.event_type, "", "")


def _draft(
    fanout: Fanout,
    file: FileRow,
    event_type: str,
    about: str,
    content: dict[str, object],
    now: Millis,
) -> rows.Draft:
    """An event of our own; its id is made of the sequence that it gets: never used twice."""
    payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    kind = SUBSCRIPTION if about else ""
    row = rows.RawRow(
        outbox_id=fanout.sequence + 1,
        event_type=event_type.encode(),
        aggregate_type=kind.encode(),
        aggregate_id=about.encode(),
        tenant=None,
        payload=payload,
        occurred_at=None,
        event_id=None,
        payload_size=len(payload),
    )
    return rows.Draft(
        outbox_id=0,
        event_id=rows.made_event_id(row, file.uuid, now),
        event_type=event_type,
        aggregate_type=kind,
        aggregate_id=about,
        tenant="",
        payload=payload,
        occurred_at=to_text(now),
        occurred_at_guessed=False,
    )
