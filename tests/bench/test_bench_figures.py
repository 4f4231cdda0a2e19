"""What several measurements come to."""

import pytest

from bench.figures import Spread, percentile, ratios


def test_a_spread_has_the_median_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0)
    assert Spread.of([1234.5, 1000, 2000]).text() == "1,234 (1,000 to 2,000)"
    assert Spread(0.5, 0.25, 0.75).text(2) == "0.50 (0.25 to 0.75)"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_of_few_values_the_p99_is_the_highest() -> None:
    assert percentile([4.0, 2.0, 3.0], 0.99) == 4.0
    assert percentile([7.0], 0.5) == 7.0


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratios([1.0, 2.0], [1.0])
