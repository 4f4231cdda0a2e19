"""The judged requests are the golden ones, so that this side does not lean on the sender's code."""

import json
from pathlib import Path
from typing import Any

import pytest

from webhookd.core.profiles import BUILT_IN
from webhookd.core.profiles.own import make
from webhookd.core.verify import TOLERANCE, Flaw, Verdict, verify

VECTORS = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent / "vectors" / "wire.json").read_text("utf-8"))[
        "vectors"
    ]
}
SENT_AT = 1_795_335_330_000
"""The second in which every golden request is sent."""
STANDARD, NTROPY = "standard/supplier", "ntropy/supplier"


def judge(name: str, **changed: Any) -> Verdict:
    vector = VECTORS[name]
    headers = dict(vector["expect"]["headers"])
    headers.update(changed.pop("headers", {}))
    held = vector["subscription"]["secrets"]
    given = {
        "secret": held[-1] if held else None,
        "headers": {key: value for key, value in headers.items() if value is not None},
        "body": vector["expect"]["body"].encode(),
        "now": SENT_AT,
        **changed,
    }
    return verify(BUILT_IN.get(vector["profile"]), **given)


@pytest.mark.parametrize(
    "name",
    [name for name, vector in VECTORS.items() if vector["subscription"]["secrets"]],
)
def test_golden_requests_are_genuine(name: str) -> None:
    verdict = judge(name)
    assert (verdict.flaw, verdict.detail) == (None, "")
    assert verdict.ok


def test_any_secret_of_a_rotation_will_do() -> None:
    for secret in VECTORS["standard/non_ascii"]["subscription"]["secrets"]:
        assert judge("standard/non_ascii", secret=secret).ok


@pytest.mark.parametrize("name", [STANDARD, NTROPY])
@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_the_case_of_names_does_not_matter(name: str, change: Any) -> None:
    headers = VECTORS[name]["expect"]["headers"]
    cased = dict.fromkeys(headers) | {change(key): value for key, value in headers.items()}
    assert judge(name, headers=cased).ok


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (STANDARD, "webhook-signature"),
        (STANDARD, "webhook-id"),
        (STANDARD, "webhook-timestamp"),
        (NTROPY, "X-Webhook-Signature"),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_header_is_named(name: str, header: str, value: str | None) -> None:
    verdict = judge(name, headers={header: value})
    assert verdict == Verdict(Flaw.MISSING_HEADER, f"header {header} is missing")
    assert not verdict.ok


def test_ntropy_needs_none_of_the_common_headers() -> None:
    assert judge(NTROPY, headers={"webhook-id": None, "webhook-timestamp": None}).ok


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (STANDARD, {"body": b"{}"}),
        (STANDARD, {"headers": {"webhook-id": "another"}}),
        (STANDARD, {"headers": {"webhook-timestamp": "1795335331"}}),
        (STANDARD, {"secret": "whsec_" + "A" * 44}),
        (STANDARD, {"headers": {"webhook-signature": "v1,"}}),
        (STANDARD, {"headers": {"webhook-signature": "v1,é v1,\ud800"}}),
        (
            STANDARD,
            {"headers": {"webhook-signature": "92IPvjXCtfwF1vU0VkcvrUrsMLOI9PV2wEMkA1zCTJU="}},
        ),
        (
            STANDARD,
            {"headers": {"webhook-signature": "v1a,92IPvjXCtfwF1vU0VkcvrUrsMLOI9PV2wEMkA1zCTJU="}},
        ),
        (NTROPY, {"body": b"{}"}),
        (NTROPY, {"secret": "whsec_" + "A" * 44}),
        (NTROPY, {"headers": {"X-Webhook-Signature": "é"}}),
    ],
)
def test_what_was_changed_does_not_match(name: str, changed: dict[str, Any]) -> None:
    verdict = judge(name, **changed)
    assert verdict.flaw is Flaw.SIGNATURE
    assert "does not match" in verdict.detail


def test_other_signatures_in_the_list_are_passed_over() -> None:
    signature = VECTORS[STANDARD]["expect"]["headers"]["webhook-signature"]
    assert judge(STANDARD, headers={"webhook-signature": f"v1a,xyz  v1,no {signature}"}).ok


@pytest.mark.parametrize("text", ["soon", "1795335330.5", "-1", " 1795335330", "١٢", "9" * 16])
def test_a_timestamp_is_whole_seconds(text: str) -> None:
    verdict = judge(STANDARD, headers={"webhook-timestamp": text})
    assert verdict.flaw is Flaw.TIMESTAMP
    assert "no whole number of seconds" in verdict.detail


