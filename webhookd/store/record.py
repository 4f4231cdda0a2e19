"""Where outcomes reach the file: deliveries, attempts and the health of subscriptions together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from webhookd.core.delivery import Happening, Move, Standing
from webhookd.core.model import DeliveryId, DeliveryState, Millis
from webhookd.core.retry import longest_wait
from webhookd.core.storage import BodyChanged, Record, Recorded
from webhookd.store import announce, successes
from webhookd.store.book import Book, Row
from webhookd.store.checkup import Checkup
from webhookd.store.driver import Connection
from webhookd.store.file import FileRow
from webhookd.store.recipients import Recipient, Terms
from webhookd.store.successes import Success

BODY_CHANGED: Final = "the body is another one than at the first attempt"
NAMES: Final = (
    "SELECT s.name, e.event_id FROM webhookd_deliveries AS d"
    " CROSS JOIN webhookd_subscriptions AS s ON s.key = d.subscription"
    " CROSS JOIN webhookd_events AS e ON e.sequence = d.event WHERE d.id = ?"
)

NOTHING_FOUND: Final[Mapping[DeliveryId, Success]] = MappingProxyType({})


def record(
    connection: Connection,
    file: FileRow,
    terms: Terms,
    records: Sequence[Record],
    now: Millis,
    found: Mapping[DeliveryId, Success] = NOTHING_FOUND,
) -> tuple[FileRow, Recorded]:
    """Write a batch of outcomes down, inside the caller's transaction.

    What they mean for their subscriptions (failing, recovered, disabled) is written, and told as
    webhookd's own events, in the same transaction: it is never true without being told.

    Args:
        connection: in a writing transaction.
        file: the file's row.
        terms: by which subscriptions are known.
        records: in the order in which the attempts ended.
        now: the time.
        found: what `successes.find` found of them.

    Raises:
        Stale: something of `found` is not so any more: to be undone.
    """
    book = Book(connection, file, now, terms.profiles)
    checkup = Checkup(connection, terms)
    standings: dict[DeliveryId, Standing] = {}
    changed: list[BodyChanged] = []
    plain, ended = dict(found), dict[int, Success]()
    for item in records:
        success = plain.get(item.delivery)
        if success is not None and success.record is item:
            del plain[item.delivery]  # were it here once more, it would be recorded already
            ended[book.next_sequence()] = success
            key = success.row.subscription
            standings[item.delivery] = success.after
            checkup.note(key, item.move, item.signs, book.sequence)
            book.note(item.delivery, key, success.attempt)
            continue
        successes.write(connection, book, ended)
        ended = {}
        row = book.read(item.delivery)
        if row is None:
            continue
        attempt = item.attempt
        if attempt is not None and row.standing.attempts >= attempt.number:
            # Recorded already: a commit went through although it seemed to fail. What it said
            # of who is ready was lost with it.
            standings[row.id] = row.standing
            book.ready.add(row.subscription)
            continue
        happened = item.move
        another_opening = item.since not in {"", row.since}
        if another_opening and happened.happening is not Happening.SUCCEEDED:
            # It was finished and opened again meanwhile: what was judged belongs to the past.
            if attempt is None:
                book.ready.add(row.subscription)
                continue
            happened = happened._replace(happening=Happening.NOTED, reason=None, retry_at=None)
        body_hash = attempt.body_hash if attempt is not None and attempt.body_hash else None
        recipient = terms.recipients.get(row.subscription)
        standings[row.id] = book.apply(
            row,
            _in_time(happened, recipient, now),
            body_hash=body_hash,
            max_block=recipient.policy.max_block if recipient is not None else 0,
        )
        if attempt is None:
            continue
        checkup.note(row.subscription, _as_told(row, happened), item.signs, book.sequence)
        if row.body_hash is not None and body_hash is not None and row.body_hash != body_hash:
            changed.append(BodyChanged(row.id, *connection.execute(NAMES, (row.id,)).fetchone()))
            attempt = attempt._replace(note=f"{attempt.note}; {BODY_CHANGED}".removeprefix("; "))
        book.note(row.id, row.subscription, attempt)
    successes.write(connection, book, ended)
    file = book.close()
    notices = checkup.close()
    if any(notice.rule is not None for notice in notices):
        file = replace(file, control=file.control + 1, roll=file.roll + 1)
    file, ready = announce.health(connection, file, terms, notices, now)
    return file, Recorded(standings, frozenset(book.ready | ready), tuple(changed), notices)


def _in_time(happened: Move, recipient: Recipient | None, now: Millis) -> Move:
    """Later than any delay of the policy is by a clock that was set back while it waited here."""
    if happened.retry_at is None or recipient is None:
        return happened
    latest = now + longest_wait(recipient.policy)
    return happened._replace(retry_at=min(happened.retry_at, latest))


def _as_told(row: Row, happened: Move) -> Move:
    """What the endpoint's health hears of: a delivery that was taken back meanwhile has not failed.

    Its attempt has, all the same.
    """
    if happened.happening is Happening.FAILED and row.standing.state is not DeliveryState.PENDING:
        return happened._replace(happening=Happening.RETRY, reason=None, retry_at=happened.at)
    return happened
