import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import h11
import pytest
import standardwebhooks.webhooks
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.events import event
from webhookd import __version__
from webhookd.core import secrets
from webhookd.core.model import (
    Event,
    Secret,
    Sequence,
    Subscription,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
    Url,
)
from webhookd.core.profiles import BUILT_IN, Content, Unrenderable, cloudevents
from webhookd.core.request import Renderer, Request
from webhookd.core.signing import MissingSecret

PROFILES = BUILT_IN.by_name
get = BUILT_IN.get
VECTORS = json.loads((Path(__file__).parent / "vectors" / "wire.json").read_text("utf-8"))[
    "vectors"
]
REGISTERED = [vector for vector in VECTORS if vector["profile"] in PROFILES]
NOW = 1_795_335_330_400
SECRET = secrets.make(bytes(range(32)))
OLD_SECRET = secrets.make(bytes(range(1, 33)))

EVENT = event(
    "supplier.created",
    "VENDOR-001",
    event_id="0192f0c1-7c00-7000-8000-000000000001",
    tenant="int_abc123",
    payload=b'{"price": 1.10}',
)


def subscription(profile: str = "standard", **changed: Any) -> Subscription:
    made = Subscription(
        key=SubscriptionKey(1),
        id=SubscriptionId("wh_AAAAAAAAAAAAAAAAAAAAAA"),
        name="partner",
        url=Url("https", "partner.example", 8443, "/in?key=q-secret"),
        events=("*",),
        tenant="",
        profile=profile,
        mode="",
        method="POST",
        state=SubscriptionState.ENABLED,
        state_reason="",
        headers=(),
        secrets=(Secret(SECRET),),
        policy=get(profile).policy,
        created_at="2024-01-01T00:00:00.000Z",
    )
    return replace(made, **changed)


def renderer(profile: str = "standard", **changed: Any) -> Renderer:
    return Renderer(get(profile), subscription(profile, **changed))


def request(profile: str = "standard", event: Event = EVENT, **changed: Any) -> Request:
    return renderer(profile, **changed).render(event, number=7, attempt=1, now=NOW)


# --- golden requests


def stored(vector: dict[str, Any]) -> Event:
    """The vector's row as ingest stores it: the aggregate type filled in, absent text `''`."""
    row = vector["event"]
    return Event(
        sequence=Sequence(row["sequence"]),
        outbox_id=row["sequence"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        aggregate_type=row["aggregate_type"] or row["event_type"].rpartition(".")[0],
        aggregate_id=row["aggregate_id"] or "",
        tenant=row["tenant"] or "",
        payload=None if row["payload"] is None else row["payload"].encode(),
        occurred_at=row["occurred_at"],
        aggregate_type_made=not row["aggregate_type"],
    )


def test_the_golden_requests_are_all_there() -> None:
    assert len(VECTORS) == 22
    counted = Counter(vector["profile"] for vector in VECTORS)
    assert counted == {"standard": 5, "ntropy": 6, "floriday": 2, "onestock": 4, "cloudevents": 5}
    assert len(REGISTERED) == sum(counted[name] for name in PROFILES)
    assert set(PROFILES) == {vector["profile"] for vector in REGISTERED}


@pytest.mark.parametrize("vector", REGISTERED, ids=lambda vector: vector["name"])
def test_golden_request(vector: dict[str, Any]) -> None:
    asked = vector["subscription"]
    newest, *older = [*asked["secrets"], None]
    held = () if newest is None else (Secret(newest), *(Secret(one, NOW + 1) for one in older[:-1]))
    known = BUILT_IN.with_these({"cloudevents": cloudevents.make(asked["cloudevents_source"])}, "")
    made = Renderer(
        known.get(vector["profile"]),
        subscription(
            vector["profile"],
            id=SubscriptionId(asked["id"]),
            method=asked["method"],
            mode=vector["mode"],
            secrets=held,
            unsigned=not held,
        ),
    ).render(
        stored(vector),
        number=vector["delivery_number"],
        attempt=vector["attempt"]["number"],
        now=int(datetime.fromisoformat(vector["attempt"]["at"]).timestamp() * 1000),
    )
    expected = vector["expect"]
    assert made.method == expected["method"]
    assert made.body == expected["body"].encode()
    unlisted = {"Host", "Content-Length", "User-Agent"} - set(expected["headers"])
    sent = dict(made.headers)
    assert len(sent) == len(made.headers)
    assert {name: value for name, value in sent.items() if name not in unlisted} == expected[
        "headers"
    ]


# --- what the standard's own library says


@pytest.fixture
def reference_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads the clock: it is given the moment of the attempt."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls.fromtimestamp(NOW / 1000, tz)

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Stopped)
    assert Stopped.now(UTC).year == 2026


def accepted(made: Request, secret: str) -> Any:
    return Webhook(secret).verify(made.body, dict(made.headers))