def test_E6_a_genuine_request_outside_the_tolerance() -> None:
    assert judge(STANDARD, now=SENT_AT + TOLERANCE).ok
    assert judge(STANDARD, now=SENT_AT - TOLERANCE).ok
    old = judge(STANDARD, now=SENT_AT + TOLERANCE + 1_000)
    assert old == Verdict(
        Flaw.TIMESTAMP, "header webhook-timestamp is 301 s old; 300 s are allowed"
    )
    early = judge(STANDARD, now=SENT_AT - 11_000, tolerance=10_000)
    assert early == Verdict(
        Flaw.TIMESTAMP, "header webhook-timestamp is 11 s early; 10 s are allowed"
    )


def test_an_old_forgery_is_a_forgery() -> None:
    assert judge(STANDARD, now=0, body=b"{}").flaw is Flaw.SIGNATURE


def test_a_time_that_is_not_signed_is_not_judged() -> None:
    assert judge(NTROPY, now=0).ok


def test_what_cannot_be_checked_is_refused() -> None:
    standard = BUILT_IN.get("standard")
    with pytest.raises(ValueError, match="must begin with whsec_"):
        verify(standard, "AAAA", {}, b"", 0)
    with pytest.raises(ValueError, match="its secret is needed"):
        verify(standard, None, {}, b"", 0)


# --- which part of it is wrong

ONESTOCK, FLORIDAY, CLOUDEVENTS = (
    "onestock/order_state",
    "floriday/salesorder_dotted",
    "cloudevents/supplier",
)


@pytest.mark.parametrize("event_id", ["half \ud800", "a b", "x" * 129, "é"])
def test_an_id_that_no_event_has(event_id: str) -> None:
    verdict = judge(STANDARD, headers={"webhook-id": event_id})
    assert verdict == Verdict(Flaw.ID, "header webhook-id has characters that no event id has")


@pytest.mark.parametrize(("name", "key"), [(FLORIDAY, "eventId"), (CLOUDEVENTS, "id")])
def test_an_id_that_the_body_contradicts(name: str, key: str) -> None:
    verdict = judge(name, headers={"webhook-id": "another"})
    assert verdict == Verdict(Flaw.ID, f"header webhook-id and {key} in the body differ")


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"id": 1}', b"[" * 10_000])
def test_a_body_that_says_nothing_of_its_id(body: bytes) -> None:
    assert judge(CLOUDEVENTS, body=body).flaw is Flaw.SIGNATURE


def test_a_body_that_was_cut() -> None:
    body = VECTORS[STANDARD]["expect"]["body"].encode()
    verdict = judge(STANDARD, body=body[:-1], headers={"Content-Length": str(len(body))})
    assert verdict == Verdict(Flaw.BODY, "the body has 123 bytes, and Content-Length says 124")
    assert judge(STANDARD, headers={"Content-Length": str(len(body))}).ok
    assert judge(STANDARD, body=b"{}", headers={"Content-Length": "two"}).flaw is Flaw.SIGNATURE


@pytest.mark.parametrize("name", [STANDARD, NTROPY, ONESTOCK])
def test_a_body_that_an_editor_has_touched(name: str) -> None:
    body = VECTORS[name]["expect"]["body"].encode()
    for touched in (body + b"\n", b" " + body, body + b"\r\n"):
        verdict = judge(name, body=touched)
        assert verdict.flaw is Flaw.BODY
        assert "white space" in verdict.detail


def test_a_body_that_a_framework_has_written_again() -> None:
    body = VECTORS[ONESTOCK]["expect"]["body"].encode()
    verdict = judge(ONESTOCK, body=json.dumps(json.loads(body)).encode())
    assert verdict.flaw is Flaw.BODY
    assert "parsed and written again" in verdict.detail


def test_a_body_too_large_to_be_looked_into() -> None:
    huge = b'{"id":"' + b"x" * 1_048_576 + b'"}'
    assert judge(CLOUDEVENTS, body=huge).flaw is Flaw.SIGNATURE


