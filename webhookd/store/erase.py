"""Erasure on request: what events said is taken out of them, and out of what may quote it.

An event stays, with its id, type and aggregate; its payload has no bytes any more, so that no
profile which sends payloads can send it: such a delivery ends `failed` (`unrenderable`). One that
sends IDs alone is as before. What has no payload has nothing to erase.

With the payload go the first bytes of receivers' answers, which may quote it, and the payload of
the row in webhookd's own outbox; a host's own table is the host's to clean. What rows held is
overwritten, and not only let go of; what SQLite left behind before, as it moved rows between pages,
only a VACUUM overwrites, and when is the operator's to say. An event that is still owed is left as
it is, unless that is asked for.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from webhookd.core.model import Millis
from webhookd.core.rows import OWN_TYPES
from webhookd.errors import NotFound
from webhookd.store import aggregates, replay
from webhookd.store.acceptance import BREATH
from webhookd.store.driver import Connection
from webhookd.store.host_table import quoted
from webhookd.store.outbox import change_row
from webhookd.store.retention import A_MOMENT
from webhookd.store.transaction import Session, Transaction

PAGE: Final = 200
"""Events looked at in one transaction."""

ALL: Final = (
    "SELECT sequence, outbox_id, event_type, length(payload) FROM webhookd_events"
    " WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3"
)
OF_AGGREGATE: Final = (
    "SELECT sequence, outbox_id, event_type, length(payload) FROM webhookd_events"
    " INDEXED BY webhookd_events_aggregate"
    " WHERE aggregate = ?4 AND aggregate <> 0 AND sequence > ?1 AND sequence <= ?2"
    " ORDER BY sequence LIMIT ?3"
)
IS_OWED: Final = "SELECT 1 FROM webhookd_deliveries WHERE event = ? AND state = 'pending' LIMIT 1"
BLANK: Final = "UPDATE webhookd_events SET payload = x'' WHERE sequence = ?"
BLANK_EXCERPTS: Final = (
    "UPDATE webhookd_attempts SET excerpt = x'' WHERE length(excerpt) > 0 AND delivery IN"
    " (SELECT id FROM webhookd_deliveries WHERE event = ?)"
)
OF_KIND: Final = "SELECT tenant, aggregate_type FROM webhookd_aggregates WHERE key = ?"
HIGHEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events."""

    aggregate_id: str | None = None
    aggregate_type: str | None = None
    """Of these aggregates, those of the type; None for any."""
    tenant: str | None = None
    before: Millis | None = None
    """Those taken in before then; None for all."""
    include_pending: bool = False
    """Also those that are still owed."""


@dataclass(slots=True)
class _Walk:
    """One stretch of events: all, or those of one aggregate."""

    sql: str
    last: int
    more: tuple[int, ...] = ()
    position: int = 0
    is_over: bool = False
    counts: Counter[str] = field(default_factory=Counter)


def erase(session: Session, wanted: Wanted, *, dry_run: bool = False) -> Iterator[Counter[str]]:
    """Erase in short transactions, with a breath in between; a daemon may run meanwhile.

    Yields after each what came of it: `erased`, `owed` (left as they are), `excerpts` and `outbox`
    rows. Of what was erased before, or had no payload, nothing is said. A dry run only reads.

    Raises:
        NotFound: there is no such aggregate: a slip in a request to erase must not look fulfilled.
    """
    connection = session.connection
    if not dry_run:
        # What is blanked is overwritten, and so are pages that are let go of.
        connection.execute("PRAGMA secure_delete = ON")
    for walk in _walks(session, wanted):
        while not walk.is_over:
            walk.counts = Counter()
            if dry_run:
                with session.read():
                    _page(walk, connection, wanted, lambda _, __, size: Counter(erased=size > 0))
            else:
                with session.write() as transaction:
                    _page(walk, connection, wanted, _Blank(transaction))
                time.sleep(BREATH)
            yield walk.counts


def _walks(session: Session, wanted: Wanted) -> Iterator[_Walk]:
    with session.read() as connection:
        last = HIGHEST
        if wanted.before is not None:
            last = replay.span(connection, 0, wanted.before).last
        if wanted.aggregate_id is None:
            yield _Walk(ALL, last)
            return
        keys = aggregates.find(connection, wanted.aggregate_id)
        kinds = {key: connection.execute(OF_KIND, (key,)).fetchone() for key in keys}
    meant = [
        key
        for key, (tenant, aggregate_type) in kinds.items()
        if wanted.tenant in (None, tenant) and wanted.aggregate_type in (None, aggregate_type)
    ]
    if not meant:
        kind = "" if wanted.aggregate_type is None else f", type {wanted.aggregate_type!r}"
        whose = "" if wanted.tenant is None else f", tenant {wanted.tenant!r}"
        raise NotFound(
            f"nothing was erased: no event has aggregate id {wanted.aggregate_id!r}{kind}{whose}; "
            "`webhookd events list` shows what there is"
        )
    for key in meant:
        yield _Walk(OF_AGGREGATE, last, (key,))


def _page(
    walk: _Walk,
    connection: Connection,
    wanted: Wanted,
    blank: Callable[[int, int, int], Counter[str]],
) -> None:
    """As many of the next events as one transaction may look at."""
    until = time.perf_counter() + A_MOMENT
    terms = (walk.position, walk.last, PAGE, *walk.more)
    found: list[tuple[Any, ...]] = connection.execute(walk.sql, terms).fetchall()
    for sequence, number, event_type, size in found:
        walk.position = sequence
        # Webhookd's own events tell of subscriptions, and quote nobody.
        if size is None or event_type.startswith(OWN_TYPES):
            continue
        spared = size and not wanted.include_pending
        if spared and connection.execute(IS_OWED, (sequence,)).fetchone():
            walk.counts["owed"] += 1
            continue
        walk.counts += blank(sequence, number, size)
        if time.perf_counter() >= until:
            return
    walk.is_over = len(found) < PAGE


class _Blank:
    """Blanks one event and what may quote it, in one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        file = transaction.file
        self._is_ours = bool(file.outbox_ours)
        self._row = (
            f"UPDATE {quoted(file.outbox_table)} SET payload = NULL"
            " WHERE id = ? AND payload IS NOT NULL"
        )

    def __call__(self, sequence: int, number: int, size: int) -> Counter[str]:
        connection = self._transaction.connection
        # Of one that was erased before too: a request was in flight, and its answer came later.
        excerpts = connection.execute(BLANK_EXCERPTS, (sequence,)).rowcount
        if not size:
            return Counter(excerpts=excerpts)
        connection.execute(BLANK, (sequence,))
        rows = change_row(self._transaction, self._row, number) if self._is_ours else 0
        return Counter(erased=1, excerpts=excerpts, outbox=rows)
