"""The event that a subscription is tried with, and what its answer means."""

from dataclasses import replace

import pytest

from webhookd.core import trial, urls
from webhookd.core.matching import matches
from webhookd.core.model import (
    Answer,
    Fault,
    FaultKind,
    Phase,
    Policy,
    Result,
    Secret,
    Subscription,
    SubscriptionId,
    SubscriptionKey,
    SubscriptionState,
)
from webhookd.core.profiles import BUILT_IN
from webhookd.core.request import Renderer

NOW = 1_800_000_000_000
POLICY = Policy(timeout=1_000, retry_delays=(5_000,), jitter=0.5)
SECRET = "whsec_" + "QUFB" * 8


def subscription(profile: str) -> Subscription:
    preset = BUILT_IN.get(profile)
    return Subscription(
        key=SubscriptionKey(1),
        id=SubscriptionId("wh_one"),
        name="one",
        url=urls.parse("https://one.example/in"),
        events=("order.*",),
        tenant="acme",
        profile=profile,
        mode=preset.modes[0] if preset.modes else "",
        method="POST",
        state=SubscriptionState.PAUSED,
        state_reason="operator",
        headers=(),
        secrets=(Secret(SECRET, None),),
        policy=preset.policy,
        created_at="",
    )


@pytest.mark.parametrize("profile", BUILT_IN.by_name)
def test_every_profile_can_say_it(profile: str) -> None:
    one = subscription(profile)
    event = trial.event(one, "0190-1", NOW)
    renderer = Renderer(BUILT_IN.get(profile), one)
    request = renderer.render(event, number=trial.NUMBER, attempt=1, now=NOW)
    headers = dict(request.headers)
    assert (headers["webhook-id"], headers["webhookd-sequence"]) == ("0190-1", "0")
    assert BUILT_IN.get(profile).scheme.header in headers
    assert b"acme" in request.body


def test_nobody_gets_it_who_did_not_ask_for_webhookds_own() -> None:
    event = trial.event(subscription("standard"), "0190-1", NOW)
    assert (event.event_type, event.aggregate_type, event.payload) == (
        "webhookd.test",
        "webhookd",
        None,
    )
    assert not matches("*", event.event_type, "")


@pytest.mark.parametrize(
    ("result", "policy", "wrong", "meaning"),
    [
        (Answer(204), POLICY, "", "a delivery would be done"),
        (Answer(500), POLICY, "http 500", "a delivery would be tried again after 5s"),
        (
            Answer(503, retry_after="30"),
            POLICY,
            "http 503",
            "a delivery would be tried again after 30s, and nothing else before 30s",
        ),
        (
            Answer(410),
            replace(POLICY, gone_disables=True),
            "http 410",
            "it would disable the subscription, and a delivery would stay owed",
        ),
        (
            Answer(410),
            replace(POLICY, permanent_statuses=("4xx",)),
            "http 410",
            "a delivery would have failed for good (gone)",
        ),
        (
            Answer(404),
            replace(POLICY, permanent_statuses=("4xx",)),
            "http 404",
            "a delivery would have failed for good (permanent_status)",
        ),
        (
            Answer(500),
            replace(POLICY, retry_delays=()),
            "http 500",
            "a delivery would have failed: its policy has no further attempts",
        ),
        (
            Fault(FaultKind.REFUSED, "nobody listens", Phase.CONNECT),
            POLICY,
            "refused: nobody listens",
            "a delivery would be tried again after 5s",
        ),
        (
            Fault(FaultKind.LOCAL, "no network", Phase.CONNECT),
            POLICY,
            "local: no network",
            "this machine is at fault, so no attempt of a delivery would count",
        ),
        (
            Fault(FaultKind.INTERNAL, "a bug", Phase.SEND),
            POLICY,
            "internal_error: a bug",
            "a delivery would be tried again after 5s",
        ),
    ],
)
def test_what_an_answer_means(result: Result, policy: Policy, wrong: str, meaning: str) -> None:
    assert trial.meaning(result, policy, NOW) == (wrong, meaning)