def test_a_time_in_the_signatures_own_header() -> None:
    verdict = judge(ONESTOCK, headers={"webhook-timestamp": "1795335331"})
    assert verdict.ok, "the one that is signed is right"
    assert verdict.detail == (
        "header webhook-timestamp and the time in Onestock-Signature differ: go by what is signed"
    )
    assert "webhook-timestamp" in verdict.unsigned
    old = judge(ONESTOCK, now=SENT_AT + 301_000)
    assert old == Verdict(
        Flaw.TIMESTAMP, "header Onestock-Signature is 301 s old; 300 s are allowed"
    )
    value = VECTORS[ONESTOCK]["expect"]["headers"]["Onestock-Signature"]
    moved = judge(ONESTOCK, headers={"Onestock-Signature": value.replace("t=1", "t=2")})
    assert moved == Verdict(
        Flaw.TIMESTAMP, "header webhook-timestamp and the time in Onestock-Signature differ"
    )
    huge = judge(ONESTOCK, headers={"Onestock-Signature": value.replace("t=", "t=" + "9" * 15)})
    assert huge == Verdict(
        Flaw.TIMESTAMP, "header Onestock-Signature has no whole number of seconds"
    )


def test_a_signature_of_another_form() -> None:
    for value in ("sha256=abc", "t=1795335330", "h0=abc", "t=1795335330,h0="):
        verdict = judge(ONESTOCK, headers={"Onestock-Signature": value})
        assert verdict == Verdict(
            Flaw.SIGNATURE, "header Onestock-Signature has not the form that onestock gives it"
        )


def test_each_key_of_onestock_verifies() -> None:
    for secret in VECTORS[ONESTOCK]["subscription"]["secrets"]:
        assert judge(ONESTOCK, secret=secret).ok
    assert judge(ONESTOCK, secret="another-key-of-16-").flaw is Flaw.SIGNATURE


def test_without_a_secret_there_is_nothing_to_verify() -> None:
    name = "floriday/salesorder"
    assert judge(name, secret=None) == Verdict(None, "no secret is given: nothing to verify")
    assert judge(name, secret=None, headers={"webhook-id": None}).flaw is Flaw.MISSING_HEADER
    assert judge(name, secret=None, headers={"webhook-id": "another"}).flaw is Flaw.ID
    signed = judge(name, secret="whsec_" + "A" * 44)
    assert signed == Verdict(Flaw.MISSING_HEADER, "header webhook-signature is missing")


# --- what a signature does not vouch for


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "X-Webhook-Event"])
def test_only_what_is_signed_is_demanded(header: str) -> None:
    assert judge(ONESTOCK, headers={header: None}).ok
    lost = judge(ONESTOCK, headers={header: None, "Onestock-Signature": "t=1"})
    assert lost.flaw is Flaw.SIGNATURE


@pytest.mark.parametrize(
    ("name", "unsigned", "timed"),
    [
        (STANDARD, (), True),
        (CLOUDEVENTS, (), True),
        (ONESTOCK, ("webhook-id", "x-webhook-event"), True),
        (
            NTROPY,
            (
                *("webhook-id", "webhook-timestamp", "x-webhook-event", "x-webhook-id"),
                "x-webhook-timestamp",
            ),
            False,
        ),
    ],
)
def test_what_is_not_signed_is_named(name: str, unsigned: tuple[str, ...], timed: bool) -> None:
    verdict = judge(name)
    assert (tuple(sorted(verdict.unsigned)), verdict.timed) == (unsigned, timed)


def test_the_attributes_of_a_binary_event_are_not_signed() -> None:
    name = next(name for name in VECTORS if "ce-type" in VECTORS[name]["expect"]["headers"])
    verdict = judge(name, headers={"ce-type": "another.type"})
    assert verdict.ok
    assert "ce-type" in verdict.unsigned
    assert "ce-id" not in verdict.unsigned, "it repeats webhook-id, which is signed"
    assert "ce-id" in judge(name, headers={"ce-id": "another"}).unsigned


def test_a_genuine_body_with_another_id_in_its_header() -> None:
    key = "0123456789abcdef"
    stripe = make(
        "stripe",
        {
            "base": "standard",
            "envelope": ["id = id", "data = payload"],
            "signature_header": "Stripe-Signature",
            "layout": "t={timestamp},v1={signature}",
            "encoding": "hex",
            "prefix": "",
            "signed": "{timestamp}.{body}",
            "secret": "utf8",
        },
        BUILT_IN,
    )
    body = b'{"id":"evt_1","data":{}}'
    value = stripe.scheme.sign([stripe.check_secret(key)], "evt_1", "1795335330", body)
    headers = {"Stripe-Signature": value}
    assert verify(stripe, key, headers, body, SENT_AT) == Verdict(None)
    same = verify(stripe, key, headers | {"webhook-id": "evt_1"}, body, SENT_AT)
    assert same == Verdict(None), "the body vouches for it"
    other = verify(stripe, key, headers | {"webhook-id": "evt_2"}, body, SENT_AT)
    differ = "header webhook-id and id in the body differ: go by what is signed"
    assert other == Verdict(None, differ, ("webhook-id",))
