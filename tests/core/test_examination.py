"""What `check` finds in a subscription."""

from dataclasses import replace

import pytest

from webhookd.core.egress import parse_policy
from webhookd.core.examination import of_subscription
from webhookd.core.findings import Finding, Level
from webhookd.core.model import SubscriptionId, SubscriptionKey, SubscriptionState
from webhookd.core.profiles import BUILT_IN
from webhookd.core.storage import StoredSecret, StoredSubscription
from webhookd.errors import ConfigError

NOW = 1_000_000
SECRET = StoredSecret("whsec_" + "QUFB" * 8, is_reference=False, created_at=0, expires_at=None)
REFERENCE = replace(SECRET, value="env:KEY", is_reference=True)
FINE = StoredSubscription(
    key=SubscriptionKey(1),
    id=SubscriptionId("wh_" + "x" * 22),
    name="partner",
    url="https://partner.example/in?key=HUSH",
    events=("*",),
    tenant="",
    profile="standard",
    mode="",
    method="POST",
    headers=(("X-Key", "HUSH"),),
    policy={"timeout": 3_000},
    state=SubscriptionState.ENABLED,
    state_reason="",
    managed_by="cli",
    created_at="2026-01-01T00:00:00.000Z",
    secrets=(SECRET,),
)


def no_references(reference):
    raise AssertionError(f"{reference} was looked up")


def found(stored, resolve=no_references):
    return of_subscription(stored, parse_policy([], []), BUILT_IN, resolve, NOW)


def test_all_is_well():
    assert found(FINE) == [
        Finding(Level.OK, "subscription partner", "enabled, https://partner.example/in?***")
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": "newer"}, "no profile 'newer'"),
        ({"url": "gopher://x/"}, "invalid url: its scheme is neither https nor http"),
        ({"url": "https://10.0.0.1/"}, "blocked: 10.0.0.1 is private; if it is meant"),
        ({"method": "PUT"}, "method PUT: profile standard takes POST"),
        ({"headers": (("Host", "HUSH"),)}, "header Host: webhookd sets it itself"),
        ({"policy": {"speed": 1}}, "unknown policy"),
        ({"secrets": ()}, "has no secret, and profile standard signs every request"),
        ({"secrets": (replace(SECRET, expires_at=NOW),)}, "has no secret"),
        ({"secrets": (replace(SECRET, value="HUSH"),)}, "the secret must begin with whsec_"),
    ],
)
def test_what_is_wrong_is_a_fault(changes, said):
    (finding,) = found(replace(FINE, **changes))
    assert (finding.level, finding.place) == (Level.FAULT, "subscription partner")
    assert said in finding.text
    assert "HUSH" not in finding.text


def test_each_fault_is_told():
    wrong = replace(FINE, method="PUT", secrets=(), url="https://10.0.0.1/")
    assert len(found(wrong)) == 3


def test_an_expired_secret_is_nobodys_business():
    old = replace(SECRET, value="HUSH", expires_at=NOW)
    (finding,) = found(replace(FINE, secrets=(SECRET, old)))
    assert finding.level is Level.OK


def test_references_are_looked_up():
    stored = replace(FINE, secrets=(REFERENCE,))
    assert found(stored, lambda _reference: SECRET.value)[0].level is Level.OK

    def missing(reference):
        raise ConfigError(f"{reference}: no such environment variable; set it")

    assert found(stored, missing)[0].text == (
        "secret env:KEY: no such environment variable; set it"
    )
    (unseen,) = found(stored, lambda _reference: None)
    assert unseen.level is Level.WARNING
    assert unseen.text == (
        "secret env:KEY: cannot be seen from here; make sure that it is there for the daemon"
    )
    assert found(stored, lambda _reference: "HUSH")[0].text == (
        "env:KEY: the secret must begin with whsec_; "
        "`webhookd subscriptions rotate-secret partner` sets another"
    )


def test_a_format_that_does_without_needs_no_secret():
    loose = replace(FINE, profile="floriday", tenant="north")
    assert found(replace(loose, secrets=()))[0].level is Level.OK
    (finding,) = found(replace(loose, secrets=(replace(SECRET, expires_at=NOW),)))
    assert finding.level is Level.FAULT
    assert "every secret has expired, and nothing goes unsigned" in finding.text


def test_a_header_that_a_handshake_gave_is_no_fault():
    stored = replace(FINE, headers=(("WebHook-Request-Origin", "erp.example"),))
    assert found(replace(stored, profile="cloudevents"))[0].level is Level.OK
    assert found(stored)[0].level is Level.FAULT
