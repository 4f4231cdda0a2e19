import dataclasses

import pytest

from webhookd.core import model
from webhookd.core.model import DeliveryState, Policy, Reason, Secret, SubscriptionState, Url


@pytest.mark.parametrize(
    ("url", "netloc", "text", "shown"),
    [
        (
            Url("https", "example.com", 443, "/"),
            "example.com",
            "https://example.com/",
            "https://example.com/",
        ),
        (
            Url("http", "example.com", 80, "/a"),
            "example.com",
            "http://example.com/a",
            "http://example.com/a",
        ),
        (
            Url("https", "example.com", 80, "/a?key=secret"),
            "example.com:80",
            "https://example.com:80/a?key=secret",
            "https://example.com:80/a?***",
        ),
        (
            Url("http", "example.com", 443, "/?"),
            "example.com:443",
            "http://example.com:443/?",
            "http://example.com:443/?***",
        ),
        (
            Url("https", "2001:db8::1", 443, "/a?b?c"),
            "[2001:db8::1]",
            "https://[2001:db8::1]/a?b?c",
            "https://[2001:db8::1]/a?***",
        ),
        (
            Url("https", "2001:db8::1", 8443, "/"),
            "[2001:db8::1]:8443",
            "https://[2001:db8::1]:8443/",
            "https://[2001:db8::1]:8443/",
        ),
    ],
)
def test_a_urls_parts_are_put_together(url: Url, netloc: str, text: str, shown: str) -> None:
    assert url.netloc == netloc
    assert url.text == text
    assert url.shown == shown


def test_G11_a_secret_is_in_no_repr() -> None:
    secret = Secret("whsec_c2VjcmV0", expires_at=7)
    assert "whsec_" not in repr(secret)
    assert "7" in repr(secret)


def test_G11_header_values_are_in_no_repr_of_a_subscription() -> None:
    shown = {field.name: field.repr for field in dataclasses.fields(model.Subscription)}
    assert shown["headers"] is False
    assert shown["name"] is True


def test_states_and_reasons_are_closed_lists() -> None:
    assert list(DeliveryState) == ["pending", "delivered", "failed", "cancelled", "superseded"]
    assert list(SubscriptionState) == ["enabled", "paused", "disabled"]
    assert list(Reason) == [
        "exhausted",
        "permanent_status",
        "gone",
        "expired",
        "unrenderable",
        "operator",
        "backlog_skipped",
        "newest_only",
        "coalesced",
        "subscription_removed",
    ]


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(model).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ],
)
def test_every_value_is_frozen_and_has_slots(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(kind)


def test_a_policy_needs_a_timeout_and_a_schedule_only() -> None:
    policy = Policy(15_000, (5_000,))
    assert (policy.jitter, policy.ordering, policy.retry_after_max) == (0.0, "aggregate", 3_600_000)
