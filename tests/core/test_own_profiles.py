"""Profiles of one's own, and four well-known receivers that they feed by configuration alone.

What those receivers do is written here from their systems' public documentation, and first shown to
accept what that documentation gives as examples.
"""

import base64
import hashlib
import hmac
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_formats import EVENT, NOW, send
from webhookd.core.model import Event, Ordering, Secret
from webhookd.core.profiles import BUILT_IN, Known, Profile, Unrenderable, own
from webhookd.core.verify import Flaw, verify

DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"
KEY = "a-secret-of-the-customer-0001"
NEW = "the-next-secret-of-the-customer"
SECONDS = str(NOW // 1000)


def make(text: str, name: str = "mine") -> Profile:
    return own.make(name, tomllib.loads(text), BUILT_IN)


def documented(name: str) -> Profile:
    """The profile as the docs show it."""
    blocks = DOCS.read_text("utf-8").split("```toml\n")[1:]
    for block in blocks:
        tables = tomllib.loads(block.partition("```")[0]).get("profiles", {})
        if name in tables:
            return own.make(name, tables[name], BUILT_IN)
    raise AssertionError(f"{DOCS} shows no [profiles.{name}]")


def sent(profile: Profile, event: Event = EVENT, **changed: Any) -> tuple[dict[str, str], bytes]:
    changed.setdefault("secrets", (Secret(KEY),))
    made = send(profile, event, **changed)
    return {name.lower(): value for name, value in made.headers}, made.body


# --- the receivers


def github(secret: str, headers: dict[str, str], body: bytes) -> bool:
    digest = hmac.new(secret.encode(), msg=body, digestmod=hashlib.sha256).hexdigest()
    return hmac.compare_digest("sha256=" + digest, headers["x-hub-signature-256"])


def stripe(secret: str, headers: dict[str, str], body: bytes, now: float) -> bool:
    pairs = [part.split("=", 1) for part in headers["stripe-signature"].split(",")]
    timestamp = next(value for key, value in pairs if key == "t")
    payload = timestamp.encode() + b"." + body
    expected = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    found = any(key == "v1" and hmac.compare_digest(value, expected) for key, value in pairs)
    return found and int(timestamp) >= now - 300


def shopify(secret: str, headers: dict[str, str], body: bytes) -> bool:
    digest = hmac.new(secret.encode("utf-8"), body, digestmod=hashlib.sha256).digest()
    given = headers["x-shopify-hmac-sha256"].encode("utf-8")
    return hmac.compare_digest(base64.b64encode(digest), given)


def slack(secret: str, headers: dict[str, str], body: bytes, now: float) -> bool:
    timestamp = headers["x-slack-request-timestamp"]
    if abs(now - int(timestamp)) > 60 * 5:
        return False
    base = b"v0:" + timestamp.encode() + b":" + body
    digest = hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
    return hmac.compare_digest("v0=" + digest, headers["x-slack-signature"])


def test_the_receivers_accept_the_examples_of_their_documentation() -> None:
    value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": value}
    assert github("It's a Secret to Everybody", headers, b"Hello, World!")
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
        b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    assert slack("8f742231b10e8888abcd99yyyzzz85a5", headers, body, 1531420618)


@pytest.mark.parametrize("payload", [EVENT.payload, None])
def test_a_receiver_of_github(payload: bytes | None) -> None:
    headers, body = sent(documented("github"), EVENT._replace(payload=payload))
    assert github(KEY, headers, body)
    assert not github(KEY, headers, body + b" ")
    assert headers["x-github-event"] == "SALESORDER.ACCEPTED"
    assert headers["x-github-delivery"] == "evt_1"
    assert payload is None or body == payload


@pytest.mark.parametrize("payload", [EVENT.payload, None])
def test_a_receiver_of_stripe(payload: bytes | None) -> None:
    headers, body = sent(documented("stripe"), EVENT._replace(payload=payload))
    assert stripe(KEY, headers, body, NOW / 1000)
    assert not stripe(KEY, headers, body, NOW / 1000 + 301)
    assert not stripe(NEW, headers, body, NOW / 1000)
    assert list(json.loads(body)) == ["id", "type", "created", "data"]
    assert json.loads(body)["created"] == 1705314600


def test_a_receiver_of_shopify() -> None:
    headers, body = sent(documented("shopify"))
    assert shopify(KEY, headers, body)
    assert not shopify(NEW, headers, body)
    assert body == EVENT.payload
    assert headers["x-shopify-topic"] == "SALESORDER.ACCEPTED"
    assert headers["x-shopify-webhook-id"] == "evt_1"


def test_a_receiver_of_slack() -> None:
    headers, body = sent(documented("slack"))
    assert slack(KEY, headers, body, NOW / 1000)
    assert not slack(KEY, headers, body, NOW / 1000 + 301)
    assert not slack(KEY, {**headers, "x-slack-request-timestamp": "1"}, body, 1)


FOUR = ["github", "stripe", "shopify", "slack"]


@pytest.mark.parametrize("name", FOUR)
def test_our_own_side_verifies_them(name: str) -> None:
    profile = documented(name)
    headers, body = sent(profile)
    assert verify(profile, KEY, headers, body, NOW).ok
    assert verify(profile, KEY, headers, body + b"x", NOW).flaw is Flaw.BODY
    assert verify(profile, NEW, headers, body, NOW).flaw is Flaw.SIGNATURE
    old = verify(profile, KEY, headers, body, NOW + 301_000)
    assert old.flaw is (Flaw.TIMESTAMP if name in ("stripe", "slack") else None)


def test_the_time_is_looked_for_where_the_receiver_finds_it() -> None:
    profile = documented("slack")
    headers, body = sent(profile)
    del headers["webhook-timestamp"]
    assert verify(profile, KEY, headers, body, NOW).ok
    del headers["x-slack-request-timestamp"]
    missing = verify(profile, KEY, headers, body, NOW)
    assert missing.detail == "header X-Slack-Request-Timestamp is missing"
    headers, body = sent(documented("stripe"))
    del headers["webhook-timestamp"]
    assert verify(documented("stripe"), KEY, headers, body, NOW).ok, "its signature has the time"


@pytest.mark.parametrize("name", FOUR)
def test_E13_one_signature_is_the_old_secrets_until_the_overlap_ends(name: str) -> None:
    profile = documented(name)
    assert not profile.scheme.carries_list
    during, body = sent(profile, secrets=(Secret(NEW), Secret(KEY, NOW + 1)))
    assert verify(profile, KEY, during, body, NOW).ok
    after, body = sent(profile, secrets=(Secret(NEW), Secret(KEY, NOW)))
    assert verify(profile, NEW, after, body, NOW).ok


# --- the keys


def test_a_base_alone_changes_nothing_but_the_name() -> None:
    for base in BUILT_IN:
        mine = make(f'base = "{base.name}"')
        held = (Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="),)
        assert send(mine, secrets=held).wire() == send(base, secrets=held).wire()
        assert mine == replace(
            base, name="mine", own=True, render=mine.render, check_secret=mine.check_secret
        )


def test_a_policy_of_its_own() -> None:
    mine = make(
        'base = "standard"\ntimeout = "3s"\nretry_delays = ["1s", "2m"]\n'
        'ordering = "subscription"\npermanent_statuses = ["4xx"]\nmax_age = "7d"\n'
        'rate_limit = "5/s"'
    )
    assert mine.policy == replace(
        BUILT_IN.get("standard").policy,
        timeout=3_000,
        retry_delays=(1_000, 120_000),
        ordering=Ordering.SUBSCRIPTION,
        permanent_statuses=("4xx",),
        max_age=604_800_000,
        rate_limit=5.0,
    )


def test_an_envelope_of_its_own() -> None:
    mine = make(
        'base = "ntropy"\nenvelope = ["nr = number", "an \\"id\\" = id", "at = seconds",'
        ' "when = time", "w = type", "t = tenant", "k = aggregate_type", "i = aggregate_id",'
        ' "s = subscription",'
        ' "data = payload"]'
    )
    headers, body = sent(mine, secrets=(Secret("whsec_" + KEY),))
    assert body == (
        b'{"nr":7,"an \\"id\\"":"evt_1","at":1705314600,"when":"2024-01-15T10:30:00.250Z",'
        b'"w":"SALESORDER.ACCEPTED","t":"org_1","k":"SALESORDER","i":"ORD-77",'
        b'"s":"wh_AAAAAAAAAAAAAAAAAAAAAA","data":{"a": 1.10}}'
    )
    assert headers["x-webhook-event"] == "SALESORDER.ACCEPTED", "the base's own headers stay"
    assert mine.body_id == 'an "id"'
    thin = EVENT._replace(payload=None, tenant="")
    _, body = sent(
        make('base = "standard"\nsecret = "utf8"\n[envelope]\nt = "tenant"\nd = "payload"'), thin
    )
    assert body == b'{"t":null,"d":{"aggregate_type":"SALESORDER","aggregate_id":"ORD-77"}}'


def test_the_payload_alone_and_for_an_id_only_event_the_bases_body() -> None:
    mine = make('base = "ntropy"\nenvelope = "payload"')
    held = (Secret("whsec_" + KEY),)
    assert sent(mine, secrets=held)[1] == EVENT.payload
    thin = EVENT._replace(payload=None)
    assert sent(mine, thin, secrets=held)[1] == sent(BUILT_IN.get("ntropy"), thin, secrets=held)[1]
    with pytest.raises(Unrenderable, match="erased"):
        sent(mine, EVENT._replace(payload=b" "), secrets=held)


def test_headers_of_its_own_take_the_place_of_the_bases() -> None:
    mine = make(
        'base = "ntropy"\nuser_agent = "ACME/1"\nmethods = ["PUT", "POST", "PUT"]\n[headers]\n'
        'X-Topic = "{aggregate_type}/{type}"\nX-Tenant = "{tenant}"\nX-At = "{timestamp}"\n'
        'X-Fixed = "a b"'
    )
    headers, _ = sent(
        mine,
        secrets=(Secret("whsec_" + KEY),),
    )
    assert headers["x-topic"] == "SALESORDER/SALESORDER.ACCEPTED"
    assert (headers["x-tenant"], headers["x-at"], headers["x-fixed"]) == ("org_1", SECONDS, "a b")
    assert headers["user-agent"] == "ACME/1"
    assert "x-webhook-event" not in headers
    assert mine.methods == ("PUT", "POST")
    assert mine.own_headers == {"x-topic", "x-tenant", "x-at", "x-fixed"}
    held = (Secret("whsec_" + KEY),)
    assert "x-tenant" not in sent(mine, EVENT._replace(tenant=""), secrets=held)[0]
    with pytest.raises(Unrenderable, match="header X-Tenant cannot carry"):
        sent(mine, EVENT._replace(tenant="ü"), secrets=held)


def test_A20_E23_what_an_event_brings_is_no_template() -> None:
    mine = make('base = "standard"\nsecret = "utf8"\n[headers]\nX-T = "{type}{tenant}"')
    headers, _ = sent(mine, EVENT._replace(event_type="{tenant}", tenant="{id}"))
    assert headers["x-t"] == "{tenant}{id}"


def test_a_list_goes_on_being_one_where_no_layout_says_otherwise() -> None:
    mine = make('base = "standard"\nprefix = "v9,"\nencoding = "hex"\nsecret = "base64"')
    keys = [base64.b64encode(bytes([one]) * 16).decode() for one in (1, 2)]
    headers, body = sent(mine, secrets=(Secret(keys[0]), Secret(keys[1], NOW + 1)))
    text = f"evt_1.{SECONDS}.".encode() + body
    assert headers["webhook-signature"] == " ".join(
        "v9," + hmac.digest(bytes([one]) * 16, text, "sha256").hex() for one in (1, 2)
    )
    assert all(verify(mine, key, headers, body, NOW).ok for key in keys)


def test_a_signature_with_the_id_in_a_header_of_its_own() -> None:
    mine = make(
        'base = "onestock"\nsigned = "{id}:{body}"\nlayout = "sig:{signature}"\n'
        'signature_header = "X-Sig"\n[headers]\nX-Id = "{id}"'
    )
    headers, body = sent(mine)
    digest = hmac.digest(KEY.encode(), b"evt_1:" + body, "sha256").hex()
    assert headers["x-sig"] == f"sig:{digest}"
    del headers["webhook-id"]
    assert verify(mine, KEY, headers, body, NOW).ok
    assert verify(mine, KEY, {**headers, "x-sig": digest}, body, NOW).detail == (
        "header X-Sig has not the form that mine gives it"
    )


def test_an_asymmetric_key_has_the_standards_form_or_none() -> None:
    seed = "whsk_" + base64.b64encode(bytes(32)).decode()
    make('base = "standard"\ntimeout = "3s"').check_secret(seed)
    with pytest.raises(ValueError, match="Ed25519 key, and this profile signs with HMAC"):
        make('base = "standard"\nprefix = "v9,"').check_secret(seed)


def test_no_content_leaves_by_way_of_floriday() -> None:
    mine = make('base = "floriday"\n[envelope]\nid = "aggregate_id"\norg = "tenant"')
    body = send(mine, secrets=(), unsigned=True).body
    assert body == b'{"id":"ORD-77","org":"org_1"}'
    with pytest.raises(Unrenderable, match="no tenant"):
        send(mine, EVENT._replace(tenant=""), secrets=(), unsigned=True)
    assert (mine.requires_tenant, mine.id_only) == (True, True)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "_a", "x" * 41, "é", "a.b"])
