from dataclasses import replace

import pytest

from webhookd.core.model import Ordering
from webhookd.core.profiles import BUILT_IN
from webhookd.core.signing import Key

PROFILES = BUILT_IN.by_name
get = BUILT_IN.get

NAMES = ["standard", "ntropy", "floriday", "onestock", "cloudevents"]
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def test_each_profile_is_found_by_its_name() -> None:
    assert [get(name).name for name in PROFILES] == list(PROFILES) == NAMES


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("standart", "did you mean 'standard'?"),
        ("nentropy", "did you mean 'ntropy'?"),
        ("flordiay", "did you mean 'floriday'?"),
        ("", f"there are: {', '.join(NAMES)}"),
        ("a\nb", f"there are: {', '.join(NAMES)}"),
    ],
)
def test_an_unknown_name_gets_a_hint_in_one_line(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^no profile ") as refused:
        get(name)
    own = " (one's own are [profiles.NAME] in a file named by --config)"
    assert hint in str(refused.value)
    assert str(refused.value).endswith(f"there are: {', '.join(NAMES)}{own}")
    assert "\n" not in str(refused.value)


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PROFILES["other"] = get("standard")  # type: ignore[index]


def test_more_can_be_known() -> None:
    mine = replace(get("standard"), name="mine")
    known = BUILT_IN.with_these({"mine": mine}, "/etc/webhookd.toml")
    assert [profile.name for profile in known] == [*NAMES, "mine"]
    assert known.get("mine") is mine
    assert "mine" not in PROFILES
    with pytest.raises(ValueError, match=r"\[profiles.NAME\] in /etc/webhookd.toml\)$"):
        known.get("yours")


def test_standard_policy() -> None:
    policy = get("standard").policy
    assert policy.timeout == 15 * SECOND
    assert policy.retry_delays == (
        *(5 * SECOND, 5 * MINUTE, 30 * MINUTE),
        *(2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR),
    )
    assert policy.jitter == 0.1
    assert policy.ordering is Ordering.AGGREGATE


def test_ntropy_policy() -> None:
    policy = get("ntropy").policy
    assert policy.timeout == 10 * SECOND
    assert policy.retry_delays == (1 * SECOND, 5 * SECOND, 30 * SECOND)
    assert policy.jitter == 0


def test_floriday_policy() -> None:
    policy = get("floriday").policy
    assert policy.timeout == 15 * SECOND
    assert policy.retry_delays == (20 * SECOND,) * 3
    assert policy.permanent_statuses == ("4xx",)
    assert (policy.disable_after, policy.disable_after_failures, policy.gone_disables) == (0, 0, 0)
    assert not policy.coalesce


def test_onestock_policy() -> None:
    policy = get("onestock").policy
    assert policy.timeout == 15 * SECOND
    assert [delay // SECOND for delay in policy.retry_delays] == [30, 60, 120, 240, 480, 840]
    assert policy.ordering is Ordering.SUBSCRIPTION
    assert policy.max_age == 7 * 24 * HOUR
    assert (policy.failing_after, policy.disable_after_failures) == (3, 1)
    assert (policy.gone_disables, policy.permanent_statuses) == (False, ())


def test_cloudevents_policy_is_the_standards_but_for_415() -> None:
    policy = get("cloudevents").policy
    assert policy == replace(get("standard").policy, permanent_statuses=("415",))
    assert policy.gone_disables


def test_each_is_a_signed_post_but_floriday_may_go_unsigned() -> None:
    assert [name for name in NAMES if not get(name).requires_secret] == ["floriday"]
    assert [get(name).methods for name in NAMES if name != "onestock"] == [("POST",)] * 4
    assert get("onestock").methods == ("POST", "PUT", "PATCH")


def test_floriday_takes_every_event_or_none() -> None:
    check = get("floriday").check_events
    check(["*"])
    for patterns in (["SALESORDER.*"], ["*", "BATCH.CREATED"], ["**"]):
        with pytest.raises(ValueError, match="not possible to subscribe to specific events"):
            check(patterns)


@pytest.mark.parametrize("name", ["onestock", "cloudevents"])
def test_others_take_every_pattern(name: str) -> None:
    get(name).check_events(["*", "order_*", "return_parcel_created@v3"])


def test_standard_takes_every_pattern() -> None:
    get("standard").check_events(["*", "supplier.*", "*_state_changed", "supplier.created"])


def test_ntropy_takes_exact_types_and_the_star() -> None:
    check = get("ntropy").check_events
    check(["*"])
    check(["supplier.created", "dds.status_changed"])
    for pattern in ("supplier.*", "*.created", "**"):
        with pytest.raises(ValueError, match="exact event types") as refused:
            check(["supplier.created", pattern])
        assert repr(pattern) in str(refused.value)


def test_secret_forms() -> None:
    utf8_only = "whsec_0123456789abcdef"
    for name in ("ntropy", "onestock"):
        assert get(name).check_secret(utf8_only) == Key(utf8_only.encode())
    with pytest.raises(ValueError, match="at least 16 characters, and has 15"):
        get("onestock").check_secret("a-hash-key-of-1")
    with pytest.raises(ValueError, match="must begin with whsec_"):
        get("ntropy").check_secret("a-hash-key-of-16")
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        get("standard").check_secret(utf8_only)
