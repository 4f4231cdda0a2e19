"""Subscriptions and their secrets in the file."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.store.conftest import NOW, Box, new_subscription, secret
from webhookd.core.model import SubscriptionState
from webhookd.core.storage import StoredSubscription
from webhookd.core.times import to_text
from webhookd.errors import NotFound, Refused
from webhookd.store import subscriptions
from webhookd.store.transaction import Transaction

HOUR = 3_600_000


def control(box: Box) -> int:
    found = box.one("SELECT control FROM webhookd_file")
    assert isinstance(found, int)
    return found


def found(box: Box, name: str = "one") -> StoredSubscription:
    return subscriptions.find(box.host, name)


def values(box: Box) -> list[tuple[str, int | None]]:
    return [(one.value, one.expires_at) for one in found(box).secrets]


def test_what_is_added_is_there_whole(box: Box) -> None:
    new = new_subscription(
        "one",
        events=("supplier.*", "größe"),
        tenant="acme",
        headers=(("x-a", "1"), ("x-b", '"')),
        policy={"retry_delays": [1, 2], "ordering": "none"},
        managed_by="config",
    )
    secrets = [secret("env:KEY", is_reference=True), secret("whsec_b")]
    added = box.command(lambda t: subscriptions.add(t, new, secrets, NOW))
    assert added == found(box, "one") == found(box, new.id)
    assert box.store.subscriptions() == [added]
    assert (added.key, added.events, added.headers) == (1, new.events, new.headers)
    assert added.policy == {"retry_delays": [1, 2], "ordering": "none"}
    assert (added.state, added.state_reason) == (SubscriptionState.ENABLED, "")
    assert (added.managed_by, added.created_at) == ("config", to_text(NOW))
    assert [(one.value, one.is_reference) for one in added.secrets] == [
        ("whsec_b", False), ("env:KEY", True),
    ]  # fmt: skip
    assert control(box) == 1
    assert "hidden" not in repr(added)
    assert "whsec_b" not in repr(added)


def test_names_and_ids_are_unique_among_those_that_are_there(box: Box) -> None:
    one = box.subscribe("one")
    with pytest.raises(Refused, match="there is a subscription 'one' already; choose another"):
        box.subscribe("one", id="wh_another")
    with pytest.raises(Refused):
        box.subscribe(one.id, id="wh_another")
    assert control(box) == 1
    box.command(lambda t: subscriptions.remove(t, one.key, NOW))
    again = box.subscribe("one", id="wh_another")
    assert (again.key, found(box).key) == (2, 2)


def test_an_id_is_found_before_a_name(box: Box) -> None:
    first = box.subscribe("one", id="wh_x")
    box.host.execute(
        "INSERT INTO webhookd_subscriptions SELECT 9, 'wh_y', 'wh_x', url, events, tenant, profile,"
        " mode, method, headers, policy, state, state_reason, managed_by, created_at, NULL,"
        " NULL"
        " FROM webhookd_subscriptions"
    )
    assert found(box, "wh_x").key == first.key


def test_what_is_not_there_is_not_found(box: Box) -> None:
    with pytest.raises(NotFound, match="no subscription 'one'; `webhookd subscriptions list`"):
        found(box)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "two"),
        ("url", "https://two.example.com/"),
        ("events", ("a", "b")),
        ("method", "PUT"),
        ("headers", (("a", "b"),)),
        ("policy", {"timeout": 5}),
    ],
)
def test_what_can_be_edited(box: Box, name: str, value: Any) -> None:
    before = box.subscribe()
    box.command(lambda t: subscriptions.update(t, before.key, {name: value}))
    assert box.store.subscriptions() == [replace(before, **{name: value})]
    assert control(box) == 2
    assert name in subscriptions.EDITABLE


@pytest.mark.parametrize("name", ["profile", "mode", "tenant", "id", "key", "state", "removed_at"])
def test_what_cannot_be_edited(box: Box, name: str) -> None:
    before = box.subscribe()
    with pytest.raises(ValueError, match=f"{name} cannot be edited"):
        box.command(lambda t: subscriptions.update(t, before.key, {"method": "PUT", name: "x"}))
    assert box.store.subscriptions() == [before]


def test_a_name_can_be_kept_but_not_taken(box: Box) -> None:
    one = box.subscribe("one")
    box.subscribe("two")
    box.command(lambda t: subscriptions.update(t, one.key, {"name": "one"}))
    with pytest.raises(Refused):
        box.command(lambda t: subscriptions.update(t, one.key, {"name": "two"}))


def test_the_name_on_a_delivery_is_that_of_its_making(box: Box) -> None:
    one = box.subscribe("one")
    box.put()
    box.ingest()
    box.command(lambda t: subscriptions.update(t, one.key, {"name": "two"}))
    box.put()
    box.ingest()
    assert [row["subscription_name"] for row in box.results()] == ["one", "two"]


def test_a_changed_ordering_holds_for_what_is_taken_in_from_now_on(box: Box) -> None:
    one = box.subscribe()
    box.command(lambda t: subscriptions.update(t, one.key, {"policy": {"ordering": "none"}}))
    for _ in range(2):
        box.put(aggregate_id="S-1")
    box.ingest()
    assert box.due(one.key) == [2, 4]


@pytest.mark.parametrize("state", ["paused", "disabled"])
def test_E12_what_is_paused_or_disabled_goes_on_accruing(box: Box, state: str) -> None:
    one = box.subscribe()
    box.command(lambda t: subscriptions.set_state(t, one.key, SubscriptionState(state), "operator"))
    assert (found(box).state, found(box).state_reason) == (state, "operator")
    box.put()
    assert box.ingest().deliveries == 1
    assert control(box) == 2


def rotate(box: Box, value: str, overlap: int, now: int) -> None:
    box.command(lambda t: subscriptions.rotate(t, found(box).key, secret(value), overlap, now))


def test_E13_rotation_keeps_the_old_secret_for_the_overlap(box: Box) -> None:
    box.command(lambda t: subscriptions.add(t, new_subscription("one"), [secret("first")], NOW))
    rotate(box, "second", 24 * HOUR, NOW)
    assert values(box) == [("second", None), ("first", NOW + 24 * HOUR)]
    rotate(box, "third", HOUR, NOW + HOUR)
    assert values(box) == [
        ("third", None), ("second", NOW + 2 * HOUR), ("first", NOW + 2 * HOUR),
    ]  # fmt: skip
    rotate(box, "fourth", 48 * HOUR, NOW + HOUR)
    assert values(box) == [
        ("fourth", None), ("third", NOW + 49 * HOUR),
        ("second", NOW + 2 * HOUR), ("first", NOW + 2 * HOUR),
    ]  # fmt: skip
    rotate(box, "fifth", HOUR, NOW + 2 * HOUR)
    assert [value for value, _ in values(box)] == ["fifth", "fourth", "third"], "the rest is over"
    rotate(box, "sixth", 0, NOW + 2 * HOUR)
    assert values(box) == [("sixth", None)]


def test_E13_the_overlap_can_be_ended(box: Box) -> None:
    one = box.subscribe()
    rotate(box, "first", HOUR, NOW)
    assert not box.command(lambda t: subscriptions.activate(t, one.key))
    rotate(box, "second", HOUR, NOW)
    assert box.command(lambda t: subscriptions.activate(t, one.key))
    assert values(box) == [("second", None)]


def test_what_is_removed_leaves_its_row_and_no_secret(box: Box) -> None:
    one = box.subscribe("one")
    two = box.subscribe("two")
    for name in ("one", "two"):
        box.command(
            lambda t, name=name: subscriptions.rotate(t, found(box, name).key, secret(name), 0, NOW)
        )
    box.put()
    box.ingest()
    box.command(lambda t: subscriptions.remove(t, one.key, NOW))
    assert subscriptions.owed(box.host) == {one.key: 1, two.key: 1}
    assert box.store.subscriptions() == [found(box, "two")]
    assert box.rows("SELECT subscription, value FROM webhookd_secrets") == [(two.key, "two")]
    assert [row["subscription_id"] for row in box.results()] == [one.id, two.id]
    with pytest.raises(NotFound):
        found(box, one.id)


def test_each_change_is_told_to_the_lanes(box: Box) -> None:
    before = control(box)

    def all_of_it(t: Transaction) -> None:
        one = subscriptions.add(t, new_subscription("one"), [], NOW)
        subscriptions.update(t, one.key, {"method": "PUT"})
        subscriptions.set_state(t, one.key, SubscriptionState.PAUSED, "operator")
        subscriptions.rotate(t, one.key, secret("a"), 0, NOW)
        subscriptions.activate(t, one.key)
        subscriptions.remove(t, one.key, NOW)

    box.command(all_of_it)
    assert control(box) == before + 6
    assert box.store.outlook().control == before + 6


def test_the_file_holds_plain_json(box: Box) -> None:
    box.subscribe(headers=(("a", "b"),), policy={"jitter": 0.5})
    events, headers, policy = box.rows(
        "SELECT events, headers, policy FROM webhookd_subscriptions"
    )[0]
    assert (json.loads(events), json.loads(headers)) == (["*"], [["a", "b"]])
    assert json.loads(policy) == {"jitter": 0.5}