def test_E15_a_name_that_will_not_do(name: str) -> None:
    with pytest.raises(own.Wrong, match="a profile's name is") as wrong:
        make('base = "standard"', name)
    assert wrong.value.key == ""


def test_E15_a_name_that_is_taken() -> None:
    with pytest.raises(own.Wrong, match="is the name of a built-in profile"):
        make('base = "standard"', "ntropy")


LONG = "x" * 301
WRONG = [
    ("", "base", "is missing; name what it begins with: standard, ntropy"),
    ('base = "github"', "base", 'is "standard" or "ntropy" or'),
    ("base = 1", "base", "is text: write it in quotes, not 1"),
    ('colour = "red"', "colour", "unknown key; base, envelope"),
    ('enoding = "hex"', "enoding", "unknown key; did you mean encoding?"),
    ('retry_delay = "1s"', "retry_delay", "did you mean retry_delays?"),
    ('timeout = "1h"', "timeout", "takes 1ms to 2m"),
    ('encoding = "hexa"', "encoding", 'is "hex" or "base64", not \'hexa\''),
    ('secret = "whsec_HUSH"', "secret", 'is the form of a secret, "utf8" or "base64"'),
    ('secret = ["HUSH"]', "secret", 'is the form of a secret, "utf8" or "base64"'),
    ('prefix = "a b"', "prefix", "visible ASCII without spaces"),
    ('prefix = "ü"', "prefix", "visible ASCII without spaces"),
    ('signed = "{body}.{id}"', "signed", "has {body} once, at its end"),
    ('signed = "{body}{body}"', "signed", "has {body} once, at its end"),
    ('signed = "{secret}{body}"', "signed", "knows {id} {timestamp} {body}, and no other"),
    ('signed = "{id.__class__}{body}"', "signed", "knows {id} {timestamp} {body}, and no other"),
    ('signed = "{{body}"', "signed", "knows {id} {timestamp} {body}, and no other"),
    ('signed = "ü{body}"', "signed", "visible ASCII"),
    ('layout = "v1"', "layout", "has {signature} once"),
    ('layout = "{signature}{signature}"', "layout", "has {signature} once"),
    ('layout = "{timestamp}{signature}"', "layout", "has {signature} once"),
    ('layout = "{timestamp} {timestamp}{signature}"', "layout", "has {signature} once"),
    ('layout = " {signature}"', "layout", "visible ASCII"),
    ('layout = "{body}{signature}"', "layout", "knows {signature} {timestamp}"),
    (f'layout = "{LONG}"', "layout", "is at most 300 characters"),
    ('signature_header = "a b"', "signature_header", "'a b' is no header's name"),
    ('signature_header = "Host"', "signature_header", "Host: webhookd sets it itself"),
    ('signature_header = "webhook-id"', "signature_header", "webhookd sets it itself"),
    ('signature_header = "User-Agent"', "signature_header", "has a key of its own: user_agent"),
    ('user_agent = " x"', "user_agent", "visible ASCII"),
    ('methods = "PUT"', "methods", "is a list of POST, PUT, PATCH"),
    ('methods = ["GET"]', "methods", "is a list of POST, PUT, PATCH"),
    ("methods = []", "methods", "is a list of POST, PUT, PATCH"),
    ('envelope = "body"', "envelope", 'is "event" or "payload"'),
    ("envelope = 1", "envelope", 'is "event", "payload" or a list'),
    ("envelope = []", "envelope", 'is "event", "payload" or a list'),
    ('envelope = ["id"]', "envelope", 'has members like "key = field"'),
    ("envelope = [1]", "envelope", "is text"),
    ('envelope = ["id = ids"]', "envelope", "knows the fields id, type"),
    ('envelope = ["id = id", "id = type"]', "envelope", "has a key twice"),
    ('envelope = { "" = "id" }', "envelope", "has a member without a name"),
    ('envelope = { id = ["id"] }', "envelope", "knows the fields id, type"),
    ('headers = ["X-A"]', "headers", "is a table of names and values"),
    ('headers = { "X A" = "1" }', "headers", "'X A' is no header's name"),
    ('headers = { Content-Length = "1" }', "headers", "webhookd sets it itself"),
    ('headers = { User-Agent = "1" }', "headers", "has a key of its own: user_agent"),
    ('headers = { X-A = "1", x-a = "2" }', "headers", "x-a is there twice"),
    ('headers = { X-A = "{payload}" }', "headers", "X-A: knows {id} {type}"),
    ('headers = { X-A = "a\\r\\nX: y" }', "headers", "X-A: is visible ASCII"),
    ('headers = { X-A = "" }', "headers", "X-A: is visible ASCII"),
    ('headers = { webhook-signature = "1" }', "headers", "webhookd sets it itself"),
]


