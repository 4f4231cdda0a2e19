import pytest

from webhookd.core.model import Ordering
from webhookd.core.profiles import PROFILES, get

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def test_each_profile_is_found_by_its_name() -> None:
    assert [get(name).name for name in PROFILES] == list(PROFILES) == ["standard", "ntropy"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("standart", "did you mean 'standard'?"),
        ("nentropy", "did you mean 'ntropy'?"),
        ("", "there are: standard, ntropy"),
        ("a\nb", "there are: standard, ntropy"),
    ],
)
def test_an_unknown_name_gets_a_hint_in_one_line(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^no profile ") as refused:
        get(name)
    assert str(refused.value).endswith(hint)
    assert "\n" not in str(refused.value)


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PROFILES["other"] = get("standard")  # type: ignore[index]


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


@pytest.mark.parametrize("name", PROFILES)
def test_both_are_signed_posts(name: str) -> None:
    assert get(name).methods == ("POST",)
    assert get(name).requires_secret


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
    assert get("ntropy").check_secret(utf8_only) == utf8_only.encode()
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        get("standard").check_secret(utf8_only)
