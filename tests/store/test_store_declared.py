"""Declared subscriptions brought into the file: what is written, what never is, what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from tests.store.conftest import LIMIT, NOW, Box, new_subscription, secret
from webhookd.config.catalog import validation
from webhookd.config.settings import Outbox
from webhookd.core.declaration import Changed, Declared, Difference
from webhookd.core.egress import EgressPolicy
from webhookd.core.model import SubscriptionState
from webhookd.core.profiles import BUILT_IN, own
from webhookd.core.registration import Wanted, judge
from webhookd.core.storage import StoredSubscription
from webhookd.errors import ConfigError
from webhookd.store import declared, subscriptions

ENABLED, PAUSED = SubscriptionState.ENABLED, SubscriptionState.PAUSED
DISABLED = SubscriptionState.DISABLED


def block(name: str = "one", *, reference: str = "env:ONE", **wanted: Any) -> Declared:
    given: dict[str, Any] = {"url": f"https://{name}.example.com/in?key=HUSH", **wanted}
    definition = judge(Wanted(**given), EgressPolicy(), BUILT_IN)
    return Declared(f"config.toml: subscriptions[{name}]", name, definition, reference)


def apply(box: Box, *blocks: Declared) -> Difference:
    """Apply them, after making sure that the look beforehand says the same."""
    expected = declared.difference(box.host, blocks)
    found = box.command(lambda t: declared.apply(t, blocks, NOW))
    assert found == expected
    assert isinstance(found, Difference)
    assert "HUSH" not in str(found)
    assert "env:" not in str(found)
    return found


def stored(box: Box, name: str = "one") -> StoredSubscription:
    return subscriptions.find(box.host, name)


def standing(box: Box, name: str = "one") -> tuple[SubscriptionState, str]:
    one = stored(box, name)
    return one.state, one.state_reason


def control(box: Box) -> Any:
    return box.one("SELECT control FROM webhookd_file")


def set_state(box: Box, state: SubscriptionState, reason: str) -> None:
    key = stored(box).key
    box.command(lambda t: subscriptions.set_state(t, key, state, reason, NOW - 5))


def test_what_is_declared_is_added_whole(box: Box) -> None:
    one = block(
        events=("a.*", "b"),
        tenant="north",
        profile="standard",
        headers=(("X-Key", "HUSH"),),
        policy={"timeout": "5s", "ordering": "none"},
    )
    assert apply(box, one, block("two")) == Difference(added=("one", "two"))
    found = stored(box)
    assert found.managed_by == "config"
    assert (found.url, found.events, found.tenant) == (
        "https://one.example.com/in?key=HUSH", ("a.*", "b"), "north",
    )  # fmt: skip
    assert found.headers == (("X-Key", "HUSH"),)
    assert found.policy == {"timeout": 5_000, "ordering": "none"}
    assert [(one.value, one.is_reference) for one in found.secrets] == [("env:ONE", True)]
    assert (found.state, found.state_reason) == (ENABLED, "")
    box.put()
    assert box.ingest().deliveries == 1, "of the one without a tenant"


def test_without_a_difference_nothing_is_written(box: Box) -> None:
    blocks = (
        block(events=("a", "b"), headers=(("X-A", "1"),), policy={"retry_delays": ["1s", "2s"]}),
        block("two", policy={"jitter": 0.5}),
    )
    apply(box, *blocks)
    before, bytes_before = control(box), box.rows("SELECT * FROM webhookd_subscriptions")
    assert apply(box, *blocks) == Difference(unchanged=2)
    assert control(box) == before
    assert box.rows("SELECT * FROM webhookd_subscriptions") == bytes_before


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        ({"url": "https://new.example.com/"}, ("url",)),
        ({"events": ("x",)}, ("events",)),
        ({"headers": ()}, ("headers",)),
        ({"policy": {"timeout": "6s", "concurrency": 2}}, ("concurrency", "timeout")),
        ({"policy": {}}, ("timeout",)),
        ({"reference": "file:/x"}, ("secret",)),
        ({"url": "https://x.example/", "reference": "env:B"}, ("url", "secret")),
    ],
)
def test_a_changed_definition_is_changed_and_nothing_else(
    box: Box, wanted: dict[str, Any], fields: tuple[str, ...]
) -> None:
    first: dict[str, Any] = {"headers": (("X-A", "HUSH"),), "policy": {"timeout": "5s"}}
    apply(box, block(**first), block("two"))
    set_state(box, DISABLED, "failures")
    before, other = stored(box), stored(box, "two")
    after = block(**{**first, **wanted})
    assert apply(box, after, block("two")) == Difference(
        changed=(Changed("one", fields),), unchanged=1
    )
    found = stored(box)
    assert found.url == after.definition.url.text
    assert (found.events, found.headers) == (after.definition.events, after.definition.headers)
    assert found.policy == after.definition.policy
    assert [(one.value, one.is_reference) for one in found.secrets] == [(after.secret, True)]
    assert (found.id, found.key, found.created_at) == (before.id, before.key, before.created_at)
    assert (found.state, found.state_reason) == (DISABLED, "failures")
    assert stored(box, "two") == other


def test_a_profile_without_secrets_has_its_secret_taken_away(box: Box) -> None:
    one = block()
    plain = replace(one.definition.profile, requires_secret=False)
    one = replace(one, definition=replace(one.definition, profile=plain))
    apply(box, one)
    before = control(box)
    assert apply(box, replace(one, secret="")) == Difference(changed=(Changed("one", ("secret",)),))
    assert stored(box).secrets == ()
    assert control(box) > before
    assert apply(box, replace(one, secret="")).is_empty


def test_a_block_that_vanished_pauses_and_what_is_owed_accrues(box: Box) -> None:
    apply(box, block(), block("two"))
    assert apply(box, block("two")) == Difference(paused=("one",), unchanged=1)
    assert standing(box) == (PAUSED, "removed_from_config")
    assert apply(box, block("two")) == Difference(unchanged=1)
    box.put()
    assert box.ingest().deliveries == 2
    box.command(lambda t: subscriptions.remove(t, stored(box).key, NOW))
    assert apply(box, block("two")) == Difference(unchanged=1)
    assert apply(box, block(), block("two")) == Difference(added=("one",), unchanged=1)


def test_a_block_that_comes_back_resumes_with_its_new_definition(box: Box) -> None:
    apply(box, block())
    apply(box)
    assert apply(box, block(events=("x",))) == Difference(
        changed=(Changed("one", ("events",)),), resumed=("one",)
    )
    assert standing(box) == (ENABLED, "")
    assert apply(box, block(events=("x",))) == Difference(unchanged=1)


@pytest.mark.parametrize(("state", "reason"), [(PAUSED, "operator"), (DISABLED, "gone")])
def test_what_was_stopped_already_stays_stopped_and_says_both(
    box: Box, state: SubscriptionState, reason: str
) -> None:
    apply(box, block())
    set_state(box, state, reason)
    since = box.one("SELECT disabled_at FROM webhookd_subscriptions")
    assert bool(since) is (state is DISABLED)
    assert apply(box) == Difference(noted=("one",))
    assert standing(box) == (state, f"{reason}, removed_from_config")
    assert apply(box) == Difference()
    assert apply(box, block()) == Difference(noted=("one",))
    assert standing(box) == (state, reason)
    assert apply(box, block()) == Difference(unchanged=1)
    assert box.one("SELECT disabled_at FROM webhookd_subscriptions") == since


def test_what_an_operator_stopped_or_started_a_reload_leaves_alone(box: Box) -> None:
    apply(box, block())
    set_state(box, PAUSED, "operator")
    assert apply(box, block()) == Difference(unchanged=1)
    assert standing(box) == (PAUSED, "operator")
    apply(box)
    set_state(box, ENABLED, "")
    assert apply(box) == Difference(paused=("one",))


def test_what_the_command_line_made_is_not_touched(box: Box) -> None:
    made = box.subscribe("by-hand")
    assert apply(box, block()) == Difference(added=("one",))
    assert apply(box) == Difference(paused=("one",))
    assert stored(box, "by-hand") == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"profile": "ntropy"},
            '.profile: one was made with "standard" and keeps it; for "ntropy" make a new',
        ),
        ({"tenant": "x"}, '.tenant: one was made with none and keeps it; for "x" make a new'),
    ],
)
def test_what_would_misdirect_what_is_owed_is_refused(
    box: Box, change: dict[str, Any], said: str
) -> None:
    apply(box, block())
    before, at = stored(box), control(box)
    blocks = (block("two"), block(**change))
    for work in (
        lambda: declared.difference(box.host, blocks),
        lambda: box.command(lambda t: declared.apply(t, blocks, NOW)),
    ):
        with pytest.raises(ConfigError) as caught:
            work()
        assert str(caught.value) == (
            f"config.toml: subscriptions[one]{said} subscription under another name"
        )
    assert box.store.subscriptions() == [before]
    assert control(box) == at


def test_another_ordering_holds_what_is_owed_until_it_is_in_its_new_lines(box: Box) -> None:
    apply(box, block(), block("two"))
    box.put(aggregate_id="x")
    box.put(aggregate_id="y")
    box.ingest()
    changed = Difference(changed=(Changed("one", ("ordering",)),), unchanged=1)
    # Written out it is another policy, and the same lines.
    assert apply(box, block(policy={"ordering": "aggregate"}), block("two")) == changed
    assert not stored(box).instructed
    assert apply(box, block(policy={"ordering": "subscription"}), block("two")) == changed
    assert stored(box).instructed
    assert not stored(box, "two").instructed
    more = True
    while more:
        box.store.begin()
        more = box.store.carry_out(NOW).more
        box.store.commit()
    assert not stored(box).instructed
    assert (len(box.due(stored(box).key)), len(box.due(stored(box, "two").key))) == (1, 2)


def test_a_mode_is_kept_too(box: Box) -> None:
    one = block()
    apply(box, one)
    other = replace(one, definition=replace(one.definition, mode="sync"))
    with pytest.raises(ConfigError, match=r"\.mode: one was made with none and keeps it"):
        apply(box, other)


def test_a_name_that_the_command_line_gave_is_refused(box: Box) -> None:
    made = box.subscribe("one")
    with pytest.raises(ConfigError) as caught:
        apply(box, block("two"), block())
    assert str(caught.value) == (
        f"config.toml: subscriptions[one].name: one ({made.id}) was added on the command line and "
        "is not the configuration's to change; choose another name, or remove that subscription "
        "first"
    )
    assert box.store.subscriptions() == [made]


def test_a_secret_that_was_rotated_is_replaced_alone(box: Box) -> None:
    apply(box, block())
    key = stored(box).key
    box.command(
        lambda t: subscriptions.rotate(t, key, secret("env:B", is_reference=True), 60_000, NOW)
    )
    assert apply(box, block(reference="env:C")).changed == (Changed("one", ("secret",)),)
    assert [one.value for one in stored(box).secrets] == ["env:C"]


def test_the_store_of_the_daemon_does_the_same(box: Box) -> None:
    box.subscribe("by-hand", id=new_subscription("by-hand").id)
    blocks = (block(),)
    assert box.store.difference(blocks) == Difference(added=("one",))
    box.store.begin()
    assert box.store.apply_declared(blocks, NOW) == Difference(added=("one",))
    box.store.rollback()
    assert box.store.difference(blocks) == Difference(added=("one",))
    box.store.begin()
    box.store.apply_declared(blocks, NOW)
    box.store.commit()
    assert box.store.difference(blocks) == Difference(unchanged=1)


def test_terms_count_from_the_next_batch_on(box: Box) -> None:
    box.subscribe("north", tenant="north")
    box.put(payload='"12345678"')
    assert box.ingest().deliveries == 0
    box.store.set_terms(default_tenant="north", max_payload=10, validation=None, profiles=BUILT_IN)
    box.put(payload='"12345678"')
    box.put(payload='"123456789"')
    done = box.ingest()
    assert (done.events, done.deliveries) == (1, 1)
    assert [row.reason for row in done.rejected] == ["payload_too_large"]


def test_what_a_handshake_gave_is_no_difference(box: Box) -> None:
    def wanted(**more: Any) -> Declared:
        return block(profile="cloudevents", headers=(("X-Key", "a"),), **more)

    apply(box, wanted(policy={"rate_limit": "5/s"}))
    key = stored(box).key
    # A rate alone may be any: without the origin there was no handshake.
    assert apply(box, wanted()).changed == (Changed("one", ("rate_limit",)),)
    given = {
        "headers": (("X-Key", "a"), ("WebHook-Request-Origin", "erp.example")),
        "policy": {"rate_limit": 1.5},
    }
    box.command(lambda t: subscriptions.update(t, key, given))
    assert apply(box, wanted()) == Difference(unchanged=1)
    assert apply(box, wanted(policy={"concurrency": 2})).changed == (
        Changed("one", ("concurrency",)),
    )
    assert stored(box).policy == {"rate_limit": 1.5, "concurrency": 2}
    other = block(profile="cloudevents", headers=(("X-Key", "b"),))
    assert apply(box, other).changed == (Changed("one", ("headers", "concurrency")),)
    assert stored(box).headers == (("X-Key", "b"), ("WebHook-Request-Origin", "erp.example"))
    assert apply(box, wanted(policy={"rate_limit": "2/s"})).changed == (
        Changed("one", ("headers", "rate_limit")),
    )
    assert stored(box).policy == {"rate_limit": 2.0}


def test_other_profiles_count_from_the_next_batch_on(box: Box) -> None:
    box.subscribe("one", profile="mine")
    box.put(aggregate_id="a")
    box.put(aggregate_id="b")
    box.ingest()
    assert len(box.due(1)) == 2, "a profile that is not known has the usual lines"
    written = {"base": "standard", "ordering": "subscription"}
    mine = BUILT_IN.with_these({"mine": own.make("mine", written, BUILT_IN)}, "", {"mine": {}})
    box.store.set_terms(default_tenant="", max_payload=LIMIT, validation=None, profiles=mine)
    box.put(aggregate_id="c")
    box.put(aggregate_id="d")
    box.ingest()
    assert len(box.due(1)) == 3, "one of the whole subscription's line, whose others wait"


def test_what_payloads_are_held_against_counts_from_the_next_batch_on(box: Box) -> None:
    box.put("sync.completed", payload="{}")
    assert box.ingest().rejected == ()
    checked = validation(Outbox(validate="reject"))
    box.store.set_terms(default_tenant="", max_payload=LIMIT, validation=checked, profiles=BUILT_IN)
    box.put("sync.completed", payload="{}")
    (one,) = box.ingest().rejected
    assert one.reason == "payload_mismatch"
