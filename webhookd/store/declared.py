"""The subscriptions that a configuration declares, brought into the file: all of them or none.

A state is never touched, but where a block has vanished or come back, and that is told by the
reason: `removed_from_config` alone for what was paused by it, `operator, removed_from_config` for
what had been paused already, and so stays paused when the block comes back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from webhookd.core.declaration import BY_CONFIG, Changed, Declared, Difference
from webhookd.core.model import Millis, SubscriptionState
from webhookd.core.storage import StoredSubscription
from webhookd.errors import ConfigError
from webhookd.store import subscriptions
from webhookd.store.driver import Connection
from webhookd.store.registration import register
from webhookd.store.subscriptions import NewSecret
from webhookd.store.transaction import Transaction

REMOVED: Final = "removed_from_config"
"""The reason of a subscription whose block is gone."""

RATE: Final = "rate_limit"
"""The key of the policy that a handshake may set."""

_ALSO: Final = f", {REMOVED}"

_State = tuple[SubscriptionState, str]


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be done with one subscription that is in the file."""

    stored: StoredSubscription
    secret: str = ""
    """The declared reference; only looked at where `fields` has `secret`."""
    changes: Mapping[str, Any] | None = None
    """As `subscriptions.update` takes them; None for none."""
    fields: tuple[str, ...] = ()
    """The keys that differ, the secret's too."""
    state: _State | None = None
    """The state and reason that it is to have; None for those it has."""


def difference(connection: Connection, declared: Sequence[Declared]) -> Difference:
    """What `apply` would do. Raises ConfigError as that does."""
    return _told(declared, *_plan(subscriptions.load(connection), declared))


def apply(transaction: Transaction, declared: Sequence[Declared], now: Millis) -> Difference:
    """Make the file's declared subscriptions what they are declared to be.

    Where there is no difference nothing is written.

    Raises:
        ConfigError: a name is taken by a subscription that was made by hand, or what cannot be
            changed is declared otherwise; then nothing was written.
    """
    new, steps = _plan(subscriptions.load(transaction.connection), declared)
    for one in new:
        register(
            transaction,
            one.definition,
            name=one.name,
            secrets=[NewSecret(one.secret, is_reference=True)] if one.secret else [],
            now=now,
            managed_by=BY_CONFIG,
        )
    for step in steps:
        _carry_out(transaction, step, now)
    return _told(declared, new, steps)


def _carry_out(transaction: Transaction, step: _Step, now: Millis) -> None:
    key = step.stored.key
    if step.changes is not None:
        subscriptions.update(transaction, key, step.changes, now)
    if "secret" in step.fields:
        # The file says which one signs: an old reference that leads nowhere any more would only
        # hold the subscription back.
        if step.secret:
            secret = NewSecret(step.secret, is_reference=True)
            subscriptions.rotate(transaction, key, secret, 0, now)
        else:
            subscriptions.forget_secrets(transaction, key)
    if step.state is None:
        return
    state, reason = step.state
    if state is step.stored.state:
        subscriptions.set_reason(transaction, key, reason)
    else:
        subscriptions.set_state(transaction, key, state, reason, now)


def _plan(
    stored: Iterable[StoredSubscription], declared: Sequence[Declared]
) -> tuple[list[Declared], list[_Step]]:
    """What is to be added, and what is to be done with what is there.

    Raises:
        ConfigError: as `apply`.
    """
    by_name = {one.name: one for one in stored}
    new: list[Declared] = []
    steps: list[_Step] = []
    for one in declared:
        before = by_name.pop(one.name, None)
        if before is None:
            new.append(one)
            continue
        _check_same(one, before)
        changes, fields = _changes(one, before)
        state = _returned(before)
        if fields or state:
            steps.append(_Step(before, one.secret, changes, fields, state))
    for before in by_name.values():
        if before.managed_by == BY_CONFIG:
            state = _vanished(before)
            if state is not None:
                steps.append(_Step(before, state=state))
    return new, steps


def _check_same(one: Declared, before: StoredSubscription) -> None:
    """Refuse what would change the bytes of what is owed, or misdirect it. Raises ConfigError."""
    if before.managed_by != BY_CONFIG:
        raise ConfigError(
            f"{one.place}.name: {one.name} ({before.id}) was added on the command line and is not "
            "the configuration's to change; choose another name, or remove that subscription first"
        )
    definition = one.definition
    for field, was, wanted in (
        ("profile", before.profile, definition.profile.name),
        ("mode", before.mode, definition.mode),
        ("tenant", before.tenant, definition.tenant),
    ):
        if was != wanted:
            raise ConfigError(
                f"{one.place}.{field}: {one.name} was made with {_quoted(was)} and keeps it; for "
                f"{_quoted(wanted)} make a new subscription under another name"
            )


def _quoted(value: object) -> str:
    return f'"{value}"' if value else "none"


def _changes(
    one: Declared, before: StoredSubscription
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """What `subscriptions.update` is to change, and the names of all that differs.

    What a handshake has given a subscription is no difference: the header with the origin, and a
    rate where the block says none.
    """
    definition = one.definition
    granted = tuple(pair for pair in before.headers if pair[0].lower() in definition.profile.echoes)
    wanted: dict[str, Any] = {
        "url": definition.url.text,
        "events": definition.events,
        "method": definition.method,
        "headers": (*definition.headers, *granted),
    }
    changes = {name: value for name, value in wanted.items() if getattr(before, name) != value}
    fields = [*changes]
    policy = dict(definition.policy)
    if granted and RATE in before.policy:
        policy.setdefault(RATE, before.policy[RATE])
    if before.policy != policy:
        changes["policy"] = policy
        keys = before.policy.keys() | policy.keys()
        fields += sorted(key for key in keys if before.policy.get(key) != policy.get(key))
    secrets = [(secret.value, secret.is_reference) for secret in before.secrets]
    if secrets != ([(one.secret, True)] if one.secret else []):
        fields.append("secret")
    return changes or None, tuple(fields)


def _vanished(before: StoredSubscription) -> _State | None:
    """The state of a subscription whose block is not there; None for the one that it has."""
    if before.state is SubscriptionState.ENABLED:
        return SubscriptionState.PAUSED, REMOVED
    if before.state_reason == REMOVED or before.state_reason.endswith(_ALSO):
        return None
    return before.state, before.state_reason + _ALSO


def _returned(before: StoredSubscription) -> _State | None:
    """The state of a subscription whose block is there; None for the one that it has."""
    if before.state is SubscriptionState.PAUSED and before.state_reason == REMOVED:
        return SubscriptionState.ENABLED, ""
    if before.state_reason.endswith(_ALSO):
        return before.state, before.state_reason.removesuffix(_ALSO)
    return None


def _told(declared: Sequence[Declared], new: list[Declared], steps: list[_Step]) -> Difference:
    paused, resumed, noted = [], [], []
    touched = {one.name for one in new}
    for step in steps:
        name, before = step.stored.name, step.stored.state
        touched.add(name)
        if step.state is None:
            continue
        after = step.state[0]
        if after is before:
            noted.append(name)
        elif after is SubscriptionState.ENABLED:
            resumed.append(name)
        else:
            paused.append(name)
    return Difference(
        added=tuple(one.name for one in new),
        changed=tuple(Changed(step.stored.name, step.fields) for step in steps if step.fields),
        paused=tuple(paused),
        resumed=tuple(resumed),
        noted=tuple(noted),
        unchanged=sum(one.name not in touched for one in declared),
    )
