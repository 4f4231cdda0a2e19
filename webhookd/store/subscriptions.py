"""Subscriptions and their secrets in the file: read whole, changed one fact a transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from webhookd.core.health import enabled
from webhookd.core.model import (
    Millis,
    Policy,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.storage import StoredSecret, StoredSubscription
from webhookd.core.times import from_text, to_text
from webhookd.errors import NotFound, Refused
from webhookd.store import health, instructions, realign, recent, recipients
from webhookd.store.driver import Connection
from webhookd.store.transaction import Transaction

_SELECT: Final = (
    "SELECT key, id, name, url, events, tenant, profile, mode, method, headers, policy, state,"
    " state_reason, managed_by, created_at FROM webhookd_subscriptions WHERE removed_at IS NULL"
)

INSTRUCTED: Final = "SELECT subscription FROM webhookd_instructions WHERE done_at IS NULL"
"""To these nothing may be sent until their instructions are carried out."""

LATEST: Final = "SELECT subscription, key, kind FROM webhookd_instructions ORDER BY key"
"""Those that are done are kept for a while, and then no more: the table stays short."""

EDITABLE: Final = frozenset({"name", "url", "events", "method", "headers", "policy"})
"""What `update` may change: the rest would change the bytes of what is owed, or misdirect it."""


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription that is about to be written; every value has been checked."""

    id: SubscriptionId
    name: str
    url: str = field(repr=False)
    events: tuple[str, ...]
    tenant: str
    profile: str
    mode: str
    method: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    policy: Mapping[str, object]
    managed_by: str


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret, or a reference to one, that is about to be written."""

    value: str = field(repr=False)
    is_reference: bool


def load(connection: Connection) -> list[StoredSubscription]:
    """All that are not removed, by key, with their secrets newest first."""
    secrets: dict[int, list[StoredSecret]] = {}
    for row in connection.execute(
        "SELECT subscription, value, is_reference, created_at, expires_at FROM webhookd_secrets"
        " ORDER BY subscription, key DESC"
    ).fetchall():
        secrets.setdefault(row[0], []).append(_secret(row[1:]))
    busy = {key for (key,) in connection.execute(INSTRUCTED).fetchall()}
    rows = connection.execute(f"{_SELECT} ORDER BY key").fetchall()
    latest = {row[0]: (row[1], row[2]) for row in connection.execute(LATEST).fetchall()}
    return [
        replace(
            _stored(row, secrets.get(row[0], []), instructed=row[0] in busy),
            latest=latest.get(row[0]),
        )
        for row in rows
    ]


def find(connection: Connection, id_or_name: str) -> StoredSubscription:
    """The subscription with that id or name. Raises NotFound."""
    # One after the other, because with an OR between them SQLite looks at every row.
    row = connection.execute(f"{_SELECT} AND id = ?", (id_or_name,)).fetchone()
    if row is None:
        row = connection.execute(f"{_SELECT} AND name = ?", (id_or_name,)).fetchone()
    if row is None:
        raise NotFound(
            f"no subscription {id_or_name!r}; `webhookd subscriptions list` shows them all"
        )
    secrets = connection.execute(
        "SELECT value, is_reference, created_at, expires_at FROM webhookd_secrets"
        " WHERE subscription = ? ORDER BY key DESC",
        (row[0],),
    ).fetchall()
    busy = connection.execute(f"{INSTRUCTED} AND subscription = ? LIMIT 1", (row[0],)).fetchone()
    return _stored(row, [_secret(secret) for secret in secrets], instructed=busy is not None)


def owed(connection: Connection) -> dict[SubscriptionKey, int]:
    """How many deliveries each subscription is owed, removed ones included."""
    rows = connection.execute("SELECT subscription, pending FROM webhookd_counters").fetchall()
    return {SubscriptionKey(key): pending for key, pending in rows}


def add(
    transaction: Transaction, new: NewSubscription, secrets: list[NewSecret], now: Millis
) -> StoredSubscription:
    """Write a new subscription; every row that is committed from now on is matched with it.

    Raises:
        Refused: the name is taken.
    """
    _check_name(transaction.connection, new.name, None)
    key = transaction.connection.execute(
        "INSERT INTO webhookd_subscriptions (id, name, url, events, tenant, profile, mode, method,"
        " headers, policy, state, state_reason, managed_by, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'enabled', '', ?, ?) RETURNING key",
        (
            new.id,
            new.name,
            new.url,
            json.dumps(new.events),
            new.tenant,
            new.profile,
            new.mode,
            new.method,
            json.dumps(new.headers),
            json.dumps(dict(new.policy)),
            new.managed_by,
            to_text(now),
        ),
    ).fetchone()[0]
    transaction.connection.execute(
        "INSERT INTO webhookd_counters (subscription, numbers, pending, delivered, failed,"
        " cancelled, superseded, last_error) VALUES (?, 0, 0, 0, 0, 0, 0, '')",
        (key,),
    )
    for secret in secrets:
        _insert_secret(transaction.connection, key, secret, now)
    transaction.bump(roll=True)
    return find(transaction.connection, new.id)


def update(
    transaction: Transaction,
    key: SubscriptionKey,
    changes: Mapping[str, Any],
    now: Millis | None = None,
) -> int | None:
    """Change fields of `EDITABLE`; `events` and `headers` as sequences, `policy` whole.

    Where that changes the lines of what is owed, it gives the instruction to put them in order:
    nothing is sent until that is done. `now` is only noted there; None where nobody knows.

    Returns:
        The key of that instruction; None where none is needed.

    Raises:
        Refused: a new name that is taken.
        ValueError: a field that cannot be edited.
    """
    before = _policy(transaction, key)
    for name, value in changes.items():
        if name not in EDITABLE:
            raise ValueError(f"{name} cannot be edited")
        if name == "name":
            _check_name(transaction.connection, value, key)
        stored = value if isinstance(value, str) else json.dumps(value)
        transaction.connection.execute(
            f"UPDATE webhookd_subscriptions SET {name} = ? WHERE key = ?", (stored, key)
        )
    transaction.bump(roll=True)
    after = _policy(transaction, key)
    return realign.give_if_needed(transaction, key, before, after, now)


def set_state(
    transaction: Transaction,
    key: SubscriptionKey,
    state: SubscriptionState,
    reason: str,
    now: Millis | None = None,
) -> None:
    """Enable, pause or disable; what is owed stays owed.

    To enable it, also where it is enabled already, lets the rules that disable count anew and ends
    a holding back. `now` is written down where it is disabled; None where nobody knows.
    """
    since = to_text(now) if state is SubscriptionState.DISABLED and now is not None else None
    transaction.connection.execute(
        "UPDATE webhookd_subscriptions SET state = ?, state_reason = ?, disabled_at = ?"
        " WHERE key = ?",
        (state, reason, since, key),
    )
    if state is SubscriptionState.ENABLED:
        found = health.read(transaction.connection, key)
        health.write(transaction.connection, key, enabled(found))
    transaction.bump(roll=True)


def set_reason(transaction: Transaction, key: SubscriptionKey, reason: str) -> None:
    """Say otherwise why it is in the state that it is in; nothing else changes."""
    transaction.connection.execute(
        "UPDATE webhookd_subscriptions SET state_reason = ? WHERE key = ?", (reason, key)
    )
    transaction.bump(roll=True)


def rotate(
    transaction: Transaction,
    key: SubscriptionKey,
    secret: NewSecret,
    overlap: Millis,
    now: Millis,
) -> None:
    """Put a new secret first; the others go on signing for `overlap`, no longer."""
    connection = transaction.connection
    connection.execute(
        "DELETE FROM webhookd_secrets WHERE subscription = ? AND expires_at <= ?",
        (key, to_text(now)),
    )
    connection.execute(
        "UPDATE webhookd_secrets SET expires_at = ? WHERE subscription = ?"
        " AND (expires_at IS NULL OR expires_at > ?)",
        (to_text(now + overlap), key, to_text(now + overlap)),
    )
    if not overlap:
        connection.execute("DELETE FROM webhookd_secrets WHERE subscription = ?", (key,))
    _insert_secret(connection, key, secret, now)
    transaction.bump(roll=True)


def activate(transaction: Transaction, key: SubscriptionKey) -> bool:
    """End the overlap now: only the newest secret signs. Returns whether there was another one."""
    gone = transaction.connection.execute(
        "DELETE FROM webhookd_secrets WHERE subscription = ?1 AND key <>"
        " (SELECT max(key) FROM webhookd_secrets WHERE subscription = ?1)",
        (key,),
    ).rowcount
    transaction.bump(roll=True)
    return gone > 0


def forget_secrets(transaction: Transaction, key: SubscriptionKey) -> None:
    """Take all secrets away: nothing is signed any more, where the profile does without."""
    transaction.connection.execute("DELETE FROM webhookd_secrets WHERE subscription = ?", (key,))
    transaction.bump(roll=True)


def remove(transaction: Transaction, key: SubscriptionKey, now: Millis) -> None:
    """Take it away: nothing is matched with it any more, and its lane stops.

    Its row stays, because deliveries refer to it; its secrets are deleted. What it was owed is
    cancelled afterwards, in short batches: see `webhookd.store.deliveries.cancel_removed`.
    """
    connection = transaction.connection
    connection.execute(
        "UPDATE webhookd_subscriptions SET removed_at = ? WHERE key = ?", (to_text(now), key)
    )
    connection.execute("DELETE FROM webhookd_secrets WHERE subscription = ?", (key,))
    recent.forget(connection, key)
    instructions.drop(transaction, key)


def _policy(transaction: Transaction, key: SubscriptionKey) -> Policy:
    """The policy in force."""
    profile, own = transaction.connection.execute(
        "SELECT profile, policy FROM webhookd_subscriptions WHERE key = ?", (key,)
    ).fetchone()
    return recipients.effective(transaction.profiles, profile, json.loads(own))


def _check_name(connection: Connection, name: str, own: SubscriptionKey | None) -> None:
    found = connection.execute(
        "SELECT key FROM webhookd_subscriptions WHERE removed_at IS NULL AND name = ?1 UNION ALL"
        " SELECT key FROM webhookd_subscriptions WHERE removed_at IS NULL AND id = ?1",
        (name,),
    ).fetchall()
    if any(key != own for (key,) in found):
        raise Refused(f"there is a subscription {name!r} already; choose another --name")


def _insert_secret(connection: Connection, key: int, secret: NewSecret, now: Millis) -> None:
    connection.execute(
        "INSERT INTO webhookd_secrets (subscription, value, is_reference, created_at)"
        " VALUES (?, ?, ?, ?)",
        (key, secret.value, int(secret.is_reference), to_text(now)),
    )


def _secret(row: tuple[Any, ...]) -> StoredSecret:
    value, is_reference, created_at, expires_at = row
    return StoredSecret(
        value, bool(is_reference), from_text(created_at), expires_at and from_text(expires_at)
    )


def _stored(
    row: tuple[Any, ...], secrets: list[StoredSecret], *, instructed: bool
) -> StoredSubscription:
    return StoredSubscription(
        key=SubscriptionKey(row[0]),
        id=SubscriptionId(row[1]),
        name=row[2],
        url=row[3],
        events=tuple(json.loads(row[4])),
        tenant=row[5],
        profile=row[6],
        mode=row[7],
        method=row[8],
        headers=tuple((name, value) for name, value in json.loads(row[9])),
        policy=json.loads(row[10]),
        state=SubscriptionState(row[11]),
        state_reason=row[12],
        managed_by=row[13],
        created_at=row[14],
        secrets=tuple(secrets),
        instructed=instructed,
    )
