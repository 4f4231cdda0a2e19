from dataclasses import fields

import pytest

from webhookd.core import policy
from webhookd.core.model import Ordering, Policy

PRESET = Policy(timeout=20_000, retry_delays=(5_000, 300_000))


def test_nothing_of_its_own() -> None:
    assert policy.apply(PRESET, {}) == PRESET


def test_what_a_subscription_has_of_its_own_wins() -> None:
    changed = policy.apply(
        PRESET,
        {
            "timeout": 1,
            "retry_delays": [7, 8],
            "jitter": 0.5,
            "ordering": "none",
            "concurrency": 3,
            "retry_after_max": 9,
        },
    )
    assert changed == Policy(1, (7, 8), 0.5, Ordering.NONE, 3, 9)
    assert isinstance(changed.retry_delays, tuple)


@pytest.mark.parametrize(
    "overrides", [{"colour": 1}, {"ordering": "alphabetical"}, {"retry_delays": 5}]
)
def test_what_parse_never_returns_is_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown policy|not a valid Ordering"):
        policy.apply(PRESET, overrides)


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("timeout", "30s", 30_000),
        ("timeout", 120, 120_000),
        ("timeout", "1ms", 1),
        ("retry_delays", "5s, 5m,2h", [5_000, 300_000, 7_200_000]),
        ("retry_delays", ["5s", 1], [5_000, 1_000]),
        ("retry_delays", (), []),
        ("retry_delays", [0] * 50, [0] * 50),
        ("jitter", 0, 0.0),
        ("jitter", "0.25", 0.25),
        ("jitter", 1, 1.0),
        ("ordering", "subscription", "subscription"),
        ("concurrency", 1, 1),
        ("concurrency", "256", 256),
        ("retry_after_max", "1h", 3_600_000),
    ],
)
def test_values_as_people_write_them(name: str, value: object, parsed: object) -> None:
    got = policy.parse(name, value)
    assert (got, type(got)) == (parsed, type(parsed))
    assert isinstance(policy.apply(PRESET, {name: got}), Policy)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("colour", "red", "unknown policy colour; there are concurrency, jitter, ordering"),
        ("timeout", 0, "takes 1ms to 2m, not 0"),
        ("timeout", "121s", "takes 1ms to 2m, not 121s"),
        ("timeout", "soon", "a duration is seconds"),
        ("retry_delays", 5, "takes durations, like"),
        ("retry_delays", {"5s"}, "takes durations, like"),
        ("retry_delays", "5s,", "a duration is seconds"),
        ("retry_delays", [1] * 51, "takes at most 50 delays"),
        ("jitter", -0.1, "takes a share from 0 to 1"),
        ("jitter", 1.1, "takes a share from 0 to 1"),
        ("jitter", "nan", "takes a share from 0 to 1"),
        ("jitter", "much", "takes a share from 0 to 1"),
        ("ordering", "alphabetical", "takes one of aggregate, subscription, none"),
        ("concurrency", 0, "takes a whole number from 1 to 256"),
        ("concurrency", 257, "takes a whole number from 1 to 256"),
        ("concurrency", 1.5, "takes a whole number from 1 to 256"),
        ("concurrency", True, "takes a whole number from 1 to 256"),
        ("retry_after_max", -1, "a duration lies between"),
    ],
)
def test_values_that_cannot_be(name: str, value: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        policy.parse(name, value)
    assert "\n" not in str(caught.value)


def test_every_key_is_read_and_shown() -> None:
    names = {field.name for field in fields(Policy)}
    assert policy.PARSERS.keys() == names
    assert policy.show(PRESET).keys() == names


def test_what_is_shown_can_be_written_again() -> None:
    mine = Policy(1_500, (0, 90_000), 0.1, Ordering.SUBSCRIPTION, 2, 60_000)
    shown = policy.show(mine)
    assert shown["retry_delays"] == ["0s", "90s"]
    assert shown["timeout"] == "1500ms"
    parsed = {name: policy.parse(name, value) for name, value in shown.items()}
    assert policy.apply(PRESET, parsed) == mine