@pytest.mark.parametrize(("text", "key", "reason"), WRONG)
def test_E15_a_key_that_will_not_do_is_named(text: str, key: str, reason: str) -> None:
    base = "" if text.startswith("base") or not text else 'base = "standard"\n'
    with pytest.raises(own.Wrong) as wrong:
        make(base + text)
    assert wrong.value.key == key
    assert reason in str(wrong.value)
    assert "\n" not in str(wrong.value)
    assert "HUSH" not in repr(wrong.value)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ('base = "cloudevents"\nenvelope = "payload"', "envelope", "whose format it is"),
        ('base = "cloudevents"\nheaders = { X-A = "1" }', "headers", "whose format they are"),
        ('base = "onestock"\nprefix = "a,b="', "prefix", "divides a list's signatures"),
        ('base = "floriday"\ncoalesce = true', "coalesce", "cannot be changed: profile floriday"),
        ('base = "floriday"\nenvelope = "payload"', "envelope", "never sends any content"),
        ('base = "floriday"\nenvelope = ["d = payload"]', "envelope", "never sends any content"),
        (
            'base = "ntropy"\nsignature_header = "X-Sig"\nheaders = { x-sig = "1" }',
            "headers",
            "X-Sig is the signature's header",
        ),
        (
            'base = "ntropy"\nsignature_header = "X-Webhook-Event"',
            "headers",
            "X-Webhook-Event is the signature's header",
        ),
    ],
)
def test_E15_what_a_base_does_not_allow(text: str, key: str, reason: str) -> None:
    with pytest.raises(own.Wrong, match=reason) as wrong:
        make(text)
    assert wrong.value.key == key