@pytest.mark.usefixtures("reference_clock")
@pytest.mark.parametrize("vector", [v for v in REGISTERED if v["profile"] == "standard"])
def test_the_reference_library_accepts_the_golden_events(vector: dict[str, Any]) -> None:
    event = stored(vector)
    body = accepted(request(event=event), SECRET)
    assert list(body) == ["type", "timestamp", "data"]
    if event.payload is not None:
        assert body["data"] == json.loads(event.payload)


@pytest.mark.usefixtures("reference_clock")
def test_E13_the_reference_library_accepts_both_secrets_of_a_rotation() -> None:
    made = request(secrets=(Secret(SECRET), Secret(OLD_SECRET, NOW + 1)))
    assert accepted(made, SECRET) == accepted(made, OLD_SECRET)
    over = request(secrets=(Secret(SECRET), Secret(OLD_SECRET, NOW)))
    accepted(over, SECRET)
    with pytest.raises(WebhookVerificationError):
        accepted(over, OLD_SECRET)


def test_E13_ntropy_signs_with_the_old_secret_until_the_overlap_ends() -> None:
    rotating = renderer("ntropy", secrets=(Secret(SECRET), Secret(OLD_SECRET, NOW)))

    def signed(made: Request) -> str:
        return dict(made.headers)["X-Webhook-Signature"]

    during = rotating.render(EVENT, number=7, attempt=1, now=NOW - 1)
    after = rotating.render(EVENT, number=7, attempt=2, now=NOW)
    assert signed(during) == signed(request("ntropy", secrets=(Secret(OLD_SECRET),)))
    assert signed(after) == signed(request("ntropy", secrets=(Secret(SECRET),)))


# --- the bytes


@pytest.mark.parametrize("profile", PROFILES)
def test_G3_every_attempt_has_the_same_body_and_id(profile: str) -> None:
    made = renderer(profile)
    first = made.render(EVENT, number=7, attempt=1, now=NOW)
    later = made.render(EVENT, number=7, attempt=2, now=NOW + 3_600_000)
    assert first.body == later.body
    assert first.body_hash == later.body_hash == hashlib.sha256(first.body).digest()
    kept, moved = dict(first.headers), dict(later.headers)
    assert kept["webhook-id"] == moved["webhook-id"] == EVENT.event_id
    assert (kept["webhookd-sequence"], moved["webhookd-sequence"]) == ("7", "7")
    assert (kept["webhookd-attempt"], moved["webhookd-attempt"]) == ("1", "2")
    assert int(moved["webhook-timestamp"]) - int(kept["webhook-timestamp"]) == 3_600


def test_wire_to_the_byte() -> None:
    made = request("ntropy", headers=(("X-Key", "a b"), ("x-trace", "1")))
    signature = dict(made.headers)["X-Webhook-Signature"]
    body = (
        b'{"event":"supplier.created","timestamp":"2024-01-15T10:30:00.000Z",'
        b'"integrationId":"int_abc123","data":{"price": 1.10}}'
    )
    head = (
        "POST /in?key=q-secret HTTP/1.1\r\n"
        "Host: partner.example:8443\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "User-Agent: EUDR-Platform-Webhook/1.0\r\n"
        "Accept-Encoding: identity\r\n"
        "webhook-id: 0192f0c1-7c00-7000-8000-000000000001\r\n"
        "webhook-timestamp: 1795335330\r\n"
        f"X-Webhook-Signature: {signature}\r\n"
        "webhookd-sequence: 7\r\n"
        "webhookd-attempt: 1\r\n"
        "X-Webhook-Event: supplier.created\r\n"
        "X-Webhook-Id: wh_AAAAAAAAAAAAAAAAAAAAAA\r\n"
        "X-Webhook-Timestamp: 2024-01-15T10:30:00.000Z\r\n"
        "X-Key: a b\r\n"
        "x-trace: 1\r\n"
        "\r\n"
    )
    assert made.wire() == head.encode() + body


@pytest.mark.parametrize("profile", PROFILES)
@settings(derandomize=True, max_examples=50)
@given(
    aggregate_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    payload=st.none() | st.binary(min_size=1).map(lambda some: json.dumps(some.hex()).encode()),
    value=st.from_regex(r"\A[!-~]([ -~]{0,20}[!-~])?\Z"),
)
def test_h11_reads_what_was_meant(
    profile: str, aggregate_id: str, payload: bytes | None, value: str
) -> None:
    event = EVENT._replace(aggregate_id=aggregate_id, payload=payload)
    made = request(profile, event, headers=(("X-Key", value),))
    server = h11.Connection(h11.SERVER)
    server.receive_data(made.wire())
    head = server.next_event()
    assert isinstance(head, h11.Request)
    assert (head.method, head.target) == (b"POST", b"/in?key=q-secret")
    assert head.headers.raw_items() == [(n.encode(), v.encode()) for n, v in made.headers]
    data = server.next_event()
    assert isinstance(data, h11.Data)
    assert bytes(data.data) == made.body
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert server.next_event() is h11.NEED_DATA
    assert server.trailing_data == (b"", False)
    json.loads(made.body)


