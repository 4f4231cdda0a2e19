"""The figures of the last hour: their classes, their slots, and what is told of them."""

import pytest

from webhookd.core.recent import (
    CLASSES,
    IDLE,
    SLOTS,
    SPAN,
    Recent,
    bounds,
    class_of,
    slot_of,
)


@pytest.mark.parametrize(
    ("duration", "number"),
    [
        (-1, 0), (0, 0), (7, 0), (8, 1), (15, 1), (16, 2), (15_000, 11),
        (131_071, 14), (131_072, 15), (10**12, 15),
    ],
)  # fmt: skip
def test_the_class_of_a_duration(duration: int, number: int) -> None:
    assert class_of(duration) == number


def test_classes_touch_and_do_not_overlap() -> None:
    ends = [bounds(number) for number in range(CLASSES)]
    assert ends[0] == (0, 8)
    assert [low for low, _ in ends[1:]] == [high for _, high in ends[:-1]]
    for number, (low, high) in enumerate(ends):
        assert {class_of(low), class_of(high - 1)} == {number}


def durations(**counts: int) -> tuple[int, ...]:
    found = [0] * CLASSES
    for name, count in counts.items():
        found[int(name.removeprefix("c"))] = count
    return tuple(found)


@pytest.mark.parametrize(
    ("made", "share", "expected"),
    [
        (IDLE, 0.5, None),
        (Recent(durations=durations(c2=1)), 0.5, 24),
        (Recent(durations=durations(c2=100)), 0.95, 31),
        (Recent(durations=durations(c2=50, c5=50)), 0.5, 32),
        (Recent(durations=durations(c2=50, c5=50)), 0.95, 243),
        (Recent(durations=durations(c2=94, c15=6)), 0.95, 152_917),
        (Recent(durations=durations(c0=3)), 1.0, 8),
    ],
)
def test_quantiles(made: Recent, share: float, expected: int | None) -> None:
    assert made.quantile(share) == expected


@pytest.mark.parametrize("duration", [0, 3, 9, 120, 999, 15_000, 140_000])
def test_an_estimate_lies_in_the_class_of_what_was_measured(duration: int) -> None:
    counts = [0] * CLASSES
    counts[class_of(duration)] = 7
    low, high = bounds(class_of(duration))
    found = Recent(durations=tuple(counts)).quantile(0.5)
    assert found is not None
    assert low <= found <= high


def test_an_hours_slots_are_all_different_and_come_again() -> None:
    begin = 1_769_860_800_000
    slots = [slot_of(begin + number * SPAN) for number in range(SLOTS)]
    assert len({slot for slot, _ in slots}) == SLOTS
    assert [period for _, period in slots] == list(range(slots[0][1], slots[0][1] + SLOTS))
    assert slot_of(begin + SLOTS * SPAN) == (slots[0][0], slots[0][1] + SLOTS)
    assert slot_of(begin + SPAN - 1) == slots[0]


def test_attempts_are_all_that_were_made() -> None:
    assert Recent(durations=durations(c1=2, c9=3)).attempts == 5