def test_a_prefix_that_divides_nothing_where_a_layout_says_so() -> None:
    mine = make('base = "onestock"\nprefix = "a,b="\nlayout = "t={timestamp},s={signature}"')
    headers, body = sent(mine)
    assert headers["onestock-signature"].startswith(f"t={SECONDS},s=a,b=")
    assert verify(mine, KEY, headers, body, NOW).ok


def test_G11_a_headers_value_is_in_no_repr() -> None:
    written = {"base": "ntropy", "headers": {"X-Token": "HUSH"}}
    mine = own.make("mine", written, BUILT_IN)
    said = {"mine": {"headers": repr(written["headers"])}}
    assert "HUSH" not in repr(mine) + repr(BUILT_IN.with_these({"mine": mine}, "c.toml", said))


def test_known_ones_differ_by_what_was_written_of_them() -> None:
    def known(written: dict[str, str]) -> Known:
        made = own.make("mine", {"base": "ntropy", **written}, BUILT_IN)
        return BUILT_IN.with_these({"mine": made}, "config.toml", {"mine": written})

    one = known({"timeout": "5s"})
    assert not one.differs(known({"timeout": "5s"}))
    assert one.differs(known({"timeout": "6s"}))
    assert one.differs(BUILT_IN)
    assert not one.differs(one.with_these({}, "other.toml")), "what is not said stays"