def test_user_agent_names_the_version_unless_replaced_in_its_place() -> None:
    assert request().headers[3] == ("User-Agent", f"webhookd/{__version__}")
    for profile in PROFILES:
        made = request(profile, headers=(("user-agent", "ACME/1"), ("X-Key", "1")))
        assert made.headers[3] == ("User-Agent", "ACME/1")
        assert made.headers[-1] == ("X-Key", "1")
        assert [name.lower() for name, _ in made.headers].count("user-agent") == 1


# --- what is refused


@pytest.mark.parametrize("profile", PROFILES)
def test_E13_nothing_goes_unsigned(profile: str) -> None:
    with pytest.raises(MissingSecret, match=r"set a secret|nothing goes unsigned"):
        request(profile, secrets=())
    if get(profile).requires_secret:
        with pytest.raises(MissingSecret, match="set a secret"):
            request(profile, secrets=(), unsigned=True)
    else:
        assert "webhook-signature" not in dict(request(profile, secrets=(), unsigned=True).headers)
    with pytest.raises(MissingSecret, match="every secret has expired"):
        request(profile, secrets=(Secret(SECRET, NOW),))


def test_a_profile_that_does_without_a_secret_is_signed_only_with_one() -> None:
    loose = replace(get("standard"), requires_secret=False)

    def names(*held: Secret) -> list[str]:
        made = Renderer(loose, subscription(secrets=held, unsigned=not held))
        return [name for name, _ in made.render(EVENT, number=1, attempt=1, now=NOW).headers]

    assert "webhook-signature" not in names()
    assert "webhook-signature" in names(Secret(SECRET))
    with pytest.raises(MissingSecret):
        names(Secret(SECRET, NOW))


def test_E14_a_secret_of_another_form_is_refused_without_being_told() -> None:
    with pytest.raises(ValueError, match="must be base64") as refused:
        renderer(secrets=(Secret("whsec_hunter2!"),))
    assert "hunter2" not in str(refused.value)


def test_a_method_that_the_profile_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'PUT': profile standard takes POST$"):
        renderer(method="PUT")


@pytest.mark.parametrize(
    "url",
    [
        Url("https", "a.example", 443, "/ HTTP/1.1\r\nX: y"),
        Url("https", "a.example", 443, "/ä"),
        Url("https", "a.example", 443, ""),
        Url("https", "a.example\r\nX: y", 443, "/"),
    ],
)
def test_a_url_that_was_never_judged_is_refused(url: Url) -> None:
    with pytest.raises(ValueError, match=r"^url: .*percent-encode") as refused:
        renderer(url=url)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("profile", "changed"),
    [
        ("standard", {"event_id": "a\r\nX: y"}),
        ("standard", {"event_id": ""}),
        ("ntropy", {"event_type": "a\nb"}),
        ("ntropy", {"event_type": "größe"}),
        ("ntropy", {"occurred_at": "2024\r\n"}),
    ],
)
def test_A20_E23_an_event_injects_no_header(profile: str, changed: dict[str, Any]) -> None:
    with pytest.raises(Unrenderable, match="cannot carry") as refused:
        request(profile, EVENT._replace(**changed))
    assert "\n" not in str(refused.value)


def test_A20_in_a_body_an_odd_type_is_only_escaped() -> None:
    assert request(event=EVENT._replace(event_type='a\n"b')).body.startswith(b'{"type":"a\\n\\"b",')


def test_a_profile_says_what_kind_of_body_it_made() -> None:
    other = replace(
        get("standard"),
        render=lambda _subscription, _event, number: Content("text/x", b"%d" % number),
    )
    made = Renderer(other, subscription()).render(EVENT, number=12, attempt=1, now=NOW)
    assert made.headers[1:3] == (("Content-Type", "text/x"), ("Content-Length", "2"))
    assert made.body == b"12"


def test_C32_all_that_a_receiver_must_not_echo_into_the_file_is_named() -> None:
    made = renderer(
        headers=(("Authorization", "Bearer user-token"),),
        secrets=(Secret(SECRET), Secret(OLD_SECRET, NOW + 1)),
    )
    sent = made.render(EVENT, number=7, attempt=1, now=NOW)
    signature = dict(sent.headers)["webhook-signature"]
    named = made.confidential(sent)
    assert {SECRET, OLD_SECRET, "Bearer user-token", "key=q-secret", signature} <= set(named)
    assert set(signature.split()) <= set(named)
    assert {"user-token", "q-secret"} <= set(named), "and what they are made of"
    assert signature.replace("/", "\\/") in named, "also as PHP would write it"


def test_G11_no_secret_is_in_a_repr() -> None:
    made = renderer(headers=(("Authorization", "Bearer h-secret"),))
    sent = made.render(EVENT, number=7, attempt=1, now=NOW)
    for shown in (repr(made), repr(sent), str(sent)):
        for hidden in ("h-secret", "q-secret", SECRET, SECRET[6:], "1.10"):
            assert hidden not in shown
