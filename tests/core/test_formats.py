"""What each format sends, beyond the golden requests: what may be missing, and what never leaks."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events import event
from webhookd.core.model import (
    Event,
    Secret,
    Subscription,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
    Url,
)
from webhookd.core.profiles import BUILT_IN, Profile, Unrenderable, cloudevents
from webhookd.core.request import Renderer, Request
from webhookd.core.rows import Draft, RawRow, judge

NOW = 1_795_335_330_400
KEY = "a-hash-key-of-the-customer-0001"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
EVENT = event(
    "SALESORDER.ACCEPTED",
    "ORD-77",
    payload=b'{"a": 1.10}',
    occurred_at="2024-01-15T10:30:00.250Z",
)


def send(profile: str | Profile, event: Event = EVENT, **changed: Any) -> Request:
    return renderer_of(profile, **changed).render(event, number=7, attempt=1, now=NOW)


def renderer_of(profile: str | Profile, **changed: Any) -> Renderer:
    made = BUILT_IN.get(profile) if isinstance(profile, str) else profile
    subscription = Subscription(
        key=SubscriptionKey(1),
        id=SubscriptionId("wh_AAAAAAAAAAAAAAAAAAAAAA"),
        name="partner",
        url=Url("https", "partner.example", 443, "/in"),
        events=("*",),
        tenant="",
        profile=made.name,
        mode=changed.pop("mode", ""),
        method="POST",
        state=SubscriptionState.ENABLED,
        state_reason="",
        headers=changed.pop("headers", ()),
        secrets=changed.pop("secrets", (Secret(SECRET),)),
        policy=replace(made.policy, **changed.pop("policy", {})),
        created_at="2024-01-01T00:00:00.000Z",
        **changed,
    )
    return Renderer(made, subscription)


# --- floriday

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@settings(derandomize=True, max_examples=300)
@given(
    event_type=st.from_regex(r"\A[!-~]{1,40}\Z").filter(
        lambda one: not one.startswith("webhookd.")
    ),
    aggregate_type=st.none() | TEXT,
    aggregate_id=TEXT,
    tenant=TEXT,
    payload=st.none()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda some: st.lists(some) | st.dictionaries(st.text(max_size=5), some),
        max_leaves=5,
    ),
    signed=st.booleans(),
)
def test_floriday_never_sends_any_content_whatever_the_row_says(
    event_type: str,
    aggregate_type: str | None,
    aggregate_id: str,
    tenant: str,
    payload: Any,
    signed: bool,
) -> None:
    def made(content: Any) -> Request:
        written = None if content is None else json.dumps(content).encode()
        row = RawRow(
            1,
            event_type.encode(),
            None if aggregate_type is None else aggregate_type.encode(),
            aggregate_id.encode(),
            tenant.encode(),
            written,
            b"2024-01-15T10:30:00Z",
            b"evt_1",
            len(written or b""),
        )
        draft = judge(row, file_uuid="u", default_tenant="", max_payload=10**6, now=NOW)
        assert isinstance(draft, Draft)
        event = EVENT._replace(
            event_type=draft.event_type,
            aggregate_type=draft.aggregate_type,
            aggregate_id=draft.aggregate_id,
            tenant=draft.tenant,
            payload=draft.payload,
            aggregate_type_made=draft.aggregate_type_made,
        )
        held = (Secret(SECRET),) if signed else ()
        return send("floriday", event, secrets=held, unsigned=not signed)

    request = made(payload)
    assert request.wire() == made({"quite": "another"}).wire() == made(None).wire()
    own = aggregate_type is not None
    assert json.loads(request.body) == {
        "eventId": "evt_1",
        "eventType": (event_type if own else event_type.rpartition(".")[2]) or None,
        "aggregateId": aggregate_id,
        "aggregateType": (aggregate_type if own else event_type.rpartition(".")[0]) or None,
        "organizationId": tenant,
    }


def test_floriday_a_row_that_fills_both_columns_means_each_as_it_stands() -> None:
    whole = json.loads(send("floriday").body)
    assert (whole["aggregateType"], whole["eventType"]) == ("SALESORDER", "SALESORDER.ACCEPTED")
    split = json.loads(send("floriday", EVENT._replace(aggregate_type_made=True)).body)
    assert (split["aggregateType"], split["eventType"]) == ("SALESORDER", "ACCEPTED")


@pytest.mark.parametrize(
    ("missing", "said"), [("tenant", "no tenant"), ("aggregate_id", "no aggregate id")]
)
def test_floriday_cannot_do_without(missing: str, said: str) -> None:
    with pytest.raises(Unrenderable, match=said):
        send("floriday", EVENT._replace(**{missing: ""}))


def test_floriday_sends_what_was_erased() -> None:
    assert send("floriday", EVENT._replace(payload=b"")).body == send("floriday").body


# --- onestock


def test_onestock_has_room_for_three_keys_the_newest() -> None:
    keys = [f"hash-key-number-{number:04}" for number in range(5)]
    made = send("onestock", secrets=tuple(Secret(key) for key in keys))
    value = dict(made.headers)["Onestock-Signature"]
    assert [part.partition("=")[0] for part in value.split(",")] == ["t", "h0", "h1", "h2"]
    newest = dict(send("onestock", secrets=(Secret(keys[0]),)).headers)["Onestock-Signature"]
    assert value.startswith(f"{newest},h1=")


def test_onestock_sends_the_payload_as_it_is() -> None:
    made = send("onestock", EVENT._replace(payload=b" [1, 2.0]\n"), secrets=(Secret(KEY),))
    assert made.body == b"[1, 2.0]"
    with pytest.raises(Unrenderable, match="erased"):
        send("onestock", EVENT._replace(payload=b""), secrets=(Secret(KEY),))


# --- cloudevents


def test_cloudevents_the_source_is_the_configurations() -> None:
    made = cloudevents.make("https://erp.example/acme")
    assert json.loads(send(made).body)["source"] == "https://erp.example/acme"
    assert dict(send(made, mode="binary").headers)["ce-source"] == "https://erp.example/acme"
    assert json.loads(send("cloudevents").body)["source"] == "/webhookd"


@pytest.mark.parametrize("source", ["/erp", "urn:erp:1", "https://a.example/x?y=1#z", "a%20b"])
def test_cloudevents_sources(source: str) -> None:
    assert cloudevents.check_source(source) == source


@pytest.mark.parametrize("source", ["", "a b", "ü", "%zz", "a#b#c", "x" * 513, 'a"b', "a\n"])
def test_cloudevents_sources_that_are_none(source: str) -> None:
    with pytest.raises(ValueError, match="is a URI"):
        cloudevents.check_source(source)


def test_cloudevents_an_id_only_event_goes_structured_in_any_mode() -> None:
    event = EVENT._replace(payload=None)
    assert send("cloudevents", event, mode="binary").body == send("cloudevents", event).body
    assert dict(send("cloudevents", event, mode="binary").headers)["Content-Type"] == (
        "application/cloudevents+json"
    )


@settings(derandomize=True, max_examples=200)
@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_cloudevents_any_value_fits_a_header_and_comes_back(value: str) -> None:
    encoded = cloudevents.encoded(value)
    assert all("!" <= char <= "~" and char != '"' for char in encoded)
    assert unquote(encoded) == value
    made = send("cloudevents", EVENT._replace(aggregate_id=value, tenant=value), mode="binary")
    assert unquote(dict(made.headers)["ce-subject"]) == value


def test_cloudevents_half_a_character_cannot_be_said() -> None:
    with pytest.raises(Unrenderable, match="half a character"):
        send("cloudevents", EVENT._replace(tenant="\ud800"), mode="binary")


def test_cloudevents_what_is_absent_is_left_out() -> None:
    bare = EVENT._replace(aggregate_id="", aggregate_type="", tenant="", event_type="done")
    names = {name for name, _ in send("cloudevents", bare, mode="binary").headers}
    assert not names & {"ce-subject", "ce-tenant", "ce-aggregatetype"}
    assert not {"subject", "tenant", "aggregatetype"} & set(
        json.loads(send("cloudevents", bare).body)
    )


def test_cloudevents_sequences_sort_as_text() -> None:
    made = send("cloudevents")
    assert json.loads(made.body)["sequence"] == "0000000000000000007"
    assert len(str(2**63 - 1)) == 19


# --- all of them


@pytest.mark.parametrize("name", BUILT_IN.by_name)
def test_the_feeds_number_is_told_only_on_request(name: str) -> None:
    header = "webhookd-feed-sequence"
    assert header not in dict(send(name).headers)
    assert dict(send(name, policy={"send_feed_sequence": True}).headers)[header] == "41"


@pytest.mark.parametrize("name", BUILT_IN.by_name)
def test_E13_during_a_rotation(name: str) -> None:
    """A list has every live secret's signature, newest first; else the OLD one alone signs."""
    profile = BUILT_IN.get(name)
    old, new = Secret(SECRET, NOW + 1), Secret("whsec_BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY=")

    def signed(*held: Secret) -> str:
        return dict(send(name, secrets=held).headers)[profile.scheme.header]

    def signatures(value: str) -> list[str]:
        return list(profile.scheme.read(value).signatures)

    both, new_one, old_one = (
        signatures(signed(*held)) for held in ((new, old), (new,), (Secret(SECRET),))
    )
    if profile.scheme.carries_list:
        assert both == new_one + old_one
    else:
        assert both == old_one
    assert signatures(signed(new, replace(old, expires_at=NOW))) == new_one
    assert profile.scheme.carries_list is (name != "ntropy")


def test_cloudevents_names_the_origin_that_a_handshake_agreed_on() -> None:
    origin = (("WebHook-Request-Origin", "erp.example"),)
    assert send("cloudevents", headers=origin).headers[-1] == origin[0]
    with pytest.raises(ValueError, match="sets it itself"):
        send("standard", headers=origin)
